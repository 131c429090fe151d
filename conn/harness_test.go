package conn

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/poller"
	"roost/proto/ws"
)

// patience ends a test that hangs; nothing is asserted about time.
const patience = 60 * time.Second

// testKey is the key of RFC 6455 section 1.3, and what it must be answered with.
const (
	testKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	testAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// hooks is a Handler made of functions; those that are nil do nothing.
type hooks struct {
	open    func(c *Conn)
	message func(c *Conn, op ws.Opcode, payload []byte)
	close   func(c *Conn, r Reason, code ws.CloseCode)
}

var _ Handler = (*hooks)(nil)

func (h *hooks) Open(c *Conn) {
	if h.open != nil {
		h.open(c)
	}
}

func (h *hooks) Message(c *Conn, op ws.Opcode, payload []byte) {
	if h.message != nil {
		h.message(c, op, payload)
	}
}

func (h *hooks) Close(c *Conn, r Reason, code ws.CloseCode) {
	if h.close != nil {
		h.close(c, r, code)
	}
}

func echo(c *Conn, op ws.Opcode, payload []byte) { _ = c.Reply(op, payload) }

// journal writes down the calls for a route's connections.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// last returns the last line, "" where there is none.
func (j *journal) last() string {
	if all := j.all(); len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

// record wraps h so that the journal has every call.
func (j *journal) record(h hooks) *hooks {
	return &hooks{
		open: func(c *Conn) { j.add("open"); h.Open(c) },
		message: func(c *Conn, op ws.Opcode, p []byte) {
			j.add("message %.40s", p)
			h.Message(c, op, p)
		},
		close: func(c *Conn, r Reason, code ws.CloseCode) {
			j.add("close %s %d", Label(r), code)
			h.Close(c, r, code)
		},
	}
}

// launch starts a server with a fast clock and returns its address.
func launch(t testing.TB, o Options) (*Server, string) {
	t.Helper()
	if o.Poller.Tick == 0 {
		o.Poller.Tick = 5 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNow(s) })
	addr, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return s, addr.String()
}

// stopNow ends a server; handlers have been told of every end when it returns.
func stopNow(s *Server) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = s.Shutdown(ctx)
}

// one is a server with one route, "/".
func one(t testing.TB, inline bool, h Handler, set ...func(*Options)) (*Server, string) {
	t.Helper()
	o := Options{Routes: []*Route{{Path: "/", Handler: h, Inline: inline}}}
	for _, f := range set {
		f(&o)
	}
	return launch(t, o)
}

func route(s *Server) *Route { return s.routes[0] }

// bothWays runs f for an inline route and for one in the pool.
func bothWays(t *testing.T, f func(t *testing.T, inline bool)) {
	t.Run("inline", func(t *testing.T) { f(t, true) })
	t.Run("pool", func(t *testing.T) { f(t, false) })
}

// client is a WebSocket client that does nothing by itself.
type client struct {
	stream
	t  testing.TB
	br *bufio.Reader
}

// stream is a connection that can be half closed: TCP, one end of a socketpair, TLS.
type stream interface {
	net.Conn
	CloseWrite() error
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, nc)
}

func wrap(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	return &client{nc.(stream), t, bufio.NewReader(nc)}
}

// tcp is the connection of a client that has no other.
func (c *client) tcp() *net.TCPConn { return c.stream.(*net.TCPConn) }

func upgradeRequest(path string, headers ...string) string {
	head := "GET " + path + " HTTP/1.1\r\nHost: roost.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + testKey + "\r\n"
	for _, h := range headers {
		head += h + "\r\n"
	}
	return head + "\r\n"
}

// connect upgrades and checks that it was confirmed.
func connect(t testing.TB, addr, path string, headers ...string) *client {
	t.Helper()
	c := dial(t, addr)
	c.raw(upgradeRequest(path, headers...))
	resp := c.response(http.MethodGet)
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != testAccept {
		t.Fatalf("upgrade answered with %s %v", resp.Status, resp.Header)
	}
	return c
}

// response reads the head of an HTTP response; its body is read from Body.
func (c *client) response(method string) *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

func (c *client) raw(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.stream, s); err != nil {
		c.t.Fatal(err)
	}
}

func masked(op ws.Opcode, payload []byte) []byte {
	return ws.AppendMaskedFrame(nil, op, [4]byte{1, 2, 3, 4}, payload)
}

func text(s string) string { return string(masked(ws.OpText, []byte(s))) }

func closing(code ws.CloseCode) string {
	return string(masked(ws.OpClose, binary.BigEndian.AppendUint16(nil, uint16(code))))
}

// frame is one as it came.
type frame struct {
	op       ws.Opcode
	deflated bool
	payload  []byte
}

func readFrame(r io.Reader) (f frame, err error) {
	var h [10]byte
	if _, err = io.ReadFull(r, h[:2]); err != nil {
		return f, err
	}
	f.op, f.deflated = ws.Opcode(h[0]&0x0f), h[0]&0x40 != 0
	n := uint64(h[1])
	switch n {
	case 126:
		_, err = io.ReadFull(r, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(r, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	if err != nil || n > 64<<20 || h[0]&0xb0 != 0x80 {
		return f, fmt.Errorf("frame header % x: %w", h, err)
	}
	f.payload = make([]byte, n)
	_, err = io.ReadFull(r, f.payload)
	return f, err
}

func (c *client) frame() frame {
	c.t.Helper()
	f, err := readFrame(c.br)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

func (c *client) expect(op ws.Opcode, payload string) {
	c.t.Helper()
	if f := c.frame(); f.op != op || string(f.payload) != payload {
		c.t.Fatalf("got opcode %d %.80q, want %d %.80q", f.op, f.payload, op, payload)
	}
}

// expectClose skips messages and pings up to the close frame, holds its code
// against the one wanted (0: no body) and answers it; then the stream must end.
func (c *client) expectClose(code ws.CloseCode) {
	c.t.Helper()
	f := c.frame()
	for f.op != ws.OpClose {
		f = c.frame()
	}
	var got ws.CloseCode
	if len(f.payload) >= 2 {
		got = ws.CloseCode(binary.BigEndian.Uint16(f.payload))
	}
	if got != code {
		c.t.Fatalf("closed with %d %q, want %d", got, f.payload, code)
	}
	_ = c.CloseWrite()
	c.expectEnd()
}

// expectEnd wants nothing more than the end of the stream.
func (c *client) expectEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.br); err != nil || len(rest) > 0 {
		c.t.Fatalf("read %.80q, error %v, want the end", rest, err)
	}
}

// expectCut wants the connection to be gone, whatever comes before.
func (c *client) expectCut() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c.br)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatal("the connection is still there")
	}
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// onLoop runs f on the connection's loop and waits for it.
func onLoop(t testing.TB, l *poller.Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { f(); close(done) }) {
		t.Fatal("the loop has stopped")
	}
	receive(t, done)
}

// body reads a response's body.
func body(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func repeat(s string, n int) string { return strings.Repeat(s, n) }
