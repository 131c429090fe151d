package conn

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"roost/poller"
	"roost/proto/ws"
)

// end is one way for a connection to end.
type end struct {
	name    string
	set     func(o *Options)
	message func(c *Conn, op ws.Opcode, p []byte) // nil: echo
	// client plays the client until it has seen the end; the connection is upgraded.
	client func(s *Server, c *client)
	want   string // the handler's last line
}

var ends = []end{
	{name: "peer closes with a code", want: "close peer_closed 4321",
		client: func(_ *Server, c *client) {
			c.raw(text("a") + text("b") + closing(4321))
			c.expect(ws.OpText, "a")
			c.expect(ws.OpText, "b")
			c.expectClose(4321)
		}},
	{name: "peer closes without a code", want: "close peer_closed 1005",
		client: func(_ *Server, c *client) {
			c.raw(text("a") + string(masked(ws.OpClose, nil)))
			c.expect(ws.OpText, "a")
			c.expectClose(0)
		}},
	{name: "peer gone", want: "close peer_gone 1006",
		client: func(_ *Server, c *client) {
			c.raw(text("a"))
			c.expect(ws.OpText, "a")
			_ = c.Close()
		}},
	{name: "half-close", want: "close peer_gone 1006",
		client: func(_ *Server, c *client) {
			c.raw(text("a") + text("b"))
			_ = c.CloseWrite()
			c.expect(ws.OpText, "a")
			c.expect(ws.OpText, "b")
			c.expectEnd()
		}},
	{name: "reset", want: "close read_error 1006",
		client: func(_ *Server, c *client) {
			c.raw(text("a"))
			c.expect(ws.OpText, "a")
			_ = c.tcp().SetLinger(0)
			_ = c.Close()
		}},
	{name: "protocol error", want: "close protocol 1002",
		client: func(_ *Server, c *client) {
			c.raw(text("a") + text("b") + "\xc1\x80\x00\x00\x00\x00")
			c.expect(ws.OpText, "a")
			c.expect(ws.OpText, "b")
			c.expectClose(ws.CloseProtocolError)
		}},
	{name: "message too big", want: "close protocol 1009",
		set: func(o *Options) { o.MaxMessage = 100 },
		client: func(_ *Server, c *client) {
			c.raw(text("a") + text(repeat("x", 101)))
			c.expect(ws.OpText, "a")
			c.expectClose(ws.CloseTooBig)
		}},
	{name: "invalid UTF-8", want: "close protocol 1007",
		client: func(_ *Server, c *client) {
			c.raw(text("a") + text("\xff"))
			c.expect(ws.OpText, "a")
			c.expectClose(ws.CloseInvalidPayload)
		}},
	{name: "Close", want: "close application 4001",
		message: func(c *Conn, op ws.Opcode, p []byte) {
			_ = c.Reply(op, p)
			c.Close(4001, "enough")
			c.Close(4002, "too late")
		},
		client: func(_ *Server, c *client) {
			c.raw(text("a"))
			c.expect(ws.OpText, "a")
			c.expectClose(4001)
		}},
	{name: "Close with a code that must not be sent", want: "close application 1000",
		message: func(c *Conn, _ ws.Opcode, _ []byte) { c.Close(ws.CloseAbnormal, "\xff") },
		client: func(_ *Server, c *client) {
			c.raw(text("a"))
			c.expectClose(ws.CloseNormal)
		}},
	{name: "Cut", want: "close application 1006",
		message: func(c *Conn, _ ws.Opcode, _ []byte) { c.Cut() },
		client: func(_ *Server, c *client) {
			c.raw(text("a"))
			c.expectCut()
		}},
	{name: "panic", want: "close panic 1011",
		message: func(c *Conn, op ws.Opcode, p []byte) {
			_ = c.Reply(op, p)
			panic("told so")
		},
		client: func(_ *Server, c *client) {
			c.raw(text("a"))
			c.expect(ws.OpText, "a")
			c.expectClose(ws.CloseInternal)
		}},
	{name: "shutdown", want: "close shutdown 1001",
		client: func(s *Server, c *client) {
			c.raw(text("a"))
			c.expect(ws.OpText, "a")
			go stopNow(s)
			c.expectClose(ws.CloseGoingAway)
		}},
	{name: "no pong", want: "close no_pong 1008",
		set: func(o *Options) { o.PingInterval, o.PongTimeout = 20*time.Millisecond, 20*time.Millisecond },
		client: func(_ *Server, c *client) {
			c.expect(ws.OpPing, "")
			c.expectClose(ws.ClosePolicy)
		}},
	{name: "rate limit", want: "close rate_limit 1008",
		set: func(o *Options) { o.MessageRate, o.MessageBurst = 1, 3 },
		client: func(_ *Server, c *client) {
			c.raw(repeat(text("a"), 50))
			c.expectClose(ws.ClosePolicy)
		}},
	{name: "hard limit", want: "close slow_consumer 1006",
		set: func(o *Options) { o.HardLimit, o.Poller.SendBuffer = 1<<20, 64<<10 },
		message: func(c *Conn, _ ws.Opcode, _ []byte) {
			for c.Send(ws.OpBinary, make([]byte, 32<<10)) == nil {
			}
		},
		client: func(_ *Server, c *client) { c.raw(text("a")) }},
	{name: "soft limit", want: "close slow_consumer 1006",
		set: func(o *Options) {
			o.HardLimit, o.SoftLimit, o.SoftTime = 64<<20, 1<<20, 20*time.Millisecond
			o.Poller.SendBuffer = 64 << 10
		},
		message: func(c *Conn, _ ws.Opcode, _ []byte) { _ = c.Send(ws.OpBinary, make([]byte, 4<<20)) },
		client: func(_ *Server, c *client) {
			_ = c.tcp().SetReadBuffer(64 << 10)
			c.raw(text("a"))
		}},
	{name: "soft limit reached while blocked", want: "close slow_consumer 1006",
		set: func(o *Options) {
			o.HardLimit, o.SoftLimit, o.SoftTime = 64<<20, 5<<20, 20*time.Millisecond
			o.Poller.SendBuffer = 64 << 10
		},
		message: func(c *Conn, _ ws.Opcode, _ []byte) { _ = c.Send(ws.OpBinary, make([]byte, 4<<20)) },
		client: func(s *Server, c *client) { // the second comes when the socket takes no more
			_ = c.tcp().SetReadBuffer(64 << 10)
			c.raw(text("a"))
			eventually(c.t, "blocked", func() bool { return s.Stats().Poller.Blocked > 0 })
			c.raw(text("b"))
		}},
}

// TestEnds holds every end to: Open once, messages, Close once, with the same
// reason and code on the loop and in the pool, and what the client sees of it.
func TestEnds(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, inline bool) { testEnd(t, e, inline) })
		})
	}
}

func testEnd(t *testing.T, e end, inline bool) {
	var j, others journal
	if e.message == nil {
		e.message = echo
	}
	if e.set == nil {
		e.set = func(*Options) {}
	}
	s, addr := launchEnd(t, e, inline, &j, &others)
	bystander := connect(t, addr, "/bystander")
	e.client(s, connect(t, addr, "/"))
	eventually(t, e.want, func() bool { return strings.HasPrefix(j.last(), "close") })
	if e.want != "close shutdown 1001" && s.opts.PingInterval > time.Second { // else it has ended, too
		bystander.raw(text("still here"))
		bystander.expect(ws.OpText, "still here")
	}
	_ = bystander.Close()
	stopNow(s)
	lines := j.all()
	for i, line := range lines {
		var ok bool
		switch i {
		case 0:
			ok = line == "open"
		case len(lines) - 1:
			ok = line == e.want
		default:
			ok = strings.HasPrefix(line, "message ")
		}
		if !ok {
			t.Fatalf("calls were %q, want open, messages, %s", lines, e.want)
		}
	}
	if st := s.Stats(); st.Open != 0 || st.Upgrades != 2 {
		t.Errorf("%d open and %d upgrades after the end", st.Open, st.Upgrades)
	}
}

func launchEnd(t *testing.T, e end, inline bool, j, others *journal) (*Server, string) {
	o := Options{Routes: []*Route{
		{Path: "/", Inline: inline, Handler: j.record(hooks{message: e.message})},
		{Path: "/bystander", Inline: inline, Handler: others.record(hooks{message: echo})},
	}}
	e.set(&o)
	return launch(t, o)
}

func TestPanicEverywhere(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		var j journal
		s, addr := one(t, inline, j.record(hooks{
			open:  func(*Conn) { panic("open") },
			close: func(*Conn, Reason, ws.CloseCode) { panic("close") },
		}))
		for range 3 {
			connect(t, addr, "/").expectClose(ws.CloseInternal)
		}
		eventually(t, "all closed", func() bool { return len(j.all()) == 6 })
		stopNow(s)
		want := []string{"close panic 1011", "close panic 1011", "close panic 1011", "open", "open", "open"}
		if got := j.all(); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("calls were %q", got)
		}
	})
}

func TestNoMessagesAfterPanic(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		var j journal
		s, addr := one(t, inline, j.record(hooks{message: func(*Conn, ws.Opcode, []byte) { panic("told so") }}))
		c := connect(t, addr, "/")
		c.raw(repeat(text("a"), 20))
		c.expectClose(ws.CloseInternal)
		stopNow(s)
		if got := j.all(); len(got) != 3 {
			t.Errorf("calls were %q", got)
		}
	})
}

func TestHandshakeLate(t *testing.T) {
	var j journal
	s, addr := one(t, true, j.record(hooks{}), func(o *Options) { o.HandshakeTimeout = 20 * time.Millisecond })
	c := dial(t, addr)
	c.raw("GET / HTTP/1.1\r\n")
	if resp := c.response(http.MethodGet); resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("answered with %s", resp.Status)
	}
	_ = c.CloseWrite()
	eventually(t, "counted", func() bool { return s.Stats().Closed["handshake_timeout"] == 1 })
	if st := s.Stats(); st.HandshakeErrors["timeout"] != 1 || len(j.all()) != 0 {
		t.Errorf("handshake errors %v, calls %q", st.HandshakeErrors, j.all())
	}
}

// TestAbortedUpgrade resets connections around the upgrade: whoever hears of Open
// hears of Close, and nobody else does.
func TestAbortedUpgrade(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		var j journal
		s, addr := one(t, inline, j.record(hooks{message: echo}))
		for i := range 300 {
			c := dial(t, addr)
			_ = c.tcp().SetLinger(0)
			req := upgradeRequest("/")
			c.raw(req[:len(req)-i%3])
			_ = c.Close()
		}
		eventually(t, "all gone", func() bool { return s.Poller().Live() == 0 })
		stopNow(s)
		opens := 0
		for _, line := range j.all() {
			if line == "open" {
				opens++
			}
		}
		if n := len(j.all()); n != 2*opens {
			t.Errorf("%d opens, but %d calls in all", opens, n)
		}
		if st := s.Stats(); st.Open != 0 || st.Upgrades != uint64(opens) {
			t.Errorf("%d opens, statistics say %d upgrades, %d open", opens, st.Upgrades, st.Open)
		}
	})
}

func TestReasonsHaveLabels(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		if l := Label(r); l == "unknown" || seen[l] {
			t.Errorf("reason %d has the label %q", r, l)
		}
		seen[Label(r)] = true
	}
	for r := ReasonPeerClosed; r < reasonCount; r++ {
		if !slices.Contains(Reasons(), r) {
			t.Errorf("reason %d has no label", r)
		}
	}
	if got := Label(200); got != "unknown" {
		t.Errorf("reason 200 has the label %q", got)
	}
	if len(Reasons()) != int(reasonCount-ReasonPeerClosed)+int(poller.ReasonRecord)+1 {
		t.Errorf("there are %d reasons", len(Reasons()))
	}
}
