package conn

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roost/poller"
	"roost/proto/ws"
)

// TestPeek: what Peek handles needs no worker, what it leaves goes on to the handler.
func TestPeek(t *testing.T) {
	var peeked atomic.Int32
	_, addr, g, release := gated(t, 1, func(o *Options) {
		o.Routes[0].Peek = func(c *Conn, op ws.Opcode, p []byte) bool {
			peeked.Add(1)
			if string(p) == "panic" {
				panic("told so")
			}
			return string(p) == "pong" && op == ws.OpText && c.Send(op, []byte("seen")) == nil
		}
		o.Routes[1].Peek = o.Routes[0].Peek
	})
	c := connect(t, addr, "/")
	c.raw(text("block"))
	receive(t, g.blocked)
	for range 100 {
		c.raw(text("pong"))
		c.expect(ws.OpText, "seen")
	}
	c.raw(text("a") + text("pong"))
	c.expect(ws.OpText, "seen")
	release()
	c.expect(ws.OpText, "block")
	c.expect(ws.OpText, "a")
	if peeked.Load() != 103 || g.handled.Load() != 2 {
		t.Errorf("%d messages peeked at, %d handled", peeked.Load(), g.handled.Load())
	}
	inline := connect(t, addr, "/inline")
	inline.raw(text("pong") + text("a"))
	inline.expect(ws.OpText, "seen")
	inline.expect(ws.OpText, "a")
	handled := g.handled.Load()
	for path, cl := range map[string]*client{"/": c, "/inline": inline} {
		cl.raw(text("panic") + text("never"))
		cl.expectClose(ws.CloseInternal)
		connect(t, addr, path) // others are served
	}
	if n := g.handled.Load(); n != handled {
		t.Errorf("%d messages handled after a panic", n-handled)
	}
}

// TestPeekPanic: what waits for a worker is not handled after a panic on the loop.
func TestPeekPanic(t *testing.T) {
	_, addr, g, release := gated(t, 1, func(o *Options) {
		o.Routes[0].Peek = func(_ *Conn, _ ws.Opcode, p []byte) bool {
			if string(p) == "panic" {
				panic("told so")
			}
			return false
		}
	})
	c := connect(t, addr, "/")
	c.raw(text("block"))
	receive(t, g.blocked)
	c.raw(text("a") + text("b") + text("panic"))
	c.expectClose(ws.CloseInternal)
	release()
	other := connect(t, addr, "/")
	other.raw(text("c"))
	other.expect(ws.OpText, "c")
	if n := g.handled.Load(); n != 2 {
		t.Errorf("%d messages handled, want the one that was at work and that of another", n)
	}
}

// TestRouteLimits: a route's limits go before the server's, up and down, and leave
// those of other routes alone.
func TestRouteLimits(t *testing.T) {
	h := &hooks{message: echo}
	_, addr := launch(t, Options{MaxMessage: 1000, Routes: []*Route{
		{Path: "/", Handler: h},
		{Path: "/small", Handler: h, MaxMessage: 100},
		{Path: "/large", Handler: h, MaxMessage: 100_000},
	}})
	for path, most := range map[string]int{"/": 1000, "/small": 100, "/large": 100_000} {
		c := connect(t, addr, path)
		c.raw(text(repeat("x", most)))
		c.expect(ws.OpText, repeat("x", most))
		c.raw(text(repeat("x", most+1)))
		c.expectClose(ws.CloseTooBig)
	}
	_, addr = launch(t, Options{MaxMessage: 1000, MaxFrame: 10, Routes: []*Route{{Path: "/", Handler: h, MaxMessage: 5000}}})
	c := connect(t, addr, "/")
	c.raw(text(repeat("x", 11)))
	c.expectClose(ws.CloseTooBig)
}

func TestRouteHardLimit(t *testing.T) {
	var j journal
	flood := func(c *Conn, _ ws.Opcode, _ []byte) {
		for range 100 {
			if c.Send(ws.OpBinary, make([]byte, 64<<10)) != nil {
				return
			}
		}
		c.SetSession("all sent")
	}
	sent := make(chan any, 1)
	s, addr := launch(t, Options{HardLimit: 64 << 20, SoftTime: time.Hour, Poller: poller.Options{SendBuffer: 64 << 10}, Routes: []*Route{
		{Path: "/", Handler: &hooks{message: func(c *Conn, op ws.Opcode, p []byte) { flood(c, op, p); sent <- c.Session() }}},
		{Path: "/small", Handler: j.record(hooks{message: flood}), HardLimit: 1 << 20},
	}})
	for _, path := range []string{"/", "/small"} {
		c := connect(t, addr, path)
		_ = c.tcp().SetReadBuffer(64 << 10)
		c.raw(text("a"))
	}
	if got := receive(t, sent); got != "all sent" {
		t.Errorf("the server's limit cut a queue of 6 MiB")
	}
	eventually(t, "cut", func() bool { return j.last() == "close slow_consumer 1006" })
	if st := s.Stats(); st.Closed["slow_consumer"] != 1 {
		t.Errorf("closed %v", st.Closed)
	}
}

// each calls f for all connections, in whatever state, on their loops.
func each(t *testing.T, s *Server, f func(l *poller.Loop, pc *poller.Conn)) {
	for _, h := range s.loops {
		onLoop(t, h.loop, func() { h.loop.Each(0, 1<<20, func(pc *poller.Conn) { f(h.loop, pc) }) })
	}
}

// TestGet finds upgraded connections only, on their own loops only.
func TestGet(t *testing.T) {
	d := newDoor()
	conns := make(chan *Conn, 1)
	s, addr := launch(t, Options{Poller: pollerLoops(2), Routes: []*Route{
		{Path: "/", Handler: &hooks{open: func(c *Conn) { conns <- c }}},
		{Path: "/door", Handler: new(hooks), Admit: d.admit},
	}})
	asked := dial(t, addr)
	asked.raw(upgradeRequest("/door"))
	receive(t, d.asked)
	dial(t, addr).raw("GET ")
	eventually(t, "both there", func() bool { return s.Poller().Live() == 2 })
	each(t, s, func(l *poller.Loop, pc *poller.Conn) {
		if c := Get(l, pc.Handle()); c != nil {
			t.Errorf("found a connection in state %d", c.state)
		}
	})
	cl := connect(t, addr, "/")
	c := receive(t, conns)
	name := c.Handle()
	for _, l := range s.Poller().Loops() {
		onLoop(t, l, func() {
			if got := Get(l, name); (got == c) != (l == c.Loop()) || got != nil && got != c {
				t.Errorf("loop %d has %p, the connection is %p on loop %d", l.Index(), got, c, c.Loop().Index())
			}
		})
	}
	_ = cl.Close()
	eventually(t, "gone", func() bool {
		var got *Conn
		onLoop(t, c.Loop(), func() { got = Get(c.Loop(), name) })
		return got == nil
	})
}

// TestPushPrepared pushes among other writes: all come, in order, and compressed
// where that is agreed. What is being closed gets nothing.
func TestPushPrepared(t *testing.T) {
	const clients, rounds = 20, 50
	long := repeat("roost ", 500)
	conns := make(chan *Conn, clients)
	s, addr := one(t, false, &hooks{open: func(c *Conn) { conns <- c }}, func(o *Options) { o.Poller.Loops = 1 })
	var crowd []*client
	var there []*Conn
	for range clients {
		crowd = append(crowd, connect(t, addr, "/", "Sec-WebSocket-Extensions: permessage-deflate"))
		there = append(there, receive(t, conns))
	}
	l := s.Poller().Loops()[0]
	for range rounds {
		p, q := ws.NewPrepared(ws.OpText, []byte(long)), ws.NewPrepared(ws.OpText, []byte("second"))
		onLoop(t, l, func() {
			for _, c := range there {
				if c.PushPrepared(p) != nil || c.Send(ws.OpText, []byte("first")) != nil || c.PushPrepared(q) != nil {
					t.Error("a write failed")
				}
			}
		})
	}
	for _, c := range crowd {
		for range rounds {
			f := c.frame()
			if got, err := ws.AppendInflated(nil, f.payload, 1<<20); !f.deflated || err != nil || string(got) != long {
				t.Fatalf("%d bytes, deflated %v, %v", len(got), f.deflated, err)
			}
			c.expect(ws.OpText, "first")
			c.expect(ws.OpText, "second")
		}
	}
	if n := s.Stats().MessagesOut; n != 3*clients*rounds {
		t.Errorf("%d messages out, want %d", n, 3*clients*rounds)
	}
	there[0].Close(4000, "")
	onLoop(t, l, func() {
		if err := there[0].PushPrepared(ws.NewPrepared(ws.OpText, nil)); err != poller.ErrClosed {
			t.Errorf("a push after Close: %v", err)
		}
	})
	crowd[0].expectClose(4000)
}

// TestPongsAreNoMessages: answers to pings do not count as messages, and are held to
// the limits all the same.
func TestPongsAreNoMessages(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		s, addr := one(t, inline, &hooks{message: echo}, func(o *Options) {
			o.HardLimit, o.SoftTime, o.Poller.SendBuffer = 1<<20, time.Hour, 64<<10
		})
		c := connect(t, addr, "/")
		c.raw(repeat(string(masked(ws.OpPing, []byte("p"))), 10) + text("a"))
		for range 10 {
			c.expect(ws.OpPong, "p")
		}
		c.expect(ws.OpText, "a")
		if n := s.Stats().MessagesOut; n != 1 {
			t.Errorf("%d messages out, want 1", n)
		}
		flood := []byte(repeat(string(masked(ws.OpPing, make([]byte, 125))), 1000))
		_ = c.tcp().SetReadBuffer(64 << 10)
		for { // reads no pong
			if _, err := c.Write(flood); err != nil {
				break
			}
		}
		eventually(t, "cut", func() bool { return s.Stats().Closed["slow_consumer"] == 1 })
	})
}

// TestShutdownAfterReplies: a client whose messages are with the pool is told of the
// end after the answers; what it sends from then on is not handled.
func TestShutdownAfterReplies(t *testing.T) {
	s, addr, g, release := gated(t, 1)
	c := connect(t, addr, "/")
	c.raw(text("block"))
	sc := receive(t, g.blocked)
	c.raw(text("a") + text("b"))
	eventually(t, "all is read", func() bool { return s.Stats().MessagesIn == 3 })
	rests := connect(t, addr, "/inline")
	done := make(chan error)
	go func() { done <- s.Shutdown(context.Background()) }()
	rests.expectClose(ws.CloseGoingAway)
	eventually(t, "its end is planned", func() bool {
		var st state
		onLoop(t, sc.Loop(), func() { st = sc.state })
		return st == stateClosing
	})
	c.raw(text("too late"))
	release()
	for _, want := range []string{"block", "a", "b"} {
		c.expect(ws.OpText, want)
	}
	c.expectClose(ws.CloseGoingAway)
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
	if n := g.handled.Load(); n != 3 {
		t.Errorf("%d messages handled, want 3", n)
	}
}

// TestShutdownBlocked: a handler that does not come back keeps its client from being
// told for half of the time only.
func TestShutdownBlocked(t *testing.T) {
	s, addr, g, release := gated(t, 1)
	c := connect(t, addr, "/")
	c.raw(text("block"))
	receive(t, g.blocked)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	done := make(chan error)
	go func() { done <- s.Shutdown(ctx) }()
	c.expectClose(ws.CloseGoingAway)
	release()
	_ = receive(t, done)
}

func TestOriginPatterns(t *testing.T) {
	good := []string{"*", "null", "NULL", "file://", "app.test", "App.Test", "localhost", "app.test:8443", "*.app.test", "*.app.test:8443",
		"https://app.test", "http://localhost:3000", "https://*", "https://*.app.test", "capacitor://localhost",
		"chrome-extension://abcdefgh", "127.0.0.1:8000", "[::1]", "[::1]:8000", "http://[::1]:8000", "xn--mnchen-3ya.test", "a_b.test"}
	for _, p := range good {
		s, err := New(with(new(hooks), func(o *Options) { o.AllowedOrigins = []string{"ok.test", p} }))
		if err != nil {
			t.Errorf("%q is refused: %v", p, err)
			continue
		}
		stopNow(s)
	}
	for p, want := range map[string]string{
		"":                       "empty",
		" ":                      "spaces",
		"app.test ":              "spaces",
		"a.test,b.test":          "list",
		"a.test b.test":          "spaces",
		"münchen.test":           "Punycode",
		"https://app.test/":      "path",
		"app.test/chat":          "path",
		"https://u@app.test":     "user",
		"wss://app.test":         "http or https",
		"://app.test":            "scheme",
		"1x://app.test":          "scheme",
		"https://":               "empty",
		"https://*app.test":      "*.",
		"*app.test":              "*.",
		"app.*.test":             "*.",
		"**":                     "*.",
		"*.":                     "empty",
		"app..test":              "empty part",
		".app.test":              "empty part",
		"app.test:":              "port",
		"app.test:0":             "port",
		"app.test:99999":         "port",
		"app.test:http":          "port",
		"app.test:*":             "port",
		"::1":                    "IPv6",
		"[::1":                   "IPv6",
		"[::1]x":                 "IPv6",
		"[app.test]":             "IPv6",
		"https://a.test https:/": "spaces",
	} {
		s, err := New(with(new(hooks), func(o *Options) { o.AllowedOrigins = []string{"ok.test", p} }))
		if err == nil {
			stopNow(s)
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "conn: allowed origin ") {
			t.Errorf("%q: error %v, want one about %q", p, err, want)
		}
	}
	for _, p := range good { // what passes can match what it says
		origin := strings.Replace(p, "*", "any", 1)
		if !strings.Contains(origin, "://") && !strings.EqualFold(p, "null") {
			origin = "https://" + origin
		}
		r := &http.Request{Host: "else.test", Header: http.Header{"Origin": {origin}}}
		if err := ws.CheckOrigin(r, []string{p}); err != nil {
			t.Errorf("%q does not match %q: %v", p, origin, err)
		}
	}
}

func TestRouteValidation(t *testing.T) {
	for _, set := range []func(r *Route){
		func(r *Route) { r.MaxMessage = -1 },
		func(r *Route) { r.HardLimit = -1 },
		func(r *Route) { r.FirstBeat = -1 },
	} {
		o := with(new(hooks), func(o *Options) { set(o.Routes[0]) })
		if s, err := New(o); err == nil || !strings.Contains(err.Error(), "must not be negative") {
			t.Errorf("error %v", err)
			if s != nil {
				stopNow(s)
			}
		}
	}
}
