package client

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/centrifugal/centrifuge-go"
)

// Open says how an object is opened.
type Open struct {
	// ID of an object that exists, instead of a name.
	ID string
	// Mode is open_or_create by default, open_existing or create_new.
	Mode string
	// TTL in seconds, Data of a document, and whether only those may use it whom its creator grants it: of an
	// object that is created.
	TTL        int64
	Data       any
	Restricted bool
	// Events is told what happens, one after the other, by a goroutine of the client. It must not wait for writes.
	Events func(Event)
}

// Types of Event.
const (
	Created     = "created" // again, after it was removed
	Updated     = "updated"
	ItemAdded   = "item_added"
	ItemUpdated = "item_updated"
	ItemRemoved = "item_removed"
	TTL         = "ttl"
	Access      = "access"
	Message     = "message" // of a stream
	Removed     = "removed"
	// Snapshot tells that so much was missed that the object was read anew: what was derived from events must be, too.
	Snapshot = "snapshot"
)

// Event is one change of an object. Of a batch there are several with the same number.
type Event struct {
	Type        string          `json:"type"`
	Number      uint64          `json:"-"` // in the object's log; of a Message that of the last event
	Key         string          `json:"key"`
	Index       uint64          `json:"index"`
	Data        json.RawMessage `json:"data"`
	Previous    json.RawMessage `json:"previous"`
	Revision    uint64          `json:"revision"`
	Reason      string          `json:"reason"` // of a removal: user or ttl
	DateExpires int64           `json:"date_expires"`
	Actor       string          `json:"actor"` // who did it
	Date        int64           `json:"date"`  // Unix milliseconds
	Events      []Event         `json:"events"`
}

// opened is the answer to open.
type opened struct {
	Object struct {
		ID       string `json:"id"`
		Name     string `json:"name"`
		Revision uint64 `json:"revision"`
	} `json:"object"`
	Position struct {
		Event uint64 `json:"event"`
		Epoch string `json:"epoch"`
	} `json:"position"`
	Channel string          `json:"channel"`
	Data    json.RawMessage `json:"data"`
	Count   int             `json:"count"`
}

// Object is what documents, maps, lists and streams have in common. Its methods may be called by any goroutine.
type Object struct {
	// Static after opening.
	c    *Client
	sub  *centrifuge.Subscription
	id   string
	tell func(Event)

	turn sync.Mutex // held by the write under way: they keep their order

	mu       sync.Mutex
	event    uint64
	revision uint64
	data     json.RawMessage
	reading  bool                     // the object is read anew, and
	waiting  []centrifuge.Publication // this waits for that
}

// open opens an object and follows its log.
func (c *Client) open(ctx context.Context, kind, name string, o Open) (*Object, error) {
	p := map[string]any{}
	if o.ID != "" {
		p["id"], p["mode"] = o.ID, "open_existing"
	} else {
		p["type"] = kind
		for key, v := range map[string]string{"name": name, "mode": o.Mode} {
			if v != "" {
				p[key] = v
			}
		}
		if o.Data != nil {
			p["data"] = o.Data
		}
		if o.TTL > 0 {
			p["ttl"] = o.TTL
		}
		if o.Restricted {
			p["restricted"] = true
		}
	}
	var a opened
	if err := c.call(ctx, "open", p, &a, false); err != nil {
		return nil, err
	}
	x := &Object{c: c, id: a.Object.ID, tell: o.Events, event: a.Position.Event, revision: a.Object.Revision, data: a.Data}
	if x.tell == nil {
		x.tell = func(Event) {}
	}
	return x, x.follow(ctx, a.Channel)
}

func (x *Object) follow(ctx context.Context, channel string) (err error) {
	if x.sub, err = x.c.link.NewSubscription(channel, centrifuge.SubscriptionConfig{Recoverable: true}); err != nil {
		return err
	}
	first := make(chan error, 1)
	done := func(err error) {
		select {
		case first <- err:
		default:
		}
	}
	x.sub.OnPublication(func(e centrifuge.PublicationEvent) { x.take(e.Publication) })
	x.sub.OnSubscribed(func(e centrifuge.SubscribedEvent) {
		x.subscribed(e)
		done(nil)
	})
	x.sub.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) {
		if e.Code == CodeUnknownObject {
			x.gone()
		}
		done(&Error{Code: e.Code, Message: e.Reason})
	})
	if err := x.sub.Subscribe(); err != nil {
		return err
	}
	select {
	case err = <-first:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		x.Close()
	}
	return err
}

// subscribed has the object read anew if events were missed: before the first subscription, or over a
// disconnect for longer than the log reaches.
func (x *Object) subscribed(e centrifuge.SubscribedEvent) {
	x.mu.Lock()
	defer x.mu.Unlock()
	missed := e.WasRecovering && !e.Recovered || !e.WasRecovering && e.StreamPosition != nil && e.StreamPosition.Offset != x.event
	if missed && !x.reading {
		x.reading = true
		go x.readAnew()
	}
}

// readAnew reads the object; events wait meanwhile.
func (x *Object) readAnew() {
	var a opened
	err := x.c.call(context.Background(), "open", map[string]any{"id": x.id, "mode": "open_existing"}, &a, false)
	var no *Error
	if errors.As(err, &no) && no.Code == CodeUnknownObject {
		x.gone()
	}
	x.mu.Lock()
	if err == nil {
		x.event, x.revision, x.data = a.Position.Event, a.Object.Revision, a.Data
	}
	number := x.event
	x.mu.Unlock()
	if err == nil {
		x.tell(Event{Type: Snapshot, Number: number})
	}
	for {
		x.mu.Lock()
		if len(x.waiting) == 0 {
			x.reading = false
			x.mu.Unlock()
			return
		}
		next := x.waiting[0]
		x.waiting = x.waiting[1:]
		x.mu.Unlock()
		x.apply(next)
	}
}

func (x *Object) gone() { x.tell(Event{Type: Removed}) }

// take takes one publication, unless the object is being read.
func (x *Object) take(p centrifuge.Publication) {
	x.mu.Lock()
	if x.reading {
		x.waiting = append(x.waiting, p)
		x.mu.Unlock()
		return
	}
	x.mu.Unlock()
	x.apply(p)
}

// apply makes a publication part of what is known, all of it, and then tells.
func (x *Object) apply(p centrifuge.Publication) {
	var e Event
	if json.Unmarshal(p.Data, &e) != nil {
		return // nobody but the service publishes here
	}
	x.mu.Lock()
	if p.Offset > 0 && p.Offset <= x.event {
		x.mu.Unlock()
		return // it is part of what was read
	}
	if p.Offset > 0 {
		x.event = p.Offset
	}
	all := e.Events
	if e.Type != "batch" {
		all = []Event{e}
	}
	for i := range all {
		each := &all[i]
		each.Number, each.Actor, each.Date = x.event, e.Actor, e.Date
		if each.Revision > 0 {
			x.revision = each.Revision
		}
		if each.Type == Updated || each.Type == Created {
			x.data = each.Data
		}
	}
	x.mu.Unlock()
	for _, each := range all {
		x.tell(each)
	}
}

// ID returns the object's id.
func (x *Object) ID() string { return x.id }

// Revision goes up by one with each write to the object; this is that of the last event.
func (x *Object) Revision() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.revision
}

// Close ends following the object.
func (x *Object) Close() {
	_ = x.sub.Unsubscribe() // it may not be subscribed
	_ = x.c.link.RemoveSubscription(x.sub)
}

// write does a write operation, in its turn. Errors: *Error, ctx's.
func (x *Object) write(ctx context.Context, op string, p map[string]any, w Write) (r Written, err error) {
	p["id"] = x.id
	p = w.params(p)
	x.turn.Lock()
	defer x.turn.Unlock()
	return r, x.c.call(ctx, op, p, &r, false)
}

func (x *Object) read(ctx context.Context, op string, p map[string]any, result any) error {
	p["id"] = x.id
	return x.c.call(ctx, op, p, result, false)
}

// Operation is one of a batch, such as {"op": "map.set", "key": "k", "data": 1}; docs/sync.md has them all.
type Operation map[string]any

// Batch does several write operations at once: all, or none.
func (x *Object) Batch(ctx context.Context, all ...Operation) (Written, error) {
	return x.write(ctx, "batch", map[string]any{"operations": all}, Write{})
}

// OnDisconnect has write operations done when this client goes, in the place of those it asked for before.
func (x *Object) OnDisconnect(ctx context.Context, all ...Operation) error {
	return x.read(ctx, "on_disconnect", map[string]any{"operations": all}, nil)
}

// Remove removes the object.
func (x *Object) Remove(ctx context.Context, w Write) (Written, error) {
	return x.write(ctx, "delete", map[string]any{}, w)
}

// SetTTL says in how many seconds the object is removed, Forever for never.
func (x *Object) SetTTL(ctx context.Context, ttl int64) (Written, error) {
	return x.write(ctx, "set_ttl", map[string]any{}, Write{TTL: ttl})
}

// Grant is what an identity may do.
type Grant struct {
	Read   bool `json:"read,omitempty"`
	Write  bool `json:"write,omitempty"`
	Manage bool `json:"manage,omitempty"`
}

// Grant says what a user may do, * is everyone, in the place of what was said before.
func (x *Object) Grant(ctx context.Context, identity string, g Grant) (Written, error) {
	return x.write(ctx, "grant", map[string]any{"identity": identity, "read": g.Read, "write": g.Write, "manage": g.Manage}, Write{})
}

// Revoke takes from a user what it was granted.
func (x *Object) Revoke(ctx context.Context, identity string) (Written, error) {
	return x.write(ctx, "revoke", map[string]any{"identity": identity}, Write{})
}

// Restrict turns permissions on or off.
func (x *Object) Restrict(ctx context.Context, on bool) (Written, error) {
	return x.write(ctx, "restrict", map[string]any{"restricted": on}, Write{})
}

// Permissions are who may do what with an object.
type Permissions struct {
	Restricted  bool             `json:"restricted"`
	CreatedBy   string           `json:"created_by"`
	Permissions map[string]Grant `json:"permissions"` // of others only for those who manage it
	Yours       Grant            `json:"yours"`
}

// Permissions reads who may do what.
func (x *Object) Permissions(ctx context.Context) (p Permissions, err error) {
	return p, x.read(ctx, "permissions", map[string]any{}, &p)
}
