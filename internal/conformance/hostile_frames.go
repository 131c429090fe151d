package conformance

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

var (
	protocolError = []int{1002}
	badPayload    = []int{1007}
	tooBig        = []int{1009}
)

// begun is the header and masking key of a masked frame whose payload is never
// sent in full; the key is zero, so that payload goes as it is.
func begun(op byte, fin bool, rsv byte, length uint64) []byte {
	return append(appendHeader(nil, op, fin, rsv, true, length), 0, 0, 0, 0)
}

// frameAttacks are wrong headers. Where the header alone is wrong, nothing
// follows it: it must not take the payload to see that.
func (h *hostile) frameAttacks() []attack {
	var list []attack
	refuse := func(name string, bytes ...[]byte) {
		list = append(list, refused("frame/"+name, protocolError, bytes...))
	}
	for _, op := range []byte{opText, opBinary, opPing, opClose} {
		refuse("unmasked "+opName(op), appendHeader(nil, op, true, 0, false, 5)[:2])
	}
	for _, rsv := range []byte{rsv1, rsv2, rsv3} {
		for _, op := range []byte{opText, opPing} {
			refuse(fmt.Sprintf("rsv %03b on %s", rsv, opName(op)), begun(op, true, rsv, 5))
		}
	}
	for op := byte(3); op < 16; op++ {
		if op < opClose || op > opPong {
			refuse(fmt.Sprintf("reserved opcode %d", op), begun(op, true, 0, 5))
		}
	}
	for _, op := range []byte{opClose, opPing, opPong} {
		refuse("fragmented "+opName(op), begun(op, false, 0, 2))
		refuse("over-long "+opName(op), begun(op, true, 0, 126))
	}
	refuse("stray continuation, FIN", begun(opContinuation, true, 0, 3))
	refuse("stray continuation, no FIN", begun(opContinuation, false, 0, 3))
	refuse("text inside text", part(opText, true, "one").append(nil), begun(opText, true, 0, 3))
	refuse("binary inside text", part(opText, true, "one").append(nil), begun(opBinary, true, 0, 3))
	refuse("length 5 in 16 bits", []byte{0x82, 0x80 | 126, 0, 5})
	refuse("length 65535 in 64 bits", []byte{0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF})
	refuse("length 0 in 64 bits", []byte{0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 0})
	return append(list,
		// The topmost bit must be 0 (RFC 6455 §5.2), and the length is too big as well.
		refused("frame/length with 64 bits", []int{1002, 1009}, begun(opBinary, true, 0, 1<<63)),
		refused("frame/length with 63 bits", tooBig, begun(opBinary, true, 0, 1<<63-1)),
		refused("frame/length of a terabyte", tooBig, begun(opText, true, 0, 1<<40)))
}

// textAttacks are text that cannot be UTF-8. The frame they are in is never
// finished: the close must come at the first impossible byte.
func (h *hostile) textAttacks() []attack {
	var list []attack
	for _, c := range []struct{ name, bytes string }{
		{"a lone continuation byte", "\x80"}, {"overlong NUL", "\xc0"}, {"overlong three bytes", "\xe0\x80"},
		{"surrogate", "\xed\xa0"}, {"beyond U+10FFFF", "\xf4\x90"}, {"impossible byte", "\xff"},
		{"a start after a start", "\xc3\xc3"}, {"an ASCII byte after a start", "\xe2\x82a"},
	} {
		list = append(list,
			refused("utf8/unfinished frame: "+c.name, badPayload, begun(opText, true, 0, 1000), []byte("κόσμε "+c.bytes)),
			refused("utf8/across fragments: "+c.name, badPayload,
				part(opText, true, "κόσμε"+c.bytes[:len(c.bytes)-1]).append(nil),
				begun(opContinuation, false, 0, 1000), []byte(c.bytes[len(c.bytes)-1:])))
	}
	return append(list,
		refused("utf8/cut off by FIN", badPayload, text("caf\xc3").append(nil)),
		refused("utf8/cut off by FIN in a later fragment", badPayload, part(opText, true, "caf\xc3").append(nil),
			part(opContinuation, false, "").append(nil)),
		refused("utf8/after a ping between fragments", badPayload, part(opText, true, "\xe2\x82").append(nil),
			frame{op: opPong}.append(nil), begun(opContinuation, true, 0, 9), []byte("\xff")))
}

// limitAttacks are messages at and over the limit, refused by their header.
func (h *hostile) limitAttacks() []attack {
	limit := h.o.MaxMessage
	half := make([]byte, limit/2)
	list := []attack{
		refused("limit/one frame over it", tooBig, begun(opBinary, true, 0, uint64(limit)+1)),
		refused("limit/fragments over it together", tooBig, frame{op: opBinary, more: true, payload: half}.append(nil),
			begun(opContinuation, true, 0, uint64(limit)-uint64(len(half))+1)),
		{name: "limit/exactly it", do: func(h *hostile) error {
			payload := bytes.Repeat([]byte{7}, int(limit))
			return h.exchange(frame{op: opBinary, payload: payload}.append(nil), 0, event{op: opBinary, payload: payload})
		}},
	}
	if limit == 0 {
		for i := range list {
			list[i].off = "Options.MaxMessage is not set"
		}
	}
	return list
}

// exchange sends b on a fresh connection, wants these events, and closes.
func (h *hostile) exchange(b []byte, chop int, want ...event) error {
	p, err := h.open()
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.send(b, chop); err != nil {
		return err
	}
	if err := p.expect(h.timeout, want...); err != nil {
		return err
	}
	if err := p.send(frame{op: opClose, payload: closeBody(1000, "")}.append(nil), 0); err != nil {
		return err
	}
	return p.expectClose(h.timeout, true, 1000)
}

// closeAttacks are close frames with payloads no close frame may have, and what
// comes after a close frame.
func (h *hostile) closeAttacks() []attack {
	closing := func(body []byte) []byte { return frame{op: opClose, payload: body}.append(nil) }
	var list []attack
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
		list = append(list, refused(fmt.Sprintf("close/code %d", code), protocolError, closing(closeBody(code, ""))))
	}
	return append(list,
		refused("close/one byte", protocolError, closing([]byte{3})),
		refused("close/reason that is not UTF-8", badPayload, closing(closeBody(1000, "\xc3("))),
		refused("close/reason cut inside a code point", badPayload, closing(closeBody(1000, "caf\xc3"))),
		refused("close/empty", []int{noCode, 1000}, closing(nil)),
		refused("close/own code", []int{4321}, closing(closeBody(4321, "bye"))),
		refused("close/data after it", []int{1000}, closing(closeBody(1000, "")), text("late").append(nil)),
		refused("close/garbage after it", []int{1000}, closing(closeBody(1000, "")), bytes.Repeat([]byte{0xFF}, 4096)),
		refused("close/inside a fragmented message", []int{1000}, part(opText, true, "a").append(nil),
			closing(closeBody(1000, ""))),
		attack{name: "close/then FIN", do: func(h *hostile) error {
			p, err := h.open()
			if err != nil {
				return err
			}
			defer p.close()
			if err := p.send(closing(closeBody(1000, "")), 0); err != nil {
				return err
			}
			if err := p.finish(); err != nil {
				return err
			}
			return p.expectClose(h.timeout, true, 1000)
		}},
		lingering("close/unread input after a bad frame", begun(opText, true, rsv3, 5), protocolError),
		lingering("close/unread input after a close", closing(closeBody(1000, "")), []int{1000}),
	)
}

// lingering sends first and half a megabyte behind it that the server will not
// read as frames. A server that closes the socket at once resets it, and its
// close frame may be lost. Whichever call meets the reset first takes it off the
// socket, so a failing send is the fault already and the close is not answered.
func lingering(name string, first []byte, codes []int) attack {
	return attack{name: name, do: func(h *hostile) error {
		p, err := h.open()
		if err != nil {
			return err
		}
		defer p.close()
		rest := []byte(strings.Repeat("unread ", 75000))
		if err := p.send(slices.Concat(first, rest), 64<<10); err != nil {
			return err
		}
		return p.expectClose(h.timeout, true, codes...)
	}}
}
