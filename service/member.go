package service

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"roost/broker"
)

const (
	// callTimeout bounds a call from another process.
	callTimeout = 10 * time.Second
	// maxCalls from other processes may be under way at a time.
	maxCalls = 1024
)

// Options of a Member.
type Options struct {
	Name   string // of the service: a token of a NATS subject
	Broker *broker.Broker
	// Handle answers a call with JSON. Errors that are no *Error become Unavailable, and are logged.
	// Any goroutine, many at a time; the object is Call.Key.
	Handle func(context.Context, *Call) ([]byte, error)
	// Gained is called when this instance becomes the owner of a shard, before it is asked, and Lost
	// when it is no more. One goroutine at a time.
	Gained, Lost func(shard int)
	// Observe is told of each call that this instance answered. Any goroutine.
	Observe func(op string, code uint32, took time.Duration)
	Logger  *slog.Logger
}

// Member is one instance of a service.
type Member struct {
	Options
	calls chan struct{} // held by calls from other processes
	owned [Shards]atomic.Bool
	peers *peers // nil where NATS is embedded: there is no other

	mu     sync.Mutex // held while shards change
	stops  [Shards]func()
	closed bool
}

// Join makes a member, which takes part from then on. Errors: broker.ErrUnavailable.
func Join(o Options) (*Member, error) {
	m := &Member{Options: o, calls: make(chan struct{}, maxCalls)}
	if o.Broker.Alone() {
		for shard := range Shards {
			m.Gained(shard)
			m.owned[shard].Store(true)
		}
		return m, nil
	}
	var err error
	m.peers, err = joinPeers(o.Broker, o.Name, o.Logger, m.share)
	return m, err
}

// Leave ends the part of this instance: others take its shards at once.
func (m *Member) Leave() {
	if m.peers != nil {
		m.peers.leave()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for shard := range Shards {
		m.lose(shard)
	}
}

func (m *Member) owns(shard int) bool { return m.owned[shard].Load() }

// Owned counts the shards of this instance.
func (m *Member) Owned() (n int) {
	for i := range m.owned {
		if m.owned[i].Load() {
			n++
		}
	}
	return n
}

// share takes and gives shards, so that this instance has those that mine says.
func (m *Member) share(mine func(shard int) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	for shard := range Shards {
		switch want := mine(shard); {
		case want && m.stops[shard] == nil:
			m.gain(shard)
		case !want:
			m.lose(shard)
		}
	}
}

// gain takes a shard. If NATS does not hear of it, the next share tries again.
func (m *Member) gain(shard int) {
	if !m.owned[shard].Load() {
		m.Gained(shard)
		m.owned[shard].Store(true)
	}
	// Whoever owned it may still listen for a moment: of all in a queue one gets a call.
	stop, err := m.Broker.Answer(ownerSubject(m.Broker, m.Name, strconv.Itoa(shard)), "owner", m.asked)
	if err != nil {
		m.Logger.Warn("a shard could not be taken", "service", m.Name, "shard", shard, "error", err)
		return
	}
	m.stops[shard] = stop
}

func (m *Member) lose(shard int) {
	if stop := m.stops[shard]; stop != nil {
		stop()
		m.stops[shard] = nil
	}
	if m.owned[shard].Swap(false) {
		m.Lost(shard)
	}
}

// asked answers a call from another process.
func (m *Member) asked(r *broker.Request) {
	m.answer(r, func(ctx context.Context) ([]byte, error) {
		c, err := decodeCall(r.Data)
		if err != nil {
			return nil, err
		}
		return m.handle(ctx, c)
	}, encodeAnswer)
}

// answer runs f on a goroutine of its own, unless too many are under way, and sends what it returns.
func (m *Member) answer(r *broker.Request, f func(context.Context) ([]byte, error), encode func([]byte, *Error) []byte) {
	reply := func(result []byte, failed *Error) {
		err := r.Reply(encode(result, failed))
		if errors.Is(err, broker.ErrTooLarge) {
			err = r.Reply(encode(nil, Errorf(CodeTooLarge, "the answer is larger than NATS takes: ask for less")))
		}
		if err != nil && !errors.Is(err, broker.ErrClosed) {
			m.Logger.Warn("an answer could not be sent", "service", m.Name, "error", err)
		}
	}
	select {
	case m.calls <- struct{}{}:
	default:
		reply(nil, Busy)
		return
	}
	go func() {
		defer func() { <-m.calls }()
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		result, err := f(ctx)
		reply(result, m.failure(err))
	}()
}

// failure is what callers get of an error.
func (m *Member) failure(err error) *Error {
	var own *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case !errors.Is(err, broker.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled):
		m.Logger.Error("a call failed", "service", m.Name, "error", err)
	}
	return Unavailable
}

// handle answers a call. Errors are *Error.
func (m *Member) handle(ctx context.Context, c *Call) ([]byte, error) {
	begun := time.Now()
	result, err := m.Handle(ctx, c)
	failed := m.failure(err)
	if failed != nil {
		m.Observe(c.Op, failed.Code, time.Since(begun))
		return nil, failed
	}
	m.Observe(c.Op, 0, time.Since(begun))
	return result, nil
}

// Serve answers backends that ask on NATS: PREFIX.NAME.OP, JSON in, and {"result":…} or {"error":…} out.
// The subject is open to whoever NATS lets in, and they are trusted. prepare finds the Key of a call.
func (m *Member) Serve(r *Router, prepare func(*Call) error) (stop func(), err error) {
	at := m.Broker.Prefix() + "." + m.Name + "."
	return m.Broker.Answer(at+"*", "any", func(q *broker.Request) {
		m.answer(q, func(ctx context.Context) ([]byte, error) {
			c := &Call{Caller: Caller{Trusted: true}, Op: q.Subject[len(at):], Data: q.Data}
			if err := prepare(c); err != nil {
				return nil, err
			}
			return r.Do(ctx, c)
		}, Reply)
	})
}

// Reply is how backends read an answer: {"result":…} or {"error":{…}}.
func Reply(result []byte, failed *Error) []byte {
	if failed == nil {
		return append(append([]byte(`{"result":`), result...), '}')
	}
	b, err := json.Marshal(struct {
		Error *Error `json:"error"`
	}{failed})
	if err != nil {
		panic(err) // strings and numbers
	}
	return b
}
