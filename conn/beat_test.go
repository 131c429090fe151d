package conn

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"roost/poller"
	"roost/proto/ws"
)

func pollerLoops(n int) poller.Options { return poller.Options{Loops: n} }

// metronome is a Beat that comes every few ticks and remembers when it came.
type metronome struct {
	every time.Duration
	count atomic.Int32
	ticks []uint32 // the loop's own
}

func (m *metronome) beat(c *Conn) time.Duration {
	m.ticks = append(m.ticks, c.loop().loop.Now())
	m.count.Add(1)
	return m.every
}

// beating is a server whose route "/" has a Beat.
func beating(t *testing.T, inline bool, first time.Duration, beat func(*Conn) time.Duration, h Handler, set ...func(*Options)) (*Server, string) {
	return one(t, inline, h, append(set, func(o *Options) {
		o.Routes[0].FirstBeat, o.Routes[0].Beat = first, beat
	})...)
}

// TestBeat: beats come, never early, and instead of pings.
func TestBeat(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		const first, next = 10, 3 // ticks
		m := &metronome{every: next * 5 * time.Millisecond}
		s, addr := beating(t, inline, first*5*time.Millisecond, m.beat, &hooks{message: echo}, func(o *Options) {
			o.PingInterval, o.PongTimeout = 10*time.Millisecond, 10*time.Millisecond
		})
		c := connect(t, addr, "/")
		eventually(t, "many beats", func() bool { return m.count.Load() >= 10 })
		c.raw(text("a"))
		c.expect(ws.OpText, "a") // no ping before it
		onLoop(t, s.loops[0].loop, func() {
			for i := 1; i < len(m.ticks); i++ {
				if d := m.ticks[i] - m.ticks[i-1]; d < next {
					t.Errorf("beat %d came after %d ticks, want %d at least", i, d, next)
				}
			}
		})
		if n := s.Stats().Pings; n != 0 {
			t.Errorf("%d pings besides the beats", n)
		}
	})
}

// TestFirstBeat gives 4,500 connections one beat each, those of a second chunk and of
// reused slots too.
func TestFirstBeat(t *testing.T) {
	const n, again = beatChunk + 400, 300
	var beats, early atomic.Int32
	_, addr := beating(t, true, 20*time.Millisecond, func(c *Conn) time.Duration {
		beats.Add(1)
		if at := c.Session().(uint32); c.loop().loop.Now()-at < 4 {
			early.Add(1)
		}
		return time.Hour
	}, &hooks{open: func(c *Conn) { c.SetSession(c.loop().loop.Now()) }}, func(o *Options) { o.Poller.Loops = 1 })
	fds := rawCrowd(t, addr, n)
	eventually(t, "a beat each", func() bool { return beats.Load() == n })
	closeCrowd(fds[:again])
	rawCrowd(t, addr, again)
	eventually(t, "a beat for each new one", func() bool { return beats.Load() == n+again })
	if early.Load() != 0 {
		t.Errorf("%d beats came early", early.Load())
	}
}

// TestBeatAfter brings a far beat near, and one that is near away.
func TestBeatAfter(t *testing.T) {
	m := &metronome{every: time.Hour}
	conns := make(chan *Conn, 2)
	_, addr := beating(t, true, time.Hour, m.beat, &hooks{open: func(c *Conn) { conns <- c }})
	connect(t, addr, "/")
	c := receive(t, conns)
	for i, d := range []time.Duration{10 * time.Millisecond, 0, -time.Hour} {
		onLoop(t, c.Loop(), func() { c.BeatAfter(d) })
		eventually(t, "a beat", func() bool { return m.count.Load() == int32(i+1) })
	}
	var since uint32
	onLoop(t, c.Loop(), func() {
		c.BeatAfter(10 * time.Millisecond)
		c.BeatAfter(1 << 62) // longer than ticks can tell
		since = c.loop().loop.Now()
	})
	eventually(t, "many ticks", func() bool {
		var now uint32
		onLoop(t, c.Loop(), func() { now = c.loop().loop.Now() })
		return now-since > 40
	})
	if n := m.count.Load(); n != 3 {
		t.Errorf("%d beats, want 3", n)
	}
}

func TestBeatAfterWithout(t *testing.T) {
	conns := make(chan *Conn, 1)
	_, addr := one(t, true, &hooks{open: func(c *Conn) { conns <- c }, message: echo})
	cl := connect(t, addr, "/")
	c := receive(t, conns)
	onLoop(t, c.Loop(), func() { c.BeatAfter(time.Millisecond) })
	cl.raw(text("a"))
	cl.expect(ws.OpText, "a")
}

// TestBeatPings: a Beat that returns 0 leaves the client to the pings; one who answers
// stays, one who does not goes.
func TestBeatPings(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		var j journal
		m := new(metronome)
		s, addr := beating(t, inline, 5*time.Millisecond, m.beat, j.record(hooks{}), func(o *Options) {
			o.PingInterval, o.PongTimeout = 20*time.Millisecond, time.Second
		})
		c := connect(t, addr, "/")
		for range 3 {
			c.expect(ws.OpPing, "")
			c.raw(string(masked(ws.OpPong, nil)))
		}
		c.expect(ws.OpPing, "")
		c.expectClose(ws.ClosePolicy)
		eventually(t, "told", func() bool { return j.last() == "close no_pong 1008" })
		if n, pings := m.count.Load(), s.Stats().Pings; pings < 4 || uint64(n) < pings {
			t.Errorf("%d beats, %d pings", n, pings)
		}
	})
}

// TestBeatSlow: beats go on while a client reads too slowly, and do not save it.
func TestBeatSlow(t *testing.T) {
	for _, tc := range []struct {
		name string
		soft time.Duration
	}{{"long soft time", time.Hour}, {"short soft time", 200 * time.Millisecond}} {
		t.Run(tc.name, func(t *testing.T) {
			m := &metronome{every: 5 * time.Millisecond}
			var j journal
			s, addr := beating(t, true, 5*time.Millisecond, m.beat, j.record(hooks{message: func(c *Conn, _ ws.Opcode, _ []byte) {
				_ = c.Send(ws.OpBinary, make([]byte, 4<<20))
			}}), func(o *Options) {
				o.HardLimit, o.SoftLimit, o.SoftTime, o.Poller.SendBuffer = 64<<20, 1<<20, tc.soft, 64<<10
			})
			c := connect(t, addr, "/")
			_ = c.tcp().SetReadBuffer(64 << 10)
			c.raw(text("a"))
			var began int32
			eventually(t, "over the soft limit, or cut", func() bool {
				var timed int
				onLoop(t, s.loops[0].loop, func() { timed = len(s.loops[0].soft) })
				began = m.count.Load()
				return timed == 1 || s.Stats().Closed["slow_consumer"] == 1
			})
			if tc.soft > time.Second {
				eventually(t, "beats", func() bool { return m.count.Load() >= began+5 })
				if st := s.Stats(); st.Open != 1 {
					t.Errorf("closed before its time: %v", st.Closed)
				}
				return
			}
			eventually(t, "cut", func() bool { return j.last() == "close slow_consumer 1006" })
			onLoop(t, s.loops[0].loop, func() {
				if n := len(s.loops[0].soft); n != 0 {
					t.Errorf("%d slow readers are remembered", n)
				}
			})
		})
	}
}

// TestBeatOverload: beats go on while a connection waits for a worker, for which its
// patience is what it is without them.
func TestBeatOverload(t *testing.T) {
	for _, tc := range []struct {
		name                  string
		every, first, patient time.Duration
	}{
		{"beats while it waits", 5 * time.Millisecond, 5 * time.Millisecond, time.Hour},
		{"overload between beats", time.Hour, time.Hour, 50 * time.Millisecond},
		{"overload among beats", 5 * time.Millisecond, 5 * time.Millisecond, 200 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &metronome{every: tc.every}
			s, addr, g, _ := gated(t, 1, func(o *Options) {
				o.OverloadTime = tc.patient
				o.Routes = append(o.Routes, &Route{Path: "/beat", Handler: &hooks{message: echo}, Beat: m.beat, FirstBeat: tc.first})
			})
			connect(t, addr, "/").raw(text("block"))
			receive(t, g.blocked)
			c := connect(t, addr, "/beat")
			c.raw(text("a"))
			if tc.patient == time.Hour {
				eventually(t, "waits", func() bool { return s.Stats().Waiting == 1 })
				began := m.count.Load()
				eventually(t, "beats", func() bool { return m.count.Load() >= began+3 })
			}
			if tc.patient < time.Hour {
				c.expectClose(ws.CloseTryAgainLater)
			}
		})
	}
}

// TestBeatPaused: while reading is stopped there are neither beats nor pings, as the
// answer would not be read; afterwards there are.
func TestBeatPaused(t *testing.T) {
	for _, beats := range []bool{true, false} {
		m := &metronome{every: 5 * time.Millisecond}
		conns := make(chan *Conn, 1)
		var s *Server
		var addr string
		h := &hooks{message: func(c *Conn, op ws.Opcode, p []byte) {
			echo(c, op, p)
			if string(p) == "pause" {
				c.Pause()
				conns <- c
			}
		}}
		ping := func(o *Options) { o.PingInterval, o.PongTimeout = 10*time.Millisecond, 10*time.Millisecond }
		if beats {
			s, addr = beating(t, true, 5*time.Millisecond, m.beat, h, ping)
		} else {
			s, addr = one(t, true, h, ping)
		}
		cl := connect(t, addr, "/")
		cl.raw(text("pause"))
		c := receive(t, conns)
		var calls, pings, since uint32
		now := func() (calls, pings, tick uint32) {
			onLoop(t, c.Loop(), func() { tick = c.loop().loop.Now() })
			return uint32(m.count.Load()), uint32(s.Stats().Pings), tick
		}
		calls, pings, since = now()
		eventually(t, "many ticks", func() bool { _, _, tick := now(); return tick-since > 60 })
		if n, p, _ := now(); n != calls || p != pings {
			t.Errorf("beats %v: %d beats and %d pings while paused", beats, n-calls, p-pings)
		}
		c.Resume()
		if beats {
			eventually(t, "beats again", func() bool { return uint32(m.count.Load()) > calls })
			continue
		}
		for f := cl.frame(); f.op != ws.OpPing || uint32(s.Stats().Pings) == pings; f = cl.frame() {
			if f.op == ws.OpPing {
				cl.raw(string(masked(ws.OpPong, nil)))
			}
		}
	}
}

func TestBeatEnds(t *testing.T) {
	for _, tc := range []struct {
		name string
		beat func(c *Conn) time.Duration
		code ws.CloseCode
		want string
	}{
		{"panic", func(*Conn) time.Duration { panic("told so") }, ws.CloseInternal, "close panic 1011"},
		{"close", func(c *Conn) time.Duration { c.Close(3012, "no pong"); return time.Millisecond }, 3012, "close application 3012"},
		{"close and ping", func(c *Conn) time.Duration { c.Close(3012, "no pong"); return 0 }, 3012, "close application 3012"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, inline bool) {
				var j journal
				s, addr := beating(t, inline, 5*time.Millisecond, tc.beat, j.record(hooks{message: echo}))
				connect(t, addr, "/").expectClose(tc.code)
				stopNow(s)
				if got := j.all(); !slices.Equal(got, []string{"open", tc.want}) {
					t.Errorf("calls were %q", got)
				}
			})
		})
	}
}

// TestBeatAfterKeeps: a beat that is put off does not take the other deadlines along,
// and those do not bring it forward.
func TestBeatAfterKeeps(t *testing.T) {
	m := &metronome{every: time.Hour}
	var j journal
	conns := make(chan *Conn, 2)
	h := hooks{open: func(c *Conn) { conns <- c }, message: func(c *Conn, _ ws.Opcode, _ []byte) {
		_ = c.Send(ws.OpBinary, make([]byte, 4<<20))
	}}
	s, addr, g, _ := gated(t, 1, func(o *Options) {
		o.HardLimit, o.SoftLimit, o.SoftTime, o.Poller.SendBuffer = 64<<20, 1<<20, time.Second, 64<<10
		o.OverloadTime, o.Poller.Loops = 100*time.Millisecond, 1
		o.Routes = append(o.Routes,
			&Route{Path: "/slow", Handler: j.record(h), Inline: true, Beat: m.beat, FirstBeat: time.Hour},
			&Route{Path: "/waits", Handler: new(hooks), Beat: m.beat, FirstBeat: time.Hour})
	})
	soft := func() (n int) {
		onLoop(t, s.loops[0].loop, func() { n = len(s.loops[0].soft) })
		return n
	}
	for _, reads := range []bool{true, false} {
		c := connect(t, addr, "/slow")
		_ = c.tcp().SetReadBuffer(64 << 10)
		sc := receive(t, conns)
		c.raw(text("a"))
		eventually(t, "over the soft limit, or cut", func() bool { return soft() == 1 || s.Stats().Open == 0 })
		onLoop(t, sc.Loop(), func() { sc.BeatAfter(time.Hour) })
		if reads {
			_ = c.frame()
			eventually(t, "its time is over", func() bool { return soft() == 0 })
			_ = c.Close()
			eventually(t, "gone", func() bool { return s.Stats().Open == 0 })
			continue
		}
		eventually(t, "cut", func() bool { return j.last() == "close slow_consumer 1006" })
	}
	connect(t, addr, "/").raw(text("block"))
	receive(t, g.blocked)
	c := connect(t, addr, "/waits")
	each(t, s, func(_ *poller.Loop, pc *poller.Conn) { connOf(pc).BeatAfter(time.Hour) })
	c.expectClose(ws.CloseTryAgainLater)
	if n := m.count.Load(); n != 0 {
		t.Errorf("%d beats an hour early", n)
	}
}
