package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"roost/broker"
	"roost/conn"
	"roost/internal/setting"
	"roost/proto/client"
)

// Some things the application is told after they have happened: that a client has gone,
// that it left a channel. Nobody waits for the answer, so what is to be told lies in a
// queue of the broker until the handler has taken it.

// DisconnectEvent tells that a client has gone.
type DisconnectEvent struct {
	// ID is the same whenever this event is told, and no other's.
	ID string `json:"id"`
	Peer
	Time   int64  `json:"time"` // Unix milliseconds
	Code   uint32 `json:"code"` // 3000 to 4999, see client.Disconnect; that of the close frame for TransportRaw
	Reason string `json:"reason"`
	// Channels it was subscribed to. Not known of clients that were lost with their
	// gateway.
	Channels []string `json:"channels,omitempty"`
}

// UnsubscribeEvent tells that a client that stays connected has left a channel.
type UnsubscribeEvent struct {
	ID string `json:"id"` // as of DisconnectEvent
	Peer
	Time    int64  `json:"time"` // Unix milliseconds
	Channel string `json:"channel"`
	Code    uint32 `json:"code"` // 0: the client did it; others as in client.Unsubscribe
	Reason  string `json:"reason"`
}

// EventOptions bound the queues of Handlers.Disconnect and Handlers.Unsubscribe. Each
// has its own. The zero value of a field means its default.
type EventOptions struct {
	// Concurrency is how many events this node tells at a time. Default: 32.
	Concurrency int `yaml:"concurrency" json:"concurrency"`
	// MaxAge of an event that the application did not take, after which it is dropped.
	// Default: 24 h.
	MaxAge time.Duration `yaml:"max-age" json:"max_age"`
	// MaxBytes of events in a queue. Default: 1 GiB.
	MaxBytes int64 `yaml:"max-bytes" json:"max_bytes"`
	// MaxWaiting bounds the events that are not in the queue yet, since NATS is away or
	// the queue is full, in bytes of memory. What comes then is dropped. Default: 64 MiB.
	MaxWaiting int64 `yaml:"max-waiting" json:"max_waiting"`
	// Grace is how long a gateway of a cluster is not heard of before its clients count
	// as gone. Default: 30 s.
	Grace time.Duration `yaml:"grace" json:"grace"`
}

// Problems returns all that is wrong with o.
func (o EventOptions) Problems() (all []error) {
	for _, v := range []struct {
		name        string
		value, low  int64
		top         int64
		given, text string
	}{
		{"concurrency", int64(o.Concurrency), 1, 10_000, fmt.Sprint(o.Concurrency), "0 (32) to 10000"},
		{"max-age", int64(o.MaxAge), int64(time.Second), int64(365 * 24 * time.Hour), o.MaxAge.String(), "0s (24h), or 1s to 8760h"},
		{"grace", int64(o.Grace), int64(5 * time.Second), int64(time.Hour), o.Grace.String(), "0s (30s), or 5s to 1h"},
		{"max-bytes", o.MaxBytes, 1 << 20, 1 << 50, fmt.Sprint(o.MaxBytes), "0 (1073741824), or 1048576 bytes or more"},
		{"max-waiting", o.MaxWaiting, 1 << 20, 1 << 40, fmt.Sprint(o.MaxWaiting), "0 (67108864), or 1048576 bytes or more"},
	} {
		if v.value != 0 && (v.value < v.low || v.value > v.top) {
			all = append(all, setting.At(fmt.Errorf("%s is %s, must be %s", v.name, v.given, v.text), v.name))
		}
	}
	return all
}

// EventStats are the figures of one queue.
type EventStats struct {
	broker.QueueStats
	Rejected uint64 // taken by the application with an error that is final
}

// notices are the queues; those nobody wants to hear of are nil.
type notices struct {
	disconnect, unsubscribe *notice
	clients                 *broker.Ledger // those that are connected; there with disconnect, unless all is in memory
}

// notice is one kind of event.
type notice struct {
	*broker.Queue
	kind     string
	log      *slog.Logger
	rejected atomic.Uint64
}

// openTimeout is what the queues and the list of clients get to be opened.
const openTimeout = time.Minute

// openNotices opens the queues of the handlers there are.
func (n *Node) openNotices() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if f := n.opts.Handlers.Disconnect; f != nil {
		n.notices.disconnect, err = openNotice(ctx, n, "disconnect", f)
		if err == nil && !n.opts.Broker.Memory {
			n.notices.clients, err = n.broker.NewLedger(ctx, broker.LedgerOptions{Lost: n.lostWithGateway, Grace: n.opts.Events.Grace})
		}
	}
	if f := n.opts.Handlers.Unsubscribe; f != nil && err == nil {
		n.notices.unsubscribe, err = openNotice(ctx, n, "unsubscribe", f)
	}
	return err
}

func openNotice[E any](ctx context.Context, n *Node, kind string, f func(context.Context, E) error) (*notice, error) {
	o := &n.opts.Events
	t := &notice{kind: kind, log: n.opts.Logger}
	var err error
	t.Queue, err = n.broker.NewQueue(ctx, broker.QueueOptions{
		Name: kind, Concurrency: o.Concurrency, MaxAge: o.MaxAge, MaxBytes: o.MaxBytes, MaxWaiting: o.MaxWaiting,
		Do: func(ctx context.Context, job []byte) error {
			var e E
			if err := json.Unmarshal(job, &e); err != nil {
				return t.reject(job, err)
			}
			ctx, cancel := context.WithTimeout(ctx, n.opts.CallTimeout)
			defer cancel()
			if err := f(ctx, e); err != nil {
				return t.judge(job, err)
			}
			return nil
		},
		Dropped: func(job []byte) {
			t.log.Error("an event is dropped, since the application did not take it in time", "event", kind, "job", string(job))
		},
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// judge returns an error if the event is to come again.
func (t *notice) judge(job []byte, err error) error {
	var own *client.Error
	var end *client.Disconnect // of a client that has gone
	if errors.As(err, &end) || errors.As(err, &own) && !own.Temporary {
		return t.reject(job, err)
	}
	return err
}

func (t *notice) reject(job []byte, err error) error {
	t.rejected.Add(1)
	t.log.Warn("the application rejected an event, which does not come again", "event", t.kind, "error", err, "job", string(job))
	return nil
}

// put queues an event. Any goroutine; it does not block.
func (t *notice) put(id string, event any, stored func()) error {
	b, err := json.Marshal(event)
	if err != nil {
		return err
	}
	err = t.Put(id, b, stored)
	if errors.Is(err, broker.ErrFull) {
		t.log.Error("an event is dropped: too many wait to be stored", "event", t.kind)
	}
	return err
}

func (t *notice) stats() EventStats { return EventStats{t.Stats(), t.rejected.Load()} }

// each calls f for the queues there are.
func (t *notices) each(f func(*notice)) {
	for _, q := range []*notice{t.disconnect, t.unsubscribe} {
		if q != nil {
			f(q)
		}
	}
}

// noteGone has the application told that a client has gone.
func (n *Node) noteGone(s *session, r conn.Reason, channels []string) {
	n.noteEnd(s, gone(r), channels)
}

// noteEnd is noteGone where the end has a code already, which holds unless the gateway itself
// disconnected the client.
func (n *Node) noteEnd(s *session, d client.Disconnect, channels []string) {
	q := n.notices.disconnect
	if why := s.look().gone; why != nil {
		d = *why
	}
	e := DisconnectEvent{Peer: n.peer(s), Time: time.Now().UnixMilli(), Code: d.Code, Reason: d.Reason, Channels: channels}
	e.ID = e.Client
	var stored func()
	if l := n.notices.clients; l != nil {
		stored = func() { l.Remove(e.ID) }
	}
	err := q.put(e.ID, e, stored)
	switch {
	case errors.Is(err, broker.ErrFull):
		if stored != nil {
			stored() // given up
		}
	case err != nil:
		n.opts.Logger.Warn("the end of a client was not noted", "client", e.Client, "error", err)
	}
}

// noteConnected stores that a client is there, before it is told that it is connected: so
// the end of this process does not keep its end from being told.
func (n *Node) noteConnected(ctx context.Context, s *session) error {
	l := n.notices.clients
	if l == nil {
		return nil
	}
	p := n.peer(s)
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err = l.Add(ctx, p.Client, b); err != nil {
		l.Remove(p.Client)
	}
	return err
}

// lostWithGateway has the application told of a client whose gateway died.
func (n *Node) lostWithGateway(id string, peer []byte, done func()) error {
	e := DisconnectEvent{ID: id, Time: time.Now().UnixMilli(), Code: client.DisconnectServerError.Code, Reason: "the gateway was lost"}
	if err := json.Unmarshal(peer, &e.Peer); err != nil {
		return fmt.Errorf("gateway: client %s in the ledger: %w", id, err)
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	for {
		err := n.notices.disconnect.Put(id, b, done)
		if !errors.Is(err, broker.ErrFull) {
			return err
		}
		select { // the others come first
		case <-time.After(lostPause):
		case <-n.life.Done():
			return n.life.Err()
		}
	}
}

const lostPause = 50 * time.Millisecond

// gone is what a connection's end means to the application, where the gateway did not
// say a code itself.
func gone(r conn.Reason) client.Disconnect {
	switch r {
	case conn.ReasonNoPong:
		return client.DisconnectNoPong
	case conn.ReasonSlow:
		return client.DisconnectSlow
	case conn.ReasonShutdown:
		return client.DisconnectShutdown
	case conn.ReasonRate:
		return client.DisconnectTooManyRequests
	case conn.ReasonProtocol:
		return client.DisconnectBadRequest
	case conn.ReasonOverload, conn.ReasonPanic:
		return client.DisconnectServerError
	}
	return client.DisconnectConnectionClosed
}

// unsubscribeClient stands for an unsubscribe command.
var unsubscribeClient = client.Unsubscribe{Reason: "client unsubscribed"}

// noteUnsubscribed has the application told that a client has left a channel; u is nil
// where it did so itself.
func (n *Node) noteUnsubscribed(s *session, channel string, u *client.Unsubscribe) {
	q := n.notices.unsubscribe
	if q == nil {
		return
	}
	if u == nil {
		u = &unsubscribeClient
	}
	e := UnsubscribeEvent{ID: rand.Text(), Peer: n.peer(s), Time: time.Now().UnixMilli(), Channel: channel, Code: u.Code, Reason: u.Reason}
	if err := q.put(e.ID, e, nil); err != nil && !errors.Is(err, broker.ErrFull) {
		n.opts.Logger.Warn("an unsubscribe was not noted", "client", e.Client, "channel", channel, "error", err)
	}
}

// noticeTime is what the queues get at the end to store what they hold, if nothing is
// left of the time for the whole.
const noticeTime = time.Second

// closeNotices stores what is left.
func (n *Node) closeNotices(ctx context.Context) {
	if end, ok := ctx.Deadline(); ctx.Err() != nil || ok && time.Until(end) < noticeTime {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), noticeTime)
		defer cancel()
	}
	n.notices.each(func(q *notice) {
		if err := q.Close(ctx); err != nil {
			n.opts.Logger.Error("events are lost", "event", q.kind, "error", err)
		}
	})
	if l := n.notices.clients; l != nil {
		if err := l.Close(ctx); err != nil {
			n.opts.Logger.Warn("some clients will be told to have gone once more", "error", err)
		}
	}
}
