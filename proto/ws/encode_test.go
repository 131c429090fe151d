package ws

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

func TestAppendHeader(t *testing.T) {
	tests := []struct {
		op        Opcode
		fin, rsv1 bool
		length    int
		want      string
	}{
		{OpText, true, false, 0, "\x81\x00"},
		{OpBinary, true, true, 125, "\xc2\x7d"},
		{OpText, false, false, 126, "\x01\x7e\x00\x7e"},
		{OpContinuation, true, false, 65535, "\x80\x7e\xff\xff"},
		{OpBinary, true, false, 65536, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"},
	}
	for _, tt := range tests {
		if got := string(AppendHeader([]byte("x"), tt.op, tt.fin, tt.rsv1, tt.length)); got != "x"+tt.want {
			t.Errorf("%+v: got %x", tt, got)
		}
	}
}

// TestFrameRoundTrip: what we encode, the other side decodes to the same.
func TestFrameRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 70_000} {
		payload := strings.Repeat("a", size)
		want := show(OpText, 0, []byte(payload))
		server := string(AppendFrame(nil, OpText, []byte(payload)))
		if got := decode(t, &Decoder{Client: true}, &testLimits, false, server); len(got.events) != 1 || got.events[0] != want {
			t.Errorf("size %d, to the client: %+v", size, got)
		}
		client := string(AppendMaskedFrame(nil, OpText, testKey, []byte(payload)))
		if got := decode(t, new(Decoder), &testLimits, false, client); len(got.events) != 1 || got.events[0] != want {
			t.Errorf("size %d, to the server: %+v", size, got)
		}
	}
}

func TestAppendClose(t *testing.T) {
	tests := []struct {
		code   CloseCode
		reason string
		want   string
	}{
		{CloseNormal, "", "\x88\x02\x03\xe8"},
		{CloseTooBig, "too big", "\x88\x09\x03\xf1too big"},
		{CloseNoStatus, "dropped", "\x88\x00"},
		{CloseAbnormal, "", "\x88\x00"},
		{ClosePolicy, strings.Repeat("r", 123), "\x88\x7d\x03\xf0" + strings.Repeat("r", 123)},
		{ClosePolicy, strings.Repeat("r", 124), "\x88\x7d\x03\xf0" + strings.Repeat("r", 123)},
		{ClosePolicy, strings.Repeat("r", 122) + "é", "\x88\x7c\x03\xf0" + strings.Repeat("r", 122)},
		{ClosePolicy, strings.Repeat("r", 121) + "éx", "\x88\x7d\x03\xf0" + strings.Repeat("r", 121) + "é"},
	}
	for _, tt := range tests {
		if got := string(AppendClose(nil, tt.code, tt.reason)); got != tt.want {
			t.Errorf("%d %q: got %q", tt.code, tt.reason, got)
		}
	}
}

func noise(size int) []byte {
	rnd := rand.New(rand.NewPCG(5, 6))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func TestDeflateRoundTrip(t *testing.T) {
	noise := noise(200_000)
	for _, size := range []int{0, 1, 63, 64, 1000, 32 << 10, 32<<10 + 1, 65535, 65536, 200_000} {
		for _, payload := range [][]byte{noise[:size], jsonPayload(size), make([]byte, size)} {
			z, err := AppendDeflated([]byte("before"), payload)
			if err != nil || !bytes.HasPrefix(z, []byte("before")) {
				t.Fatal(err)
			}
			out, err := AppendInflated([]byte("before"), z[len("before"):], int64(size))
			if err != nil || string(out) != "before"+string(payload) {
				t.Errorf("size %d: %v, %d bytes", size, err, len(out))
			}
			if size > 0 {
				_, err = AppendInflated(nil, z[len("before"):], int64(size-1))
				if pe, ok := err.(*ProtocolError); !ok || pe.Label != LabelInflateLimit || pe.Code != CloseTooBig {
					t.Errorf("size %d, limit one less: %v", size, err)
				}
			}
		}
	}
	if z := deflated(""); z != "\x00" { // RFC 7692 section 7.2.3.6
		t.Errorf("empty message: %x", z)
	}
}

// TestInflateNoContext: a block with an empty distance code is refused, whatever message was inflated before it. It
// must not be read by the tables of that one.
func TestInflateNoContext(t *testing.T) {
	const damaged = "74cf410ac3201046e1ab847fedc271488d739bb419da4035a0110aa177ef2e083617d878efc0ba40acc1e335a7a46f08f2b645b1" +
		"30a8453304d5c260d7cf0e41d452e6a70ea9c6bbe6c1e26b0eac0bc4070a1d420dc274a9d0a9d038f1d4b5b886b9b94bc69d8c633ffa6e89" +
		"1b26f09f9a1f00"
	in, err := hex.DecodeString(damaged)
	if err != nil {
		t.Fatal(err)
	}
	for size := 100; size < 1000; size += 7 {
		if _, err := AppendInflated(nil, []byte(deflated(string(jsonPayload(size)))), 1000); err != nil {
			t.Fatal(err)
		}
		if out, err := AppendInflated(nil, in, 1000); err == nil {
			t.Fatalf("after a message of %d bytes: %q", size, out)
		}
	}
}

// TestInflateMemory: a bomb costs no more than the limit.
func TestInflateMemory(t *testing.T) {
	const limit = 64 << 10
	var d Decoder
	bomb := frame(0xc2, deflated(string(make([]byte, 8<<20))))
	lim := Limits{MaxFrame: 1 << 20, MaxMessage: limit}
	if got := decode(t, &d, &lim, true, bomb); got.err != LabelInflateLimit {
		t.Fatalf("%+v", got)
	}
	if d.Size() > limit+1 {
		t.Errorf("%d bytes held", d.Size())
	}
}

func TestPrepared(t *testing.T) {
	big := jsonPayload(1000)
	tests := []struct {
		name    string
		op      Opcode
		payload []byte
		bits    uint8
		shrinks bool
	}{
		{"no deflate", OpText, big, 0, false},
		{"full window", OpText, big, 15, true},
		{"window of 1024", OpText, big, 10, true},
		{"window of 512", OpText, big, 9, false},
		{"short", OpText, bytes.Repeat([]byte("a"), 127), 15, false},
		{"just long enough", OpText, bytes.Repeat([]byte("a"), 128), 15, true},
		{"noise", OpBinary, noise(200), 15, false},
		{"ping", OpPing, bytes.Repeat([]byte("a"), 100), 15, false},
		{"empty", OpText, nil, 15, false},
		{"huge", OpBinary, bytes.Repeat(big, 90), 15, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			payload := bytes.Clone(tt.payload)
			p := NewPrepared(tt.op, payload)
			clear(payload) // it must have been copied
			var wg sync.WaitGroup
			frames := make([][]byte, 8)
			for i := range frames {
				wg.Go(func() { frames[i] = p.FrameWindow(tt.bits) })
			}
			wg.Wait()
			got := frames[0]
			for _, f := range frames {
				if &f[0] != &got[0] {
					t.Fatal("the frame is not shared")
				}
			}
			plain := AppendFrame(nil, tt.op, tt.payload)
			if (got[0]&0x40 != 0) != tt.shrinks || tt.shrinks && len(got) >= len(plain) || !tt.shrinks && !bytes.Equal(got, plain) {
				t.Fatalf("frame of %d bytes, header %x, plain %d bytes", len(got), got[:2], len(plain))
			}
			o := decode(t, &Decoder{Client: true}, &testLimits, true, string(got))
			if len(o.events) != 1 || o.events[0] != show(tt.op, 0, tt.payload) {
				t.Errorf("decoded %+v", o)
			}
			if full := p.Frame(tt.bits == MaxWindowBits); !bytes.Equal(full, got) && (tt.bits == 0 || tt.bits == MaxWindowBits) {
				t.Error("Frame differs")
			}
			if n := testing.AllocsPerRun(10, func() { p.FrameWindow(tt.bits) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestIncompleteRune(t *testing.T) {
	for _, s := range []string{"", "a", "é", euro, "𝄞"} {
		for cut := range len(s) {
			if got := incompleteRune([]byte("x" + s[:cut])); got != cut {
				t.Errorf("%q: %d, want %d", s[:cut], got, cut)
			}
		}
		if utf8.ValidString(s) && incompleteRune([]byte(s)) != 0 {
			t.Errorf("%q is complete", s)
		}
	}
	for _, s := range []string{"\x80", "\xc0", "\xf5", "\xed\xa0", "\xe0\x80", "\xf4\x90", "\x80\x80\x80\x80"} {
		if got := incompleteRune([]byte(s)); got != 0 {
			t.Errorf("%q can not be completed, got %d", s, got)
		}
	}
}
