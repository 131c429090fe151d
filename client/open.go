package client

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/centrifugal/centrifuge-go"
)

// Modes of Open.
const (
	OpenOrCreate = "open_or_create"
	OpenExisting = "open_existing" // else CodeUnknownObject
	CreateNew    = "create_new"    // else CodeObjectExists
)

// Open says how an object is opened.
type Open struct {
	// ID of an object that exists, instead of a name.
	ID string
	// Mode is OpenOrCreate by default, CreateNew without a name.
	Mode string
	// TTL in seconds, Data of a document, and whether only those may use it whom its creator grants it, nil as
	// the service is configured: of an object that is created.
	TTL        int64
	Data       any
	Restricted *bool
	// Events is told what happens, one after the other; while it runs the next events of the object wait, in
	// memory. It may call all methods, but events wait for those, too.
	Events func(Event)
}

func (o *Open) params(kind, name string) map[string]any {
	if o.ID != "" {
		return map[string]any{"id": o.ID, "mode": OpenExisting}
	}
	p := Write{}.params(map[string]any{"type": kind}) // with a key: it may be sent again
	mode := o.Mode
	if name != "" {
		p["name"] = name
	} else if mode == "" {
		mode = CreateNew
	}
	if mode != "" {
		p["mode"] = mode
	}
	if o.Data != nil {
		p["data"] = o.Data
	}
	if o.TTL > 0 {
		p["ttl"] = o.TTL
	}
	if o.Restricted != nil {
		p["restricted"] = *o.Restricted
	}
	return p
}

// opened is the answer to open.
type opened struct {
	Object struct {
		ID       string
		Name     string
		Revision uint64
	}
	Position struct {
		Event uint64
		Epoch string
	}
	Channel string
	Data    json.RawMessage
}

// open opens an object and follows its log.
func (c *Client) open(ctx context.Context, kind, name string, o *Open) (*Object, error) {
	var a opened
	if err := c.call(ctx, "open", o.params(kind, name), &a, false); err != nil {
		return nil, err
	}
	x := &Object{tell: o.Events}
	if x.tell == nil {
		x.tell = func(Event) {}
	}
	if err := c.use(x, &a); err != nil {
		return nil, err
	}
	select {
	case <-x.log.ready:
		if err := x.log.err; err != nil {
			return nil, err
		}
		return x, nil
	case <-ctx.Done():
		x.Close()
		return nil, ctx.Err()
	}
}

// use has an object follow its log, which others may do already.
func (c *Client) use(x *Object, a *opened) error {
	c.mu.Lock()
	l := c.logs[a.Object.ID]
	begins := l == nil
	if begins {
		sub, err := c.link.NewSubscription(a.Channel, centrifuge.SubscriptionConfig{Recoverable: true})
		if err != nil {
			c.mu.Unlock()
			return err
		}
		l = newLog(c, a)
		l.attach(sub)
		c.logs[l.id] = l
	}
	x.log = l
	l.users = append(l.users, x)
	c.mu.Unlock()
	if !begins {
		return nil
	}
	if err := l.sub.Subscribe(); err != nil {
		x.Close()
		return err
	}
	return nil
}

// leave ends what use began. The last one out ends the subscription.
func (c *Client) leave(x *Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := x.log
	l.users = slices.DeleteFunc(l.users, func(other *Object) bool { return other == x })
	if len(l.users) == 0 {
		c.drop(l)
	}
}

// forget takes a log that has ended from the client's, so that its object can be opened again.
func (c *Client) forget(l *log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(l)
}

// drop ends a log's subscription, once, with the client's lock held.
func (c *Client) drop(l *log) {
	if l.over {
		return
	}
	l.over = true
	l.stop()
	delete(c.logs, l.id)
	if l.sub.State() != centrifuge.SubStateUnsubscribed {
		_ = l.sub.Unsubscribe() // the client may be closed
	}
	_ = c.link.RemoveSubscription(l.sub) // it is unsubscribed
}
