package conn

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roost/proto/ws"
)

// gate is a pool route whose handler blocks on messages that say so.
type gate struct {
	hooks
	blocked chan *Conn
	open    chan struct{}
	handled atomic.Int32
}

func newGate() *gate {
	g := &gate{blocked: make(chan *Conn, 64), open: make(chan struct{})}
	g.message = func(c *Conn, op ws.Opcode, p []byte) {
		if string(p) == "block" {
			g.blocked <- c
			<-g.open
		}
		g.handled.Add(1)
		echo(c, op, p)
	}
	return g
}

// gated is a server with a gate in a pool of few workers and an inline echo route.
func gated(t *testing.T, workers int, set ...func(*Options)) (s *Server, addr string, g *gate, release func()) {
	g = newGate()
	release = sync.OnceFunc(func() { close(g.open) })
	o := Options{Workers: workers, Routes: []*Route{
		{Path: "/", Handler: g},
		{Path: "/inline", Handler: &hooks{message: echo}, Inline: true},
	}}
	for _, f := range set {
		f(&o)
	}
	s, addr = launch(t, o)
	t.Cleanup(release) // before the server is stopped
	return s, addr, g, release
}

// TestFullPool blocks all workers: the loop goes on, and all that waited is handled
// once workers are free.
func TestFullPool(t *testing.T) {
	const waiting, messages = 40, 30
	s, addr, g, release := gated(t, 2)
	for range 2 {
		connect(t, addr, "/").raw(text("block"))
		receive(t, g.blocked)
	}
	var crowd []*client
	for range waiting {
		c := connect(t, addr, "/")
		c.raw(repeat(text("a"), messages))
		crowd = append(crowd, c)
	}
	c := connect(t, addr, "/inline")
	for range 100 {
		c.raw(text("still here"))
		c.expect(ws.OpText, "still here")
	}
	eventually(t, "all wait", func() bool { return s.Stats().Waiting == waiting })
	if n := s.Stats().WorkersBusy; n != 2 {
		t.Errorf("%d workers are busy, want 2", n)
	}
	if n := g.handled.Load(); n != 0 {
		t.Errorf("%d messages handled by workers that are blocked", n)
	}
	release()
	for _, c := range crowd {
		for range messages {
			c.expect(ws.OpText, "a")
		}
	}
	eventually(t, "all rest", func() bool { st := s.Stats(); return st.Waiting == 0 && st.WorkersBusy == 0 })
	if n := g.handled.Load(); n != waiting*messages+2 {
		t.Errorf("%d messages handled, want %d", n, waiting*messages+2)
	}
}

// TestBusyPool sends a few messages and waits for the answers, over and over, with few
// workers: none may be left waiting by a worker that is just about to rest.
func TestBusyPool(t *testing.T) {
	const rounds, messages = 500, 4
	for _, tc := range []struct{ clients, workers int }{{1, 1}, {2, 1}, {8, 2}} {
		_, addr := one(t, false, &hooks{message: echo}, func(o *Options) { o.Workers, o.Poller.Loops = tc.workers, 2 })
		var wg sync.WaitGroup
		for range tc.clients {
			c := connect(t, addr, "/")
			wg.Go(func() {
				for range rounds {
					for range messages { // a segment each
						_, _ = c.Write([]byte(text("a")))
					}
					for range messages {
						if f, err := readFrame(c.br); err != nil || string(f.payload) != "a" {
							t.Errorf("%d clients, %d workers: got %q, %v", tc.clients, tc.workers, f.payload, err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
	}
}

// TestOverload: who waits for a worker for too long is told to try again later.
func TestOverload(t *testing.T) {
	var j journal
	_, addr, g, release := gated(t, 1, func(o *Options) {
		o.OverloadTime = 30 * time.Millisecond
		o.Routes = append(o.Routes, &Route{Path: "/victim", Handler: j.record(hooks{message: echo})})
	})
	holder := connect(t, addr, "/")
	holder.raw(text("block"))
	receive(t, g.blocked)
	victim := connect(t, addr, "/victim")
	victim.raw(text("a"))
	victim.expectClose(ws.CloseTryAgainLater)
	if got := j.all(); len(got) != 0 {
		t.Errorf("calls were %q without a worker", got)
	}
	release()
	holder.expect(ws.OpText, "block")
	eventually(t, "the victim's handler is told", func() bool { return strings.HasPrefix(j.last(), "close") })
	if got := j.all(); !slices.Equal(got, []string{"open", "message a", "close overload 1013"}) {
		t.Errorf("calls were %q", got)
	}
}

// TestCloseAfterReplies: on the pool, too, the close frame comes after the answers
// to all that was sent before it.
func TestCloseAfterReplies(t *testing.T) {
	for _, tc := range []struct {
		name, last string
		code       ws.CloseCode
	}{
		{"close", closing(3001), 3001},
		{"protocol error", "\xff\x80\x00\x00\x00\x00", ws.CloseProtocolError},
		{"half-close", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, addr, g, release := gated(t, 2)
			c := connect(t, addr, "/")
			c.raw(text("block"))
			receive(t, g.blocked)
			c.raw(text("a") + text("b") + tc.last)
			if tc.last == "" {
				_ = c.CloseWrite()
			}
			inline := connect(t, addr, "/inline")
			inline.raw(text("x"))
			inline.expect(ws.OpText, "x") // the loop has seen the rest by now, or will
			release()
			for _, want := range []string{"block", "a", "b"} {
				c.expect(ws.OpText, want)
			}
			if tc.last == "" {
				c.expectEnd()
			} else {
				c.expectClose(tc.code)
			}
		})
	}
}

// TestInboxBounds: what a blocked handler is sent stays in the sender's kernel,
// beyond a bound, and all of it is handled later.
func TestInboxBounds(t *testing.T) {
	const messages, size = 2000, 16 << 10
	s, addr, g, release := gated(t, 1, func(o *Options) {
		o.Poller.ReceiveBuffer = 64 << 10
		o.PingInterval, o.PongTimeout = 10*time.Millisecond, 10*time.Millisecond // nobody is asked meanwhile
	})
	c := connect(t, addr, "/")
	c.raw(text("block"))
	sc := receive(t, g.blocked)
	go func() {
		f := masked(ws.OpBinary, make([]byte, size))
		for range messages {
			if _, err := c.Write(f); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	l := sc.pc.Loop()
	taken := func() (items, bytes int, paused bool) {
		onLoop(t, l, func() {
			sc.turn.mu.Lock()
			defer sc.turn.mu.Unlock()
			items, bytes, paused = len(sc.turn.inbox), sc.turn.bytes, sc.turn.paused
		})
		return items, bytes, paused
	}
	eventually(t, "reading stops", func() bool { _, _, paused := taken(); return paused })
	in, pings := s.Stats().MessagesIn, s.Stats().Pings
	eventually(t, "many ticks", func() bool { // later than any ping would be
		var now uint32
		onLoop(t, l, func() { now = l.Now() - sc.pc.LastRead() })
		return now > 20
	})
	items, bytes, _ := taken()
	if st := s.Stats(); st.MessagesIn != in || st.Pings > pings+1 {
		t.Errorf("%d messages came in and %d pings went out while reading was stopped", st.MessagesIn-in, st.Pings-pings)
	}
	if most := s.opts.InboxBytes + 64<<10; bytes > most || items > s.opts.InboxMessages+4 {
		t.Errorf("%d messages of %d bytes wait, want up to %d bytes", items, bytes, most)
	}
	release()
	c.expect(ws.OpText, "block")
	for got := 0; got < messages; {
		f := c.frame()
		if f.op == ws.OpPing { // no answer among them
			continue
		}
		if got++; len(f.payload) != size {
			t.Fatalf("got opcode %d, %d bytes", f.op, len(f.payload))
		}
	}
	if n := g.handled.Load(); n < messages {
		t.Errorf("%d messages handled, want %d", n, messages)
	}
}
