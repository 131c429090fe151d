package ws

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzDecoder: however the input is cut into reads, the events and the error are the reference's. setup chooses
// limits and deflate, cuts where the input is cut.
func FuzzDecoder(f *testing.F) {
	for _, tt := range decoderTests {
		if !tt.client && len(tt.in) < 1000 {
			f.Add(tt.in, tt.deflate, uint16(1000), []byte{1, 3})
		}
	}
	f.Fuzz(func(t *testing.T, in string, deflate bool, limit uint16, steps []byte) {
		lim := Limits{MaxFrame: int64(limit), MaxMessage: int64(limit) + 50}
		events, code := reference(&lim, deflate, in)
		var cuts []int
		for i, at := 0, 0; len(steps) > 0; i++ {
			if at += int(steps[i%len(steps)]) + 1; at >= len(in) {
				break
			}
			cuts = append(cuts, at)
		}
		for _, c := range [][]int{nil, cuts, everyByte(in)} {
			got := decode(t, new(Decoder), &lim, deflate, in, c...)
			if !slices.Equal(got.events, events) || codeOf(got.err) != code {
				t.Fatalf("cuts %v: got %+v, the reference has %q, %d", c, got, events, code)
			}
		}
	})
}

// codeOf is the close code of a ProtocolError's label.
func codeOf(label string) CloseCode {
	switch label {
	case "":
		return 0
	case LabelUTF8, LabelDeflate:
		return CloseInvalidPayload
	case LabelFrameTooBig, LabelMessageTooBig, LabelInflateLimit:
		return CloseTooBig
	}
	return CloseProtocolError
}

// FuzzInflate: any input gives what another library makes of it, within the limit, and any payload survives
// the way there and back.
func FuzzInflate(f *testing.F) {
	for _, tt := range decoderTests {
		if tt.deflate && len(tt.in) > 6 && len(tt.in) < 1000 {
			raw := []byte(tt.in[6:])
			Mask(raw, testKey, 0)
			f.Add(raw, uint16(100))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, limit uint16) {
		got, err := AppendInflated(nil, in, int64(limit))
		want, code := referenceInflate(in, int64(limit))
		var pe *ProtocolError
		if errors.As(err, &pe) && code != 0 && pe.Code != code {
			// Too much, and broken: how much comes out before the error is up to the decoder. Either is right.
			if _, whole := referenceInflate(in, 64<<20); whole == CloseInvalidPayload {
				code = pe.Code
			}
		}
		if err == nil && code != 0 || err != nil && (!errors.As(err, &pe) || pe.Code != code) || !bytes.Equal(got, want) {
			t.Fatalf("got %q, %v; the reference has %q, %d", got, err, want, code)
		}
		z, err := AppendDeflated(nil, in)
		if err != nil {
			t.Fatal(err)
		}
		back, err := AppendInflated(nil, z, int64(len(in)))
		if err != nil || !bytes.Equal(back, in) {
			t.Fatalf("%d bytes do not come back: %v", len(in), err)
		}
	})
}

// FuzzParseHead: any head is refused with a typed error and a sound response, or asks for more, or parses; cutting
// it short never turns a good head into a bad one.
func FuzzParseHead(f *testing.F) {
	f.Add(sampleHead(), uint16(30))
	f.Add(sampleHead("Sec-WebSocket-Protocol: a, b", "Origin: https://example.com"), uint16(99))
	f.Add(sampleHead("Host: a\r\nHost: b"), uint16(3))
	f.Add("\x16\x03\x01", uint16(1))
	f.Add("GET / HTTP/1.0\r\n\r\n", uint16(9))
	f.Add("GET /\n", uint16(5))
	f.Add("GET http://h/ HTTP/1.1\r\nX: y\r\n\r\nrest", uint16(5))
	f.Fuzz(func(t *testing.T, in string, cut uint16) {
		r, n, err := ParseHead([]byte(in))
		checkHandshakeError(t, err)
		if (r != nil) != (n > 0) || err != nil && r != nil || n > min(len(in), MaxHeadSize) {
			t.Fatalf("r %v, n %d, err %v", r, n, err)
		}
		if n > 0 {
			if !strings.HasSuffix(in[:n], "\r\n\r\n") || r.Host == "" || r.Proto != "HTTP/1.1" {
				t.Fatalf("n %d, request %+v", n, r)
			}
			_, err := CheckUpgrade(r)
			checkHandshakeError(t, err)
			checkHandshakeError(t, CheckOrigin(r, nil))
		}
		if _, _, partErr := ParseHead([]byte(in[:min(int(cut), len(in))])); partErr != nil && err == nil {
			t.Fatalf("the first %d bytes are refused (%v), the whole is not", cut, partErr)
		}
	})
}

func checkHandshakeError(t *testing.T, err error) {
	t.Helper()
	var he *HandshakeError
	if err == nil {
		return
	}
	if !errors.As(err, &he) || he.Status < 400 || he.Label == "" || he.Detail == "" {
		t.Fatalf("error %#v", err)
	}
	head, body, ok := strings.Cut(string(he.AppendResponse(nil)), "\r\n\r\n")
	if !ok || strings.Count(body, "\n") != 1 || !strings.HasSuffix(body, "\n") || strings.ContainsAny(body, "\r\x00") ||
		strings.Contains(strings.ReplaceAll(head, "\r\n", ""), "\n") {
		t.Fatalf("response %q, body %q", head, body)
	}
}

// FuzzExtensions: an offer is never an error, and what is accepted was asked for and lies in the allowed range.
func FuzzExtensions(f *testing.F) {
	for _, s := range []string{"permessage-deflate; server_max_window_bits=9", `x; a="\",", permessage-deflate`,
		"permessage-deflate; client_max_window_bits; client_max_window_bits, permessage-deflate", ";,=\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		var u Upgrade
		u.chooseDeflate(list)
		switch {
		case !u.Deflate:
			if u.WindowBits != 0 || u.boundWindow {
				t.Fatalf("declined, but %+v", u)
			}
		case u.WindowBits < 8 || u.WindowBits > 15 || !u.boundWindow && u.WindowBits != 15:
			t.Fatalf("accepted %+v", u)
		case !strings.Contains(strings.ToLower(list), "permessage-deflate"):
			t.Fatalf("accepted %+v of %q", u, list)
		case u.boundWindow != strings.Contains(acceptedOffer(list), "server_max_window_bits"):
			t.Fatalf("bound window %v, offer %q", u.boundWindow, acceptedOffer(list))
		}
	})
}

// acceptedOffer is the first offer of list that is acceptable alone.
func acceptedOffer(list string) string {
	for list != "" {
		var offer string
		offer, list = cutUnquoted(list, ',')
		var u Upgrade
		if u.chooseDeflate(offer); u.Deflate {
			return strings.ToLower(offer)
		}
	}
	return ""
}

// TestDecoderRandom makes sequences of frames that are mostly right, which a fuzzer seldom finds, breaks some of
// them by a byte, and holds the decoder against the reference.
func TestDecoderRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	lim := Limits{MaxFrame: 70_000, MaxMessage: 80_000}
	failed := 0
	for range 1000 {
		var in strings.Builder
		for range 1 + rnd.IntN(6) {
			in.WriteString(randomMessage(rnd))
		}
		s := []byte(in.String())
		if rnd.IntN(4) > 0 {
			s[rnd.IntN(len(s))] ^= 1 << rnd.IntN(8)
		}
		if rnd.IntN(4) == 0 {
			s = s[:rnd.IntN(len(s)+1)]
		}
		events, code := reference(&lim, true, string(s))
		if code != 0 {
			failed++
		}
		var cuts []int
		for at := 0; ; {
			if at += 1 + rnd.IntN(1+len(s)/(1+rnd.IntN(8))); at >= len(s) {
				break
			}
			cuts = append(cuts, at)
		}
		for _, c := range [][]int{nil, cuts} {
			if got := decode(t, new(Decoder), &lim, true, string(s), c...); !slices.Equal(got.events, events) || codeOf(got.err) != code {
				t.Fatalf("input %q, cuts %v: got %+v, the reference has %q, %d", s, c, got, events, code)
			}
		}
	}
	if failed < 200 || failed > 800 {
		t.Errorf("%d of 1000 inputs had an error; the mix is off", failed)
	}
}

// randomMessage is one message, compressed or not, in one or many frames, with control frames between.
func randomMessage(rnd *rand.Rand) string {
	size := rnd.IntN([]int{10, 200, 70_000}[rnd.IntN(40)/19])
	payload := strings.Repeat("naïve "+euro+"𝄞", size/10+1)[:size]
	for !utf8.ValidString(payload) && rnd.IntN(20) > 0 {
		payload = payload[:len(payload)-1]
	}
	b0 := byte(OpText) + byte(rnd.IntN(2))
	if rnd.IntN(3) == 0 {
		b0, payload = b0|0x40, deflated(payload)
	}
	var out strings.Builder
	for rnd.IntN(3) == 0 {
		cut := rnd.IntN(len(payload) + 1)
		out.WriteString(frame(b0, payload[:cut]))
		b0, payload = 0, payload[cut:]
		switch rnd.IntN(4) {
		case 0:
			out.WriteString(frame(0x89, payload[:min(len(payload), rnd.IntN(126))]))
		case 1:
			out.WriteString(frame(0x8a, ""))
		}
	}
	out.WriteString(frame(b0|0x80, payload))
	return out.String()
}
