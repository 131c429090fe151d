package conn

import (
	"unicode/utf8"
	"unsafe"

	"roost/poller"
	"roost/proto/ws"
)

// Conn is one WebSocket connection.
type Conn struct {
	pc poller.Conn // first: the loop's callbacks are cast back

	// Owned by the loop.
	part *partial // nil unless a request head, frame or message is half read
	turn *turn    // nil unless the pool has worked for it lately

	// Owned by the loop; window and route are static from the upgrade on.
	state  state
	flags  flags
	route  uint8  // index into Server.routes
	window uint8  // of the peer's inflater, in bits; 0 = not compressed
	clock  uint32 // the rate limiter's; in stateClosing the code of the close frame
}

type state uint8

const (
	stateHandshake state = iota
	stateOpen
	stateClosing // a close frame was received or sent; input is ignored
	stateRefused // no WebSocket: answered by HTTP
	stateAdmit   // a worker decides on the upgrade
	stateHeld    // the upgrade waits for its turn, see StormOptions
	stateTLS     // nothing has come yet where TLS is spoken; route is the index into Server.secure
)

type flags uint8

const (
	flagPinged  flags = 1 << iota // a ping is out and nothing has been read since
	flagHeld                      // reading was stopped when last looked at
	flagRemote                    // loop.remotes has the peer's address
	flagShaking                   // counted in storm.shaking
	flagTurn                      // counted in storm.held
)

// partial is what is kept of input that is not complete.
type partial struct {
	head  []byte // of an upgrade request, or what came after one that is being decided on
	dec   *ws.Decoder
	admit *admission
}

func connOf(pc *poller.Conn) *Conn { return (*Conn)(unsafe.Pointer(pc)) }

// Server returns the server the connection belongs to. Any goroutine.
func (c *Conn) Server() *Server { return c.loop().server }

// Route returns where the client connected to. Any goroutine, from Handler.Open on.
func (c *Conn) Route() *Route { return c.loop().server.routes[c.route] }

// Session returns what Route.Authorize or SetSession attached. Any goroutine, as
// far as SetSession is not called at the same time.
func (c *Conn) Session() any { return c.pc.Session() }

// SetSession attaches v to the connection. Call it from the handler.
func (c *Conn) SetSession(v any) { c.pc.SetSession(v) }

// Handle names the connection without keeping it alive. Any goroutine.
func (c *Conn) Handle() poller.Handle { return c.pc.Handle() }

// Loop returns the event loop of the connection. Any goroutine.
func (c *Conn) Loop() *poller.Loop { return c.pc.Loop() }

// Get returns the connection that h names, or nil when it has gone or is not
// upgraded. l is a loop of a Server. Loop goroutine of l only.
func Get(l *poller.Loop, h poller.Handle) *Conn {
	pc := l.Get(h)
	if pc == nil {
		return nil
	}
	if c := connOf(pc); c.state == stateOpen || c.state == stateClosing {
		return c
	}
	return nil
}

// Send queues one message. It returns poller.ErrClosed when the connection is
// closed or being closed. Any goroutine.
func (c *Conn) Send(op ws.Opcode, payload []byte) error {
	if frame := c.compressed(op, payload); frame != nil {
		return c.share(frame)
	}
	var room [14]byte
	head := ws.AppendHeader(room[:0], op, true, false, len(payload))
	pending, err := c.pc.Write(head, payload)
	return c.queued(len(head)+len(payload), pending, err)
}

// Reply is Send for use within Handler.Message of this very connection. On an
// inline route it saves the queue where it can.
func (c *Conn) Reply(op ws.Opcode, payload []byte) error {
	h := c.loop()
	if !h.server.routes[c.route].Inline {
		return c.Send(op, payload)
	}
	if frame := c.compressed(op, payload); frame != nil {
		return c.share(frame)
	}
	return h.write(c, op, payload)
}

// SendPrepared queues a message that many connections share. Any goroutine.
func (c *Conn) SendPrepared(p *ws.Prepared) error { return c.share(p.FrameWindow(c.window)) }

// PushPrepared is SendPrepared for one message to many connections, from a function
// given to the loop's Post: it is sent with those to others in one system call, at
// best without a queue. It returns poller.ErrClosed once the connection is being
// closed. Loop goroutine only.
func (c *Conn) PushPrepared(p *ws.Prepared) error {
	if c.state != stateOpen {
		return poller.ErrClosed
	}
	frame := p.FrameWindow(c.window)
	pending, err := c.pc.Loop().Push(&c.pc, frame)
	return c.queued(len(frame), pending, err)
}

func (c *Conn) share(frame []byte) error {
	pending, err := c.pc.WriteShared(frame)
	return c.queued(len(frame), pending, err)
}

// compressed returns the whole frame where compression is agreed and worth a try.
func (c *Conn) compressed(op ws.Opcode, payload []byte) []byte {
	if c.window == 0 || len(payload) < ws.MinDeflate || op.IsControl() {
		return nil
	}
	return ws.NewPrepared(op, payload).FrameWindow(c.window)
}

// queued counts a message of n bytes that was written.
func (c *Conn) queued(n, pending int, err error) error {
	h := c.loop()
	if err = h.bounded(c, n, pending, err); err == nil {
		h.stats.messagesOut.Add(1)
	}
	return err
}

// bounded holds the result of a write of n bytes against the limits. Any goroutine.
func (h *loop) bounded(c *Conn, n, pending int, err error) error {
	if err != nil {
		return err
	}
	rt := h.server.routes[c.route]
	if pending-n > rt.hard {
		c.pc.Cut(ReasonSlow)
		return poller.ErrClosed
	}
	if pending > rt.soft && pending-n <= rt.soft {
		h.loop.Post(func() { h.Blocked(&c.pc, pending) }) // it may have been blocked before
	}
	return nil
}

// Close sends a close frame and ends the connection in order, after what has been
// sent before. The code is one that may be sent (ws.CloseCode.Valid); others become
// 1000. reason is cut to 123 bytes. Messages read before may still be handed out. Any
// goroutine.
func (c *Conn) Close(code ws.CloseCode, reason string) {
	if !code.Valid() {
		code = ws.CloseNormal
	}
	if !utf8.ValidString(reason) {
		reason = ""
	}
	c.loop().loop.Post(func() { c.closing(code) })
	c.end(ReasonApplication, code, reason)
}

// closing notes the code of the first close frame; input is ignored from then on.
// Loop goroutine only.
func (c *Conn) closing(code ws.CloseCode) {
	if c.state == stateOpen {
		c.state = stateClosing
		c.clock = uint32(code)
	}
}

func (c *Conn) end(r Reason, code ws.CloseCode, text string) {
	var room [4 + 125]byte
	_, _ = c.pc.Write(ws.AppendClose(room[:0], code, text), nil)
	c.pc.Finish(r)
}

// fail ends the connection for a reason that has a code of its own.
func (c *Conn) fail(r Reason, text string) { c.end(r, reasons[r].code, text) }

// Cut ends the connection at once, without a close frame. Any goroutine.
func (c *Conn) Cut() { c.pc.Cut(ReasonApplication) }

// Pause stops reading from the connection until Resume, so that the kernel pushes
// back on the peer. Messages that have been read already are still handed out, and
// no pings go out meanwhile, as the answers would not be read.
// From the handler of an inline route only.
func (c *Conn) Pause() { c.pc.Pause() }

// Resume ends Pause. Any goroutine.
func (c *Conn) Resume() { c.pc.Resume() }

func (c *Conn) loop() *loop { return c.pc.Loop().Handler().(*loop) }
