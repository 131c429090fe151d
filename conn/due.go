package conn

import (
	"cmp"
	"math/rand/v2"
	"time"

	"roost/poller"
	"roost/proto/ws"
)

// A connection has one deadline of the poller's, and several things to wait for. So
// the deadline is the earliest of: the time a slow reader has (loop.soft), the time
// to its next beat (loop.beats), the time it may wait for a worker (turn.since), and
// the next look at a connection without beats, for which nothing is kept: whether a
// ping or its answer is due follows from the last input.

// Blocked implements poller.Handler: it starts the time a slow reader has.
func (h *loop) Blocked(pc *poller.Conn, pending int) {
	c, t := connOf(pc), &h.server.ticks
	if _, timed := h.soft[pc.Handle()]; timed || t.soft == 0 || pending <= h.server.routes[c.route].soft {
		return
	}
	if c.state == stateOpen || c.state == stateClosing {
		h.soft[pc.Handle()] = h.after(t.soft)
		h.arm(c, t.soft)
	}
}

// after returns the tick so many ticks from now; never 0, which means none.
func (h *loop) after(ticks uint32) uint32 { return max(1, h.loop.Now()+ticks) }

// until returns the ticks to a tick, at least 1.
func (h *loop) until(tick uint32) uint32 { return uint32(max(1, int32(tick-h.loop.Now()))) }

// arm sets the deadline of an upgraded connection: look, if not 0, in ticks, or what
// comes earlier.
func (h *loop) arm(c *Conn, look uint32) {
	earlier := func(ticks uint32) {
		if look == 0 || ticks < look {
			look = ticks
		}
	}
	if at, timed := h.soft[c.pc.Handle()]; timed {
		earlier(h.until(at))
	}
	if at := h.nextBeat(c); at != 0 {
		earlier(min(h.until(at), h.server.ticks.most))
	}
	if left, waits := h.patience(c); waits {
		earlier(left)
	}
	h.loop.SetDeadline(&c.pc, look)
}

// patience returns the ticks that a connection may still wait for a worker, at least
// 1, if it does wait.
func (h *loop) patience(c *Conn) (left uint32, waits bool) {
	if c.turn == nil {
		return 0, false
	}
	d, waits := c.turn.waited()
	return h.server.opts.Poller.Ticks(max(1, h.server.opts.OverloadTime-d)), waits
}

// Due implements poller.Handler.
func (h *loop) Due(pc *poller.Conn) {
	c := connOf(pc)
	switch c.state {
	case stateHandshake:
		h.refuse(c, nil, ReasonHandshakeLate, errHandshakeLate)
		return
	case stateAdmit:
		h.refuse(c, c.part.admit.request, ReasonHandshakeLate, errAdmitLate)
		return
	case stateHeld:
		h.release(c)
		return
	case stateTLS:
		c.pc.Cut(ReasonHandshakeLate)
		return
	case stateRefused:
		return
	}
	if h.slow(c) || h.overdue(c) {
		return
	}
	left, waits := h.patience(c)
	if !waits && c.state == stateOpen {
		h.refill(c)
	}
	var look uint32
	switch rt := h.server.routes[c.route]; {
	case c.state != stateOpen:
	case rt.Beat != nil:
		h.beat(rt, c)
	case waits:
		look = left
	default:
		look = h.look(c)
	}
	h.arm(c, look)
}

// slow cuts a connection whose time to catch up is over, and reports whether it did.
func (h *loop) slow(c *Conn) bool {
	at, timed := h.soft[c.pc.Handle()]
	if !timed || int32(at-h.loop.Now()) > 0 {
		return false
	}
	delete(h.soft, c.pc.Handle())
	if c.pc.Pending() <= h.server.routes[c.route].soft {
		return false
	}
	c.pc.Cut(ReasonSlow)
	return true
}

// overdue ends a connection that has waited for a worker too long, and reports
// whether it did.
func (h *loop) overdue(c *Conn) bool {
	if c.turn == nil {
		return false
	}
	if d, waits := c.turn.waited(); !waits || d < h.server.opts.OverloadTime {
		return false
	}
	c.fail(ReasonOverload, "no worker is free")
	return true
}

// look is pinging by conn's own rhythm. It returns the ticks to the next look.
func (h *loop) look(c *Conn) uint32 {
	t := &h.server.ticks
	if h.held(c) {
		return t.held
	}
	if t.ping == 0 {
		return t.check
	}
	silent := h.loop.Now() - c.pc.LastRead()
	switch {
	case silent < t.ping:
		return t.ping - silent
	case c.flags&flagPinged == 0:
		c.flags |= flagPinged
		if _, err := c.pc.WriteShared(pingFrame); err == nil {
			h.stats.pings.Add(1)
		}
		return t.pong
	case silent < t.ping+t.pong: // something else was due
		return t.ping + t.pong - silent
	}
	c.end(ReasonNoPong, cmp.Or(h.server.routes[c.route].NoPong, reasons[ReasonNoPong].code), "no answer to a ping")
	return 0
}

// held reports whether what the client sent may be unread: reading is stopped, or was
// when last looked at. Then nobody can tell whether the client has answered.
func (h *loop) held(c *Conn) bool {
	was := c.flags&flagHeld != 0
	c.flags &^= flagHeld
	if c.pc.Paused() {
		c.flags |= flagHeld
		return true
	}
	return was
}

var pingFrame = ws.AppendFrame(nil, ws.OpPing, nil)

// spread returns a first deadline that keeps pings from coming in bursts.
func (t *ticks) spread() uint32 {
	if t.ping == 0 {
		return t.check
	}
	return max(1, t.ping/2+rand.Uint32N(t.ping/2+1)) // 0 would mean none
}

const (
	beatChunk = 1 << 12 // connections whose beats are kept together
	maxBeat   = 1 << 30 // ticks: half of what can be told from the past
)

// beats are the ticks of the next beats by slot, 0 for none: 4 B for a connection, and
// nothing where no route has a Beat. A closed connection's is left for the next one to
// replace. Loop goroutine only.
type beats struct {
	chunks []*[beatChunk]uint32
}

func (b *beats) set(c *Conn, tick uint32) {
	i := c.pc.Handle().Slot()
	for int(i/beatChunk) >= len(b.chunks) {
		b.chunks = append(b.chunks, new([beatChunk]uint32))
	}
	b.chunks[i/beatChunk][i%beatChunk] = tick
}

// nextBeat returns the tick of the connection's next beat, 0 where it has none.
func (h *loop) nextBeat(c *Conn) uint32 {
	if h.server.routes[c.route].Beat == nil {
		return 0
	}
	i := c.pc.Handle().Slot()
	return h.beats.chunks[i/beatChunk][i%beatChunk]
}

// beatTicks converts the time to a beat to ticks, at least 1.
func (o *Options) beatTicks(d time.Duration) uint32 {
	return o.Poller.Ticks(min(max(1, d), maxBeat*o.Poller.Tick))
}

// beat calls Route.Beat if it is due, and notes when it will be again.
func (h *loop) beat(rt *Route, c *Conn) {
	if int32(h.nextBeat(c)-h.loop.Now()) > 0 {
		return
	}
	if h.held(c) {
		h.beats.set(c, h.after(h.server.ticks.held))
		return
	}
	var ticks uint32
	if next := h.callBeat(rt, c); next != 0 {
		ticks = h.server.opts.beatTicks(next)
	} else if ticks = h.look(c); ticks == 0 { // being closed
		ticks = h.server.ticks.check
	}
	h.beats.set(c, h.after(ticks))
}

func (h *loop) callBeat(rt *Route, c *Conn) (next time.Duration) {
	next = time.Second
	defer h.recovered(c)
	return rt.Beat(c)
}

// BeatAfter sets the time to the next call of Route.Beat, instead of what it returned
// last; 0 or less means soon. What Beat returns replaces it. Without effect where the
// route has no Beat. Loop goroutine only.
func (c *Conn) BeatAfter(d time.Duration) {
	h := c.loop()
	if c.state == stateOpen && h.server.routes[c.route].Beat != nil {
		h.beats.set(c, h.after(h.server.opts.beatTicks(d)))
		h.arm(c, 0)
	}
}

func (h *loop) peek(rt *Route, c *Conn, op ws.Opcode, payload []byte) (handled bool) {
	handled = true // should it panic
	defer h.recovered(c)
	return rt.Peek(c, op, payload)
}

// recovered ends a connection whose route's code panicked on the loop.
func (h *loop) recovered(c *Conn) {
	if v := recover(); v != nil {
		h.server.logPanic(c, v)
		c.closing(ws.CloseInternal)
		if c.turn != nil {
			c.turn.broken.Store(true)
		}
		c.fail(ReasonPanic, "internal error")
	}
}
