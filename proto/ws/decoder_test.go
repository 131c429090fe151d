package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var (
	testKey    = [4]byte{0x37, 0xfa, 0x21, 0x3d}
	testLimits = Limits{MaxFrame: 70_000, MaxMessage: 100_000}
)

// frame is a masked frame whose first byte is b0.
func frame(b0 byte, payload string) string {
	b := appendHeader(nil, 0, false, false, 0x80, len(payload))
	b[0] = b0
	b = append(b, testKey[:]...)
	at := len(b)
	b = append(b, payload...)
	Mask(b[at:], testKey, 0)
	return string(b)
}

// header is a frame header with the extended length as given, and no mask key.
func header(b0, b1 byte, ext ...byte) string { return string(append([]byte{b0, b1}, ext...)) }

func deflated(payload string) string {
	b, err := AppendDeflated(nil, []byte(payload))
	if err != nil {
		panic(err)
	}
	return string(b)
}

func closeBody(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// outcome is what a Decoder made of some input.
type outcome struct {
	events []string
	err    string // label of the error, or ""
	at     int    // bytes consumed when the error came
	idle   bool
}

func show(op Opcode, code CloseCode, payload []byte) string {
	if len(payload) > 64 {
		return fmt.Sprintf("%d %d %d bytes %x", op, code, len(payload), payload[:64])
	}
	return fmt.Sprintf("%d %d %q", op, code, payload)
}

// decode feeds in to d, cut after each of the ascending offsets cuts, and never gives a byte twice.
func decode(t testing.TB, d *Decoder, lim *Limits, deflate bool, in string, cuts ...int) outcome {
	var o outcome
	from := 0
	for _, to := range append(cuts, len(in)) {
		buf := []byte(in[from:to])
		for len(buf) > 0 {
			ev, n, ok, err := d.Next(lim, deflate, buf)
			from += n
			if err != nil {
				var pe *ProtocolError
				if !errors.As(err, &pe) || ok {
					t.Fatalf("error %v with ok = %v", err, ok)
				}
				o.err, o.at = pe.Label, from
				return o
			}
			if ok {
				o.events = append(o.events, show(ev.Op, ev.Code, ev.Payload))
			} else if n != len(buf) {
				t.Fatalf("consumed %d of %d bytes, without event or error", n, len(buf))
			}
			buf = buf[n:]
		}
	}
	o.idle = d.Idle()
	return o
}

// everyByte are the cuts that make reads of one byte.
func everyByte(in string) []int {
	cuts := make([]int, len(in))
	for i := range cuts {
		cuts[i] = i + 1
	}
	return cuts
}

type decoderTest struct {
	name    string
	in      string
	deflate bool
	client  bool
	events  []string
	err     string
	at      int  // error: bytes after which it must come, at the latest, in reads of one byte
	partial bool // the Decoder must not be idle at the end
}

const euro = "\xe2\x82\xac"

var decoderTests = []decoderTest{
	{name: "text", in: frame(0x81, "Hello"), events: []string{`1 0 "Hello"`}},
	{name: "RFC 6455 5.7", in: "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", events: []string{`1 0 "Hello"`}},
	{name: "empty text", in: frame(0x81, ""), events: []string{`1 0 ""`}},
	{name: "empty binary", in: frame(0x82, ""), events: []string{`2 0 ""`}},
	{name: "zero key", in: "\x82\x83\x00\x00\x00\x00abc", events: []string{`2 0 "abc"`}},
	{name: "zero key, bad text", in: "\x81\x83\x00\x00\x00\x00a\xffc", err: LabelUTF8, at: 8},
	{name: "125", in: frame(0x82, strings.Repeat("a", 125)), events: []string{show(2, 0, bytes.Repeat([]byte("a"), 125))}},
	{name: "126", in: frame(0x82, strings.Repeat("a", 126)), events: []string{show(2, 0, bytes.Repeat([]byte("a"), 126))}},
	{name: "two and control", in: frame(0x81, "a") + frame(0x89, "p") + frame(0x82, "\xff") + frame(0x8a, "") + frame(0x88, ""),
		events: []string{`1 0 "a"`, `9 0 "p"`, `2 0 "\xff"`, `10 0 ""`, `8 1005 ""`}},
	{name: "fragments", in: frame(0x01, "Hel") + frame(0x80, "lo"), events: []string{`1 0 "Hello"`}},
	{name: "fragments around controls", in: frame(0x02, "a") + frame(0x89, "1") + frame(0x00, "b") + frame(0x8a, "2") + frame(0x80, "c") + frame(0x81, "d"),
		events: []string{`9 0 "1"`, `10 0 "2"`, `2 0 "abc"`, `1 0 "d"`}},
	{name: "empty fragments", in: frame(0x01, "") + frame(0x00, "") + frame(0x80, ""), events: []string{`1 0 ""`}},
	{name: "empty ends", in: frame(0x01, "") + frame(0x00, "x") + frame(0x80, ""), events: []string{`1 0 "x"`}},
	{name: "fragments, unfinished", in: frame(0x01, "Hel") + frame(0x00, "lo"), partial: true},
	{name: "partial header", in: "\x81", partial: true},
	{name: "partial payload", in: frame(0x81, "Hello")[:8], partial: true},
	{name: "ping of 125", in: frame(0x89, strings.Repeat("p", 125)), events: []string{show(9, 0, bytes.Repeat([]byte("p"), 125))}},

	// Header errors come with the byte that makes them.
	{name: "rsv1", in: frame(0xc1, "x"), err: LabelRSV, at: 1},
	{name: "rsv2", in: frame(0xa1, "x"), err: LabelRSV, at: 1},
	{name: "rsv3", in: frame(0x91, "x"), deflate: true, err: LabelRSV, at: 1},
	{name: "rsv1 on ping", in: frame(0xc9, "x"), deflate: true, err: LabelRSV, at: 1},
	{name: "rsv1 on continuation", in: frame(0x01, "x") + frame(0xc0, "x"), deflate: true, err: LabelRSV, at: 8},
	{name: "opcode 3", in: frame(0x83, ""), err: LabelOpcode, at: 1},
	{name: "opcode 7", in: frame(0x87, ""), err: LabelOpcode, at: 1},
	{name: "opcode 11", in: frame(0x8b, ""), err: LabelOpcode, at: 1},
	{name: "opcode 15", in: frame(0x8f, ""), err: LabelOpcode, at: 1},
	{name: "fragmented ping", in: frame(0x09, "x"), err: LabelControlFragmented, at: 1},
	{name: "fragmented close", in: frame(0x08, ""), err: LabelControlFragmented, at: 1},
	{name: "stray continuation", in: frame(0x80, "x"), err: LabelStrayContinuation, at: 1},
	{name: "stray continuation, not final", in: frame(0x00, "x"), err: LabelStrayContinuation, at: 1},
	{name: "continuation after the end", in: frame(0x01, "a") + frame(0x80, "b") + frame(0x80, "c"),
		events: []string{`1 0 "ab"`}, err: LabelStrayContinuation, at: 15},
	{name: "interleaved", in: frame(0x01, "a") + frame(0x81, "b"), err: LabelInterleaved, at: 8},
	{name: "interleaved binary", in: frame(0x01, "a") + frame(0x02, "b"), err: LabelInterleaved, at: 8},
	{name: "unmasked", in: header(0x81, 5), err: LabelUnmasked, at: 2},
	{name: "unmasked ping", in: header(0x89, 0), err: LabelUnmasked, at: 2},
	{name: "control of 126", in: header(0x89, 0xfe), err: LabelControlTooLong, at: 2},
	{name: "control of 64 bits", in: header(0x8a, 0xff), err: LabelControlTooLong, at: 2},
	{name: "125 in 16 bits", in: header(0x81, 0xfe, 0, 125), err: LabelLengthNotMinimal, at: 4},
	{name: "125 in 16 bits, whole", in: header(0x81, 0xfe, 0, 1) + "\x00\x00\x00\x00a", err: LabelLengthNotMinimal, at: 4},
	{name: "65535 in 64 bits", in: header(0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff), err: LabelLengthNotMinimal, at: 10},
	{name: "top bit", in: header(0x81, 0xff, 0x80), err: LabelLength63Bit, at: 3},
	{name: "63 bits", in: header(0x82, 0xff, 0x7f), err: LabelFrameTooBig, at: 3},
	{name: "4 GiB", in: header(0x82, 0xff, 0, 0, 0, 1), err: LabelFrameTooBig, at: 6},
	{name: "70,001", in: header(0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x71), err: LabelFrameTooBig, at: 10},
	{name: "message above the limit", in: frame(0x02, strings.Repeat("a", 70_000)) + header(0x80, 0xfe, 0x75, 0x31), err: LabelMessageTooBig, at: 70_018},

	// Close frames.
	{name: "close 1000", in: frame(0x88, closeBody(1000, "")), events: []string{`8 1000 ""`}},
	{name: "close with reason", in: frame(0x88, closeBody(3000, "bye "+euro)), events: []string{`8 3000 "bye €"`}},
	{name: "close of 125", in: frame(0x88, closeBody(4999, strings.Repeat("r", 123))), events: []string{show(8, 4999, bytes.Repeat([]byte("r"), 123))}},
	{name: "close of 1 byte", in: frame(0x88, "\x03"), err: LabelCloseLength, at: 2},
	{name: "close, bad reason", in: frame(0x88, closeBody(1000, "a\xffb")), err: LabelUTF8, at: 10},
	{name: "close, cut reason", in: frame(0x88, closeBody(1000, euro[:2])), err: LabelUTF8, at: 10},
	{name: "close 1005", in: frame(0x88, closeBody(1005, "reason")), err: LabelCloseCode, at: 8},

	// UTF-8, at the first byte that nothing can mend.
	{name: "utf8", in: frame(0x81, "κόσμε𝄞"+euro), events: []string{`1 0 "κόσμε𝄞€"`}},
	{name: "utf8 over frames", in: frame(0x01, "a"+euro[:1]) + frame(0x00, euro[1:2]) + frame(0x89, "\xff") + frame(0x80, euro[2:]),
		events: []string{`9 0 "\xff"`, `1 0 "a€"`}},
	{name: "stray byte", in: frame(0x81, "ab\x80cd"), err: LabelUTF8, at: 9},
	{name: "overlong", in: frame(0x81, "\xc0\xaf"), err: LabelUTF8, at: 7},
	{name: "overlong of 3", in: frame(0x81, "\xe0\x80\xaf"), err: LabelUTF8, at: 8},
	{name: "surrogate", in: frame(0x81, "ab\xed\xa0\x80"), err: LabelUTF8, at: 10},
	{name: "above 10ffff", in: frame(0x81, "\xf4\x90\x80\x80"), err: LabelUTF8, at: 8},
	{name: "lead f5", in: frame(0x81, "\xf5\x80\x80\x80"), err: LabelUTF8, at: 7},
	{name: "unfinished rune", in: frame(0x81, "a"+euro[:2]), err: LabelUTF8, at: 9},
	{name: "unfinished rune at the last fragment", in: frame(0x01, euro[:2]) + frame(0x80, ""), err: LabelUTF8, at: 14},
	{name: "bad fragment", in: frame(0x01, "a") + frame(0x00, "\xff") + frame(0x80, "b"), err: LabelUTF8, at: 14},
	{name: "bad in the middle of a frame", in: frame(0x81, "a\xffb")[:8], err: LabelUTF8, at: 8},
	{name: "rune broken over frames", in: frame(0x01, "a\xf4") + frame(0x80, "\x90"), err: LabelUTF8, at: 15},
	{name: "binary is no text", in: frame(0x02, "\xff") + frame(0x80, "\xc0"), events: []string{`2 0 "\xff\xc0"`}},

	// permessage-deflate.
	{name: "RFC 7692 7.2.3.1", in: frame(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00"), deflate: true, events: []string{`1 0 "Hello"`}},
	{name: "RFC 7692 7.2.3.1, fragments", in: frame(0x41, "\xf2\x48\xcd") + frame(0x89, "p") + frame(0x80, "\xc9\xc9\x07\x00"), deflate: true,
		events: []string{`9 0 "p"`, `1 0 "Hello"`}},
	{name: "RFC 7692 7.2.3.3, stored", in: frame(0xc1, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), deflate: true, events: []string{`1 0 "Hello"`}},
	{name: "RFC 7692 7.2.3.4, BFINAL", in: frame(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), deflate: true, events: []string{`1 0 "Hello"`}},
	{name: "BFINAL, nothing behind", in: frame(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00"), deflate: true, events: []string{`1 0 "Hello"`}},
	{name: "BFINAL twice", in: frame(0xc1, "\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), deflate: true, events: []string{`1 0 "HelloHello"`}},
	{name: "RFC 7692 7.2.3.5, two blocks", in: frame(0xc1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), deflate: true, events: []string{`1 0 "Hello"`}},
	{name: "RFC 7692 7.2.3.6, empty", in: frame(0xc1, "\x00"), deflate: true, events: []string{`1 0 ""`}},
	{name: "zero length", in: frame(0xc2, ""), deflate: true, events: []string{`2 0 ""`}},
	{name: "zero length, fragments", in: frame(0x42, "") + frame(0x80, ""), deflate: true, events: []string{`2 0 ""`}},
	{name: "plain between compressed", in: frame(0xc1, deflated("one")) + frame(0x81, "two") + frame(0xc2, deflated("\xff")), deflate: true,
		events: []string{`1 0 "one"`, `1 0 "two"`, `2 0 "\xff"`}},
	{name: "compressed, bad text", in: frame(0xc1, deflated("a\xff")), deflate: true, err: LabelUTF8},
	{name: "compressed, unfinished rune", in: frame(0xc1, deflated(euro[:2])), deflate: true, err: LabelUTF8},
	{name: "garbage", in: frame(0xc1, "\xff\xff\xff\xff"), deflate: true, err: LabelDeflate},
	{name: "cut off", in: frame(0xc1, "\xf2\x48\xcd"), deflate: true, err: LabelDeflate},
	{name: "bomb", in: frame(0xc2, deflated(strings.Repeat("\x00", 100_001))), deflate: true, err: LabelInflateLimit},
	{name: "up to the limit", in: frame(0xc2, deflated(strings.Repeat("a", 100_000))), deflate: true,
		events: []string{show(2, 0, bytes.Repeat([]byte("a"), 100_000))}},

	// The client's side.
	{name: "client", in: "\x81\x05Hello\x89\x00\x01\x01a\x80\x01b", client: true, events: []string{`1 0 "Hello"`, `9 0 ""`, `1 0 "ab"`}},
	{name: "client, masked", in: frame(0x81, "x"), client: true, err: LabelMasked, at: 2},
	{name: "client, bad text", in: "\x81\x02a\xff", client: true, err: LabelUTF8, at: 4},
}

func TestDecoder(t *testing.T) {
	for _, tt := range decoderTests {
		t.Run(tt.name, func(t *testing.T) {
			want := outcome{events: tt.events, err: tt.err, idle: !tt.partial && tt.err == ""}
			check := func(how string, got outcome) {
				t.Helper()
				if !slices.Equal(got.events, want.events) || got.err != want.err || got.idle != want.idle {
					t.Fatalf("%s: got %+v, want %+v", how, got, want)
				}
			}
			check("whole", decode(t, &Decoder{Client: tt.client}, &testLimits, tt.deflate, tt.in))
			bytewise := decode(t, &Decoder{Client: tt.client}, &testLimits, tt.deflate, tt.in, everyByte(tt.in)...)
			check("byte by byte", bytewise)
			if tt.at > 0 && bytewise.at != tt.at {
				t.Errorf("the error came at byte %d, not %d", bytewise.at, tt.at)
			}
			step := 1 + len(tt.in)/300
			for cut := 1; cut < len(tt.in); cut += step {
				check(fmt.Sprint("cut at ", cut), decode(t, &Decoder{Client: tt.client}, &testLimits, tt.deflate, tt.in, cut))
			}
		})
	}
}

// TestDecoderCodes pins what each label closes with.
func TestDecoderCodes(t *testing.T) {
	for _, tt := range decoderTests {
		if tt.err == "" {
			continue
		}
		want := CloseProtocolError
		switch tt.err {
		case LabelUTF8, LabelDeflate:
			want = CloseInvalidPayload
		case LabelFrameTooBig, LabelMessageTooBig, LabelInflateLimit:
			want = CloseTooBig
		}
		d := Decoder{Client: tt.client}
		var err error
		for in := []byte(tt.in); err == nil && len(in) > 0; {
			var n int
			_, n, _, err = d.Next(&testLimits, tt.deflate, in)
			in = in[n:]
		}
		var pe *ProtocolError
		if !errors.As(err, &pe) || pe.Code != want || pe.Detail == "" {
			t.Errorf("%s: %v, want code %d", tt.name, err, want)
		}
	}
}

func TestCloseCodes(t *testing.T) {
	for code := range 65536 {
		valid := slices.Contains([]int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}, code) ||
			code >= 3000 && code < 5000
		if CloseCode(code).Valid() != valid {
			t.Errorf("Valid(%d) = %v", code, !valid)
		}
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		if got := decode(t, new(Decoder), &testLimits, false, frame(0x88, closeBody(code, ""))); got.err != LabelCloseCode {
			t.Errorf("close %d: %+v", code, got)
		}
	}
}

// TestDecoderLimits: limits hold exactly, whether a message is compressed or not, and zero allows empty payloads.
func TestDecoderLimits(t *testing.T) {
	tests := []struct {
		lim  Limits
		in   string
		want string
	}{
		{Limits{10, 10}, frame(0x82, "0123456789"), ""},
		{Limits{10, 10}, frame(0x82, "0123456789a"), LabelFrameTooBig},
		{Limits{20, 10}, frame(0x82, "0123456789a"), LabelMessageTooBig},
		{Limits{10, 20}, frame(0x02, "0123456789") + frame(0x80, "0123456789"), ""},
		{Limits{10, 20}, frame(0x02, "0123456789") + frame(0x00, "0123456789") + frame(0x80, "0"), LabelMessageTooBig},
		{Limits{0, 0}, frame(0x82, "") + frame(0x89, "ping"), ""},
		{Limits{0, 0}, frame(0x82, "a"), LabelFrameTooBig},
		{Limits{100, 10}, frame(0xc2, "\x00\x0a\x00\xf5\xff0123456789\x00"), ""}, // stored: longer than the message
		{Limits{100, 9}, frame(0xc2, "\x00\x0a\x00\xf5\xff0123456789\x00"), LabelInflateLimit},
	}
	for _, tt := range tests {
		for _, cuts := range [][]int{nil, everyByte(tt.in)} {
			if got := decode(t, new(Decoder), &tt.lim, true, tt.in, cuts...); got.err != tt.want {
				t.Errorf("%+v, %q: %+v, want %q", tt.lim, tt.in, got, tt.want)
			}
		}
	}
}

// TestDecoderBuffer: memory follows what has arrived, not what was announced.
func TestDecoderBuffer(t *testing.T) {
	lim := Limits{MaxFrame: 1 << 30, MaxMessage: 1 << 30}
	var d Decoder
	decode(t, &d, &lim, false, "\x82\xff\x00\x00\x00\x00\x40\x00\x00\x00\x01\x02\x03\x04")
	if d.Size() != 0 || d.Idle() {
		t.Fatalf("a header alone: %d bytes, idle %v", d.Size(), d.Idle())
	}
	chunk := make([]byte, 1000)
	grown, before := 0, 0
	for got := 0; got < 4<<20; got += len(chunk) {
		if _, _, ok, err := d.Next(&lim, false, chunk); ok || err != nil {
			t.Fatal(ok, err)
		}
		if d.Size() > max(minBuffer, 2*(got+len(chunk))) {
			t.Fatalf("%d bytes held for %d received", d.Size(), got+len(chunk))
		}
		if d.Size() != before {
			grown, before = grown+1, d.Size()
		}
	}
	if grown > 16 {
		t.Errorf("the buffer grew %d times", grown)
	}
	d.Reset()
	if d.Size() != 0 || !d.Idle() {
		t.Errorf("after Reset: %d bytes, idle %v", d.Size(), d.Idle())
	}
	// A buffer whose end is known is not grown beyond it.
	in := frame(0x82, strings.Repeat("a", 3000))
	decode(t, &d, &lim, false, in, 20, 1500)
	if d.Size() > 3000 {
		t.Errorf("%d bytes held for a message of 3000", d.Size())
	}
	if held := d.Size(); held <= keepBuffer {
		if d.Reset(); d.Size() != held {
			t.Errorf("Reset dropped a small buffer")
		}
	}
}

// TestDecoderReuse: after an event, an error or Reset nothing of it shows in what follows.
func TestDecoderReuse(t *testing.T) {
	var d Decoder
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(decoderTests)) {
		tt := decoderTests[i]
		d.Client = tt.client
		for _, cuts := range [][]int{nil, {len(tt.in) / 2}} {
			got := decode(t, &d, &testLimits, tt.deflate, tt.in, cuts...)
			if !slices.Equal(got.events, tt.events) || got.err != tt.err {
				t.Errorf("%s: got %+v", tt.name, got)
			}
			d.Reset()
		}
	}
}

// TestDecoderReset: Reset forgets a part of anything.
func TestDecoderReset(t *testing.T) {
	var d Decoder
	for _, part := range []string{"\x81", frame(0x81, "abc")[:8], frame(0x89, "abc")[:8], frame(0x01, "abc")} {
		decode(t, &d, &testLimits, false, part)
		d.Reset()
		in := frame(0x89, "ping") + frame(0x81, "text")
		if got := decode(t, &d, &testLimits, false, in, 8, 18); !slices.Equal(got.events, []string{`9 0 "ping"`, `1 0 "text"`}) {
			t.Errorf("after %q: %+v", part, got)
		}
	}
}

// TestNextPayload: a whole frame is returned in place, and appending to its payload does not touch what follows.
func TestNextPayload(t *testing.T) {
	in := []byte(frame(0x81, "Hello") + frame(0x82, "World"))
	var d Decoder
	ev, n, _, _ := d.Next(&testLimits, false, in)
	if &ev.Payload[0] != &in[6] {
		t.Error("the payload was copied")
	}
	_ = append(ev.Payload, "overwritten"...)
	ev, _, _, _ = d.Next(&testLimits, false, in[n:])
	if string(ev.Payload) != "World" {
		t.Errorf("second payload is %q", ev.Payload)
	}
}

func TestNextAllocations(t *testing.T) {
	text := strings.Repeat("grüße ", 20)
	for _, tt := range []struct {
		name string
		in   string
		cuts int
	}{
		{"text", frame(0x81, text), 0},
		{"binary", frame(0x82, strings.Repeat("x", 4096)), 0},
		{"ping", frame(0x89, "ping"), 0},
		{"close", frame(0x88, closeBody(1000, "bye")), 0},
		{"text in two reads", frame(0x81, text), 50},
		{"fragments", frame(0x01, text) + frame(0x80, text), 0},
	} {
		in := make([]byte, len(tt.in))
		var d Decoder
		if n := testing.AllocsPerRun(100, func() {
			copy(in, tt.in)
			for from, to := 0, tt.cuts; from < len(in); {
				if to <= from {
					to = len(in)
				}
				_, n, _, err := d.Next(&testLimits, false, in[from:to])
				if err != nil {
					t.Fatal(err)
				}
				from += n
			}
			if !d.Idle() {
				t.Fatal("not idle")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}

func TestMask(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for size := range 300 {
		for pos := range 4 {
			key := [4]byte{byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())}
			whole := make([]byte, size+16)
			for i := range whole {
				whole[i] = byte(rnd.Uint32())
			}
			want := bytes.Clone(whole)
			for i := range size {
				want[8+i] ^= key[(pos+i)%4]
			}
			b := whole[8 : 8+size]
			cut := rnd.IntN(size + 1)
			next := Mask(b[cut:], key, Mask(b[:cut], key, pos))
			if !bytes.Equal(whole, want) || next != (pos+size)%4 {
				t.Fatalf("size %d, pos %d, cut %d: wrong", size, pos, cut)
			}
		}
	}
}

// TestXorMaskASCII: one byte above 0x7f, wherever it is, shows in the result.
func TestXorMaskASCII(t *testing.T) {
	for size := range 200 {
		for at := -1; at < size; at++ {
			b := bytes.Repeat([]byte{'a'}, size)
			if at >= 0 {
				b[at] = 0x80
			}
			Mask(b, testKey, 0)
			if or := xorMask(b, binary.LittleEndian.Uint32(testKey[:])); (or&nonASCII != 0) != (at >= 0) {
				t.Fatalf("size %d, byte %d: or = %#x", size, at, or)
			}
		}
	}
}
