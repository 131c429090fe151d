package emulation

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"roost/gateway"
)

// What decides on a WebSocket's upgrade decides on a stream, with the same answer.
func TestUpgradeAuth(t *testing.T) {
	g := start(t, func(o *settings) {
		o.node.UpgradeAuth, o.node.TokenQuery, o.node.TokenCookie = true, "token", "session"
	})
	for _, c := range []struct {
		query, header string
		status        int
	}{
		{"", "", 401}, {"&token=nonsense", "", 401}, {"", "Authorization: Bearer nonsense", 401},
		{"&token=" + token(t, "ann"), "", 200}, {"", "Authorization: Bearer " + token(t, "ann"), 200}, {"", "Cookie: session=" + token(t, "ann"), 200},
	} {
		var headers []string
		if c.header != "" {
			headers = append(headers, c.header)
		}
		res := g.do(http.MethodGet, PathSSE+`?cf_connect=%7B%22id%22:1,%22connect%22:%7B%7D%7D`+c.query, nil, headers...)
		if res.StatusCode != c.status {
			t.Errorf("%q %q: %d, want %d", c.query, c.header, res.StatusCode, c.status)
		}
		if c.status != 200 {
			if _, text := g.answer(res); !strings.HasPrefix(text, "401 Unauthorized: ") || strings.Count(text, "401") != 1 {
				t.Errorf("%q %q: %q", c.query, c.header, text)
			}
			continue
		}
		stream := &emulated{t: t, g: g, res: res, in: bufio.NewReader(res.Body), events: true}
		if m := stream.next(); m.Connect == nil {
			t.Errorf("%+v", m)
		}
	}
	if _, err := g.BlockUser(t.Context(), &gateway.BlockUserRequest{User: "bob"}); err != nil {
		t.Fatal(err)
	}
	res := g.do(http.MethodPost, PathHTTPStream, strings.NewReader(connectCommand(t, "")), "Authorization: Bearer "+token(t, "bob"))
	if res.StatusCode != 403 {
		t.Errorf("blocked: %d", res.StatusCode)
	}
	if got := g.emulation.Stats().Refused["handshake"]; got != 4 {
		t.Errorf("refused %d", got)
	}
}

// upgrade asks for a WebSocket with more header lines and returns the answer's head.
func (g *testGateway) upgrade(lines ...string) *http.Response {
	g.t.Helper()
	nc, err := net.Dial("tcp", strings.TrimPrefix(g.addr, "http://"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = nc.Close() })
	fmt.Fprintf(nc, "GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n\r\n", key, strings.Join(lines, "\r\n"))
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return res
}

// Nobody from outside can pass for an emulated client, not even one who knows a session.
func TestForgedSession(t *testing.T) {
	g := start(t, nil)
	c := g.connected(gateway.TransportSSE, "ann")
	for _, line := range []string{"Roost-Session: " + c.session, "Roost-Session: x", "Roost-Session:", "roost-session: " + c.session + "\r\nRoost-Session: y"} {
		if res := g.upgrade(line); res.StatusCode != 403 {
			t.Errorf("%q: %d", line, res.StatusCode)
		}
	}
	other := g.connected(gateway.TransportHTTPStream, "bob", "Roost-Session: "+c.session)
	if other.session == c.session {
		t.Error("two clients have one session")
	}
	if got := g.conns.Stats().HandshakeErrors["forged_session"]; got != 4 {
		t.Errorf("%d forged", got)
	}
	if res := g.upgrade("X: y"); res.StatusCode != 101 {
		t.Errorf("a WebSocket: %d", res.StatusCode)
	}
}

// A client that reads nothing is cut by the rule for all that read too slowly.
func TestSlowReader(t *testing.T) {
	for _, transport := range transports {
		g := start(t, func(o *settings) { o.node.QueueLimit, o.conns.Poller.SendBuffer = 64<<10, 16<<10 })
		c := g.connected(transport, "")
		c.ok(`{"subscribe":{"channel":"ch"}}`)
		data := `"` + strings.Repeat("x", 32<<10) + `"`
		eventually(t, "the slow client is cut", func() bool {
			g.publish("ch", data)
			return g.conns.Stats().Closed["slow_consumer"] == 1
		})
		if n, err := io.Copy(io.Discard, c.in); n == 0 || err != nil && !strings.Contains(err.Error(), "EOF") {
			t.Errorf("%s: %d bytes, %v", transport, n, err)
		}
		eventually(t, "the stream has ended", func() bool { return g.emulation.Stats().Streams == 0 })
	}
}

// Whoever does not finish a request loses the connection.
func TestSlowRequests(t *testing.T) {
	g := start(t, func(o *settings) { o.emulation.RequestTimeout = 50 * time.Millisecond })
	for _, text := range []string{
		"GET /connection/sse?cf_connect= HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"POST /emulation HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
		"POST /connection/http_stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
	} {
		nc, err := net.Dial("tcp", strings.TrimPrefix(g.addr, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, text)
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(nc)
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 408") && len(b) > 0 {
			t.Errorf("%.40q: %q, %v", text, b, err)
		}
	}
	eventually(t, "the connections have gone", func() bool { return g.emulation.Stats().Connections == 0 })
}

// Connections that do nothing are bounded, too.
func TestTooManyConnections(t *testing.T) {
	g := start(t, func(o *settings) { o.emulation.MaxClients = 1 })
	var last string
	for range connectionsPerClient + connectionsBesides + 1 {
		nc, err := net.Dial("tcp", strings.TrimPrefix(g.addr, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, "POST /emulation HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		last, err = bufio.NewReader(nc).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(last, " 503 ") || g.emulation.Stats().Refused["connections"] != 1 {
		t.Errorf("%q, refused %v", last, g.emulation.Stats().Refused)
	}
}

// A session that takes no commands does not keep requests waiting without bound.
func TestBusySession(t *testing.T) {
	g := start(t, nil)
	c := g.connected(gateway.TransportHTTPStream, "")
	st := &stream{server: g.emulation}
	st.waiting.Store(maxWaiting)
	if err := st.deliver(nil); err != gateway.ErrSessionBusy || st.waiting.Load() != maxWaiting {
		t.Errorf("%v, %d wait", err, st.waiting.Load())
	}
	c.ok(`{"presence":{"channel":"a"}}`)
}
