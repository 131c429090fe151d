package ws

import (
	"bytes"
	"testing"

	"roost/internal/pack"
)

// TestCarryDecoder cuts a stream of frames at every byte: another decoder, which knows nothing but
// the state, goes on with the rest.
func TestCarryDecoder(t *testing.T) {
	key := [4]byte{1, 2, 3, 4}
	var stream []byte
	add := func(op Opcode, payload string, fin bool) {
		f := AppendMaskedFrame(nil, op, key, []byte(payload))
		if !fin {
			f[0] &^= 0x80
		}
		stream = append(stream, f...)
	}
	add(OpText, "häl", false)
	add(OpPing, "are you there", true)
	add(OpContinuation, "lo", true)
	add(OpBinary, string(bytes.Repeat([]byte{7}, 300)), true)
	add(OpClose, "\x03\xe8bye", true)
	lim := &Limits{MaxFrame: 1 << 20, MaxMessage: 1 << 20}
	read := func(d *Decoder, in []byte) (got []string) {
		in = bytes.Clone(in)
		for {
			ev, n, ok, err := d.Next(lim, false, in)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return got
			}
			got = append(got, string(rune('0'+ev.Op))+string(ev.Payload))
			in = in[n:]
		}
	}
	want := read(new(Decoder), stream)
	for cut := range len(stream) {
		first := new(Decoder)
		got := read(first, stream[:cut])
		second := new(Decoder)
		if err := second.LoadState(pack.NewReader(first.AppendState(nil))); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		got = append(got, read(second, stream[cut:])...)
		if len(got) != len(want) {
			t.Fatalf("cut at %d: %q, want %q", cut, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("cut at %d: %q, want %q", cut, got[i], want[i])
			}
		}
	}
}

// A state that no decoder was in is an error, or does no harm.
func FuzzLoadState(f *testing.F) {
	d := new(Decoder)
	lim := &Limits{MaxFrame: 1 << 10, MaxMessage: 1 << 10}
	_, _, _, _ = d.Next(lim, false, []byte{0x01, 0x85, 1, 2, 3, 4, 'a'})
	f.Add(d.AppendState(nil), []byte("bcde"))
	f.Add(new(Decoder).AppendState(nil), []byte{0x81})
	f.Add([]byte{7, 1}, []byte{})
	f.Fuzz(func(t *testing.T, state, in []byte) {
		d := new(Decoder)
		if d.LoadState(pack.NewReader(state)) != nil {
			return
		}
		for len(in) > 0 {
			_, n, ok, err := d.Next(lim, true, in)
			if err != nil || !ok {
				return
			}
			in = in[n:]
		}
	})
}
