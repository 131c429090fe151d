package loadtest

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roost/proto/ws"
)

// TestMain lets the test binary be its own child process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ChildCommand {
		if Child(os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testServer echoes, or broadcasts below /broadcast, and misbehaves where a test sets so before it starts.
type testServer struct {
	// Static after start.
	echo    func(n int64, payload []byte) [][]byte // what the n-th message of all is answered with; nil: itself
	deliver func(c *serverConn, payload []byte) [][]byte
	refuse  bool
	accept  string // a Sec-WebSocket-Accept of its own
	cut     int64  // end the connection at the n-th message of all; 0 never
	deflate bool
	split   bool // send each frame in pieces

	messages, upgrades, pongs, closes atomic.Int64

	// Guarded by mu.
	mu    sync.Mutex
	conns map[*serverConn]bool
}

// serverConn is the server's end. Writes are guarded by the server's mu.
type serverConn struct {
	net.Conn
	seen  int64
	held  [][]byte
	sends bool // has sent a message
}

// start returns the ws:// address.
func (s *testServer) start(t *testing.T) string {
	t.Helper()
	s.conns = map[*serverConn]bool{}
	h := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		h.Close()
	})
	return "ws" + strings.TrimPrefix(h.URL, "http")
}

func (s *testServer) serve(w http.ResponseWriter, r *http.Request) {
	u, err := ws.CheckUpgrade(r)
	if s.refuse || err != nil {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	s.upgrades.Add(1)
	head := string(ws.AppendUpgradeResponse(nil, &u, "", s.deflate))
	if s.accept != "" {
		head = strings.Replace(head, ws.AcceptKey(u.Key), s.accept, 1)
	}
	c := &serverConn{Conn: conn}
	s.mu.Lock()
	s.conns[c] = true
	s.write(c, []byte(head+string(ws.AppendFrame(nil, ws.OpPing, []byte("hi")))))
	s.mu.Unlock()
	s.read(c, rw.Reader, strings.HasPrefix(r.URL.Path, "/broadcast"), s.deflate && u.Deflate)
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	conn.Close()
}

func (s *testServer) read(c *serverConn, in *bufio.Reader, broadcast, deflate bool) {
	var d ws.Decoder
	lim := ws.Limits{MaxFrame: 1 << 24, MaxMessage: 1 << 24}
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) > 0; {
			e, used, ok, err := d.Next(&lim, deflate, b)
			if err != nil {
				return
			}
			b = b[used:]
			if ok && !s.handle(c, e, broadcast) {
				return
			}
		}
	}
}

func (s *testServer) handle(c *serverConn, e ws.Event, broadcast bool) bool {
	switch e.Op {
	case ws.OpPong:
		if string(e.Payload) == "hi" {
			s.pongs.Add(1)
		}
		return true
	case ws.OpClose:
		s.closes.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.write(c, ws.AppendClose(nil, e.Code, ""))
		return false
	}
	n := s.messages.Add(1)
	if n == s.cut {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.sends = true
	if !broadcast {
		answers := [][]byte{e.Payload}
		if s.echo != nil {
			answers = s.echo(n, e.Payload)
		}
		s.send(c, answers)
		return true
	}
	for to := range s.conns {
		answers := [][]byte{e.Payload}
		if s.deliver != nil {
			answers = s.deliver(to, e.Payload)
		}
		s.send(to, answers)
	}
	return true
}

func (s *testServer) send(c *serverConn, payloads [][]byte) {
	for _, p := range payloads {
		s.write(c, ws.AppendFrame(nil, ws.OpBinary, p))
	}
}

func (s *testServer) write(c *serverConn, b []byte) {
	c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if s.split {
		for i := range b {
			c.Write(b[i : i+1])
		}
		return
	}
	c.Write(b)
}

// noProgress shows nothing.
type noProgress struct{}

func (noProgress) Begin(string, int64)  {}
func (noProgress) Update(int64, string) {}
func (noProgress) End()                 {}

// options are what the command line would fill in.
func options(s Scenario, url string) Options {
	return Options{
		Scenario: s, URL: url, Connections: 8, Duration: time.Minute, Messages: 200, Size: 128,
		ConnectParallel: 16, Threads: 1, Timeout: 500 * time.Millisecond, Steps: 4,
		Hold: new(time.Duration),
	}
}

func mustRun(t *testing.T, ctx context.Context, o Options) *Result {
	t.Helper()
	r, err := Run(ctx, o, "roost-load test", noProgress{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
