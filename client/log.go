package client

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/centrifugal/centrifuge-go"
)

// log follows the log of one object, for all who have it open.
type log struct {
	// Static.
	c     *Client
	id    string
	name  string
	read  func(context.Context) (opened, error) // reads the object anew
	sub   *centrifuge.Subscription
	ctx   context.Context // ends when nobody follows any more
	stop  context.CancelFunc
	turn  chan struct{} // holds the write under way: they keep their order
	ready chan struct{} // closed when the log is followed, or never will be, and
	err   error         // why not

	// Of the client's lock.
	users []*Object
	over  bool // it is not among the client's logs any more

	mu       sync.Mutex
	steps    []step // that were not taken yet
	stepping bool   // some goroutine takes them
	event    uint64
	epoch    string
	revision uint64
	data     json.RawMessage // of a document
	gone     bool            // it was removed
}

// Codes of centrifuge-go when a subscription ends that nobody has refused.
const (
	unsubscribedByProgram = 0
	unsubscribedByClose   = 2
)

// step is something to happen to a log, one after the other.
type step struct {
	pub *centrifuge.Publication
	// at is where the service's log is at a subscription that did not bring what was missed; nil if it did.
	subscribed bool
	at         *centrifuge.StreamPosition
	ends       error // nothing follows any more
}

func newLog(c *Client, a *opened) *log {
	l := &log{
		c: c, id: a.Object.ID, name: a.Object.Name, turn: make(chan struct{}, 1), ready: make(chan struct{}),
		event: a.Position.Event, epoch: a.Position.Epoch, revision: a.Object.Revision, data: a.Data,
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.read = func(ctx context.Context) (a opened, err error) {
		o := Open{ID: l.id}
		return a, c.call(ctx, "open", o.params("", ""), &a, false)
	}
	return l
}

// attach makes a subscription bring steps.
func (l *log) attach(sub *centrifuge.Subscription) {
	l.sub = sub
	sub.OnPublication(func(e centrifuge.PublicationEvent) { l.add(step{pub: &e.Publication}) })
	sub.OnSubscribed(func(e centrifuge.SubscribedEvent) {
		s := step{subscribed: true}
		if !e.WasRecovering || !e.Recovered {
			s.at = e.StreamPosition
		}
		l.add(s)
	})
	sub.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) {
		if e.Code == unsubscribedByProgram || e.Code == unsubscribedByClose {
			l.add(step{ends: centrifuge.ErrClientClosed})
		} else {
			l.add(step{ends: &Error{Code: e.Code, Message: e.Reason}})
		}
	})
}

// add adds a step. It never waits, as centrifuge-go calls it.
func (l *log) add(s step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps = append(l.steps, s)
	if !l.stepping {
		l.stepping = true
		go l.run()
	}
}

func (l *log) run() {
	for {
		l.mu.Lock()
		if len(l.steps) == 0 {
			l.stepping = false
			l.mu.Unlock()
			return
		}
		s := l.steps[0]
		l.steps = l.steps[1:]
		l.mu.Unlock()
		switch {
		case l.ctx.Err() != nil: // it is over
		case s.pub != nil:
			l.apply(s.pub)
		case s.subscribed:
			l.follow(s.at)
		default:
			l.end(s.ends)
		}
	}
}

// follow goes on after a subscription. Where at tells that something is missing the object is read anew, and what
// comes meanwhile waits. At the first subscription nobody has derived anything yet, later ones tell a Snapshot.
func (l *log) follow(at *centrifuge.StreamPosition) {
	l.mu.Lock()
	missed := at != nil && (at.Offset > l.event || at.Epoch != l.epoch)
	l.mu.Unlock()
	first := !l.settled()
	if missed {
		a, err := l.read(l.ctx)
		if err != nil {
			if l.ctx.Err() == nil {
				l.end(err)
			}
			return
		}
		l.mu.Lock()
		l.event, l.epoch, l.revision, l.data, l.gone = a.Position.Event, a.Position.Epoch, a.Object.Revision, a.Data, false
		l.mu.Unlock()
		if !first {
			l.tell(Event{Type: Snapshot, Number: a.Position.Event, Revision: a.Object.Revision})
		}
	}
	if first {
		l.settle(nil)
	}
}

// settled tells whether who opens the object knows how that went.
func (l *log) settled() bool {
	select {
	case <-l.ready:
		return true
	default:
		return false
	}
}

// settle tells who opens the object that it is followed, or why it is not. By run alone.
func (l *log) settle(err error) {
	l.err = err
	close(l.ready)
}

// end tells that nothing follows any more.
func (l *log) end(err error) {
	l.c.forget(l)
	if !l.settled() {
		l.settle(err)
		return
	}
	l.mu.Lock()
	e := Event{Type: Refused, Number: l.event, Err: err}
	silent := errors.Is(err, centrifuge.ErrClientClosed)
	if codeOf(err) == CodeUnknownObject {
		e.Type, e.Err = Removed, nil
		silent = silent || l.gone
		l.gone = true
	}
	l.mu.Unlock()
	if !silent {
		l.tell(e)
	}
}

// apply makes a publication part of what is known, all of it, and then tells.
func (l *log) apply(p *centrifuge.Publication) {
	var e Event
	if json.Unmarshal(p.Data, &e) != nil {
		return // nobody but the service publishes here
	}
	l.mu.Lock()
	if p.Offset > 0 && p.Offset <= l.event {
		l.mu.Unlock()
		return // it is part of what was read
	}
	if p.Offset > 0 {
		l.event = p.Offset
	}
	all := e.Events
	if e.Type != "batch" {
		all = []Event{e}
	}
	for i := range all {
		each := &all[i]
		each.Number, each.Actor, each.Date = l.event, e.Actor, e.Date
		if each.Revision > 0 {
			l.revision = each.Revision
		}
		switch each.Type {
		case Updated:
			l.data = each.Data
		case Created:
			l.data, l.gone = each.Data, false
		case Removed:
			l.gone = true
		}
	}
	l.mu.Unlock()
	for _, each := range all {
		l.tell(each)
	}
}

func (l *log) tell(e Event) {
	l.c.mu.Lock()
	users := slices.Clone(l.users)
	l.c.mu.Unlock()
	for _, x := range users {
		x.tell(e)
	}
}
