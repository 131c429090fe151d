package poller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience ends a test that hangs; nothing is asserted about time.
const patience = 60 * time.Second

// hooks is a Handler made of functions; those that are nil do nothing.
type hooks struct {
	open    func(l *Loop, c *Conn)
	data    func(l *Loop, c *Conn, b []byte)
	eof     func(l *Loop, c *Conn) bool
	blocked func(l *Loop, c *Conn, pending int)
	due     func(l *Loop, c *Conn)
	closed  func(l *Loop, c *Conn, r Reason)
}

type testHandler struct {
	l *Loop
	h *hooks
	t testing.TB
}

var _ Handler = (*testHandler)(nil)

func (h *testHandler) Open(c *Conn) {
	checkLoop(h.t, h.l)
	if h.h.open != nil {
		h.h.open(h.l, c)
	}
}

func (h *testHandler) Data(c *Conn, b []byte) {
	checkLoop(h.t, h.l)
	if h.h.data != nil {
		h.h.data(h.l, c, b)
	}
}

func (h *testHandler) EOF(c *Conn) bool {
	checkLoop(h.t, h.l)
	return h.h.eof != nil && h.h.eof(h.l, c)
}

func (h *testHandler) Blocked(c *Conn, pending int) {
	if h.h.blocked != nil {
		h.h.blocked(h.l, c, pending)
	}
}

func (h *testHandler) Due(c *Conn) {
	if h.h.due != nil {
		h.h.due(h.l, c)
	}
}

func (h *testHandler) Closed(c *Conn, r Reason) {
	if h.h.closed != nil {
		h.h.closed(h.l, c, r)
	}
}

// launch starts a poller without a clock worth the name, so that a lost wake-up
// is not healed by the next tick.
func launch(t testing.TB, o Options, h hooks) *Poller {
	t.Helper()
	if o.Loops == 0 {
		o.Loops = 2
	}
	if o.Tick == 0 {
		o.Tick = time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Handler = func(l *Loop) Handler { return &testHandler{l: l, h: &h, t: t} }
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNow(p) })
	return p
}

func stopNow(p *Poller) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.Stop(ctx)
}

func listen(t testing.TB, p *Poller) string {
	t.Helper()
	addr, err := p.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return addr.String()
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = nc.Close() })
	return nc.(*net.TCPConn)
}

// dialServed returns a client and the server's connection of it.
func dialServed(t testing.TB, addr string, opened <-chan *Conn) (*net.TCPConn, *Conn) {
	t.Helper()
	nc := dial(t, addr)
	return nc, receive(t, opened)
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

// onLoop runs f on c's loop and waits for it.
func onLoop(t testing.TB, l *Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { f(); close(done) }) {
		t.Fatal("loop has stopped")
	}
	receive(t, done)
}

// stream is an endless reproducible sequence of bytes.
type stream struct{ r *rand.ChaCha8 }

func newStream(seed uint64) *stream {
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	return &stream{rand.NewChaCha8(key)}
}

func (s *stream) next(n int) []byte {
	b := make([]byte, n)
	_, _ = s.r.Read(b)
	return b
}

// expect reads n bytes of the stream and compares them.
func expect(r io.Reader, s *stream, n int) error {
	for done := 0; done < n; {
		b := make([]byte, min(n-done, 64<<10))
		if _, err := io.ReadFull(r, b); err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", done, n, err)
		}
		if !bytes.Equal(b, s.next(len(b))) {
			return fmt.Errorf("wrong bytes within %d to %d of %d", done, done+len(b), n)
		}
		done += len(b)
	}
	return nil
}

// expectBytes reads exactly want.
func expectBytes(t testing.TB, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(r, got)
	if err != nil {
		t.Fatalf("after %d of %d bytes: %v", n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %.80q, want %.80q", got, want)
	}
}

func expectEOF(t testing.TB, r io.Reader) {
	t.Helper()
	n, err := r.Read(make([]byte, 1))
	if n != 0 || err != io.EOF {
		t.Fatalf("read %d bytes, error %v, want the end", n, err)
	}
}

// gone tells whether err is what a client sees of a connection that was cut.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// crowd runs f for n clients at once and reports their errors.
func crowd(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := f(i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// echo answers by all the ways there are to write.
func echo(l *Loop, c *Conn, b []byte) {
	switch b[0] % 4 {
	case 0:
		_, _ = l.Write(c, b[:1], b[1:], false)
	case 1:
		_, _ = l.Write(c, nil, b, len(b)%2 == 0)
	case 2:
		_, _ = c.Write(b[:len(b)/2], b[len(b)/2:])
	case 3:
		_, _ = l.Push(c, bytes.Clone(b))
	}
}
