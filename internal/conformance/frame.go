package conformance

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// Opcodes of RFC 6455 §5.2. They are spelled out here rather than imported:
// the suites must not share a mistake with the server they judge.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

const (
	rsv1 = 0x4 // RSV bits as the three-bit number RSV1 RSV2 RSV3
	rsv2 = 0x2
	rsv3 = 0x1
)

const maxSeen = 64 << 20 // bytes: no case lets a server send a longer message

// frame is one frame to be sent, right or wrong.
type frame struct {
	op      byte
	more    bool // FIN is 0
	rsv     byte
	payload []byte
	bare    bool // not masked
}

// append adds the frame to dst, masked with a random key unless f.bare.
func (f frame) append(dst []byte) []byte {
	dst = appendHeader(dst, f.op, !f.more, f.rsv, !f.bare, uint64(len(f.payload)))
	if f.bare {
		return append(dst, f.payload...)
	}
	return appendMasked(dst, f.payload)
}

// appendHeader adds a frame header up to, not including, the masking key.
func appendHeader(dst []byte, op byte, fin bool, rsv byte, masked bool, length uint64) []byte {
	first := rsv<<4 | op
	if fin {
		first |= 0x80
	}
	mask := byte(0)
	if masked {
		mask = 0x80
	}
	switch {
	case length <= 125:
		return append(dst, first, mask|byte(length))
	case length <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(dst, first, mask|126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(dst, first, mask|127), length)
	}
}

// appendMasked adds a random masking key and the payload under it.
func appendMasked(dst, payload []byte) []byte {
	word := rand.Uint32()
	dst = binary.LittleEndian.AppendUint32(dst, word)
	start := len(dst)
	dst = append(dst, payload...)
	mask(dst[start:], word)
	return dst
}

// mask XORs b with the key, whose first byte is the lowest of word.
func mask(b []byte, word uint32) {
	wide := uint64(word) | uint64(word)<<32
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(word >> (8 * (i & 3)))
	}
}

// closeBody is the payload of a close frame.
func closeBody(code uint16, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, code), reason...)
}

// header is what a server's frame begins with.
type header struct {
	op     byte
	fin    bool
	rsv    byte
	length uint64
}

// readHeader reads a server's frame header and refuses what no server may send
// (RFC 6455 §5.1, §5.2, §5.5); RSV bits are the caller's to judge.
func readHeader(r *bufio.Reader) (header, error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:2]); err != nil {
		return header{}, err
	}
	h := header{op: b[0] & 0xF, fin: b[0]&0x80 != 0, rsv: b[0] >> 4 & 7, length: uint64(b[1] & 0x7F)}
	masked := b[1]&0x80 != 0
	switch h.length {
	case 126:
		if _, err := io.ReadFull(r, b[:2]); err != nil {
			return h, err
		}
		h.length = uint64(binary.BigEndian.Uint16(b[:]))
		if h.length < 126 {
			return h, violation("length %d not in the shortest form", h.length)
		}
	case 127:
		if _, err := io.ReadFull(r, b[:8]); err != nil {
			return h, err
		}
		h.length = binary.BigEndian.Uint64(b[:])
		if h.length < 1<<16 || h.length >= 1<<63 {
			return h, violation("length %#x not in the shortest form or beyond 63 bits", h.length)
		}
	}
	switch {
	case masked:
		return h, violation("a masked frame from the server")
	case h.op > opBinary && h.op < opClose || h.op > opPong:
		return h, violation("reserved opcode %#x from the server", h.op)
	case h.op >= opClose && (!h.fin || h.length > 125):
		return h, violation("a fragmented or over-long control frame from the server")
	case h.length > maxSeen:
		return h, violation("a frame of %d bytes from the server", h.length)
	}
	return h, nil
}

// errViolation marks what the server itself did against the protocol, as
// against the ways a connection ends.
var errViolation = errors.New("conformance: server broke the protocol")

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errViolation}, args...)...)
}
