//go:build linux && !portable

package poller

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// one starts a poller with one loop and returns a client and its connection.
func one(t *testing.T, s *sys, h hooks) (*Poller, *net.TCPConn, *Conn) {
	t.Helper()
	opened := make(chan *Conn, 1)
	h.open = func(_ *Loop, c *Conn) { opened <- c }
	p := launch(t, Options{Loops: 1, sys: s}, h)
	nc, c := dialServed(t, listen(t, p), opened)
	return p, nc, c
}

// TestShortDirectWriteStaysWhole: what others queue or finish during a short
// write of the loop must not come in the middle of its frame.
func TestShortDirectWriteStaysWhole(t *testing.T) {
	for _, size := range []int{0, 4, 3000} {
		for _, first := range []int{0, 1, 3} {
			var during func()
			var f faults
			s := realSys()
			short := func(fd int, b []byte) (n int, errno syscall.Errno) {
				during()
				during = func() {}
				f.rearm(fd)
				if first == 0 {
					return -1, syscall.EAGAIN
				}
				return rawWrite(fd, b[:first])
			}
			armed := false
			s.write = func(fd int, b []byte) (int, syscall.Errno) {
				if armed {
					armed = false
					return short(fd, b)
				}
				return rawWrite(fd, b)
			}
			s.writev = func(fd int, iov []unix.Iovec) (int, syscall.Errno) {
				if armed {
					armed = false
					return short(fd, []byte("head"))
				}
				return rawWritev(fd, iov)
			}
			p, nc, c := one(t, s, hooks{})
			f.p = p
			frame := bytes.Repeat([]byte("p"), size)
			onLoop(t, c.Loop(), func() {
				armed = true
				c.Loop().receiver.batching = false
				during = func() {
					_, _ = c.Write(nil, []byte("queued meanwhile"))
					c.Finish(ReasonUser)
				}
				if _, err := c.Loop().Write(c, []byte("head"), frame, false); err != nil {
					t.Error(err)
				}
			})
			expectBytes(t, nc, append(append([]byte("head"), frame...), "queued meanwhile"...))
			expectEOF(t, nc)
		}
	}
}

func TestWriteNothing(t *testing.T) {
	_, nc, c := one(t, nil, hooks{})
	onLoop(t, c.Loop(), func() {
		for _, w := range []func() (int, error){
			func() (int, error) { return c.Loop().Write(c, nil, nil, false) },
			func() (int, error) { return c.Write(nil, nil) },
			func() (int, error) { return c.WriteShared(nil) },
			func() (int, error) { return c.Loop().Push(c, nil) },
		} {
			if n, err := w(); n != 0 || err != nil {
				t.Errorf("%d pending, %v", n, err)
			}
		}
	})
	onLoop(t, c.Loop(), func() { _, _ = c.Loop().Write(c, nil, []byte("something"), false) })
	expectBytes(t, nc, []byte("something"))
}

// TestErrorsEndOneConnection lets reads, writes and ring entries of one
// connection fail for good. Its end is told once, with the reason; the others
// get all bytes, also those that Closed pushes to them from amidst the batch.
func TestErrorsEndOneConnection(t *testing.T) {
	for _, c := range []struct {
		name   string
		plain  bool
		read   syscall.Errno
		write  syscall.Errno
		reason Reason
	}{
		{"read ECONNRESET", true, syscall.ECONNRESET, 0, ReasonReadError},
		{"write EPIPE", true, 0, syscall.EPIPE, ReasonWriteError},
		{"write ECONNRESET", true, 0, syscall.ECONNRESET, ReasonWriteError},
		{"entry EPIPE", false, 0, syscall.EPIPE, ReasonWriteError},
		{"entry ECONNRESET", false, 0, syscall.ECONNRESET, ReasonWriteError},
	} {
		t.Run(c.name, func(t *testing.T) { errorEndsOne(t, c.plain, c.read, c.write, c.reason) })
	}
}

// sickSys lets all calls for one descriptor fail; 0 leaves reads or writes well.
func sickSys(sick *atomic.Int64, read, write syscall.Errno) *sys {
	s := realSys()
	s.read = func(fd int, b []byte) (int, syscall.Errno) {
		if read != 0 && int64(fd) == sick.Load() {
			return -1, read
		}
		return rawRead(fd, b)
	}
	s.write = func(fd int, b []byte) (int, syscall.Errno) {
		if write != 0 && int64(fd) == sick.Load() {
			return -1, write
		}
		return rawWrite(fd, b)
	}
	s.enter = func(r *ring, submit, wait int) (int, syscall.Errno) {
		ill := map[uint64]bool{}
		for i := range uint32(submit) {
			if e := &r.sqes[(*r.sqTail-1-i)&r.sqMask]; write != 0 && int64(e.fd) == sick.Load() && e.fd != 0 {
				e.opcode = 0 // IORING_OP_NOP
				ill[e.userData] = true
			}
		}
		n, errno := ringEnter(r, submit, wait)
		for h := *r.cqHead; h != atomic.LoadUint32(r.cqTail); h++ {
			if e := &r.cqes[h&r.cqMask]; ill[e.userData] {
				e.res = -int32(write)
			}
		}
		return n, errno
	}
	return s
}

func errorEndsOne(t *testing.T, plain bool, read, write syscall.Errno, reason Reason) {
	const clients = 300 // several batches
	var sick atomic.Int64
	s := sickSys(&sick, read, write)
	opened, reasons := make(chan *Conn, 1), make(chan Reason, clients)
	p := launch(t, Options{Loops: 1, NoIOUring: plain, sys: s}, hooks{
		open: func(_ *Loop, c *Conn) { opened <- c },
		closed: func(l *Loop, _ *Conn, r Reason) {
			if r == ReasonStopped {
				return
			}
			reasons <- r
			l.Each(0, clients, func(c *Conn) { _, _ = l.Push(c, []byte("one left,")) })
		},
	})
	if !plain && !p.IOUring() {
		t.Skip("io_uring is not allowed here")
	}
	addr := listen(t, p)
	conns := make([]*net.TCPConn, clients)
	for i := range conns {
		var c *Conn
		if conns[i], c = dialServed(t, addr, opened); i == 50 {
			sick.Store(int64(nbFD(&c.nb)))
		}
	}
	pushAll := func(frame string) {
		onLoop(t, p.loops[0], func() {
			p.loops[0].Each(0, clients, func(c *Conn) { _, _ = p.loops[0].Push(c, []byte(frame)) })
		})
	}
	want := "first,one left,last"
	if read != 0 {
		want = "one left,first,last"
		_, _ = conns[50].Write([]byte("x"))
	} else {
		pushAll("first,")
	}
	if r := receive(t, reasons); r != reason {
		t.Fatalf("reason %d, want %d", r, reason)
	}
	if read != 0 {
		pushAll("first,")
	}
	pushAll("last")
	for i, nc := range conns {
		if i != 50 {
			if read == 0 && !plain && i >= sendBatch { // Closed was called before their turn
				want = "one left,first,last"
			}
			expectBytes(t, nc, []byte(want))
			continue
		}
		if _, err := io.ReadAll(nc); err != nil && !gone(err) {
			t.Fatal(err)
		}
	}
	if len(reasons) != 0 {
		t.Fatalf("%d further ends", len(reasons))
	}
}

// TestRingLostInARun: the ring goes while a run still has connections to serve.
func TestRingLostInARun(t *testing.T) {
	const clients = 300
	for call := range int64(4) {
		f := &faults{enterOnce: call + 1, halfEnter: call%2 == 1}
		var log strings.Builder
		opened := make(chan *Conn, 1)
		p := launch(t, Options{Loops: 1, sys: f.sys(), Logger: slog.New(slog.NewTextHandler(&log, nil))},
			hooks{open: func(_ *Loop, c *Conn) { opened <- c }})
		if !p.IOUring() {
			t.Skip("io_uring is not allowed here")
		}
		f.p = p
		addr, l := listen(t, p), p.loops[0]
		conns := make([]*net.TCPConn, clients)
		for i := range conns {
			conns[i], _ = dialServed(t, addr, opened)
		}
		before := descriptors(t)
		onLoop(t, l, func() { // through the queues
			l.Each(0, clients, func(c *Conn) { _, _ = c.WriteShared([]byte("queued,")) })
		})
		for _, nc := range conns {
			expectBytes(t, nc, []byte("queued,"))
		}
		onLoop(t, l, func() { // straight
			l.Each(0, clients, func(c *Conn) { _, _ = l.Push(c, []byte("pushed")) })
		})
		for _, nc := range conns {
			expectBytes(t, nc, []byte("pushed"))
		}
		onLoop(t, l, func() {
			if l.flusher.ring != nil {
				t.Error("the ring is still in use")
			}
		})
		if n := descriptors(t); n != before-1 {
			t.Errorf("%d descriptors before, %d after the ring was lost", before, n)
		}
		stopNow(p)
		if strings.Count(log.String(), "io_uring failed") != 1 {
			t.Errorf("log: %s", log.String())
		}
	}
}

// TestRingForbidden: a kernel or container that refuses io_uring.
func TestRingForbidden(t *testing.T) {
	before := descriptors(t)
	s := realSys()
	s.enter = func(*ring, int, int) (int, syscall.Errno) { return -1, syscall.EPERM }
	p, nc, c := one(t, s, hooks{})
	if p.IOUring() {
		t.Fatal("io_uring that cannot be entered is said to be in use")
	}
	_, _ = c.Write(nil, []byte("still here"))
	expectBytes(t, nc, []byte("still here"))
	_ = nc.Close()
	stopNow(p)
	if n := descriptors(t); n != before {
		t.Fatalf("%d descriptors before, %d after", before, n)
	}
}

// TestRingMakesNoProgress: a ring that always says "again" is given up.
func TestRingMakesNoProgress(t *testing.T) {
	var stuck atomic.Bool
	s := realSys()
	s.enter = func(r *ring, submit, wait int) (int, syscall.Errno) {
		if stuck.Load() {
			return -1, syscall.EAGAIN
		}
		return ringEnter(r, submit, wait)
	}
	p, nc, c := one(t, s, hooks{})
	if !p.IOUring() {
		t.Skip("io_uring is not allowed here")
	}
	stuck.Store(true)
	onLoop(t, c.Loop(), func() { _, _ = c.Loop().Push(c, []byte("x")) })
	expectBytes(t, nc, []byte("x"))
}

// TestPushBeforeAQueueOfTheSameRun: a handler pushes to a connection whose turn in
// the run is still to come and which then gets a queue.
func TestPushBeforeAQueueOfTheSameRun(t *testing.T) {
	f := &faults{every: 1, write: syscall.EAGAIN}
	opened := make(chan *Conn, 2)
	var first, second *Conn
	p := launch(t, Options{Loops: 1, sys: f.sys()}, hooks{
		open: func(_ *Loop, c *Conn) { opened <- c },
		blocked: func(l *Loop, c *Conn, _ int) {
			if c == first {
				f.write = 0
				_, _ = l.Push(second, []byte("pushed,"))
				_, _ = second.Write(nil, []byte("queued"))
			}
		},
	})
	f.p = p
	addr, l := listen(t, p), p.loops[0]
	_, a := dialServed(t, addr, opened)
	nc, b := dialServed(t, addr, opened)
	onLoop(t, l, func() {
		first, second = a, b
		_, _ = first.Write(nil, []byte("x"))
		second.Resume()
	})
	expectBytes(t, nc, []byte("pushed,queued"))
}

// TestPushOrder: what is pushed, written and queued in one function, and again
// from a handler inside the pass, arrives in the order of the calls, and whole
// although an end follows at once.
func TestPushOrder(t *testing.T) {
	for _, shortened := range []bool{false, true} {
		f := &faults{every: 1, shortEntry: shortened, result: syscall.EAGAIN}
		if !shortened {
			f = &faults{}
		}
		for _, end := range []func(c *Conn){
			func(c *Conn) { c.Finish(ReasonUser) },
			func(c *Conn) { c.Loop().FinishNow(c, ReasonUser) },
			func(c *Conn) { c.Loop().eof(c) },
		} {
			s := f.sys()
			s.always = false // what the ring cut short goes out by plain writes
			p, nc, c := one(t, s, hooks{data: func(l *Loop, c *Conn, b []byte) {
				_, _ = l.Push(c, []byte("5"))
				_, _ = c.Write(nil, []byte("6"))
			}})
			f.p = p
			l := c.Loop()
			onLoop(t, l, func() { c.Pause() })
			_, _ = nc.Write([]byte("x"))
			onLoop(t, l, func() {
				_, _ = l.Push(c, []byte("1"))
				_, _ = l.Push(c, []byte("2"))
				_, _ = c.Write(nil, []byte("3"))
				_, _ = l.Write(c, nil, []byte("4"), false)
				c.Resume() // Data is called later in this pass
			})
			expectBytes(t, nc, []byte("123456"))
			onLoop(t, l, func() {
				_, _ = l.Push(c, []byte("the end"))
				end(c)
			})
			expectBytes(t, nc, []byte("the end"))
			_, _ = io.Copy(io.Discard, nc)
			stopNow(p)
			f.p = nil
		}
	}
}
