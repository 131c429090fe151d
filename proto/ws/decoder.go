package ws

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// Limits bound what a peer may send, in bytes. They are taken as they are: zero allows only empty payloads. They
// do not touch control frames, which RFC 6455 bounds to 125 bytes. Static; one value serves all connections.
type Limits struct {
	MaxFrame   int64 // payload of one data frame, as on the wire
	MaxMessage int64 // payload of one message, after inflation
}

// maxStored is how much of a message may be buffered. Deflate may make incompressible input longer: the slack of an
// eighth is zlib's bound for its most wasteful settings; the inflated size is held to MaxMessage itself.
func (l *Limits) maxStored(deflated bool) int64 {
	if deflated && l.MaxMessage < math.MaxInt64/2 {
		return l.MaxMessage + l.MaxMessage>>3 + 64
	}
	return l.MaxMessage
}

// Event is a whole message or a control frame.
type Event struct {
	Op      Opcode    // OpText or OpBinary: a whole message; OpPing, OpPong, OpClose
	Payload []byte    // for OpClose the reason
	Code    CloseCode // OpClose only; CloseNoStatus where the body is empty
}

// What a Decoder is in the middle of.
const (
	inHeader  = 1 << iota // some bytes of a frame header are there
	inPayload             // the header is there, the payload is not complete
	inMessage             // a fragmented message is not complete
)

const (
	minBuffer  = 512     // first buffer of a message that does not arrive whole, in bytes
	keepBuffer = 8 << 10 // larger buffers are not kept by Reset, in bytes
)

// Decoder turns bytes into events. It holds only what is left over between reads: a part of a frame, or the
// fragments of a message. Its zero value is ready. A connection with nothing pending needs none, so one Decoder may
// serve many connections in turn, as long as Idle is true when it passes from one to the next.
//
// It is not safe for concurrent use.
type Decoder struct {
	// Static.
	Client bool // we are the client: frames must come unmasked (RFC 6455 section 5.1)

	// The frame being read.
	state  uint8 // inHeader, inPayload, inMessage
	hdrLen uint8 // bytes in hdr
	hdr    [14]byte
	ctlLen uint8                   // bytes in ctl
	ctl    [MaxControlPayload]byte // payload of a control frame that came in parts
	left   int64                   // payload bytes still to come
	pos    int                     // of the next payload byte, in the masking key

	// The message being read, and the last one returned.
	op       Opcode
	deflated bool
	buf      []byte // its payload so far; grows with what has arrived, not with what was announced
	checked  int    // text: so many bytes of buf are known to be whole, valid runes
	out      []byte // the inflated message
}

// Idle reports whether d holds no part of a frame or message: once the last event has been used, the caller may
// drop d, or use it for another connection.
func (d *Decoder) Idle() bool { return d.state == 0 }

// Reset forgets whatever is pending and the last event. It keeps buffers up to 8 KiB and drops larger ones.
func (d *Decoder) Reset() {
	d.state, d.hdrLen, d.ctlLen = 0, 0, 0
	if cap(d.buf) > keepBuffer {
		d.buf = nil
	}
	if cap(d.out) > keepBuffer {
		d.out = nil
	}
}

// Size returns the bytes of buffer that d holds, apart from itself.
func (d *Decoder) Size() int { return cap(d.buf) + cap(d.out) }

// Next decodes one event from in and says how many bytes it consumed. deflate says that permessage-deflate was
// negotiated.
//
// With ok, ev is valid until the next call of Next or Reset: its payload is a part of in, unmasked in place, or of
// d's own buffer. Without ok and without error, all of in is consumed and more is needed. An error is a
// *ProtocolError, raised at the first byte that cannot be right; then the connection is to be closed with its code,
// and d is good for nothing but Reset.
func (d *Decoder) Next(lim *Limits, deflate bool, in []byte) (ev Event, n int, ok bool, err error) {
	if d.state != 0 || len(in) < 2 {
		return d.nextSlow(lim, deflate, in)
	}
	// The fast path: a whole message or control frame in one frame, in a 7-bit or 16-bit length form, all there.
	// Whatever looks odd goes to the slow path, which knows what is wrong with it.
	op := Opcode(in[0] & 0x0f)
	length, head := int(in[1]&0x7f), 2
	switch in[0] {
	case 0x81, 0x82, 0xc1, 0xc2:
		if length == 126 && len(in) >= 4 {
			length, head = int(binary.BigEndian.Uint16(in[2:])), 4
			if length < 126 {
				return d.nextSlow(lim, deflate, in)
			}
		} else if length > 125 {
			return d.nextSlow(lim, deflate, in)
		}
		if int64(length) > min(lim.MaxFrame, lim.MaxMessage) || in[0]&0x40 != 0 && !deflate {
			return d.nextSlow(lim, deflate, in)
		}
	case 0x88, 0x89, 0x8a:
		if length > MaxControlPayload {
			return d.nextSlow(lim, deflate, in)
		}
	default:
		return d.nextSlow(lim, deflate, in)
	}
	var key uint32
	if masked := in[1]&0x80 != 0; masked == d.Client {
		return d.nextSlow(lim, deflate, in)
	} else if masked {
		if len(in) < head+4 {
			return d.nextSlow(lim, deflate, in)
		}
		key = binary.LittleEndian.Uint32(in[head:])
		head += 4
	}
	n = head + length
	if len(in) < n {
		return d.nextSlow(lim, deflate, in)
	}
	p := in[head:n:n]
	or := uint64(nonASCII)
	if key != 0 {
		or = xorMask(p, key)
	}
	switch {
	case op.IsControl():
		ev, err = controlEvent(op, p)
	case in[0]&0x40 != 0:
		ev, err = d.inflated(lim, op, p)
	case op == OpText && or&nonASCII != 0 && !utf8.Valid(p):
		err = errUTF8
	default:
		ev = Event{Op: op, Payload: p}
	}
	return ev, n, err == nil, err
}

// nextSlow is Next for frames and messages in parts, and for all that is wrong.
func (d *Decoder) nextSlow(lim *Limits, deflate bool, in []byte) (ev Event, n int, ok bool, err error) {
	for {
		if d.state&inPayload == 0 {
			used, done, err := d.readHeader(lim, deflate, in[n:])
			n += used
			if err != nil || !done {
				return Event{}, n, false, err
			}
		}
		chunk := in[n:]
		if int64(len(chunk)) > d.left {
			chunk = chunk[:d.left]
		}
		n += len(chunk)
		d.left -= int64(len(chunk))
		if d.left == 0 {
			d.state &^= inPayload
		}
		if Opcode(d.hdr[0] & 0x0f).IsControl() {
			ev, ok, err = d.readControl(chunk)
		} else {
			ev, ok, err = d.readData(lim, chunk)
		}
		if ok || err != nil || d.state&inPayload != 0 {
			return ev, n, ok, err
		}
	}
}

// unmask unmasks the next part of the current frame's payload.
func (d *Decoder) unmask(b []byte) {
	if !d.Client {
		d.pos = Mask(b, [4]byte(d.hdr[d.hdrLen-4:d.hdrLen]), d.pos)
	}
}

// readControl takes the next part of a control frame.
func (d *Decoder) readControl(chunk []byte) (ev Event, ok bool, err error) {
	from := d.ctlLen
	d.ctlLen += uint8(copy(d.ctl[from:], chunk))
	body := d.ctl[:d.ctlLen:d.ctlLen]
	d.unmask(body[from:])
	op := Opcode(d.hdr[0] & 0x0f)
	if d.state&inPayload != 0 {
		if op == OpClose {
			err = checkClosePrefix(body)
		}
		return Event{}, false, err
	}
	d.ctlLen = 0
	ev, err = controlEvent(op, body)
	return ev, err == nil, err
}

// readData takes the next part of a data frame.
func (d *Decoder) readData(lim *Limits, chunk []byte) (ev Event, ok bool, err error) {
	fin := d.hdr[0]&0x80 != 0
	if len(chunk) > 0 {
		most := lim.maxStored(d.deflated)
		if fin {
			most = int64(len(d.buf)+len(chunk)) + d.left
		}
		from := len(d.buf)
		d.buf = append(grow(d.buf, len(chunk), most), chunk...)
		d.unmask(d.buf[from:])
	}
	if d.op == OpText && !d.deflated {
		whole := len(d.buf) - incompleteRune(d.buf[d.checked:])
		if !utf8.Valid(d.buf[d.checked:whole]) {
			return Event{}, false, errUTF8
		}
		d.checked = whole
	}
	if !fin || d.left > 0 {
		return Event{}, false, nil
	}
	d.state &^= inMessage
	if d.deflated {
		ev, err = d.inflated(lim, d.op, d.buf)
		return ev, err == nil, err
	}
	if d.op == OpText && d.checked != len(d.buf) {
		return Event{}, false, errUTF8
	}
	return Event{Op: d.op, Payload: d.buf}, true, nil
}

// inflated makes the event of a compressed message.
func (d *Decoder) inflated(lim *Limits, op Opcode, p []byte) (ev Event, err error) {
	d.out, err = AppendInflated(d.out[:0], p, lim.MaxMessage)
	if err != nil {
		return Event{}, err
	}
	if op == OpText && !utf8.Valid(d.out) {
		return Event{}, errUTF8
	}
	return Event{Op: op, Payload: d.out}, nil
}

// grow makes room for extra bytes. Capacity doubles, so that copying stays linear, but not beyond most, which is
// what b can come to at all.
func grow(b []byte, extra int, most int64) []byte {
	need := len(b) + extra
	if need <= cap(b) {
		return b
	}
	size := max(need, int(min(most, int64(max(2*cap(b), minBuffer)))))
	return append(make([]byte, 0, size), b...)
}

// incompleteRune returns how many bytes at the end of b, up to 3, are the beginning of a rune that more bytes can
// complete.
func incompleteRune(b []byte) int {
	for i := 1; i <= min(3, len(b)); i++ {
		if tail := b[len(b)-i:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) { // or one that nothing can complete
				return 0
			}
			return i
		}
	}
	return 0
}
