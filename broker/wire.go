package broker

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// confirmEvery is how long messages may be under way before NATS is asked whether
	// it has them.
	confirmEvery = 50 * time.Millisecond
	// wireTimeout bounds a write to NATS and its answer; then the connection is given up.
	wireTimeout = 5 * time.Second
	wirePending = 64 << 20 // bytes of messages that wait for a subscriber's function
	wireKept    = 1 << 17  // messages to keep that wait for NATS to be back
	batchKept   = 1 << 20  // bytes of a batch's buffers that are kept for the next
)

// Sender is who a Wire is used for. Its methods must not block; all but Hold are called
// on the wire's goroutine.
type Sender interface {
	// Hold tells that more waits than is good: the sender should send no more until
	// Resume. It is called by Put.
	Hold()
	// Resume tells a sender that was held that it may go on.
	Resume()
	// Lost tells that a message did not reach NATS, or may not have.
	Lost(err error)
	// Broken says that Lost was called: what the sender has put besides is dropped, so
	// that nobody gets messages with a hole in between.
	Broken() bool
}

// Wire is a connection to NATS of its own for messages that nobody waits for. Those of
// one sender go out in order. All methods may be called by any goroutine.
type Wire struct {
	// Static after construction.
	nc    *nats.Conn
	limit int
	wake  chan struct{} // holds one while there is something to do
	ended chan struct{}
	done  chan struct{}

	mu     sync.Mutex
	next   batch // what has been put since the goroutine looked
	held   []Sender
	closed bool

	queued  atomic.Int64 // bytes that wait, those with the goroutine included
	largest atomic.Int64 // message NATS takes, in bytes
	dropped atomic.Uint64

	// Owned by the goroutine.
	doubt doubt
}

// batch is messages one behind the other.
type batch struct {
	items []parcel
	names []byte // subjects and replies
	data  []byte
}

type parcel struct {
	sender               Sender
	subject, reply, data int32 // bytes of each
	keep                 bool
}

// doubt is what was written to NATS and is not known to have arrived.
type doubt struct {
	senders    []Sender
	kept       []*nats.Msg // see Put
	since      time.Time
	reconnects uint64
}

var (
	// ErrWireFull means that more waits for NATS than may.
	ErrWireFull = errors.New("broker: too much waits for NATS")
	errUnknown  = errors.New("broker: the connection to NATS broke: what was under way may be lost")
)

// Wire connects to NATS once more. At most limit bytes wait to be sent. broken, if not nil, is called
// whenever the connection breaks: what was on its way to or from the server may be lost, also what the
// server had confirmed.
func (b *Broker) Wire(limit int, broken func()) (*Wire, error) {
	w := &Wire{limit: limit, wake: make(chan struct{}, 1), ended: make(chan struct{}), done: make(chan struct{})}
	opts := []nats.Option{
		nats.Name("roost " + b.opts.Node + " raw"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.ReconnectBufSize(-1), // fail at once: the sender is told
		nats.PingInterval(wireTimeout), nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(wireTimeout),
		nats.SkipSubjectValidation(), // subjects are made of tokens, see AppendToken
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			select {
			case <-w.ended:
			default:
				b.log.Warn("NATS is away for raw routes", "error", err)
				if broken != nil {
					broken()
				}
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { w.largest.Store(nc.MaxPayload()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			b.log.Warn("NATS", "error", err)
			if errors.Is(err, nats.ErrSlowConsumer) && sub != nil {
				w.dropped.Add(1)
			}
		}),
	}
	opts = append(opts, b.server.within()...)
	var err error
	if w.nc, err = nats.Connect(strings.Join(b.opts.URLs, ","), opts...); err != nil {
		return nil, fmt.Errorf("broker: connect to NATS once more: %w", err)
	}
	w.largest.Store(w.nc.MaxPayload())
	go w.run()
	return w, nil
}

// AppendToken appends any text but the empty one as one token of a subject. What a
// token cannot have, and - as a whole, comes as %XX.
func AppendToken(dst []byte, text string) []byte {
	if text == "-" {
		return append(dst, "%2D"...)
	}
	return appendToken(dst, text)
}

// FromToken undoes AppendToken.
func FromToken(token string) (text string, ok bool) { return fromToken(token) }

// Put queues a message; what is given is copied. A message to keep is sent again until
// NATS has it, also if others of its sender were lost; others are lost with the
// connection. Errors: ErrWireFull, ErrTooLarge, ErrClosed.
func (w *Wire) Put(s Sender, subject, reply, data []byte, keep bool) error {
	n := len(subject) + len(reply) + len(data)
	waits := w.queued.Load()
	switch {
	case int64(len(data)) > w.largest.Load():
		return ErrTooLarge
	case waits+int64(n) > int64(w.limit) && !keep:
		return ErrWireFull
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	w.queued.Add(int64(n))
	b := &w.next
	first := len(b.items) == 0
	b.items = append(b.items, parcel{s, int32(len(subject)), int32(len(reply)), int32(len(data)), keep})
	b.names = append(append(b.names, subject...), reply...)
	b.data = append(b.data, data...)
	if waits > int64(w.limit)/2 && !keep {
		s.Hold()
		w.held = append(w.held, s)
	}
	w.mu.Unlock()
	if first {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// run sends batches until the wire is closed.
func (w *Wire) run() {
	defer close(w.done)
	var b batch
	w.doubt.reconnects = w.nc.Stats().Reconnects
	for {
		var confirm <-chan time.Time
		if w.doubtful() {
			confirm = time.After(confirmEvery)
		}
		select {
		case <-w.wake:
		case <-confirm:
			w.confirm()
			continue
		case <-w.ended:
			w.take(&b)
			w.send(&b)
			w.confirm()
			return
		}
		w.take(&b)
		w.send(&b)
		w.resume()
		if w.doubtful() && time.Since(w.doubt.since) > confirmEvery {
			w.confirm()
		}
	}
}

// take swaps what has been put for b, which is empty.
func (w *Wire) take(b *batch) {
	w.mu.Lock()
	*b, w.next = w.next, *b
	w.mu.Unlock()
}

// send publishes a batch and empties it.
func (w *Wire) send(b *batch) {
	if !w.doubtful() {
		w.doubt.since = time.Now()
	}
	names, data := string(b.names), b.data
	for i := range b.items {
		it := &b.items[i]
		subject, reply := names[:it.subject], names[it.subject:it.subject+it.reply]
		payload := data[:it.data:it.data]
		names, data = names[it.subject+it.reply:], data[it.data:]
		if !it.keep && it.sender.Broken() {
			continue
		}
		err := w.nc.PublishRequest(subject, reply, payload)
		switch {
		case it.keep && len(w.doubt.kept) >= wireKept:
			w.dropped.Add(1)
		case it.keep:
			w.doubt.kept = append(w.doubt.kept, &nats.Msg{Subject: strings.Clone(subject), Data: append([]byte(nil), payload...)})
		case err != nil:
			it.sender.Lost(fmt.Errorf("broker: publish: %w", err))
		default:
			w.doubt.senders = append(w.doubt.senders, it.sender)
		}
	}
	w.queued.Add(-int64(len(b.names) + len(b.data)))
	clear(b.items)
	b.items, b.names, b.data = b.items[:0], b.names[:0], b.data[:0]
	if cap(b.names)+cap(b.data) > batchKept {
		*b = batch{}
	}
}

// resume lets the senders go on that were held.
func (w *Wire) resume() {
	if w.queued.Load() > int64(w.limit)/4 {
		return
	}
	w.mu.Lock()
	held := w.held
	w.held = nil
	w.mu.Unlock()
	for _, s := range held {
		s.Resume()
	}
}

func (w *Wire) doubtful() bool { return len(w.doubt.senders)+len(w.doubt.kept) > 0 }

// confirm waits until NATS has what was sent. If it does not say so, or the connection
// is another by now, the senders are told, and what is to be kept is sent again.
func (w *Wire) confirm() {
	d := &w.doubt
	err := errUnknown
	if w.nc.IsConnected() {
		err = w.nc.FlushTimeout(wireTimeout)
	}
	now := w.nc.Stats().Reconnects
	if err == nil && now != d.reconnects {
		err = errUnknown
	}
	d.reconnects = now
	if err != nil {
		for _, s := range d.senders {
			s.Lost(err)
		}
	}
	clear(d.senders)
	d.senders = d.senders[:0]
	if err == nil {
		d.kept = nil
		return
	}
	d.since = time.Now()
	for _, m := range d.kept {
		_ = w.nc.PublishMsg(m) // the next confirm tells
	}
}

// Subscribe has f called for every message on a subject, one after the other. failed
// says that it is the answer to a message of this wire that nobody listened for. f may
// keep data.
func (w *Wire) Subscribe(subject string, f func(subject string, data []byte, failed bool)) error {
	sub, err := w.nc.Subscribe(subject, func(m *nats.Msg) {
		f(m.Subject, m.Data, len(m.Data) == 0 && m.Header.Get("Status") == "503")
	})
	if err == nil {
		err = errors.Join(sub.SetPendingLimits(-1, wirePending), w.nc.FlushTimeout(wireTimeout))
	}
	if err != nil {
		return fmt.Errorf("broker: subscribe to %s: %w", subject, err)
	}
	return nil
}

// WireStats are the figures of a Wire.
type WireStats struct {
	Queued  int64  // bytes that wait to be sent now
	Dropped uint64 // times that messages from NATS were dropped since they were too many
}

// Stats returns the figures so far.
func (w *Wire) Stats() WireStats { return WireStats{w.queued.Load(), w.dropped.Load()} }

// Close sends what waits and ends the connection. It takes two wireTimeout at most.
func (w *Wire) Close() {
	w.mu.Lock()
	was := w.closed
	w.closed = true
	w.mu.Unlock()
	if was {
		return
	}
	close(w.ended)
	<-w.done
	w.nc.Close()
}
