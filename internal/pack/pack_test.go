package pack

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	var b []byte
	b = AppendUint(b, math.MaxUint64)
	b = AppendInt(b, math.MinInt64)
	b = AppendString(b, "name")
	b = AppendBytes(b, nil)
	b = AppendBytes(b, []byte{0, 1})
	b = append(AppendBool(b, true), 7)
	r := NewReader(b)
	if u, i, s := r.Uint(), r.Int(), r.String(); u != math.MaxUint64 || i != math.MinInt64 || s != "name" {
		t.Error(u, i, s)
	}
	if e, x, y, z := r.Bytes(), r.Bytes(), r.Bool(), r.Byte(); e != nil || !bytes.Equal(x, []byte{0, 1}) || !y || z != 7 {
		t.Error(e, x, y, z)
	}
	if r.Err() != nil || r.Len() != 0 {
		t.Error(r.Err(), r.Len())
	}
	if r.Byte() != 0 || !errors.Is(r.Err(), ErrMalformed) || r.Uint() != 0 {
		t.Error("reading on after the end")
	}
}

// Whatever the bytes are, reading ends, and in an error once they are used up.
func FuzzReader(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{5, 'a'})
	f.Add([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1})
	f.Add(AppendString(AppendInt(nil, -1), "x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		for r.Err() == nil {
			before := r.Len()
			_ = r.Bytes()
			_ = r.Int()
			_ = r.Bool()
			if r.Err() == nil && r.Len() >= before {
				t.Fatal("nothing was consumed")
			}
		}
	})
}
