package conn

import (
	"errors"
	"net/netip"
	"sync"

	"roost/poller"
	"roost/proto/ws"
)

// loop is the handler of one event loop; all its methods run on that loop.
type loop struct {
	server *Server
	loop   *poller.Loop
	dec    *ws.Decoder // for connections that have none of their own
	room   [14]byte    // frame header under construction
	more   bool        // the input at hand holds more after the current message
	beats  beats
	soft   map[poller.Handle]uint32 // by when a slow reader must have caught up, in ticks
	// remotes are the addresses of those whose socket does not tell, see Server.Adopt.
	remotes map[poller.Handle]netip.AddrPort
	resp    []byte // response under construction
	stats   *counters
	turns   []*Conn  // that have one
	arrived []func() // to be run once the server begins, see carry_linux.go

	broadcasts broadcastQueue
}

var decoders = sync.Pool{New: func() any { return new(ws.Decoder) }}

// Open implements poller.Handler.
func (h *loop) Open(pc *poller.Conn) {
	h.loop.SetDeadline(pc, h.server.ticks.handshake)
	h.shaking(connOf(pc))
}

// Data implements poller.Handler.
func (h *loop) Data(pc *poller.Conn, b []byte) {
	c := connOf(pc)
	c.flags &^= flagPinged
	switch c.state {
	case stateHandshake:
		h.handshake(c, b)
	case stateOpen:
		h.decode(c, b)
	case stateAdmit:
		h.keep(c, b)
	case stateHeld:
		h.keepHeld(c, b)
	case stateTLS:
		h.hello(c, b)
	}
}

// write queues a frame, or writes it at once where that is cheaper.
func (h *loop) write(c *Conn, op ws.Opcode, payload []byte) error {
	head := ws.AppendHeader(h.room[:0], op, true, false, len(payload))
	pending, err := h.loop.Write(&c.pc, head, payload, h.more)
	return c.queued(len(head)+len(payload), pending, err)
}

// decode hands out the messages in b and keeps what is left over. A connection
// that holds a part of a message has a decoder of its own for that long.
func (h *loop) decode(c *Conn, b []byte) {
	own, dec := c.part, h.dec
	if own != nil {
		dec = own.dec
		c.part = nil
	}
	lim := &h.server.routes[c.route].limits
	for c.state == stateOpen {
		ev, n, ok, err := dec.Next(lim, c.window != 0, b)
		if err != nil {
			h.protocolError(c, err)
			break
		}
		b = b[n:]
		if !ok {
			break
		}
		h.more = len(b) > 0
		h.event(c, ev)
	}
	h.more = false
	if c.state != stateOpen || dec.Size() > 0 && dec.Idle() {
		dec.Reset()
	}
	switch {
	case dec.Idle() && own != nil:
		decoders.Put(dec)
	case !dec.Idle() && own == nil:
		c.part = &partial{dec: dec}
		h.dec = decoders.Get().(*ws.Decoder)
	case !dec.Idle():
		c.part = own
	}
}

func (h *loop) event(c *Conn, ev ws.Event) {
	if h.server.opts.MessageRate > 0 && !h.allowed(c) {
		c.closing(ws.ClosePolicy)
		c.fail(ReasonRate, "too many messages")
		return
	}
	switch ev.Op {
	case ws.OpText, ws.OpBinary:
		h.stats.messagesIn.Add(1)
		rt := h.server.routes[c.route]
		switch {
		case rt.Peek != nil && h.peek(rt, c, ev.Op, ev.Payload):
		case rt.Inline:
			h.server.message(rt, c, ev.Op, ev.Payload)
		default:
			h.enqueue(c, item{kind: itemMessage, op: ev.Op, buf: copyPayload(ev.Payload)})
		}
	case ws.OpPing:
		head := ws.AppendHeader(h.room[:0], ws.OpPong, true, false, len(ev.Payload))
		pending, err := h.loop.Write(&c.pc, head, ev.Payload, h.more)
		_ = h.bounded(c, len(head)+len(ev.Payload), pending, err)
	case ws.OpClose:
		h.peerClosed(c, ev.Code)
	}
}

// peerClosed answers a close frame with its own code (RFC 6455 section 5.5.1), after
// the answers to all earlier messages.
func (h *loop) peerClosed(c *Conn, code ws.CloseCode) {
	c.closing(code)
	if h.working(c) {
		h.enqueue(c, item{kind: itemEnd, reason: ReasonPeerClosed, code: code})
		return
	}
	var room [4]byte
	_, _ = c.pc.Write(ws.AppendClose(room[:0], code, ""), nil)
	h.loop.FinishNow(&c.pc, ReasonPeerClosed)
}

func (h *loop) protocolError(c *Conn, err error) {
	var pe *ws.ProtocolError
	if !errors.As(err, &pe) {
		pe = &ws.ProtocolError{Code: ws.CloseProtocolError, Label: "unknown", Detail: err.Error()}
	}
	c.closing(pe.Code)
	h.server.protocolErrors.Add(pe.Label)
	if h.working(c) { // earlier messages are answered first
		h.enqueue(c, item{kind: itemEnd, reason: ReasonProtocol, code: pe.Code, text: pe.Detail})
		return
	}
	c.end(ReasonProtocol, pe.Code, pe.Detail)
}

// working tells whether items of c are still in the pool's hands.
func (h *loop) working(c *Conn) bool {
	if c.turn == nil {
		return false
	}
	c.turn.mu.Lock()
	defer c.turn.mu.Unlock()
	return c.turn.running
}

// EOF implements poller.Handler.
func (h *loop) EOF(pc *poller.Conn) (wait bool) {
	c := connOf(pc)
	if c.state != stateOpen || !h.working(c) {
		return c.state == stateClosing && h.working(c)
	}
	c.state = stateClosing
	h.enqueue(c, item{kind: itemEOF})
	return true
}

// Closed implements poller.Handler.
func (h *loop) Closed(pc *poller.Conn, r Reason) {
	c := connOf(pc)
	h.stats.closed[min(int(r), len(h.stats.closed)-1)].Add(1)
	h.shaken(c)
	if c.part != nil {
		if d := c.part.dec; d != nil {
			d.Reset()
			decoders.Put(d)
		}
		if a := c.part.admit; a != nil {
			a.cancel()
		}
		c.part = nil
	}
	delete(h.soft, pc.Handle())
	if c.flags&flagRemote != 0 {
		delete(h.remotes, pc.Handle())
	}
	if c.state != stateOpen && c.state != stateClosing {
		c.state = stateRefused // a worker may still be at it
		return
	}
	h.stats.open.Add(-1)
	code := closeCode(c, r)
	c.state = stateClosing
	if rt := h.server.routes[c.route]; rt.Inline {
		h.server.guard(c, func() { rt.Handler.Close(c, r, code) })
	} else {
		h.enqueue(c, item{kind: itemClosed, reason: r, code: code})
	}
}

// closeCode is what the handler is told.
func closeCode(c *Conn, r Reason) ws.CloseCode {
	switch {
	case c.state == stateClosing && (r == ReasonPeerClosed || r == ReasonProtocol || r == ReasonApplication):
		return ws.CloseCode(c.clock)
	case int(r) < len(reasons) && reasons[r].code != 0:
		return reasons[r].code
	}
	return ws.CloseAbnormal
}
