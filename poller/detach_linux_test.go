//go:build linux && !portable

package poller

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMoveInMidTraffic moves connections from loop to loop while they echo: no
// byte is lost or doubled, in either direction.
func TestMoveInMidTraffic(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options, prepare func(*Poller)) {
		var p *Poller
		move := func(l *Loop, c *Conn) {
			d, err := l.Detach(c)
			if err != nil {
				t.Error("detach:", err)
				return
			}
			to := p.Loops()[(l.Index()+1)%2]
			to.Post(func() {
				if err := to.Adopt(d, new(Conn), func(*Conn) {}); err != nil {
					t.Error("adopt:", err)
				}
			})
		}
		p = launch(t, o, hooks{data: func(l *Loop, c *Conn, b []byte) {
			echo(l, c, b)
			switch b[len(b)-1] % 8 {
			case 0:
				move(l, c)
			case 1:
				h := c.Handle()
				l.Post(func() {
					if c := l.Get(h); c != nil {
						move(l, c)
					}
				})
			}
		}})
		prepare(p)
		addr := listen(t, p)
		crowd(t, 12, func(i int) error { return echoClient(t, addr, i, 25, i == 0) })
		eventually(t, "all closed", func() bool { return p.Live() == 0 })
	})
}

// TestAdoptOrder: bytes that were not sent before go before what the new owner
// writes at once, and those that were pushed are not lost.
func TestAdoptOrder(t *testing.T) {
	for _, pushed := range []bool{false, true} {
		_, nc, c := one(t, nil, hooks{})
		l := c.Loop()
		onLoop(t, l, func() {
			want := "unsent "
			if pushed {
				_, _ = l.Push(c, []byte(want))
				want = ""
			} else {
				_, _ = c.Write(nil, []byte(want))
			}
			d, err := l.Detach(c)
			if err != nil || string(d.Unsent) != want {
				t.Errorf("detach: %q, %v", d.Unsent, err)
				return
			}
			if _, err := c.Write(nil, []byte("lost")); err != ErrClosed {
				t.Errorf("write after Detach: %v", err)
			}
			if _, err := l.Detach(c); err != ErrClosed {
				t.Errorf("second Detach: %v", err)
			}
			if flags, _ := unix.FcntlInt(uintptr(d.FD), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
				t.Error("the descriptor would leak into children")
			}
			if err := l.Adopt(d, new(Conn), func(c *Conn) { _, _ = l.Write(c, nil, []byte("opened"), false) }); err != nil {
				t.Error(err)
			}
		})
		expectBytes(t, nc, []byte("unsent opened"))
	}
}

// TestAdoptFailures: the descriptor is the loop's whatever happens.
func TestAdoptFailures(t *testing.T) {
	_, _, c := one(t, nil, hooks{})
	l := c.Loop()
	onLoop(t, l, func() {
		if err := l.Adopt(Detached{FD: -1}, new(Conn), func(*Conn) {}); err == nil {
			t.Error("a descriptor that is none was adopted")
		}
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) // refused by epoll
		if err != nil {
			t.Error(err)
			return
		}
		live := l.Live()
		if err := l.Adopt(Detached{FD: fd}, new(Conn), func(*Conn) {}); err == nil || isOpen(fd) || l.Live() != live {
			t.Errorf("adopt /dev/null: %v, open: %v, %d live", err, isOpen(fd), l.Live())
		}
	})
}

// TestDetachDuringSettling: a connection whose entry is being settled stays.
func TestDetachDuringSettling(t *testing.T) {
	f := &faults{every: 1, result: unix.EAGAIN}
	opened, tried := make(chan *Conn, 2), make(chan error, 4)
	var second *Conn
	s := f.sys()
	s.always = false // what the ring refuses goes out by plain writes
	p := launch(t, Options{Loops: 1, sys: s}, hooks{
		open: func(_ *Loop, c *Conn) { opened <- c },
		blocked: func(l *Loop, c *Conn, _ int) {
			if c != second && second != nil {
				_, err := l.Detach(second)
				tried <- err
				second = nil
			}
		},
	})
	if !p.IOUring() {
		t.Skip("io_uring is not allowed here")
	}
	addr := listen(t, p)
	a, ca := dialServed(t, addr, opened)
	b, cb := dialServed(t, addr, opened)
	onLoop(t, p.loops[0], func() {
		f.p, second = p, cb
		_, _ = p.loops[0].Push(ca, []byte("one"))
		_, _ = p.loops[0].Push(cb, []byte("two"))
	})
	if err := receive(t, tried); err == nil {
		t.Fatal("detached with an unknown share of its bytes sent")
	}
	expectBytes(t, a, []byte("one"))
	expectBytes(t, b, []byte("two"))
}

// TestHandlerAmidstABatchOfReads: a handler that is called while other connections
// are read by a batch pushes to one of them and detaches another; nobody gets
// bytes that are not his, and no input is lost.
func TestHandlerAmidstABatchOfReads(t *testing.T) {
	for _, lost := range []int64{0, 1} {
		f := &faults{enterOnce: lost}
		s := f.sys()
		s.always = true
		opened := make(chan *Conn, 1)
		var conns []*Conn
		p := launch(t, Options{Loops: 1, sys: s}, hooks{
			open: func(_ *Loop, c *Conn) { c.Pause(); opened <- c },
			eof:  func(*Loop, *Conn) bool { return true },
			data: func(l *Loop, c *Conn, b []byte) {
				_, _ = c.Write(nil, b)
				if c != conns[2] {
					return
				}
				_, _ = l.Push(conns[0], []byte("pushed"))
				d, err := l.Detach(conns[4])
				if err == nil {
					err = l.Adopt(d, new(Conn), func(*Conn) {})
				}
				if err != nil {
					t.Error(err)
				}
			},
		})
		if !p.IOUring() {
			t.Skip("io_uring is not allowed here")
		}
		addr, l := listen(t, p), p.loops[0]
		clients := make([]*net.TCPConn, 6)
		for i := range clients {
			var c *Conn
			clients[i], c = dialServed(t, addr, opened)
			conns = append(conns, c)
			if _, err := clients[i].Write([]byte{'a' + byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		_ = clients[2].CloseWrite()
		eventually(t, "the end is known", func() (yes bool) {
			onLoop(t, l, func() { yes = conns[2].own&ownHup != 0 })
			return yes
		})
		onLoop(t, l, func() {
			f.p = p
			for _, c := range conns {
				c.Resume()
			}
		})
		for i, nc := range clients {
			expectBytes(t, nc, []byte{'a' + byte(i)})
		}
		expectBytes(t, clients[0], []byte("pushed"))
	}
}
