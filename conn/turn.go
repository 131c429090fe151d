package conn

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"roost/poller"
	"roost/proto/ws"
)

// turn is a connection's place in the pool: its messages are handled in order, by
// one worker at a time.
type turn struct {
	conn *Conn

	mu      sync.Mutex
	inbox   []item
	spare   []item    // the other half of inbox
	bytes   int       // of payload in inbox
	running bool      // a worker has it, it waits for one, or it is parked
	since   time.Time // when it began to wait for a worker; zero when it does not
	paused  bool      // the loop stopped reading
	ended   bool      // the end is in inbox, or was
	park    *parking  // nil unless Handler.Message has parked it

	broken atomic.Bool // the route's code panicked: no more messages
	admits bool        // it stands for admissions, not for a connection; static
}

type itemKind uint8

const (
	itemMessage itemKind = iota
	itemOpen
	itemEnd // from here on: nothing more comes. Close once all before it is handled
	itemEOF
	itemClosed
)

type item struct {
	kind   itemKind
	op     ws.Opcode
	reason Reason
	code   ws.CloseCode
	text   string
	buf    *[]byte
}

// Payload copies come from pools by power of two, 256 B to 64 KiB.
const (
	bufMinBits = 8
	bufMaxBits = 16
)

var bufPools [bufMaxBits + 1]sync.Pool

func copyPayload(p []byte) *[]byte {
	n := max(bufMinBits, bits.Len(uint(max(len(p), 1)-1)))
	if n > bufMaxBits {
		b := append([]byte(nil), p...)
		return &b
	}
	b, _ := bufPools[n].Get().(*[]byte)
	if b == nil {
		fresh := make([]byte, 0, 1<<n)
		b = &fresh
	}
	*b = append((*b)[:0], p...)
	return b
}

func freePayload(b *[]byte) {
	if n := bits.Len(uint(cap(*b)) - 1); cap(*b) == 1<<n && n >= bufMinBits && n <= bufMaxBits {
		bufPools[n].Put(b)
	}
}

// enqueue gives an item to the connection's turn. Loop goroutine only.
func (h *loop) enqueue(c *Conn, it item) {
	t := c.turn
	if t == nil {
		t = &turn{conn: c}
		c.turn = t
		h.turned(c)
	}
	s := h.server
	t.mu.Lock()
	t.inbox = append(t.inbox, it)
	if it.buf != nil {
		t.bytes += len(*it.buf)
	}
	var gone func()
	if it.kind >= itemEnd {
		t.ended = true
		gone = t.park.end()
	}
	if len(t.inbox) >= s.opts.InboxMessages || t.bytes >= s.opts.InboxBytes {
		t.paused = true
		c.pc.Pause()
	}
	start := !t.running
	t.running = true
	t.mu.Unlock()
	if gone != nil {
		gone()
	}
	if start {
		if !s.submit(t) {
			h.arm(c, s.ticks.overload)
		}
	}
}

// submit gives t to a worker. It never blocks: a turn that finds no worker waits for
// one to become free, and the result is false. What is counted is turns, not the
// pool's goroutines, which also stand in it idle or are on their way back to it.
func (s *Server) submit(t *turn) bool {
	s.waiting.mu.Lock()
	if s.waiting.busy == s.opts.Workers {
		s.wait(t)
		s.waiting.mu.Unlock()
		return false
	}
	s.waiting.busy++
	s.waiting.mu.Unlock()
	if s.pool.Invoke(t) != nil { // a worker that is done is not back in the pool yet
		go s.work(t)
	}
	return true
}

// wait puts t at the end of those that wait; under waiting.mu.
func (s *Server) wait(t *turn) {
	t.mu.Lock()
	t.since = time.Now()
	t.mu.Unlock()
	s.waiting.turns = append(s.waiting.turns, t)
}

// work is a worker's task: one turn, then those that found no worker.
func (s *Server) work(t *turn) {
	for t != nil {
		more := s.takeTurn(t)
		s.waiting.mu.Lock()
		if more {
			s.wait(t)
		}
		t = nil
		if len(s.waiting.turns) > 0 {
			t = s.waiting.turns[0]
			s.waiting.turns[0] = nil
			s.waiting.turns = s.waiting.turns[1:]
		} else {
			s.waiting.busy--
		}
		s.waiting.mu.Unlock()
	}
}

// takeTurn handles what is in the inbox by now: InboxMessages, and what the read
// that filled it held besides. It reports whether there is more: then others get the
// worker first.
func (s *Server) takeTurn(t *turn) (more bool) {
	if t.admits {
		return s.admitNext()
	}
	t.mu.Lock()
	items, resume := t.inbox, t.paused
	t.inbox, t.spare = t.spare, nil
	t.bytes, t.paused, t.since = 0, false, time.Time{}
	t.mu.Unlock()
	if resume {
		t.conn.pc.Resume()
	}
	for i := range items {
		s.handle(t, items[i])
		if t.park != nil {
			return t.leave(s, items, i+1)
		}
	}
	clear(items)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spare = items[:0]
	t.running = len(t.inbox) > 0
	return t.running
}

func (s *Server) handle(t *turn, it item) {
	c := t.conn
	rt := s.routes[c.route]
	switch it.kind {
	case itemMessage:
		if !t.broken.Load() {
			s.message(rt, c, it.op, *it.buf)
		}
		freePayload(it.buf)
	case itemOpen:
		s.guard(c, func() { rt.Handler.Open(c) })
	case itemEnd:
		c.end(it.reason, it.code, it.text)
	case itemEOF:
		c.pc.Finish(poller.ReasonEOF)
	case itemClosed:
		s.guard(c, func() { rt.Handler.Close(c, it.reason, it.code) })
	}
}

func (s *Server) message(rt *Route, c *Conn, op ws.Opcode, payload []byte) {
	defer s.recovered(c)
	rt.Handler.Message(c, op, payload)
}

func (s *Server) guard(c *Conn, f func()) {
	defer s.recovered(c)
	f()
}

// recovered keeps a handler's panic from the other connections.
func (s *Server) recovered(c *Conn) {
	if v := recover(); v != nil {
		s.logPanic(c, v)
		if s.routes[c.route].Inline {
			c.closing(ws.CloseInternal)
		} else {
			c.turn.broken.Store(true)
			c.Unpark() // who would do so may never have been told
		}
		c.fail(ReasonPanic, "internal error")
	}
}

// waited returns how long the turn has been waiting for a worker, if it does.
func (t *turn) waited() (d time.Duration, waits bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return 0, false
	}
	return time.Since(t.since), true
}

// rest gives a turn back that has nothing to do. Loop goroutine only: nobody else
// starts a turn.
func (h *loop) rest(c *Conn) {
	t := c.turn
	if t == nil {
		return
	}
	t.mu.Lock()
	idle := !t.running
	t.mu.Unlock()
	if idle {
		c.turn = nil
	}
}

// restEvery is how long turns that have nothing to do are kept, at most twice.
const restEvery = time.Second

// turned notes that c has a turn now, which is soon looked at again: so the memory of
// turns follows the clients that are busy, not those that once were.
func (h *loop) turned(c *Conn) {
	h.turns = append(h.turns, c)
	if len(h.turns) == 1 {
		time.AfterFunc(restEvery, func() { h.loop.Post(h.restAll) })
	}
}

// restAll gives the idle turns back.
func (h *loop) restAll() {
	busy := h.turns[:0]
	for _, c := range h.turns {
		if h.rest(c); c.turn != nil {
			busy = append(busy, c)
		}
	}
	clear(h.turns[len(busy):])
	h.turns = busy
	if len(busy) > 0 {
		time.AfterFunc(restEvery, func() { h.loop.Post(h.restAll) })
	} else if cap(h.turns) > 1024 {
		h.turns = nil
	}
}
