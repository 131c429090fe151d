//go:build linux && !portable

package poller

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

// descriptors counts the open descriptors of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// TestConnSize pins what an idle connection costs: 200 bytes are nbio's, 32 ours.
// A byte more here is a megabyte per million clients.
func TestConnSize(t *testing.T) {
	if n := unsafe.Sizeof(nbio.Conn{}); n != 200 {
		t.Errorf("nbio.Conn has %d bytes", n)
	}
	if n := unsafe.Sizeof(Conn{}); n != 232 {
		t.Errorf("Conn has %d bytes", n)
	}
	if n := unsafe.Sizeof(slot{}); n != 16 {
		t.Errorf("slot has %d bytes", n)
	}
}

func TestFieldChecksPanic(t *testing.T) {
	conn := reflect.TypeFor[nbio.Conn]()
	if offsetOf(conn, "fd", "int") != offConnFD {
		t.Error("the offset of fd is not that of the table")
	}
	for _, c := range []struct{ name, typ, want string }{
		{"noSuchField", "int", "no field noSuchField"},
		{"fd", "int32", "is int, want int32"},
		{"closed", "int8", "is bool, want int8"},
	} {
		func() {
			defer func() {
				if msg := fmt.Sprint(recover()); !strings.Contains(msg, c.want) {
					t.Errorf("%s %s: panic %q, want %q", c.name, c.typ, msg, c.want)
				}
			}()
			offsetOf(conn, c.name, c.typ)
		}()
	}
}

func TestStopFreesAll(t *testing.T) {
	for _, plain := range []bool{false, true} {
		goroutines, before := runtime.NumGoroutine(), descriptors(t)
		var closed atomic.Int64
		p := launch(t, Options{NoIOUring: plain, Loops: 3}, hooks{
			data: echo,
			closed: func(_ *Loop, _ *Conn, r Reason) {
				if r == ReasonStopped {
					closed.Add(1)
				}
			},
		})
		addr := listen(t, p)
		for i := range 20 {
			nc := dial(t, addr)
			if _, err := nc.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
			expectBytes(t, nc, []byte{byte(i)})
			defer nc.Close()
		}
		stopNow(p)
		if closed.Load() != 20 || p.Live() != 0 {
			t.Errorf("%d of 20 connections were closed by Stop, %d live", closed.Load(), p.Live())
		}
		if n := descriptors(t); n != before+20 { // the clients'
			t.Errorf("%d descriptors before, %d after", before, n)
		}
		eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
		if _, err := p.Listen("127.0.0.1:0"); err != ErrStopped {
			t.Errorf("Listen after Stop: %v", err)
		}
		for _, l := range p.loops {
			if !l.rung {
				t.Error("the bell could still be rung after its descriptor was closed")
			}
		}
	}
}

func TestStopWaits(t *testing.T) {
	opened := make(chan *Conn, 1)
	p := launch(t, Options{}, hooks{open: func(_ *Loop, c *Conn) { opened <- c }})
	nc, c := dialServed(t, listen(t, p), opened)
	c.Finish(ReasonUser)
	done := make(chan error, 1)
	go func() { done <- p.Stop(context.Background()) }()
	expectEOF(t, nc)
	_ = nc.Close()
	if err := receive(t, done); err != nil {
		t.Fatal(err)
	}
}

func TestAcceptedSocketOptions(t *testing.T) {
	got := make(chan [4]int, 1)
	p := launch(t, Options{SendBuffer: 20000, ReceiveBuffer: 30000}, hooks{open: func(_ *Loop, c *Conn) {
		var v [4]int
		for i, o := range [4][2]int{{unix.SOL_SOCKET, unix.SO_PROTOCOL}, {unix.IPPROTO_TCP, unix.TCP_NODELAY},
			{unix.SOL_SOCKET, unix.SO_SNDBUF}, {unix.SOL_SOCKET, unix.SO_RCVBUF}} {
			v[i], _ = unix.GetsockoptInt(nbFD(&c.nb), o[0], o[1])
		}
		got <- v
	}})
	dial(t, listen(t, p))
	if v, want := receive(t, got), [4]int{unix.IPPROTO_TCP, 1, 40000, 60000}; v != want {
		t.Fatalf("protocol, no delay, send and receive buffer: %v, want %v", v, want)
	}
	for _, l := range p.loops {
		onLoop(t, l, func() {
			for _, ln := range l.listeners {
				if n, _ := unix.GetsockoptInt(nbFD(&ln.conn.nb), unix.SOL_SOCKET, unix.SO_PROTOCOL); n != unix.IPPROTO_TCP {
					t.Errorf("the listener's protocol is %d: MPTCP", n)
				}
			}
		})
	}
}

// TestForeignCloseKeepsTheNumber: a connection that is closed during another's
// event may have an event in the same batch; its number must not be free then.
func TestForeignCloseKeepsTheNumber(t *testing.T) {
	opened := make(chan *Conn, 2)
	type outcome struct{ during, own bool }
	var victim *Conn
	seen := make(chan outcome, 1)
	p := launch(t, Options{Loops: 1}, hooks{
		open: func(_ *Loop, c *Conn) { opened <- c },
		data: func(l *Loop, c *Conn, _ []byte) {
			fd := nbFD(&victim.nb)
			l.close(victim, ReasonUser)
			o := outcome{during: isOpen(fd)}
			own := nbFD(&c.nb)
			l.close(c, ReasonUser)
			o.own = isOpen(own)
			seen <- o
		},
	})
	addr := listen(t, p)
	nc, v := dialServed(t, addr, opened)
	other, _ := dialServed(t, addr, opened)
	onLoop(t, p.loops[0], func() { victim = v })
	if _, err := other.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if o := receive(t, seen); !o.during || o.own {
		t.Fatalf("descriptor of another connection open: %v, own: %v; want true, false", o.during, o.own)
	}
	expectEOF(t, nc)
	expectEOF(t, other)
}

// TestStorm opens and closes connections in all the ways there are, so that
// numbers are reused at once on either loop; those that echo must never notice.
func TestStorm(t *testing.T) {
	p := launch(t, Options{}, hooks{data: func(l *Loop, c *Conn, b []byte) {
		switch b[0] {
		case 'C':
			c.Cut(ReasonUser)
		case 'F':
			c.Finish(ReasonUser)
		case 'N':
			l.FinishNow(c, ReasonUser)
		case 'K': // kill some other that wants it
			l.Each(rand.Uint32N(l.slots.used+1), 50, func(o *Conn) {
				if v, ok := o.Session().(string); ok && v == "victim" {
					l.FinishNow(o, ReasonUser)
				}
			})
			c.Cut(ReasonUser)
		case 'V':
			c.SetSession("victim")
			_, _ = c.Write(nil, b)
		default:
			echo(l, c, b)
		}
	}})
	addr := listen(t, p)
	const rounds = 150
	crowd(t, 16, func(i int) error {
		for n := range rounds {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			_ = nc.SetDeadline(time.Now().Add(patience))
			switch i % 4 {
			case 0: // must never be hurt
				msg := []byte(fmt.Sprintf("%c echo %d %d", 'a'+n%4, i, n))
				for range 3 {
					if _, err := nc.Write(msg); err != nil {
						return err
					}
					got := make([]byte, len(msg))
					if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, msg) {
						return fmt.Errorf("round %d: %q, %v", n, got, err)
					}
				}
			case 1:
				_, _ = nc.Write([]byte{"CFNK"[n%4]})
				_, _ = io.Copy(io.Discard, nc)
			case 2: // reset in the middle
				_, _ = nc.Write(bytes.Repeat([]byte{'a'}, 1+n*7))
				_ = nc.(*net.TCPConn).SetLinger(0)
			case 3:
				_, _ = nc.Write([]byte("V"))
				_, _ = nc.Read(make([]byte, 1))
				_, _ = nc.Write([]byte("more"))
				_ = nc.(*net.TCPConn).CloseWrite()
			}
			_ = nc.Close()
		}
		return nil
	})
	eventually(t, "all closed", func() bool { return p.Live() == 0 })
	for _, l := range p.loops {
		onLoop(t, l, func() {})
		onLoop(t, l, func() {}) // the pass before has published its figures
	}
	if s := p.Stats(); s.Opened != 16*rounds || s.Closed != s.Opened || s.Open != 0 {
		t.Fatalf("%+v", s)
	}
}

// TestLingerEnds: a peer that never closes is given up, whether or not it takes
// what is pending.
func TestLingerEnds(t *testing.T) {
	for _, pending := range []int{0, 8 << 20} {
		opened, reasons := make(chan *Conn, 1), make(chan Reason, 1)
		p := launch(t, Options{Tick: time.Millisecond, Linger: 30 * time.Millisecond}, hooks{
			open:   func(_ *Loop, c *Conn) { opened <- c },
			closed: func(_ *Loop, _ *Conn, r Reason) { reasons <- r },
		})
		_, c := dialServed(t, listen(t, p), opened)
		_, _ = c.WriteShared(make([]byte, pending))
		c.Finish(ReasonUser + 1)
		if r := receive(t, reasons); r != ReasonUser+1 {
			t.Fatalf("%d pending: reason %d", pending, r)
		}
		eventually(t, "closed", func() bool { return p.Live() == 0 })
	}
}

func TestOpenMayEndTheConnection(t *testing.T) {
	ways := []func(l *Loop, c *Conn){
		func(l *Loop, c *Conn) { l.FinishNow(c, ReasonUser) },
		func(_ *Loop, c *Conn) { c.Cut(ReasonUser) },
		func(l *Loop, c *Conn) { l.close(c, ReasonUser) }, // FinishNow does so when the peer has reset
		func(l *Loop, c *Conn) { _, _ = l.Write(c, nil, []byte("bye"), false); l.FinishNow(c, ReasonUser) },
	}
	var n, closed atomic.Int64
	p := launch(t, Options{Loops: 1}, hooks{
		open:   func(l *Loop, c *Conn) { ways[n.Add(1)%4](l, c) },
		closed: func(*Loop, *Conn, Reason) { closed.Add(1) },
	})
	addr := listen(t, p)
	before := descriptors(t)
	for range 62 { // the last one is closed by its Open
		nc := dial(t, addr)
		if _, err := io.ReadAll(nc); err != nil && !gone(err) {
			t.Fatal(err)
		}
		_ = nc.Close()
	}
	eventually(t, "closed once each", func() bool { return closed.Load() == 62 && p.Live() == 0 })
	eventually(t, "descriptors come back", func() bool { return descriptors(t) == before })
	onLoop(t, p.loops[0], func() {
		for fd, nc := range p.table {
			if nc != nil && connOf(nc).slot <= slotsMax {
				t.Errorf("the table keeps a closed connection at %d", fd)
			}
		}
	})
}

func TestDescriptorBeyondTheTable(t *testing.T) {
	p := launch(t, Options{Loops: 1}, hooks{})
	addr, l, full := listen(t, p), p.loops[0], p.table
	onLoop(t, l, func() { p.table = p.table[:3] })
	for range 5 {
		if _, err := dial(t, addr).Read(make([]byte, 1)); !gone(err) {
			t.Fatalf("client sees %v", err)
		}
	}
	onLoop(t, l, func() { p.table = full })
	if p.Live() != 0 {
		t.Fatalf("%d live", p.Live())
	}
}

func TestMaxConns(t *testing.T) {
	opened := make(chan *Conn, 4)
	p := launch(t, Options{Loops: 1, MaxConns: 2}, hooks{open: func(_ *Loop, c *Conn) { opened <- c }})
	addr := listen(t, p)
	a, _ := dialServed(t, addr, opened)
	dialServed(t, addr, opened)
	if _, err := dial(t, addr).Read(make([]byte, 1)); !gone(err) {
		t.Fatalf("the third client sees %v", err)
	}
	_ = a.Close()
	eventually(t, "one closed", func() bool { return p.Live() == 1 })
	dialServed(t, addr, opened)
}
