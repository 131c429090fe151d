package ws

import (
	"encoding/binary"
	"unicode/utf8"
)

// maxServerHeader is the longest header of a frame without mask, in bytes.
const maxServerHeader = 10

// AppendHeader appends the header of an unmasked frame with a payload of length bytes, in the shortest form
// (RFC 6455 section 5.2).
func AppendHeader(dst []byte, op Opcode, fin, rsv1 bool, length int) []byte {
	return appendHeader(dst, op, fin, rsv1, 0, length)
}

func appendHeader(dst []byte, op Opcode, fin, rsv1 bool, maskBit byte, length int) []byte {
	b0 := byte(op)
	if fin {
		b0 |= 0x80
	}
	if rsv1 {
		b0 |= 0x40
	}
	switch {
	case length < 126:
		return append(dst, b0, maskBit|byte(length))
	case length <= 0xffff:
		return append(dst, b0, maskBit|126, byte(length>>8), byte(length))
	default:
		return binary.BigEndian.AppendUint64(append(dst, b0, maskBit|127), uint64(length))
	}
}

// AppendFrame appends one unmasked frame with FIN set.
func AppendFrame(dst []byte, op Opcode, payload []byte) []byte {
	return append(AppendHeader(dst, op, true, false, len(payload)), payload...)
}

// AppendClose appends an unmasked close frame. The reason is cut to 123 bytes at a rune boundary. A code that must
// not be sent (CloseNoStatus among them) gives an empty body, and no reason (RFC 6455 section 5.5.1).
func AppendClose(dst []byte, code CloseCode, reason string) []byte {
	if !code.Valid() {
		return AppendHeader(dst, OpClose, true, false, 0)
	}
	if cut := MaxControlPayload - 2; len(reason) > cut {
		for cut > 0 && !utf8.RuneStart(reason[cut]) {
			cut--
		}
		reason = reason[:cut]
	}
	dst = AppendHeader(dst, OpClose, true, false, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}

// AppendMaskedFrame appends one masked frame with FIN set, as a client sends it.
func AppendMaskedFrame(dst []byte, op Opcode, key [4]byte, payload []byte) []byte {
	dst = appendHeader(dst, op, true, false, 0x80, len(payload))
	dst = append(dst, key[:]...)
	at := len(dst)
	dst = append(dst, payload...)
	Mask(dst[at:], key, 0)
	return dst
}
