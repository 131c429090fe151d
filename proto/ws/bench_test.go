package ws

import (
	"fmt"
	"strings"
	"testing"
)

var benchLimits = Limits{MaxFrame: 1 << 20, MaxMessage: 1 << 20}

func BenchmarkNext(b *testing.B) {
	for _, bench := range []struct {
		name string
		op   Opcode
		size int
	}{{"text/16", OpText, 16}, {"text/128", OpText, 128}, {"binary/128", OpBinary, 128}, {"text/4096", OpText, 4096}, {"ping/0", OpPing, 0}} {
		b.Run(bench.name, func(b *testing.B) {
			payload := []byte(strings.Repeat("a", bench.size))
			frame := AppendMaskedFrame(nil, bench.op, [4]byte{1, 2, 3, 4}, payload)
			in := make([]byte, len(frame))
			var d Decoder
			b.SetBytes(int64(bench.size))
			b.ReportAllocs()
			for b.Loop() {
				copy(in, frame) // decoding unmasks in place
				if _, _, ok, _ := d.Next(&benchLimits, false, in); !ok {
					b.Fatal("no event")
				}
			}
		})
	}
}

// BenchmarkNextSplit decodes a 128 B frame that came in two reads.
func BenchmarkNextSplit(b *testing.B) {
	frame := AppendMaskedFrame(nil, OpText, [4]byte{1, 2, 3, 4}, []byte(strings.Repeat("a", 128)))
	in := make([]byte, len(frame))
	var d Decoder
	b.ReportAllocs()
	for b.Loop() {
		copy(in, frame)
		d.Next(&benchLimits, false, in[:70])
		if _, _, ok, _ := d.Next(&benchLimits, false, in[70:]); !ok {
			b.Fatal("no event")
		}
	}
}

func BenchmarkMask(b *testing.B) {
	for _, size := range []int{16, 128, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				Mask(buf, [4]byte{1, 2, 3, 4}, 0)
			}
		})
	}
}

// jsonPayload looks like what chat and state services send.
func jsonPayload(size int) []byte {
	var s strings.Builder
	for i := 0; s.Len() < size; i++ {
		fmt.Fprintf(&s, `{"id":%d,"channel":"room:%d","user":"u%d","text":"message number %d"},`, i*7919, i%13, i*31%997, i)
	}
	return []byte(s.String()[:size])
}

func BenchmarkDeflate(b *testing.B) {
	for _, size := range []int{128, 1 << 10, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			payload := jsonPayload(size)
			var out []byte
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				out, _ = AppendDeflated(out[:0], payload)
			}
			b.ReportMetric(float64(len(out)), "bytes")
		})
	}
}

func BenchmarkInflate(b *testing.B) {
	for _, size := range []int{128, 1 << 10, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			deflated, _ := AppendDeflated(nil, jsonPayload(size))
			var out []byte
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				out, _ = AppendInflated(out[:0], deflated, 1<<20)
			}
		})
	}
}

func BenchmarkUpgrade(b *testing.B) {
	head := []byte(sampleHead("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Origin: http://example.com", "Accept-Language: en-GB,en;q=0.5"))
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		r, _, err := ParseHead(head)
		if err != nil {
			b.Fatal(err)
		}
		u, err := CheckUpgrade(r)
		if err != nil {
			b.Fatal(err)
		}
		out = AppendUpgradeResponse(out[:0], &u, "", true)
	}
}

func BenchmarkPreparedFrame(b *testing.B) {
	p := NewPrepared(OpText, jsonPayload(1<<10))
	b.ReportAllocs()
	for b.Loop() {
		p.Frame(true)
	}
}
