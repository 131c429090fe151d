package loadtest

import (
	"bytes"
	"encoding/binary"
)

// headerSize is what a payload begins with: connection id (4 bytes), sequence number (4), intended time of the
// send in Unix ns (8). The rest is filler that depends on these, so it serves as their checksum.
const headerSize = 16

const fillerPeriod = 256

// filler returns text that repeats after fillerPeriod bytes, enough for any offset below that. It is made of
// few letters, so that deflate finds something to do.
func filler(size int) []byte {
	b := make([]byte, fillerPeriod+size)
	x := uint32(2463534242)
	for i := range b[:min(len(b), fillerPeriod)] {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = "etaoinshrdlu cm,"[x&15]
	}
	for i := fillerPeriod; i < len(b); i++ {
		b[i] = b[i-fillerPeriod]
	}
	return b
}

// message is what a payload's header says.
type message struct {
	id, seq uint32
	due     int64 // Unix ns
}

func (m message) offset() int {
	h := (uint64(m.id)<<32 | uint64(m.seq)) ^ uint64(m.due)
	return int(h * 0x9E3779B97F4A7C15 >> 56) // Fibonacci hashing (Knuth, TAOCP 3, 6.4): the top 8 bits
}

// appendPayload appends a payload of size bytes; pattern comes from filler(size).
func appendPayload(dst []byte, m message, pattern []byte, size int) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, m.id)
	dst = binary.LittleEndian.AppendUint32(dst, m.seq)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(m.due))
	at := m.offset()
	return append(dst, pattern[at:at+size-headerSize]...)
}

// parsePayload is the inverse; false when p is not, byte for byte, what appendPayload made of that header.
func parsePayload(p, pattern []byte, size int) (message, bool) {
	if len(p) != size {
		return message{}, false
	}
	m := message{
		id:  binary.LittleEndian.Uint32(p),
		seq: binary.LittleEndian.Uint32(p[4:]),
		due: int64(binary.LittleEndian.Uint64(p[8:])),
	}
	at := m.offset()
	return m, bytes.Equal(p[headerSize:], pattern[at:at+size-headerSize])
}
