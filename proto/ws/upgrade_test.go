package ws

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const sampleKey = "dGhlIHNhbXBsZSBub25jZQ=="

// sampleHead is a valid upgrade request; an extra line replaces a line of the same name.
func sampleHead(extra ...string) string {
	lines := []string{"Host: example.com", "Upgrade: websocket", "Connection: keep-alive, Upgrade",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + sampleKey}
	for _, line := range extra {
		name, _, _ := strings.Cut(line, ":")
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
	}
	return "GET /echo?x=1 HTTP/1.1\r\n" + strings.Join(append(lines, extra...), "\r\n") + "\r\n\r\n"
}

func handshakeError(t *testing.T, err error, status int, label string) *HandshakeError {
	t.Helper()
	var he *HandshakeError
	if !errors.As(err, &he) {
		t.Fatalf("error is %v, want a HandshakeError %d %s", err, status, label)
	}
	if he.Status != status || he.Label != label {
		t.Fatalf("error is %v, want %d %s", err, status, label)
	}
	return he
}

func TestParseHead(t *testing.T) {
	head := sampleHead()
	for i := range len(head) {
		if r, n, err := ParseHead([]byte(head[:i])); r != nil || n != 0 || err != nil {
			t.Fatalf("first %d bytes: %v, %d, %v; want more to be asked for", i, r, n, err)
		}
	}
	r, n, err := ParseHead([]byte(head + "\x81\x85rest"))
	if err != nil || n != len(head) {
		t.Fatalf("n = %d, err = %v; want %d", n, err, len(head))
	}
	if r.Method != "GET" || r.Host != "example.com" || r.URL.Path != "/echo" || r.URL.RawQuery != "x=1" {
		t.Fatalf("parsed %+v", r)
	}
}

// TestParseHeadRefuses also looks where the refusal comes: after how many bytes of the input, at most.
func TestParseHeadRefuses(t *testing.T) {
	tests := []struct {
		name, in string
		status   int
		label    string
		within   int // bytes; 0: all of them
	}{
		{"tls", "\x16\x03\x01\x02\x00\x01", 400, LabelTLS, 1},
		{"binary", "\x00\x01", 400, LabelMalformed, 1},
		{"blank", " GET / HTTP/1.1\r\n", 400, LabelMalformed, 1},
		{"frame", "\x81\x85", 400, LabelMalformed, 1},
		{"no method end", strings.Repeat("A", 100), 400, LabelMalformed, maxMethod + 1},
		{"empty line first", "\r\nGET / HTTP/1.1\r\n", 400, LabelMalformed, 1},
		{"no version", "GET /\r\nHost", 400, LabelMalformed, 7},
		{"http/0.9", "GET / HTTP/0.9\r\n", 505, LabelHTTPVersion, 0},
		{"http/1.0", strings.Replace(sampleHead(), "HTTP/1.1", "HTTP/1.0", 1), 505, LabelHTTPVersion, 24},
		{"http/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, LabelHTTPVersion, 16},
		{"bare lf", "GET / HTTP/1.1\nHost: a\n\n", 400, LabelMalformed, 15},
		{"bare lf in a header", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400, LabelMalformed, 24},
		{"bare cr", "GET / HTTP/1.1\r\nHost: a\rb: c\r\n\r\n", 400, LabelMalformed, 25},
		{"nul", "GET / HTTP/1.1\r\nHost: a\x00", 400, LabelMalformed, 24},
		{"no host", sampleHead("Host:"), 400, LabelHost, 0},
		{"two hosts", sampleHead("Host: a\r\nHost: b"), 400, LabelHost, 0},
		{"no colon", sampleHead("Nonsense"), 400, LabelMalformed, 0},
		{"space before colon", sampleHead("Key : x"), 400, LabelMalformed, 0},
		{"bad target", strings.Replace(sampleHead(), "/echo", "%zz", 1), 400, LabelMalformed, 0},
		{"length", sampleHead("Content-Length: 5"), 400, LabelBody, 0},
		{"bad length", sampleHead("Content-Length: -5"), 400, LabelMalformed, 0},
		{"chunked", sampleHead("Transfer-Encoding: chunked"), 400, LabelBody, 0},
		{"too big", sampleHead("X: " + strings.Repeat("x", MaxHeadSize)), 431, LabelHeadTooBig, MaxHeadSize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := ParseHead([]byte(tt.in))
			he := handshakeError(t, err, tt.status, tt.label)
			resp := string(he.AppendResponse(nil))
			if !strings.HasPrefix(resp, fmt.Sprintf("HTTP/1.1 %d ", tt.status)) || !strings.Contains(resp, "Connection: close\r\n") {
				t.Errorf("response %q", resp)
			}
			if tt.within > 0 {
				_, _, err := ParseHead([]byte(tt.in[:tt.within]))
				handshakeError(t, err, tt.status, tt.label)
			}
		})
	}
}

func TestHeadSizeLimit(t *testing.T) {
	pad := MaxHeadSize - len(sampleHead("X: "))
	if _, n, err := ParseHead([]byte(sampleHead("X: " + strings.Repeat("x", pad)))); err != nil || n != MaxHeadSize {
		t.Errorf("a head of just MaxHeadSize: n = %d, err = %v", n, err)
	}
	_, _, err := ParseHead([]byte(sampleHead("X: " + strings.Repeat("x", pad+1))))
	handshakeError(t, err, 431, LabelHeadTooBig)
}

func mustParse(t *testing.T, head string) *http.Request {
	t.Helper()
	r, _, err := ParseHead([]byte(head))
	if err != nil || r == nil {
		t.Fatalf("head does not parse: %v", err)
	}
	return r
}

func TestCheckUpgrade(t *testing.T) {
	u, err := CheckUpgrade(mustParse(t, sampleHead("Sec-WebSocket-Protocol: a, b", "UPGRADE: h2c, WebSocket", "Sec-WebSocket-Protocol: c,")))
	if err != nil {
		t.Fatal(err)
	}
	if u.Key != sampleKey || !slices.Equal(u.Protocols, []string{"a", "b", "c"}) || u.Deflate {
		t.Errorf("got %+v", u)
	}
	tests := []struct {
		name, head string
		status     int
		label      string
	}{
		{"post", strings.Replace(sampleHead(), "GET", "POST", 1), 405, LabelMethod},
		{"plain get", sampleHead("Upgrade: ", "Connection: close"), 426, LabelNotUpgrade},
		{"h2c", sampleHead("Upgrade: h2c"), 426, LabelNotUpgrade},
		{"connection", sampleHead("Connection: keep-alive"), 400, LabelNotUpgrade},
		{"connection, like", sampleHead("Connection: upgrades"), 400, LabelNotUpgrade},
		{"version 8", sampleHead("Sec-WebSocket-Version: 8"), 426, LabelVersion},
		{"two versions", sampleHead("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8"), 426, LabelVersion},
		{"no key", strings.Replace(sampleHead(), "Sec-WebSocket-Key", "X", 1), 400, LabelKey},
		{"two keys", sampleHead("Sec-WebSocket-Key: " + sampleKey + "\r\nSec-WebSocket-Key: " + sampleKey), 400, LabelKey},
		{"15 bytes", sampleHead("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), 400, LabelKey},
		{"17 bytes", sampleHead("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE="), 400, LabelKey},
		{"18 bytes", sampleHead("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy"), 400, LabelKey},
		{"no base64", sampleHead("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25?ZQ=="), 400, LabelKey},
		{"protocol", sampleHead("Sec-WebSocket-Protocol: a b"), 400, LabelProtocols},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := CheckUpgrade(mustParse(t, tt.head))
			he := handshakeError(t, err, tt.status, tt.label)
			if tt.label == LabelVersion && !strings.Contains(string(he.AppendResponse(nil)), "\r\nSec-WebSocket-Version: 13\r\n") {
				t.Error("the response does not name version 13")
			}
		})
	}
}

func TestUpgradeResponse(t *testing.T) {
	// The sample of RFC 6455 section 1.3.
	if got := AcceptKey(sampleKey); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("AcceptKey = %s", got)
	}
	const start = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	const ext = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	u := Upgrade{Key: sampleKey}
	if got := string(AppendUpgradeResponse(nil, &u, "", true)); got != start+"\r\n" {
		t.Errorf("plain: %q", got)
	}
	u = Upgrade{Key: sampleKey, Deflate: true, WindowBits: 15}
	if got := string(AppendUpgradeResponse(nil, &u, "chat", true)); got != start+"Sec-WebSocket-Protocol: chat\r\n"+ext+"\r\n\r\n" {
		t.Errorf("deflate: %q", got)
	}
	if got := string(AppendUpgradeResponse(nil, &u, "", false)); got != start+"\r\n" {
		t.Errorf("deflate declined: %q", got)
	}
	u.WindowBits, u.boundWindow = 9, true
	if got := string(AppendUpgradeResponse(nil, &u, "", true)); got != start+ext+"; server_max_window_bits=9\r\n\r\n" {
		t.Errorf("window: %q", got)
	}
	buf := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() { AppendUpgradeResponse(buf, &u, "chat", true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDeflateOffers(t *testing.T) {
	tests := []struct {
		offers string
		bits   uint8 // 0: declined
		bound  bool
	}{
		{"permessage-deflate", 15, false},
		{"PerMessage-Deflate", 15, false},
		{"permessage-deflate; client_max_window_bits", 15, false},
		{"permessage-deflate; client_max_window_bits=8", 15, false},
		{"permessage-deflate;client_no_context_takeover ;\tserver_no_context_takeover", 15, false},
		{"permessage-deflate; server_max_window_bits=9; client_max_window_bits", 9, true},
		{"permessage-deflate; server_max_window_bits=8", 8, true},
		{"permessage-deflate; server_max_window_bits=15", 15, true},
		{`permessage-deflate; server_max_window_bits="10"`, 10, true},
		{"permessage-deflate; Server_Max_Window_Bits = 12", 12, true},
		{"x-webkit-deflate-frame, permessage-deflate", 15, false},
		{`other; p="a,permessage-deflate"`, 0, false},
		{`other; p="a\",b", permessage-deflate`, 15, false},
		{",, permessage-deflate", 15, false},
		// Declined, one by one ...
		{"", 0, false},
		{"permessage-deflate-2", 0, false},
		{"permessage-deflate; server_max_window_bits", 0, false},
		{"permessage-deflate; server_max_window_bits=", 0, false},
		{"permessage-deflate; server_max_window_bits=7", 0, false},
		{"permessage-deflate; server_max_window_bits=16", 0, false},
		{"permessage-deflate; server_max_window_bits=010", 0, false},
		{"permessage-deflate; server_max_window_bits=08", 0, false},
		{"permessage-deflate; server_max_window_bits=+9", 0, false},
		{`permessage-deflate; server_max_window_bits="9`, 0, false},
		{"permessage-deflate; client_max_window_bits=", 0, false},
		{"permessage-deflate; client_max_window_bits=7", 0, false},
		{"permessage-deflate; client_max_window_bits=99999999999999999999", 0, false},
		{"permessage-deflate; server_no_context_takeover=1", 0, false},
		{"permessage-deflate; client_no_context_takeover=", 0, false},
		{"permessage-deflate; client_no_context_takeover; client_no_context_takeover", 0, false},
		{"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", 0, false},
		{"permessage-deflate; unknown", 0, false},
		{"permessage-deflate;", 0, false},
		{"permessage-deflate;;client_max_window_bits", 0, false},
		// ... and with a next offer to fall back on.
		{"permessage-deflate; unknown, permessage-deflate", 15, false},
		{"permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=11", 11, true},
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", 10, true},
	}
	for _, tt := range tests {
		head := sampleHead("Sec-WebSocket-Extensions: " + tt.offers)
		u, err := CheckUpgrade(mustParse(t, head))
		if err != nil {
			t.Errorf("%q: %v", tt.offers, err)
		} else if u.Deflate != (tt.bits > 0) || u.WindowBits != tt.bits || u.boundWindow != tt.bound {
			t.Errorf("%q: got %+v, want bits %d, bound %v", tt.offers, u, tt.bits, tt.bound)
		}
	}
	u, err := CheckUpgrade(mustParse(t, sampleHead("Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: permessage-deflate")))
	if err != nil || !u.Deflate {
		t.Errorf("two header lines: %+v, %v", u, err)
	}
}

func TestCheckOrigin(t *testing.T) {
	tests := []struct {
		origin, host string
		allowed      string // patterns, separated by spaces
		ok           bool
	}{
		{"", "a.com", "", true},
		{"", "a.com", "b.com", true},
		{"https://a.com", "a.com", "", true},
		{"https://A.com", "a.com:443", "", true},
		{"http://a.com:80", "a.com", "", true},
		{"http://a.com:8080", "a.com:8080", "", true},
		{"http://a.com:8080", "a.com", "", false},
		{"https://b.com", "a.com", "", false},
		{"https://a.com.b.com", "a.com", "", false},
		{"https://a.com@b.com", "a.com", "", false},
		{"https://b.com@a.com", "a.com", "", false},
		{"null", "a.com", "", false},
		{"null", "a.com", "null", true},
		{"null", "a.com", "*", true},
		{"garbage://%zz", "a.com", "", false},
		{"https://b.com", "a.com", "*", true},
		{"https://b.com", "a.com", "c.com b.com", true},
		{"https://a.com", "a.com", "b.com", false},
		{"https://b.com", "a.com", "https://b.com", true},
		{"http://b.com", "a.com", "https://b.com", false},
		{"http://b.com", "a.com", "https://*", false},
		{"https://b.com", "a.com", "https://*", true},
		{"https://x.b.com", "a.com", "*.b.com", true},
		{"https://x.y.B.com", "a.com", "*.b.com", true},
		{"https://x.b.com", "a.com", "https://*.b.com", true},
		{"https://b.com", "a.com", "*.b.com", false},
		{"https://xb.com", "a.com", "*.b.com", false},
		{"https://.b.com", "a.com", "*.b.com", false},
		{"http://b.com:8080", "a.com", "b.com", false},
		{"http://b.com:8080", "a.com", "b.com:8080", true},
		{"https://b.com", "a.com", "https://b.com:443", true},
		{"", "a.com", "", true},
	}
	for _, tt := range tests {
		r := &http.Request{Host: tt.host, Header: http.Header{}}
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		err := CheckOrigin(r, strings.Fields(tt.allowed))
		if tt.ok && err != nil {
			t.Errorf("origin %q, host %q, allowed %q: %v", tt.origin, tt.host, tt.allowed, err)
		} else if !tt.ok {
			handshakeError(t, err, 403, LabelOrigin)
		}
	}
	err := CheckOrigin(&http.Request{Host: "a.com", Header: http.Header{"Origin": {"http://a.com", "http://b.com"}}}, nil)
	handshakeError(t, err, 403, LabelOrigin)
}
