//go:build linux && !portable

package conn

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"roost/poller"
	"roost/poller/ktls"
	"roost/proto/ws"
)

// pair returns one end of a socketpair as a descriptor, the other as a client.
func pair(t *testing.T) (fd int, other net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	other, err = ktls.Conn(fds[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	return fds[0], other
}

var far = netip.MustParseAddrPort("198.51.100.7:4711")

// upgraded talks WebSocket over any connection.
func upgraded(t *testing.T, nc net.Conn) *client {
	t.Helper()
	c := wrap(t, nc)
	c.raw(upgradeRequest("/"))
	if resp := c.response(http.MethodGet); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	return c
}

// TestAdopt: one end of a socketpair is a client like others, with the address it was given.
func TestAdopt(t *testing.T) {
	var remote netip.AddrPort
	closed := make(chan Reason, 1)
	s, _ := one(t, true, &hooks{
		open: func(c *Conn) { remote = c.RemoteAddr() },
		message: func(c *Conn, op ws.Opcode, p []byte) {
			if c.RemoteAddr() != remote {
				t.Error("the address has changed")
			}
			echo(c, op, p)
		},
		close: func(_ *Conn, r Reason, _ ws.CloseCode) { closed <- r },
	}, func(o *Options) { o.Poller.SendBuffer = 64 << 10 })
	for _, want := range []netip.AddrPort{far, {}} {
		fd, other := pair(t)
		if err := s.Adopt(fd, want); err != nil {
			t.Fatal(err)
		}
		c := upgraded(t, other)
		long := repeat("x", 300<<10) // more than the pair holds
		go c.raw(text("short") + text(long))
		c.expect(ws.OpText, "short")
		c.expect(ws.OpText, long)
		if remote != want {
			t.Errorf("remote address %v, want %v", remote, want)
		}
		c.raw(closing(ws.CloseNormal))
		c.expectClose(ws.CloseNormal)
		if r := receive(t, closed); r != ReasonPeerClosed {
			t.Error(Label(r))
		}
	}
	for _, h := range s.loops {
		onLoop(t, h.loop, func() {
			if len(h.remotes) > 0 {
				t.Error("addresses of clients that have gone are kept")
			}
		})
	}
}

// TestAdoptRefused: the descriptor is closed with every error.
func TestAdoptRefused(t *testing.T) {
	s, addr := one(t, true, &hooks{}, func(o *Options) { o.Poller.MaxConns = 1 })
	file, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Adopt(file, far); err == nil {
		t.Error("/dev/null was adopted")
	}
	if _, err := unix.FcntlInt(uintptr(file), unix.F_GETFD, 0); err != unix.EBADF {
		t.Error("the descriptor is still open")
	}
	connect(t, addr, "/")
	refused := func(want error) {
		t.Helper()
		fd, other := pair(t)
		if err := s.Adopt(fd, far); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if n, err := other.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("the other end read %d, %v", n, err)
		}
	}
	refused(poller.ErrFull)
	stopNow(s)
	refused(poller.ErrStopped)
}

// TestAdoptSpreads: of a burst each loop gets its share.
func TestAdoptSpreads(t *testing.T) {
	s, _ := one(t, true, &hooks{}, func(o *Options) { o.Poller.Loops = 4 })
	for range 40 {
		fd, _ := pair(t)
		if err := s.Adopt(fd, far); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range s.loops {
		onLoop(t, h.loop, func() {
			if n := h.loop.Live(); n < 8 || n > 12 { // they move while a place is looked for
				t.Errorf("loop %d has %d of 40", h.loop.Index(), n)
			}
		})
	}
}

// handing is a server that hands what begins with /http to net/http.
func handing(t *testing.T) (*Server, string) {
	l := make(handedListener)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %v", r.Method, r.URL.Path, r.RemoteAddr, b, err)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return one(t, true, &hooks{message: echo}, func(o *Options) {
		o.Routes = append(o.Routes, &Route{Path: "/http/route", Handler: &hooks{message: echo}, Inline: true})
		o.HandPaths, o.Hand = []string{"/http"}, func(nc net.Conn) { l <- nc }
	})
}

type handedListener chan net.Conn

func (l handedListener) Accept() (net.Conn, error) {
	if nc, ok := <-l; ok {
		return nc, nil
	}
	return nil, net.ErrClosed
}

func (l handedListener) Close() error {
	close(l)
	return nil
}

func (l handedListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestHand: requests to some paths are another server's from their first byte on, with bodies, keep-alive, and however they
// are cut.
func TestHand(t *testing.T) {
	s, addr := handing(t)
	body := repeat("b", 100<<10)
	request := "POST /http/x?y=/ HTTP/1.1\r\nHost: roost.test\r\nContent-Length: 102400\r\n\r\n" + body
	for _, cut := range []int{0, 1, 10, len("POST /http/x?y=/ HTTP/1.1\r"), 60, len(request) - 1} {
		c := dial(t, addr)
		from := c.LocalAddr().String()
		exchange := func(parts ...string) {
			t.Helper()
			for _, p := range parts {
				reads := s.Stats().Poller.Reads
				c.raw(p)
				if cut > 0 && cut < 30 {
					eventually(t, "read", func() bool { return s.Stats().Poller.Reads > reads })
					cut = 0
				}
			}
			resp := c.response(http.MethodPost)
			got, err := io.ReadAll(resp.Body)
			if want := "POST /http/x " + from + " " + body + " <nil>"; err != nil || string(got) != want {
				t.Errorf("got %.60q, %v; want %.60q", got, err, want)
			}
		}
		exchange(request[:cut], request[cut:])
		exchange(request)
	}
	eventually(t, "all left the loops", func() bool { return s.Stats().Poller.Open == 0 })
	if n := s.Stats().Closed["detached"]; n != 6 {
		t.Errorf("%d detached, want 6", n)
	}
}

// TestHandAdopted: a client that came by Adopt keeps its address.
func TestHandAdopted(t *testing.T) {
	s, _ := handing(t)
	fd, other := pair(t)
	if err := s.Adopt(fd, far); err != nil {
		t.Fatal(err)
	}
	c := wrap(t, other)
	c.raw("GET /http HTTP/1.1\r\nHost: roost.test\r\n\r\n")
	got, err := io.ReadAll(c.response(http.MethodGet).Body)
	if want := "GET /http " + far.String() + "  <nil>"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// TestHandNot: routes, other paths and what is no request are not handed over.
func TestHandNot(t *testing.T) {
	_, addr := handing(t)
	for head, want := range map[string]int{
		upgradeRequest("/"):                                     101,
		upgradeRequest("/http/route"):                           101,
		"GET /other HTTP/1.1\r\nHost: roost.test\r\n\r\n":       404,
		"GET /other?/http HTTP/1.1\r\nHost: roost.test\r\n\r\n": 404,
		"GET  /http HTTP/1.1\r\nHost: roost.test\r\n\r\n":       400,
		"\x16\x03\x01 /http \n":                                 400,
	} {
		c := dial(t, addr)
		c.raw(head)
		if resp := c.response(http.MethodGet); resp.StatusCode != want {
			t.Errorf("%.30q: %s, want %d", head, resp.Status, want)
		}
	}
	_, err := New(Options{Routes: []*Route{{Path: "/", Handler: &hooks{}}}, HandPaths: []string{"/x"}})
	if err == nil || !strings.Contains(err.Error(), "Options.Hand") {
		t.Error("paths without a Hand:", err)
	}
}
