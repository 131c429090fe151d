package ws

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

var errUTF8 = &ProtocolError{CloseInvalidPayload, LabelUTF8, "text is not valid UTF-8"}

func protocolError(label, format string, args ...any) error {
	return &ProtocolError{CloseProtocolError, label, fmt.Sprintf(format, args...)}
}

// readHeader takes header bytes one by one, so that each is judged as it arrives, and starts the frame once they
// are complete.
func (d *Decoder) readHeader(lim *Limits, deflate bool, in []byte) (n int, done bool, err error) {
	for n < len(in) {
		if d.state&inHeader == 0 {
			d.state |= inHeader
			d.hdrLen = 0
		}
		d.hdr[d.hdrLen] = in[n]
		d.hdrLen++
		n++
		switch d.hdrLen {
		case 1:
			err = d.checkFirst(deflate)
		case 2:
			err = d.checkSecond(lim)
		default:
			err = d.checkLength(lim)
		}
		if err != nil {
			return n, false, err
		}
		if d.hdrLen >= 2 && d.hdrLen == d.headerSize() {
			d.startFrame()
			return n, true, nil
		}
	}
	return n, false, nil
}

// lengthSize is the size of the extended length; hdr[1] must be there.
func (d *Decoder) lengthSize() uint8 {
	switch d.hdr[1] & 0x7f {
	case 126:
		return 2
	case 127:
		return 8
	}
	return 0
}

// headerSize is the size of the whole header; hdr[1] must be there.
func (d *Decoder) headerSize() uint8 {
	size := 2 + d.lengthSize()
	if d.hdr[1]&0x80 != 0 {
		size += 4
	}
	return size
}

// checkFirst judges FIN, RSV and opcode (RFC 6455 section 5.2 and 5.4, RFC 7692 section 6).
func (d *Decoder) checkFirst(deflate bool) error {
	b := d.hdr[0]
	op := Opcode(b & 0x0f)
	switch {
	case b&0x30 != 0:
		return protocolError(LabelRSV, "RSV2 or RSV3 set, no extension uses them")
	case b&0x40 != 0 && !deflate:
		return protocolError(LabelRSV, "RSV1 set without permessage-deflate")
	case b&0x40 != 0 && op != OpText && op != OpBinary:
		return protocolError(LabelRSV, "RSV1 set on opcode %d; only the first frame of a message may be compressed", op)
	case op > OpPong || op > OpBinary && op < OpClose:
		return protocolError(LabelOpcode, "reserved opcode %d", op)
	case op.IsControl() && b&0x80 == 0:
		return protocolError(LabelControlFragmented, "control frame without FIN")
	case op == OpContinuation && d.state&inMessage == 0:
		return protocolError(LabelStrayContinuation, "continuation frame without a message to continue")
	case (op == OpText || op == OpBinary) && d.state&inMessage != 0:
		return protocolError(LabelInterleaved, "new message before the last fragment of the one before")
	}
	return nil
}

// checkSecond judges the mask bit and the 7-bit length (RFC 6455 section 5.1 and 5.5).
func (d *Decoder) checkSecond(lim *Limits) error {
	op := Opcode(d.hdr[0] & 0x0f)
	masked, length := d.hdr[1]&0x80 != 0, d.hdr[1]&0x7f
	switch {
	case !masked && !d.Client:
		return protocolError(LabelUnmasked, "a client's frame must be masked")
	case masked && d.Client:
		return protocolError(LabelMasked, "a server's frame must not be masked")
	case op.IsControl() && length > MaxControlPayload:
		return protocolError(LabelControlTooLong, "control frame longer than 125 bytes")
	case op == OpClose && length == 1:
		return protocolError(LabelCloseLength, "close frame with half a code")
	case length < 126:
		return d.checkLimits(lim, uint64(length))
	}
	return nil
}

// checkLength judges the extended length as far as it is there: the bytes to come can only make it larger.
func (d *Decoder) checkLength(lim *Limits) error {
	size := d.lengthSize()
	have := d.hdrLen - 2
	if have > size {
		return nil // this byte belongs to the masking key
	}
	if size == 8 && d.hdr[2]&0x80 != 0 {
		return protocolError(LabelLength63Bit, "the top bit of a 64-bit length must be 0")
	}
	var length uint64
	for _, b := range d.hdr[2:d.hdrLen] {
		length = length<<8 | uint64(b)
	}
	if have == size && (size == 2 && length < 126 || size == 8 && length <= 0xffff) {
		return protocolError(LabelLengthNotMinimal, "length %d in a longer form than needed", length)
	}
	return d.checkLimits(lim, length<<(8*(size-have)))
}

// checkLimits holds a data frame of at least length bytes against the limits.
func (d *Decoder) checkLimits(lim *Limits, length uint64) error {
	op := Opcode(d.hdr[0] & 0x0f)
	if op.IsControl() {
		return nil
	}
	if length > uint64(max(lim.MaxFrame, 0)) {
		return &ProtocolError{CloseTooBig, LabelFrameTooBig,
			fmt.Sprintf("frame of %d bytes or more, the limit is %d", length, lim.MaxFrame)}
	}
	have, deflated := 0, d.hdr[0]&0x40 != 0
	if op == OpContinuation {
		have, deflated = len(d.buf), d.deflated
	}
	if most := lim.maxStored(deflated); int64(length) > most-int64(have) {
		return &ProtocolError{CloseTooBig, LabelMessageTooBig,
			fmt.Sprintf("message of %d bytes or more, the limit is %d", length+uint64(have), lim.MaxMessage)}
	}
	return nil
}

// startFrame goes from the complete header to the payload.
func (d *Decoder) startFrame() {
	d.state = d.state&^inHeader | inPayload
	d.pos = 0
	switch d.hdr[1] & 0x7f {
	case 126:
		d.left = int64(binary.BigEndian.Uint16(d.hdr[2:]))
	case 127:
		d.left = int64(binary.BigEndian.Uint64(d.hdr[2:]))
	default:
		d.left = int64(d.hdr[1] & 0x7f)
	}
	op := Opcode(d.hdr[0] & 0x0f)
	if op == OpText || op == OpBinary {
		d.op, d.deflated = op, d.hdr[0]&0x40 != 0
		d.buf, d.checked = d.buf[:0], 0
	}
	if !op.IsControl() && d.hdr[0]&0x80 == 0 {
		d.state |= inMessage
	}
}

// controlEvent makes the event of a complete control frame (RFC 6455 section 5.5).
func controlEvent(op Opcode, body []byte) (Event, error) {
	if op != OpClose {
		return Event{Op: op, Payload: body}, nil
	}
	switch len(body) {
	case 0:
		return Event{Op: OpClose, Code: CloseNoStatus}, nil
	case 1:
		return Event{}, protocolError(LabelCloseLength, "close frame with half a code")
	}
	if err := checkClosePrefix(body); err != nil {
		return Event{}, err
	}
	reason := body[2:]
	if incompleteRune(reason) > 0 {
		return Event{}, errCloseReason
	}
	return Event{Op: OpClose, Payload: reason, Code: CloseCode(binary.BigEndian.Uint16(body))}, nil
}

var errCloseReason = &ProtocolError{CloseInvalidPayload, LabelUTF8, "close reason is not valid UTF-8"}

// checkClosePrefix judges the first bytes of a close body: no bytes to come can mend what it refuses.
func checkClosePrefix(body []byte) error {
	if len(body) < 2 {
		return nil
	}
	if code := CloseCode(binary.BigEndian.Uint16(body)); !code.Valid() {
		return protocolError(LabelCloseCode, "close code %d must not be sent", code)
	}
	reason := body[2:]
	if !utf8.Valid(reason[:len(reason)-incompleteRune(reason)]) {
		return errCloseReason
	}
	return nil
}
