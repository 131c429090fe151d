// Package pack writes and reads small binary records: numbers as varints, strings with their
// length.
package pack

import (
	"encoding/binary"
	"errors"
)

// ErrMalformed is what all errors of a Reader are.
var ErrMalformed = errors.New("pack: malformed record")

// AppendBytes appends b with its length; nil and empty are the same.
func AppendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// AppendString appends s with its length.
func AppendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// AppendUint appends v.
func AppendUint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

// AppendInt appends v.
func AppendInt(dst []byte, v int64) []byte { return binary.AppendVarint(dst, v) }

// AppendBool appends v.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// Reader reads what was appended, in the same order. After the first error everything is
// zero. One goroutine at a time.
type Reader struct {
	b      []byte
	failed bool
}

// NewReader reads b, which must not change meanwhile.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns ErrMalformed if anything could not be read.
func (r *Reader) Err() error {
	if r.failed {
		return ErrMalformed
	}
	return nil
}

// Len returns the bytes left.
func (r *Reader) Len() int { return len(r.b) }

func (r *Reader) fail() {
	r.failed, r.b = true, nil
}

// Uint reads what AppendUint has written.
func (r *Reader) Uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Int reads what AppendInt has written.
func (r *Reader) Int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Bytes reads what AppendBytes has written: a part of the reader's bytes, nil if it is empty.
func (r *Reader) Bytes() []byte {
	n := r.Uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// String reads what AppendString has written.
func (r *Reader) String() string { return string(r.Bytes()) }

// Bool reads what AppendBool has written.
func (r *Reader) Bool() bool { return r.Byte() != 0 }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}
