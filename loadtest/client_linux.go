package loadtest

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"roost/proto/ws"
)

// senderID is the connection id of the one that sends in a fanout.
const senderID = 1<<32 - 1

// maxPending is how much a client may have to write that the socket does not take, in bytes.
const maxPending = 64 << 10

// clientState is where a connection stands.
type clientState uint8

const (
	stateFree clientState = iota
	stateConnecting
	stateUpgrading
	stateJoining // upgraded; its play is a greeter and has not admitted it yet
	stateOpen
	stateClosing // our close frame is out; the other end is to close
)

// String names what a connection is doing until it is open.
func (s clientState) String() string {
	return [...]string{"", "connect", "upgrade", "connect and subscribe", "", ""}[s]
}

// client is one connection. Owned by its worker's loop.
type client struct {
	fd      int32
	state   clientState
	deflate bool
	joined  bool // has been open in this slot
	id      uint32
	sent    uint32 // messages sent
	next    uint32 // sequence number expected next
	session uint32 // of clients
	since   int64  // Unix ns: start of the connect, later of the closing
	rest    *rest  // nil while nothing is left over, which is nearly always
}

// rest is what a connection could not finish.
type rest struct {
	decoder *ws.Decoder // with a part of a frame or message
	head    []byte      // part of the upgrade's response
	out     []byte      // bytes the socket did not take
}

func (w *worker) slot(c *client) uint32 {
	return uint32((uintptr(unsafe.Pointer(c)) - uintptr(unsafe.Pointer(&w.clients[0]))) / unsafe.Sizeof(*c))
}

func (c *client) keep() *rest {
	if c.rest == nil {
		c.rest = &rest{}
	}
	return c.rest
}

// tidy drops an empty rest.
func (c *client) tidy() {
	if r := c.rest; r != nil && r.decoder == nil && len(r.head) == 0 && len(r.out) == 0 {
		c.rest = nil
	}
}

// ready handles an event of c's socket.
func (w *worker) ready(c *client, events uint32) {
	if c.state == stateConnecting {
		if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			return
		}
		if code, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
			w.drop(c, os.NewSyscallError("connect", unix.Errno(code)))
			return
		}
		c.state = stateUpgrading
		t := w.target
		if w.offers(c) {
			t = w.squeeze
		}
		head := t.head
		appendKey(head[:t.keyAt], w.Seed, c.id)
		w.write(c, head)
	}
	if c.state != stateFree && events&unix.EPOLLOUT != 0 && c.rest != nil && len(c.rest.out) > 0 {
		out := c.rest.out
		c.rest.out = nil
		w.write(c, out)
		c.tidy()
	}
	for c.state != stateFree && events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		n, errno := recv(c.fd, w.buf)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0:
			w.drop(c, os.NewSyscallError("read", errno))
			return
		case n == 0:
			w.drop(c, io.EOF)
			return
		}
		w.stats.BytesIn += int64(n)
		w.now = clock()
		w.input(c, w.buf[:n])
		if n < len(w.buf) && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return // a short read has emptied the socket (epoll(7)); what comes later is a new edge
		}
	}
}

// offers reports whether c offers permessage-deflate: in upgrade two clients of a hundred do.
func (w *worker) offers(c *client) bool {
	return w.Deflate || w.Scenario == Upgrade && c.id%100 < 2
}

// recv and send skip the scheduler: the sockets never block.
func recv(fd int32, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	return int(n), errno
}

func send(fd int32, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// write sends b, or keeps what the socket does not take. c may be dropped on return.
func (w *worker) write(c *client, b []byte) {
	if c.rest != nil && len(c.rest.out) > 0 {
		c.rest.out = append(c.rest.out, b...)
		if len(c.rest.out) > maxPending+max(w.Size, w.Large) {
			w.drop(c, fmt.Errorf("the server reads nothing: over %d bytes wait to be sent", maxPending))
		}
		return
	}
	n, errno := send(c.fd, b)
	if errno == unix.EAGAIN {
		n = 0
	} else if errno != 0 {
		w.drop(c, os.NewSyscallError("write", errno))
		return
	}
	w.stats.BytesOut += int64(n)
	if n < len(b) {
		r := c.keep()
		r.out = append(r.out, b[n:]...)
	}
}

// blocked reports whether the socket does not take what was sent before.
func (c *client) blocked() bool { return c.rest != nil && len(c.rest.out) > 0 }

// input handles bytes that came in; they are w.buf's.
func (w *worker) input(c *client, in []byte) {
	if c.state == stateUpgrading {
		if in = w.response(c, in); c.state == stateUpgrading || c.state == stateFree {
			return
		}
	}
	d := w.decoder
	if c.rest != nil && c.rest.decoder != nil {
		d = c.rest.decoder
	}
	for len(in) > 0 && c.state != stateFree {
		e, n, ok, err := d.Next(&w.limits, c.deflate, in)
		if err != nil {
			d.Reset()
			w.drop(c, fmt.Errorf("the server broke the protocol: %w", err))
			return
		}
		in = in[n:]
		if ok {
			w.event(c, e)
		}
	}
	if c.state == stateFree {
		d.Reset()
		return
	}
	own := c.rest != nil && c.rest.decoder != nil
	switch idle := d.Idle(); {
	case !idle && !own: // half a frame: the connection keeps the decoder
		c.keep().decoder = d
		w.decoder = &ws.Decoder{Client: true}
	case idle && own:
		c.rest.decoder = nil
		c.tidy()
	}
}

// event handles a whole message or control frame.
func (w *worker) event(c *client, e ws.Event) {
	switch e.Op {
	case ws.OpPing:
		w.sendFrame(c, ws.OpPong, e.Payload, false)
	case ws.OpPong:
	case ws.OpClose:
		if c.state == stateClosing {
			return // the answer to ours; the end of the stream follows
		}
		var code []byte
		if e.Code.Valid() {
			code = binary.BigEndian.AppendUint16(nil, uint16(e.Code))
		}
		w.sendFrame(c, ws.OpClose, code, false)
		if w.comesBack(c, e.Code) {
			w.stats.Closed++
			w.cut(c)
		} else if c.state != stateFree {
			w.drop(c, fmt.Errorf("closed by the server with code %d %.60q", e.Code, e.Payload))
		}
	default:
		if !w.speaks() { // else pings would count
			w.progress = w.now
		}
		w.play.message(c, e.Payload)
	}
}

// comesBack reports whether the server closed c with a code after which clients of the protocol return.
func (w *worker) comesBack(c *client, code ws.CloseCode) bool {
	return w.Scenario == Reconnect && c.state == stateOpen && code >= 3000 && code < 3500
}

// moves reports whether whoever loses a connection goes to another node.
func (w *worker) moves() bool { return w.next != nil && w.phase >= measuring && w.phase < finished }

// sendFrame sends one masked frame. The mask key must be unpredictable to whoever chooses the payload (RFC 6455
// section 10.3), which is nobody else here: a fast generator serves.
func (w *worker) sendFrame(c *client, op ws.Opcode, payload []byte, rsv1 bool) {
	w.sendFragment(c, op, payload, rsv1, true)
}

// sendFragment is sendFrame for a part of a message, the last one where fin is set (RFC 6455 section 5.4).
func (w *worker) sendFragment(c *client, op ws.Opcode, payload []byte, rsv1, fin bool) {
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], uint32(w.draw()))
	w.frame = ws.AppendMaskedFrame(w.frame[:0], op, key, payload)
	if rsv1 {
		w.frame[0] |= 0x40
	}
	if !fin {
		w.frame[0] &^= 0x80
	}
	w.write(c, w.frame)
}

// sendMessage sends c's next message, dated due.
func (w *worker) sendMessage(c *client, due int64) {
	w.payload = appendPayload(w.payload[:0], message{c.id, c.sent, due}, w.fill, w.Size)
	c.sent++
	w.stats.Sent++
	if c.deflate {
		if b, err := ws.AppendDeflated(w.deflated[:0], w.payload); err == nil {
			w.deflated = b
			w.sendFrame(c, ws.OpBinary, b, true)
			return
		}
	}
	w.sendFrame(c, ws.OpBinary, w.payload, false)
}

// response handles the answer to the upgrade and returns what follows it.
func (w *worker) response(c *client, in []byte) []byte {
	if c.rest != nil && len(c.rest.head) > 0 {
		in = append(c.rest.head, in...)
		c.rest.head = nil
	}
	n, deflate, err := parseResponse(in, string(appendKey(nil, w.Seed, c.id)), w.offers(c))
	if err != nil {
		w.drop(c, err)
		return nil
	}
	if n == 0 {
		r := c.keep()
		r.head = append(r.head[:0], in...)
		return nil
	}
	c.tidy()
	c.deflate = deflate
	if g, ok := w.play.(greeter); ok {
		c.state = stateJoining
		g.greet(c)
	} else {
		w.admit(c)
	}
	return in[n:]
}

// admit makes c one of those that are open.
func (w *worker) admit(c *client) {
	c.state, c.joined = stateOpen, true
	w.connecting--
	w.opens++
	w.everOpen = true
	if c.id != senderID {
		w.stats.Opened++
		w.stats.Open++
	}
	w.stats.Connect.record(w.now - c.since)
	w.play.opened(c)
}

// beginClose starts the closing handshake (RFC 6455 section 7.1.2). The server is to close the TCP connection.
func (w *worker) beginClose(c *client) {
	c.state, c.since = stateClosing, w.now
	w.closes++
	w.sendFrame(c, ws.OpClose, []byte{0x03, 0xe8}, false) // 1000
	if c.state == stateClosing {
		w.limbo = append(w.limbo, limbo{w.slot(c), c.id, w.now})
	}
}

// cut ends c without a closing handshake; --abort does so with an RST.
func (w *worker) cut(c *client) {
	if w.Abort {
		_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // else it ends with FIN
	}
	c.state = stateClosing
	w.closes++
	w.drop(c, nil)
}

// drop closes c's socket and frees its slot. cause says why, unless c was to be closed.
func (w *worker) drop(c *client, cause error) {
	state := c.state
	unix.Close(int(c.fd))
	c.state, c.rest = stateFree, nil
	w.free = append(w.free, w.slot(c))
	switch state {
	case stateConnecting, stateUpgrading, stateJoining:
		w.connecting--
		if g, ok := w.play.(greeter); ok {
			c.state = state // tells how far it came
			expected := g.failed(c, cause)
			if c.state = stateFree; expected {
				return
			}
		}
		if cause == io.EOF {
			cause = fmt.Errorf("%v: the server closed the connection without a whole answer", state)
		}
		w.openFailed(cause)
		return
	case stateOpen:
		if w.moves() {
			w.stats.Cuts++
			state = stateClosing
			break
		}
		w.stats.Lost++
		w.stats.fail(fmt.Sprintf("connection lost: %v", cause), 1)
	case stateClosing:
		w.closes--
		w.stats.Completed++
	}
	w.opens--
	if c.id != senderID {
		w.stats.Open--
	}
	w.play.gone(c, state == stateOpen)
}

// closeAll begins the end: nobody is waited for who is not open yet.
func (w *worker) closeAll() {
	w.phase, w.wanted, w.toClose = closing, w.started, 0
	w.emit(evStats, 0, "")
	for i := range w.clients {
		if c := &w.clients[i]; c.state != stateFree && c.state < stateOpen {
			w.drop(c, fmt.Errorf("the run ended before the %v did", c.state))
		}
	}
	w.closeMore()
	w.nextSweep = w.now
}

// closeMore keeps closing handshakes with as many clients under way as may connect at a time. All at once would take
// the kernel several times the memory of the connections.
func (w *worker) closeMore() {
	for ; w.toClose < len(w.clients) && w.closes < w.ConnectParallel; w.toClose++ {
		if c := &w.clients[w.toClose]; c.state == stateOpen {
			w.beginClose(c)
		}
	}
}
