package ws

import (
	"encoding/binary"
	"math/bits"
)

// nonASCII has the top bit of each byte of a word set.
const nonASCII = 0x8080808080808080

// Mask XORs b in place with key, beginning at byte pos of the key (RFC 6455 section 5.3), and returns the
// position for the bytes that follow. Masking twice restores b.
func Mask(b []byte, key [4]byte, pos int) (next int) {
	k := bits.RotateLeft32(binary.LittleEndian.Uint32(key[:]), -8*(pos&3))
	xorMask(b, k)
	return (pos + len(b)) & 3
}

// xorMask XORs b with the little-endian key and returns the OR of all resulting bytes, folded into words: where it
// has no bit of nonASCII, b is ASCII now and needs no further UTF-8 check.
func xorMask(b []byte, key uint32) (or uint64) {
	k := uint64(key)<<32 | uint64(key)
	for len(b) >= 64 {
		s := b[:64:64]
		w0 := binary.LittleEndian.Uint64(s[0:8]) ^ k
		w1 := binary.LittleEndian.Uint64(s[8:16]) ^ k
		w2 := binary.LittleEndian.Uint64(s[16:24]) ^ k
		w3 := binary.LittleEndian.Uint64(s[24:32]) ^ k
		w4 := binary.LittleEndian.Uint64(s[32:40]) ^ k
		w5 := binary.LittleEndian.Uint64(s[40:48]) ^ k
		w6 := binary.LittleEndian.Uint64(s[48:56]) ^ k
		w7 := binary.LittleEndian.Uint64(s[56:64]) ^ k
		binary.LittleEndian.PutUint64(s[0:8], w0)
		binary.LittleEndian.PutUint64(s[8:16], w1)
		binary.LittleEndian.PutUint64(s[16:24], w2)
		binary.LittleEndian.PutUint64(s[24:32], w3)
		binary.LittleEndian.PutUint64(s[32:40], w4)
		binary.LittleEndian.PutUint64(s[40:48], w5)
		binary.LittleEndian.PutUint64(s[48:56], w6)
		binary.LittleEndian.PutUint64(s[56:64], w7)
		or |= w0 | w1 | w2 | w3 | w4 | w5 | w6 | w7
		b = b[64:]
	}
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b) ^ k
		binary.LittleEndian.PutUint64(b, w)
		or |= w
		b = b[8:]
	}
	if len(b) >= 4 {
		w := binary.LittleEndian.Uint32(b) ^ key
		binary.LittleEndian.PutUint32(b, w)
		or |= uint64(w)
		b = b[4:]
	}
	for i := range b {
		b[i] ^= byte(key >> (8 * i))
		or |= uint64(b[i])
	}
	return or
}
