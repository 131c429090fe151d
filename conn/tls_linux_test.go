//go:build linux && !portable

package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"roost/internal/testcert"
	"roost/poller/ktls"
	"roost/proto/ws"
)

// These tests run with crypto/tls here, whatever the kernel, and once more with the kernel in a guest, see
// scripts/ktls-guest.sh.

var testCertificate = sync.OnceValue(func() tls.Certificate {
	certificate, key, err := testcert.New(time.Now().Add(time.Hour), "roost.test")
	if err != nil {
		panic(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		panic(err)
	}
	return pair
})

// secure is one with a TLS address besides, which it returns.
func secure(t testing.TB, inline bool, h Handler, o ktls.Options, set ...func(*Options)) (*Server, string) {
	t.Helper()
	s, _ := one(t, inline, h, set...)
	o.Config = &tls.Config{Certificates: []tls.Certificate{testCertificate()}}
	o.NoKernel = o.NoKernel || !kernelTLS
	addr, err := s.ListenTLS("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	return s, addr.String()
}

func dialTLS(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, nc)
}

func connectTLS(t testing.TB, addr string) *client {
	t.Helper()
	c := dialTLS(t, addr)
	c.raw(upgradeRequest("/"))
	if resp := c.response(http.MethodGet); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	return c
}

// noRelays waits until nothing is left of the sessions in user space.
func noRelays(t testing.TB, s *Server) {
	t.Helper()
	eventually(t, "no session is left", func() bool { return s.Stats().TLS.Fallback == 0 && s.Stats().Poller.Open == 0 })
	s.tls.ended.Wait()
}

func outcome(t testing.TB, s *Server, label string, n uint64) {
	t.Helper()
	eventually(t, label, func() bool { return s.Stats().TLS.Handshakes[label] == n })
}

// TestTLS: what clients without TLS can do those with it can, and streams end with close_notify.
func TestTLS(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		remotes := make(chan netip.AddrPort, 1)
		s, addr := secure(t, inline, &hooks{message: echo, open: func(c *Conn) {
			if inline {
				remotes <- c.RemoteAddr()
			}
		}}, ktls.Options{})
		c := connectTLS(t, addr)
		if inline {
			if got := receive(t, remotes).String(); got != c.LocalAddr().String() {
				t.Errorf("remote address %s, want %s", got, c.LocalAddr())
			}
		}
		for _, size := range []int{0, 1, 4 << 10, 16 << 10, 1 << 20} {
			m := repeat("m", size)
			go c.raw(text(m))
			c.expect(ws.OpText, m)
		}
		c.raw(text("last") + closing(ws.CloseNormal))
		c.expect(ws.OpText, "last")
		c.expectClose(ws.CloseNormal)
		noRelays(t, s)
		outcome(t, s, carriedBy, 1)
	})
}

// TestTLSBlocked: a client that does not read is pushed back on, and one that is not read likewise; nothing is lost.
func TestTLSBlocked(t *testing.T) {
	const messages, size = 64, 64 << 10
	conns := make(chan *Conn, 1)
	got := make(chan string, messages)
	s, addr := secure(t, true, &hooks{
		open:    func(c *Conn) { c.Pause(); conns <- c },
		message: func(_ *Conn, _ ws.Opcode, p []byte) { got <- string(p[:1]) },
	}, ktls.Options{}, func(o *Options) { o.HardLimit, o.SoftLimit = messages*size*2, messages*size*2 })
	c := connectTLS(t, addr)
	server := receive(t, conns)
	var sent sync.WaitGroup
	sent.Go(func() {
		for i := range messages {
			c.raw(text(repeat(string(rune('0'+i)), size)))
		}
	})
	for i := range messages {
		if err := server.Send(ws.OpText, []byte(repeat(string(rune('0'+i)), size))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the socket is full", func() bool { return s.Stats().Poller.Blocked > 0 })
	for i := range messages {
		c.expect(ws.OpText, repeat(string(rune('0'+i)), size))
	}
	server.Resume()
	for i := range messages {
		if first := receive(t, got); first != string(rune('0'+i)) {
			t.Fatalf("message %d begins with %s", i, first)
		}
	}
	sent.Wait()
	_ = c.Close()
	noRelays(t, s)
}

// TestTLSEnds: each end of a stream is told to the other side, and nothing is left.
func TestTLSEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(c *client, server *Conn)
		want string // in the journal
		seen error  // by the client
	}{
		"close_notify":      {func(c *client, _ *Conn) { _ = c.CloseWrite() }, "close peer_gone 1006", nil},
		"end without it":    {func(c *client, _ *Conn) { _ = c.stream.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite() }, "close peer_gone 1006", nil},
		"reset":             {func(c *client, _ *Conn) { reset(c) }, "", net.ErrClosed},
		"cut by the server": {func(_ *client, server *Conn) { server.Cut() }, "close application 1006", nil},
		"bad record": {func(c *client, _ *Conn) {
			_, _ = c.stream.(*tls.Conn).NetConn().Write(append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...))
		}, "", tls.AlertError(20)},
		"clear text": {func(c *client, _ *Conn) {
			_, _ = c.stream.(*tls.Conn).NetConn().Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		}, "", clearTextAlert},
	} {
		t.Run(name, func(t *testing.T) {
			j := new(journal)
			conns := make(chan *Conn, 1)
			s, addr := secure(t, true, j.record(hooks{open: func(c *Conn) { conns <- c }}), ktls.Options{})
			c := connectTLS(t, addr)
			tc.end(c, receive(t, conns))
			switch _, err := io.Copy(io.Discard, c.br); want := tc.seen.(type) {
			case nil:
				if err != nil {
					t.Error("the client read", err)
				}
			case tls.AlertError:
				if kernelTLS && errors.Is(err, syscall.ECONNRESET) {
					break // what the kernel could not read makes it reset, which may overtake the alert
				}
				if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(want.Error(), "tls: ")) {
					t.Errorf("the client read %v, want %v", err, want)
				}
			default:
				if !errors.Is(err, want) {
					t.Error("the client read", err)
				}
			}
			eventually(t, "the handler is told", func() bool { return strings.HasPrefix(j.last(), "close") })
			if tc.want != "" && j.last() != tc.want {
				t.Errorf("%q, want %q", j.last(), tc.want)
			}
			noRelays(t, s)
		})
	}
}

func reset(c *client) {
	nc := c.stream.(*tls.Conn).NetConn().(*net.TCPConn)
	_ = nc.SetLinger(0)
	_ = nc.Close()
}

// TestTLSHalfClosed: answers still reach a client that has sent its close_notify.
func TestTLSHalfClosed(t *testing.T) {
	gate := make(chan struct{})
	s, addr := secure(t, false, &hooks{message: func(c *Conn, op ws.Opcode, p []byte) { <-gate; echo(c, op, p) }}, ktls.Options{})
	c := connectTLS(t, addr)
	c.raw(text("asked"))
	_ = c.CloseWrite()
	eventually(t, "the end is known", func() bool { return s.Stats().Poller.BytesIn > 0 && s.Stats().WorkersBusy == 1 })
	close(gate)
	c.expect(ws.OpText, "asked")
	c.expectEnd()
	noRelays(t, s)
}

// TestTLSSlow: a client that takes nothing loses its session in user space as it loses its connection.
func TestTLSSlow(t *testing.T) {
	conns := make(chan *Conn, 1)
	s, addr := secure(t, true, &hooks{open: func(c *Conn) { conns <- c }}, ktls.Options{}, func(o *Options) {
		o.HardLimit, o.Poller.SendBuffer = 64<<10, 16<<10
		o.PingInterval, o.PongTimeout = 300*time.Millisecond, 100*time.Millisecond
	})
	connectTLS(t, addr)
	c := receive(t, conns)
	for c.Send(ws.OpBinary, make([]byte, 64<<10)) == nil {
	}
	noRelays(t, s)
}

// TestTLSHostile: what is no TLS, or not all of it, is answered or ends, and is counted.
func TestTLSHostile(t *testing.T) {
	s, addr := secure(t, true, &hooks{}, ktls.Options{Timeout: patience, MaxHandshakes: 4},
		func(o *Options) { o.HandshakeTimeout = patience })
	refused := func(label string) {
		t.Helper()
		eventually(t, label, func() bool { return s.Stats().HandshakeErrors[label] == 1 })
	}
	c := dial(t, addr)
	c.raw("GET / HTTP/1.1\r\nHost: roost.test\r\n\r\n")
	if resp := c.response(http.MethodGet); resp.StatusCode != 400 || !strings.Contains(body(t, resp), "wss://") {
		t.Error("plain HTTP was answered with", resp.Status)
	}
	refused("plain_http")
	c = dial(t, addr)
	c.raw("\x00\x01\x02")
	c.expectCut()
	refused("no_tls")
	c = dial(t, addr)
	c.raw("\x16\x03\x01\x00\x05hello")
	c.expectCut()
	outcome(t, s, "failed", 1)
	c = dial(t, addr) // a ClientHello of 16 MiB, in whole records
	record := append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 1<<14)...)
	copy(record[5:], []byte{1, 0xff, 0xff, 0xff})
	for range 8 {
		_, _ = c.Write(record)
	}
	c.expectCut()
	outcome(t, s, "failed", 2)
	if _, err := tls.Dial("tcp", addr, &tls.Config{ServerName: "other.test"}); err == nil { // does not trust it
		t.Error("an unknown certificate was trusted")
	}
	outcome(t, s, "failed", 3)
	if _, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was agreed on")
	}
	outcome(t, s, "failed", 4)
	dialTLS(t, addr).raw(upgradeRequest("/") + closing(ws.CloseNormal))
	outcome(t, s, carriedBy, 1)
	noRelays(t, s)
	if n := s.Stats().TLS.InFlight; n != 0 {
		t.Errorf("%d handshakes are in flight", n)
	}
}

// TestTLSLate: who says nothing, or half of what a handshake begins with, is let go. Its deadlines are too short for a
// handshake on a busy machine, so the test makes none.
func TestTLSLate(t *testing.T) {
	s, addr := secure(t, true, &hooks{}, ktls.Options{Timeout: 200 * time.Millisecond, MaxHandshakes: 4},
		func(o *Options) { o.HandshakeTimeout = 300 * time.Millisecond })
	dial(t, addr).expectCut()
	eventually(t, "late", func() bool { return s.Stats().Closed[Label(ReasonHandshakeLate)] == 1 })
	hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	for i, part := range []string{hello[:1], hello} {
		c := dial(t, addr)
		c.raw(part)
		c.expectCut()
		outcome(t, s, "timeout", uint64(i+1))
	}
	noRelays(t, s)
}

// TestTLSBusy: half a handshake keeps those of other clients of its address out, as many as there may be, and no
// longer than it lasts.
func TestTLSBusy(t *testing.T) {
	s, addr := secure(t, true, &hooks{message: echo}, ktls.Options{Timeout: patience, MaxPerAddress: 1},
		func(o *Options) { o.HandshakeTimeout = patience })
	half := dial(t, addr)
	half.raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	eventually(t, "a handshake is in flight", func() bool { return s.Stats().TLS.InFlight == 1 })
	other := dial(t, addr)
	other.raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	other.expectCut()
	outcome(t, s, "busy", 1)
	_ = half.Close()
	eventually(t, "it has ended", func() bool { return s.Stats().TLS.InFlight == 0 })
	c := connectTLS(t, addr)
	c.raw(text("x"))
	c.expect(ws.OpText, "x")
	_ = c.Close()
	noRelays(t, s)
}

// TestTLSFull: more sessions than crypto/tls may carry are refused, which the log is told once.
func TestTLSFull(t *testing.T) {
	logged := new(journal)
	s, addr := secure(t, true, &hooks{message: echo}, ktls.Options{MaxFallback: 1, NoKernel: true}, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) { logged.add("%.60s", strings.Split(string(p), "msg=")[1]) }), nil))
	})
	first := connectTLS(t, addr)
	for range 2 {
		dialTLS(t, addr).expectCut()
	}
	outcome(t, s, "full", 2)
	if all := logged.all(); len(all) != 1 || !strings.Contains(all[0], "turned away") {
		t.Errorf("logged %q", all)
	}
	first.raw(closing(ws.CloseNormal))
	first.expectClose(ws.CloseNormal)
	noRelays(t, s)
	connectTLS(t, addr).raw(text("again"))
	outcome(t, s, "fallback", 2)
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// TestTLSShutdown: clients are told by close frame and close_notify, handshakes end.
func TestTLSShutdown(t *testing.T) {
	s, addr := secure(t, true, &hooks{message: echo}, ktls.Options{})
	half := dial(t, addr)
	half.raw("\x16\x03\x01")
	eventually(t, "in flight", func() bool { return s.Stats().TLS.InFlight == 1 })
	silent := dial(t, addr)
	open := connectTLS(t, addr)
	fresh := dialTLS(t, addr)
	outcome(t, s, carriedBy, 2)
	stopped := make(chan struct{})
	go func() { stopNow(s); close(stopped) }()
	open.expectClose(ws.CloseGoingAway)
	fresh.expectEnd()
	half.expectCut()
	silent.expectCut()
	receive(t, stopped)
	noRelays(t, s)
}

// TestTLSHand: a request by TLS reaches another server, which knows the client's address.
func TestTLSHand(t *testing.T) {
	s, _ := handing(t)
	addr, err := s.ListenTLS("127.0.0.1:0", ktls.Options{NoKernel: !kernelTLS, Config: &tls.Config{Certificates: []tls.Certificate{testCertificate()}}})
	if err != nil {
		t.Fatal(err)
	}
	c := dialTLS(t, addr.String())
	for range 2 {
		c.raw("POST /http HTTP/1.1\r\nHost: roost.test\r\nContent-Length: 4\r\n\r\nbody")
		got, err := io.ReadAll(c.response(http.MethodPost).Body)
		if want := "POST /http " + c.LocalAddr().String() + " body <nil>"; err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	_ = c.CloseWrite()
	c.expectEnd()
	noRelays(t, s)
}
