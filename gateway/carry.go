package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"roost/broker"
	"roost/hub"
	"roost/internal/pack"
	"roost/proto/client"
	"roost/proto/ws"
)

// A node's clients are carried to the node of another process on the same machine, which
// then stands for this one: same ids of node and clients, same numbers of channels.

// restPoll is how often a node is asked whether anything is under way.
const restPoll = 500 * time.Microsecond

// Rest waits, until ctx ends, for what is under way for single clients: calls of handlers and
// messages of raw routes. Its server reads nothing more. The error is that of ctx: the clients
// that this is for are not carried. Not for a loop's goroutine.
func (n *Node) Rest(ctx context.Context) error {
	n.parting.Store(true)
	err := waitUntil(ctx, n.resting)
	if n.wire != nil {
		n.dismissRecents()
		err = errors.Join(err, n.wire.Flush(ctx))
	}
	return err
}

// Hold waits, until ctx ends, for publications that are on their way to subscribers, and lets
// none follow before Stay: they wait. After an error nobody may be carried. Not for a loop's
// goroutine.
func (n *Node) Hold(ctx context.Context) error {
	if err := n.broker.Hold(ctx); err != nil {
		return fmt.Errorf("gateway: publications are under way: %w", err)
	}
	if err := waitUntil(ctx, func() bool { return !n.hub.Working() }); err != nil {
		return fmt.Errorf("gateway: publications are on their way to subscribers: %w", err)
	}
	return nil
}

// Early tells the node that will take this one's place which broker it succeeds and what to follow,
// part by part: nothing unless there is a cluster, and later calls until Stay what is new. What comes
// from other nodes from now on is noted for Seen.
func (n *Node) Early(emit func([]byte) error) error {
	if len(n.opts.Broker.URLs) == 0 {
		return nil
	}
	if n.broker.Watch() {
		if err := emit(n.broker.Will().Append(nil)); err != nil {
			return err
		}
	}
	var b []byte
	for _, ch := range n.broker.Partitions() {
		b = pack.AppendString(b, ch)
	}
	if len(b) == 0 {
		return nil
	}
	return emit(b)
}

// HearEarly takes a part of what Early tells. When it returns this node hears what is published to
// these channels and what nodes tell it, and holds it until Enter.
func (n *Node) HearEarly(part []byte) error {
	if n.broker == nil {
		heir, err := broker.ParseHeir(part)
		if err != nil {
			return err
		}
		return n.Open(&heir)
	}
	r := pack.NewReader(part)
	for r.Len() > 0 {
		n.heritage.early = append(n.heritage.early, n.hub.Acquire(r.String()))
	}
	return r.Err()
}

// Cut takes nothing more from other nodes, until Stay.
func (n *Node) Cut() { n.broker.Cut() }

// Seen is what Know needs, once the node is at rest.
func (n *Node) Seen() []byte { return n.broker.Seen() }

// Know tells a node, before its server begins, what the one whose place it takes has Seen.
func (n *Node) Know(seen []byte) error { return n.broker.Know(seen) }

// Enter has it take its place among the others, then.
func (n *Node) Enter() error { return n.broker.Enter() }

// Stay says that the node goes on after Rest, Hold and Cut.
func (n *Node) Stay() {
	n.broker.Uncut()
	n.broker.Unhold()
	n.parting.Store(false)
}

// waitUntil waits for what holds to hold.
func waitUntil(ctx context.Context, holds func() bool) error {
	for !holds() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(restPoll):
		}
	}
	return nil
}

// dismissRecents tells the clients to come back that had messages over NATS lately, since
// nobody knows which of those are on their way.
func (n *Node) dismissRecents() {
	all := n.recents.Load()
	if all == nil {
		return
	}
	for l, r := range *all {
		n.on(l, func() {
			for _, h := range slices.Concat(r.before, r.now) {
				if s := sessionAt(l, h); s != nil && !s.is(markEnded) {
					n.disconnect(s, errRestart)
				}
			}
		})
	}
}

var errRestart = client.Disconnect{Code: uint32(ws.CloseServiceRestart), Reason: "the server is restarting"}

func (n *Node) resting() bool {
	n.behind.mu.Lock()
	catching := n.behind.workers
	n.behind.mu.Unlock()
	if len(n.calls)+catching+n.server.Parked() > 0 {
		return false
	}
	for _, rt := range n.raw {
		if c, ok := rt.carrier.(*rawCalls); ok && c.active() {
			return false
		}
	}
	return true
}

func (x *rawCalls) active() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.busy > 0
}

// KeepsRecords tells whether the broker keeps anything for the node that must outlive it:
// history, or events that handlers are to be told.
func (n *Node) KeepsRecords() bool {
	keeps := n.notices.disconnect != nil || n.notices.unsubscribe != nil || n.opts.Channels.Default.HistorySize > 0
	for _, ns := range n.opts.Channels.named {
		keeps = keeps || ns.HistorySize > 0
	}
	return keeps
}

// willBytes are about those of a will that emit gets at a time: memory that has not been touched
// yet costs more than to write it.
const willBytes = 64 << 10

// Will is what the node leaves to the one that takes its place, besides its clients and the
// broker's own. Inherit gets what emit does, which must not keep it, in the same order. The node
// must be at rest. Any goroutine.
func (n *Node) Will(emit func([]byte) error) error {
	users, err := json.Marshal(n.seen.all())
	if err != nil {
		return err
	}
	b := pack.AppendBytes(nil, n.ids.secret[:])
	b = pack.AppendInt(b, time.Now().UnixNano()) // compared at once, so a clock that is set does no harm
	b = pack.AppendInt(b, int64(time.Since(n.started)))
	b = pack.AppendBytes(b, n.revoked.Snapshot())
	b = pack.AppendBytes(b, users)
	b = pack.AppendInt(b, n.hub.LastID())
	b = n.appendEvents(b)
	if err = emit(b); err != nil {
		return err
	}
	b = b[:0]
	n.hub.Places(func(p hub.Place) {
		if b = appendPlace(b, p); len(b) >= willBytes && err == nil {
			err = emit(b)
			b = b[:0]
		}
	})
	if err == nil && len(b) > 0 {
		err = emit(b)
	}
	return err
}

func appendPlace(b []byte, p hub.Place) []byte {
	b = pack.AppendInt(b, p.ID)
	b = pack.AppendString(b, p.Name)
	b = pack.AppendUint(b, p.Offset)
	b = pack.AppendString(b, p.Epoch)
	b = pack.AppendBool(b, p.Last != nil)
	return pack.AppendBytes(b, p.Last)
}

// appendEvents adds what handlers are still to be told and is stored nowhere.
func (n *Node) appendEvents(b []byte) []byte {
	type queued struct {
		kind string
		job  broker.QueuedJob
	}
	var all []queued
	n.notices.each(func(q *notice) {
		for _, j := range q.Waiting() {
			all = append(all, queued{q.kind, j})
		}
	})
	b = pack.AppendUint(b, uint64(len(all)))
	for _, q := range all {
		b = pack.AppendString(b, q.kind)
		b = pack.AppendString(b, q.job.ID)
		b = pack.AppendBytes(b, q.job.Data)
	}
	return b
}

// inheritance is what a new node does with a will.
type inheritance struct {
	channels map[int64]*hub.Channel // by number, of the old node; nil before the first part of a will
	last     int64                  // number of a channel
	events   []inheritedEvent
	early    []*hub.Channel // those of HearEarly
}

type inheritedEvent struct {
	kind, id string
	data     []byte
}

// Inherit makes a node that was prepared stand for the one whose Will it is, part by part.
// Clients may arrive after the last.
func (n *Node) Inherit(part []byte) error {
	r := pack.NewReader(part)
	if n.heritage.channels == nil {
		return n.inherit(r)
	}
	for r.Len() > 0 {
		p := hub.Place{ID: r.Int(), Name: r.String(), Offset: r.Uint(), Epoch: r.String()}
		has, data := r.Bool(), r.Bytes()
		if err := r.Err(); err != nil {
			return fmt.Errorf("gateway: inherit a channel: %w", err)
		}
		if has {
			p.Last = append([]byte{}, data...)
		}
		n.heritage.channels[p.ID] = n.hub.Settle(p, n.heritage.last)
	}
	return nil
}

// inherit takes the first part of a will.
func (n *Node) inherit(r *pack.Reader) error {
	secret, now, ran := r.Bytes(), time.Unix(0, r.Int()), time.Duration(r.Int())
	revoked, users, last := r.Bytes(), r.Bytes(), r.Int()
	n.heritage.last = last
	n.heritage.channels = make(map[int64]*hub.Channel)
	for range r.Uint() {
		if r.Err() != nil {
			break
		}
		n.heritage.events = append(n.heritage.events, inheritedEvent{r.String(), r.String(), clone(r.Bytes())})
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("gateway: inherit: %w", err)
	}
	var err error
	if n.ids, err = oldIDs(secret); err != nil {
		return err
	}
	n.started = time.Now().Add(-ran - time.Since(now))
	var seen map[string]int64
	if err := errors.Join(n.revoked.Restore(revoked), json.Unmarshal(users, &seen)); err != nil {
		return fmt.Errorf("gateway: inherit: %w", err)
	}
	n.seen.young = seen
	return nil
}

// settleHeritage gives up what only arriving clients need.
func (n *Node) settleHeritage() {
	for _, ch := range n.heritage.early {
		n.hub.Release(ch)
	}
	for _, ch := range n.heritage.channels {
		if len(n.opts.Broker.URLs) > 0 {
			n.catchUp(ch) // other nodes went on meanwhile
		}
		n.hub.Release(ch)
	}
	n.notices.each(func(q *notice) {
		for _, e := range n.heritage.events {
			if e.kind != q.kind {
				continue
			}
			var stored func()
			if l := n.notices.clients; l != nil && q == n.notices.disconnect {
				stored = func() { l.Remove(e.id) }
			}
			if err := q.Put(e.id, e.data, stored); err != nil {
				n.opts.Logger.Error("an event is dropped", "event", e.kind, "error", err)
			}
		}
	})
	n.heritage = inheritance{}
}

// Abandon ends a node whose place has been taken, and which has no clients any more. Nobody is
// told anything, and nothing is stored.
func (n *Node) Abandon() {
	n.closing.Store(true)
	n.end.Do(func() {
		n.kill()
		close(n.ended)
		n.broker.Abandon()
	})
}

// all returns when users were last seen, by user.
func (l *lastSeen) all() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := maps.Clone(l.old)
	if all == nil {
		all = make(map[string]int64)
	}
	maps.Copy(all, l.young)
	return all
}
