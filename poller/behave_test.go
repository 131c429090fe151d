package poller

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// What is tested here holds for every variant: with io_uring and without, on
// nbio's public interface, and with each injected fault.

func TestEcho(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options, prepare func(*Poller)) {
		p := launch(t, o, hooks{data: echo})
		prepare(p)
		addr := listen(t, p)
		crowd(t, 24, func(i int) error { return echoClient(t, addr, i, 12, i%6 == 0) })
	})
}

// echoClient sends messages of random sizes, reading at the same time.
func echoClient(t testing.TB, addr string, seed, messages int, large bool) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	r := rand.New(rand.NewPCG(uint64(seed), 7))
	sizes, total := make([]int, messages), 0
	for i := range sizes {
		sizes[i] = 1 + r.IntN(1<<(1+r.IntN(14)))
		if large && i == messages/2 {
			sizes[i] = 1 << 20
		}
		total += sizes[i]
	}
	sent := make(chan error, 1)
	go func() {
		out := newStream(uint64(seed))
		for _, n := range sizes {
			if _, err := nc.Write(out.next(n)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	return errors.Join(expect(nc, newStream(uint64(seed)), total), <-sent)
}

func TestHalfCloseGetsAllReplies(t *testing.T) {
	if !halfClose {
		t.Skip("nbio's public interface closes at the peer's end of stream")
	}
	eachVariant(t, func(t *testing.T, o Options, prepare func(*Poller)) {
		p := launch(t, o, hooks{data: echo})
		prepare(p)
		addr := listen(t, p)
		crowd(t, 16, func(i int) error {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(patience))
			n := 1 << (2 * (i % 9)) // 1 B to 64 KiB: data and end in one event
			if _, err := nc.Write(newStream(uint64(i)).next(n)); err != nil {
				return err
			}
			if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
				return err
			}
			if err := expect(nc, newStream(uint64(i)), n); err != nil {
				return err
			}
			if m, err := nc.Read(make([]byte, 1)); m != 0 || err != io.EOF {
				return fmt.Errorf("after the replies: %d bytes, %v", m, err)
			}
			return nil
		})
		eventually(t, "all closed", func() bool { return p.Live() == 0 })
	})
}

func TestEOFMayWait(t *testing.T) {
	if !halfClose {
		t.Skip("nbio's public interface closes at the peer's end of stream")
	}
	ended := make(chan *Conn, 1)
	p := launch(t, Options{}, hooks{eof: func(_ *Loop, c *Conn) bool { ended <- c; return true }})
	nc := dial(t, listen(t, p))
	if err := nc.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c := receive(t, ended)
	for range 3 { // each brings an event that repeats the end of stream
		if _, err := c.Write(nil, []byte("later")); err != nil {
			t.Fatal(err)
		}
		expectBytes(t, nc, []byte("later"))
	}
	c.Finish(ReasonUser)
	expectEOF(t, nc)
	select {
	case <-ended:
		t.Fatal("EOF was called twice")
	default:
	}
}

func TestFinishDeliversWhatIsPending(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options, prepare func(*Poller)) {
		opened, reasons := make(chan *Conn, 1), make(chan Reason, 1)
		p := launch(t, o, hooks{
			// Input is never read: closing with it in the socket would reset the connection.
			open:   func(_ *Loop, c *Conn) { c.Pause(); opened <- c },
			closed: func(_ *Loop, _ *Conn, r Reason) { reasons <- r },
		})
		prepare(p)
		nc, c := dialServed(t, listen(t, p), opened)
		if halfClose { // the portable loops do not linger
			if _, err := nc.Write(make([]byte, 32<<10)); err != nil {
				t.Fatal(err)
			}
		}
		const n = 2 << 20 // more than the sockets hold
		out := newStream(1)
		for i := range 32 {
			if _, err := c.WriteShared(out.next(n / 32)); err != nil {
				t.Fatal(i, err)
			}
		}
		c.Finish(ReasonUser + 3)
		c.Finish(ReasonUser + 4)
		if _, err := c.Write(nil, []byte("x")); err != ErrClosed {
			t.Fatalf("write after Finish: %v", err)
		}
		if err := expect(nc, newStream(1), n); err != nil {
			t.Fatal(err)
		}
		expectEOF(t, nc)
		_ = nc.Close()
		if r := receive(t, reasons); r != ReasonUser+3 {
			t.Fatalf("reason %d, want the first given", r)
		}
	})
}

func TestFinishNow(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options, prepare func(*Poller)) {
		p := launch(t, o, hooks{data: func(l *Loop, c *Conn, b []byte) {
			_, _ = l.Write(c, nil, bytes.Repeat(b[:1], 3000), true)
			_, _ = l.Write(c, nil, []byte("end"), false)
			l.FinishNow(c, ReasonUser)
		}})
		prepare(p)
		addr := listen(t, p)
		crowd(t, 16, func(i int) error {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(patience))
			if _, err := nc.Write([]byte{'a'}); err != nil {
				return err
			}
			got, err := io.ReadAll(nc)
			if len(got) != 3003 || err != nil {
				return fmt.Errorf("%d bytes, %v", len(got), err)
			}
			return nil
		})
		eventually(t, "all closed", func() bool { return p.Live() == 0 })
	})
}

func TestCut(t *testing.T) {
	opened, reasons := make(chan *Conn, 1), make(chan Reason, 1)
	p := launch(t, Options{}, hooks{
		open:   func(_ *Loop, c *Conn) { opened <- c },
		closed: func(_ *Loop, _ *Conn, r Reason) { reasons <- r },
	})
	nc, c := dialServed(t, listen(t, p), opened)
	c.Cut(ReasonUser + 9)
	c.Cut(ReasonUser + 1)
	if _, err := nc.Read(make([]byte, 1)); !gone(err) {
		t.Fatalf("client sees %v", err)
	}
	if r := receive(t, reasons); r != ReasonUser+9 {
		t.Fatalf("reason %d", r)
	}
	c.Cut(ReasonUser)
	c.Finish(ReasonUser)
	c.Resume()
	if _, err := c.Write(nil, []byte("x")); err != ErrClosed {
		t.Fatalf("Write: %v", err)
	}
	if _, err := c.WriteShared([]byte("x")); err != ErrClosed {
		t.Fatalf("WriteShared: %v", err)
	}
	if n := c.Pending(); n != 0 {
		t.Fatalf("%d bytes pending", n)
	}
}

func TestPauseLosesNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options, prepare func(*Poller)) {
		const n = 4 << 20
		in, got, opened, done := newStream(5), 0, make(chan *Conn, 1), make(chan error, 1)
		p := launch(t, o, hooks{
			open: func(_ *Loop, c *Conn) { c.Pause(); opened <- c },
			data: func(_ *Loop, c *Conn, b []byte) {
				if got += len(b); !bytes.Equal(b, in.next(len(b))) {
					done <- fmt.Errorf("wrong bytes before %d", got)
				}
				if got == n {
					done <- nil
				}
				c.Pause()
				if got%3 == 0 {
					c.Resume()
				} else {
					go c.Resume()
				}
			},
		})
		prepare(p)
		nc, c := dialServed(t, listen(t, p), opened)
		go func() {
			_, _ = nc.Write(newStream(5).next(n))
			_ = nc.CloseWrite()
		}()
		c.Resume()
		if err := receive(t, done); err != nil {
			t.Fatal(err)
		}
		eventually(t, "closed", func() bool { return p.Live() == 0 })
	})
}

func TestSlowReader(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options, prepare func(*Poller)) {
		opened, blocked := make(chan *Conn, 1), make(chan int, 1<<10)
		o.SendBuffer = 64 << 10
		p := launch(t, o, hooks{
			open: func(_ *Loop, c *Conn) { opened <- c },
			blocked: func(_ *Loop, _ *Conn, pending int) {
				select {
				case blocked <- pending:
				default:
				}
			},
		})
		prepare(p)
		nc, c := dialServed(t, listen(t, p), opened)
		const n = 3 << 19
		out := newStream(3)
		for i := range 96 {
			size := n / 96
			if i%2 == 0 { // small frames that are joined, too
				for range 64 {
					_, _ = c.Write(nil, out.next(size/64))
				}
				continue
			}
			_, _ = c.WriteShared(out.next(size))
		}
		if canBlock {
			if got := receive(t, blocked); got <= 0 || got > n {
				t.Fatalf("blocked with %d bytes pending", got)
			}
		}
		if err := expect(nc, newStream(3), n); err != nil {
			t.Fatal(err)
		}
		eventually(t, "nothing pending", func() bool { return c.Pending() == 0 })
	})
}

func TestHandleRefusesAReusedSlot(t *testing.T) {
	opened, closed := make(chan *Conn, 1), make(chan struct{}, 1)
	p := launch(t, Options{Loops: 1}, hooks{
		open:   func(_ *Loop, c *Conn) { opened <- c },
		closed: func(*Loop, *Conn, Reason) { closed <- struct{}{} },
	})
	addr := listen(t, p)
	seen := map[Handle]bool{}
	for range 5 {
		nc, c := dialServed(t, addr, opened)
		h := c.Handle()
		if seen[h] {
			t.Fatalf("handle %x was given out twice", h)
		}
		if h.slot() != 0 {
			t.Fatalf("slot %d, want the free one again", h.slot())
		}
		onLoop(t, p.Loop(h), func() {
			for old := range seen {
				if p.Loop(h).Get(old) != nil {
					t.Errorf("handle %x finds the connection of %x", old, h)
				}
			}
			if p.Loop(h).Get(h) != c || p.Loop(h).Get(h^1<<40) != nil || p.Loop(h).Get(h+1) != nil {
				t.Error("handle does not find its connection alone")
			}
		})
		seen[h] = true
		_ = nc.Close()
		receive(t, closed)
	}
	if p.Loop(makeHandle(200, 1, 1)) != nil {
		t.Error("a loop that is not there was found")
	}
}

func TestGoroutinesDoNotGrow(t *testing.T) {
	if !flatGoroutines {
		t.Skip("the portable loops may use goroutines")
	}
	p := launch(t, Options{}, hooks{data: echo})
	addr := listen(t, p)
	const clients = 1000
	conns := make([]*net.TCPConn, clients)
	before := runtime.NumGoroutine()
	for i := range conns {
		conns[i] = dial(t, addr)
	}
	eventually(t, "all open", func() bool { return p.Live() == clients })
	if after := runtime.NumGoroutine(); after > before+2 {
		t.Fatalf("%d goroutines before, %d with %d connections", before, after, clients)
	}
	for i, nc := range conns {
		if _, err := nc.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, nc := range conns {
		expectBytes(t, nc, []byte{byte(i)})
	}
}

func TestDeadlines(t *testing.T) {
	type firing struct {
		c    *Conn
		late uint32
	}
	fired, opened := make(chan firing, 1<<10), make(chan *Conn, 1)
	p := launch(t, Options{Loops: 1, Tick: time.Millisecond}, hooks{
		open: func(_ *Loop, c *Conn) { opened <- c },
		due:  func(l *Loop, c *Conn) { fired <- firing{c, l.Now()} },
	})
	addr := listen(t, p)
	const clients = 150
	due := map[*Conn]uint32{}
	for i := range clients {
		_, c := dialServed(t, addr, opened)
		onLoop(t, c.Loop(), func() {
			c.Loop().SetDeadline(c, uint32(5000))
			c.Loop().SetDeadline(c, uint32(1+i%40))
			due[c] = c.Loop().Now() + uint32(1+i%40)
			if i%10 == 0 {
				c.Loop().SetDeadline(c, 0)
				delete(due, c)
			}
		})
	}
	for range len(due) {
		f := receive(t, fired)
		want, ok := due[f.c]
		if !ok {
			t.Fatal("a deadline fired twice or after it was cleared")
		}
		if f.late < want {
			t.Fatalf("fired at tick %d, due at %d", f.late, want)
		}
		due[f.c] = 0
		delete(due, f.c)
	}
	ticks := make(chan uint32, 1)
	eventually(t, "more rounds", func() bool {
		p.Loops()[0].Post(func() { ticks <- p.Loops()[0].Now() })
		return <-ticks > 200
	})
	if len(fired) != 0 {
		t.Fatal("a deadline fired twice or after it was cleared")
	}
}

func TestStopPostAndWriteRace(t *testing.T) {
	for range 20 {
		opened := make(chan *Conn, 1)
		p := launch(t, Options{}, hooks{open: func(_ *Loop, c *Conn) { opened <- c }})
		_, c := dialServed(t, listen(t, p), opened)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					_, _ = c.Write(nil, []byte("x"))
					c.Resume()
					done := make(chan struct{})
					if c.Loop().Post(func() { close(done) }) {
						<-done // what was accepted is run
					}
				}
			})
		}
		stopNow(p)
		close(stop)
		wg.Wait()
		if c.Loop().Post(func() { t.Error("ran after Stop") }) {
			t.Fatal("Post after Stop was accepted")
		}
	}
}
