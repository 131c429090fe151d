package loadtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestEveryScenarioAgainstAnHonestServer(t *testing.T) {
	for _, c := range []struct {
		name   string
		server *testServer
		set    func(o *Options)
	}{
		{"idle", &testServer{}, func(o *Options) { o.Scenario = Idle }},
		{"echo", &testServer{}, func(o *Options) {}},
		{"echo open loop", &testServer{}, func(o *Options) { o.Rate = 20_000 }},
		{"echo ramp", &testServer{}, func(o *Options) { o.Rate, o.Ramp = 20_000, 10*time.Millisecond }},
		{"echo by time", &testServer{}, func(o *Options) { o.Messages, o.Duration = 0, 50*time.Millisecond }},
		{"echo, smallest", &testServer{}, func(o *Options) { o.Size = headerSize }},
		{"echo, large", &testServer{}, func(o *Options) { o.Size = 1 << 20; o.Messages = 10 }},
		{"echo in pieces", &testServer{split: true}, func(o *Options) { o.Messages = 40 }},
		{"echo deflated", &testServer{deflate: true}, func(o *Options) { o.Deflate = true }},
		{"echo, deflate declined", &testServer{}, func(o *Options) { o.Deflate = true }},
		{"echo, two loops", &testServer{}, func(o *Options) { o.Threads = 2 }},
		{"echo, two processes", &testServer{}, func(o *Options) { o.Processes = 2 }},
		{"echo, sources", &testServer{}, func(o *Options) { o.Sources = 3 }},
		{"fanout", &testServer{}, func(o *Options) { o.Scenario = Fanout }},
		{"fanout open loop", &testServer{}, func(o *Options) { o.Scenario, o.Rate = Fanout, 10_000 }},
		{"fanout, two loops", &testServer{}, func(o *Options) { o.Scenario, o.Threads = Fanout, 2 }},
		{"fanout, more nodes than receivers", &testServer{}, func(o *Options) {
			o.Scenario, o.Processes, o.Threads, o.Connections, o.Messages = Fanout, 2, 2, 2, 40
		}},
		{"fanout, two processes, open loop", &testServer{}, func(o *Options) {
			o.Scenario, o.Processes, o.Rate = Fanout, 2, 10_000
		}},
		{"storm", &testServer{}, func(o *Options) { o.Scenario = Storm }},
		{"storm, RST", &testServer{}, func(o *Options) { o.Scenario, o.Abort = Storm, true }},
		{"storm, two processes", &testServer{}, func(o *Options) { o.Scenario, o.Processes = Storm, 2 }},
		{"soak", &testServer{}, func(o *Options) {
			o.Scenario, o.Rate, o.Duration, o.Churn, o.Messages = Soak, 1000, 300*time.Millisecond, 40, 0
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(Echo, c.server.start(t))
			o.Timeout = 20 * time.Second // nothing here ends by it
			c.set(&o)
			if o.Scenario == Fanout {
				o.URL += "/broadcast"
			}
			r := mustRun(t, t.Context(), o)
			checkHonest(t, c.server, o, r)
		})
	}
}

func checkHonest(t *testing.T, s *testServer, o Options, r *Result) {
	t.Helper()
	if !r.OK() {
		t.Fatalf("not OK: %+v %+v %+v", r.Connections, r.Messages, r.Errors)
	}
	m := r.Messages
	switch o.Scenario {
	case Idle:
		if len(r.Memory) != o.Steps || r.Memory[o.Steps-1].Connections != int64(o.Connections) {
			t.Errorf("memory samples %+v", r.Memory)
		}
	case Storm:
		if s.upgrades.Load() != o.Messages || r.Connections.Opened != o.Messages {
			t.Errorf("%d upgrades, told %d", s.upgrades.Load(), r.Connections.Opened)
		}
		if want := o.Messages; !o.Abort && s.closes.Load() != want {
			t.Errorf("%d close frames, want %d", s.closes.Load(), want)
		}
		return
	case Fanout:
		if m.Sent != o.Messages || m.Received != o.Messages*int64(o.Connections) || m.Expected != m.Received {
			t.Errorf("messages %+v", m)
		}
	default:
		if m.Sent == 0 || m.Sent != m.Received || m.Sent != s.messages.Load() || o.Messages > 0 && m.Sent != o.Messages {
			t.Errorf("messages %+v, the server saw %d", m, s.messages.Load())
		}
	}
	if o.Scenario != Idle && (r.Latency == nil || r.Latency.Max < r.Latency.P50 || r.Latency.P50 < 1) {
		t.Errorf("latency %+v", r.Latency)
	}
	if opened := r.Connections.Opened; o.Scenario == Soak && opened <= int64(o.Connections) {
		t.Errorf("soak opened %d connections and so replaced none", opened)
	} else if o.Scenario != Soak && opened != int64(o.Connections) {
		t.Errorf("opened %d", opened)
	}
	if s.pongs.Load() == 0 {
		t.Error("pings were not answered")
	}
}

func flip(p []byte) []byte {
	b := append([]byte(nil), p...)
	b[len(b)-1] ^= 1
	return b
}

func TestNoticesWhatServersDoWrong(t *testing.T) {
	at := func(n int64, wrong func(p []byte) [][]byte) func(int64, []byte) [][]byte {
		return func(i int64, p []byte) [][]byte {
			if i == n {
				return wrong(p)
			}
			return [][]byte{p}
		}
	}
	var first []byte // until it has been given to somebody else
	keep := func(i int64, p []byte) [][]byte {
		if i == 1 {
			first = append([]byte(nil), p...)
		}
		if first != nil && !bytes.Equal(p[:4], first[:4]) { // another connection's id
			theirs := first
			first = nil
			return [][]byte{theirs}
		}
		return [][]byte{p}
	}
	for _, c := range []struct {
		name   string
		server *testServer
		set    func(o *Options)
		text   string // of an error
		look   func(r *Result) bool
	}{
		{"a bit flipped", &testServer{echo: at(50, func(p []byte) [][]byte { return [][]byte{flip(p)} })}, nil,
			"not the bytes", func(r *Result) bool { return r.Messages.Wrong == 1 && r.Messages.Lost == 0 }},
		{"cut short", &testServer{echo: at(50, func(p []byte) [][]byte { return [][]byte{p[:100]} })}, nil,
			"not the bytes", func(r *Result) bool { return r.Messages.Wrong == 1 }},
		{"empty", &testServer{echo: at(50, func(p []byte) [][]byte { return [][]byte{nil} })}, nil,
			"not the bytes", func(r *Result) bool { return r.Messages.Wrong == 1 }},
		{"another's message", &testServer{echo: keep}, nil,
			"another connection's", func(r *Result) bool { return r.Messages.Wrong == 1 }},
		{"twice", &testServer{echo: at(50, func(p []byte) [][]byte { return [][]byte{p, p} })}, nil,
			"wrong:", func(r *Result) bool { return r.Messages.Wrong == 1 && r.Messages.Received == 201 }},
		{"lost in the closed loop", &testServer{echo: at(50, func(p []byte) [][]byte { return nil })}, nil,
			"not arrived", func(r *Result) bool { return r.Messages.Lost == 1 }},
		{"lost in the open loop", &testServer{echo: at(50, func(p []byte) [][]byte { return nil })}, func(o *Options) { o.Rate = 20_000 },
			"", func(r *Result) bool { return r.Messages.Lost == 1 }},
		{"silent", &testServer{echo: func(int64, []byte) [][]byte { return nil }}, nil,
			"nothing arrived", func(r *Result) bool { return r.Messages.Lost == 8 }},
		{"connection cut", &testServer{cut: 50}, nil,
			"connection lost", func(r *Result) bool { return r.Connections.Lost == 1 && r.Messages.Lost == 1 }},
		{"upgrade refused", &testServer{refuse: true}, nil,
			"403 Forbidden", func(r *Result) bool { return r.Connections.Failed == 8 && r.Connections.Opened == 0 }},
		{"upgrade refused in a storm", &testServer{refuse: true}, func(o *Options) { o.Scenario = Storm },
			"403 Forbidden", func(r *Result) bool { return r.Connections.Failed >= 100 && r.Connections.Opened == 0 }},
		{"wrong accept", &testServer{accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, nil,
			"Sec-WebSocket-Accept", func(r *Result) bool { return r.Connections.Failed == 8 }},
		{"sender cut", &testServer{cut: 20}, func(o *Options) { o.Scenario = Fanout },
			"connection lost", func(r *Result) bool { return r.Connections.Lost == 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(Echo, c.server.start(t))
			if c.set != nil {
				c.set(&o)
			}
			if o.Scenario == Fanout {
				o.URL += "/broadcast"
			}
			mustNotice(t, mustRun(t, t.Context(), o), c.text, c.look)
		})
	}
}

func mustNotice(t *testing.T, r *Result, text string, look func(r *Result) bool) {
	t.Helper()
	if r.OK() || !look(r) || !strings.Contains(fmt.Sprint(r.Errors), text) {
		t.Errorf("OK %v: %+v %+v %+v", r.OK(), r.Connections, r.Messages, r.Errors)
	}
}

func TestFanoutNoticesWhatReceiversGet(t *testing.T) {
	// on is applied to one receiver's n-th message.
	on := func(n int64, wrong func(c *serverConn, p []byte) [][]byte) func(*serverConn, []byte) [][]byte {
		var chosen *serverConn
		return func(c *serverConn, p []byte) [][]byte {
			if c.seen++; chosen == nil && c.seen == n && !c.sends { // the sender's own copy does not count
				chosen = c
				return wrong(c, p)
			}
			if out := c.held; out != nil {
				c.held = nil
				return append([][]byte{p}, out...)
			}
			return [][]byte{p}
		}
	}
	lose := on(5, func(*serverConn, []byte) [][]byte { return nil })
	reorder := on(5, func(c *serverConn, p []byte) [][]byte {
		c.held = [][]byte{append([]byte(nil), p...)}
		return nil
	})
	for _, c := range []struct {
		name    string
		deliver func(*serverConn, []byte) [][]byte
		nodes   int
		look    func(r *Result) bool
	}{
		{"lost", lose, 1, func(r *Result) bool { return r.Messages.Lost == 1 }},
		{"reordered", reorder, 1, func(r *Result) bool { return r.Messages.Lost == 1 && r.Messages.Wrong == 1 }},
		{"flipped", on(5, func(_ *serverConn, p []byte) [][]byte { return [][]byte{flip(p)} }), 1, func(r *Result) bool { return r.Messages.Wrong == 1 }},
		{"twice", on(5, func(_ *serverConn, p []byte) [][]byte { return [][]byte{p, p} }), 2, func(r *Result) bool { return r.Messages.Wrong == 1 }},
		{"lost, two loops", on(5, func(*serverConn, []byte) [][]byte { return nil }), 2, func(r *Result) bool { return r.Messages.Lost == 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &testServer{deliver: c.deliver}
			o := options(Fanout, s.start(t)+"/broadcast")
			o.Rate, o.Messages, o.Threads = 2000, 50, c.nodes // in the open loop the next message shows the gap
			mustNotice(t, mustRun(t, t.Context(), o), "", c.look)
		})
	}
}

func TestInterruptTellsWhatThereIs(t *testing.T) {
	for _, c := range []struct {
		scenario  Scenario
		processes int
	}{{Echo, 1}, {Echo, 2}, {Fanout, 2}, {Storm, 1}, {Soak, 1}, {Idle, 1}} {
		t.Run(fmt.Sprint(c.scenario, c.processes), func(t *testing.T) {
			s := &testServer{}
			o := options(c.scenario, s.start(t))
			o.Messages, o.Processes, o.Duration = 0, c.processes, time.Hour
			if c.scenario == Soak {
				o.Rate = 1000
			}
			if c.scenario == Fanout {
				o.URL += "/broadcast"
			}
			if hour := time.Hour; c.scenario == Idle {
				o.Hold = &hour
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for s.messages.Load() < 20 && s.upgrades.Load() < 30 && !(c.scenario == Idle && s.upgrades.Load() == 8) {
					time.Sleep(time.Millisecond)
				}
				cancel()
			}()
			r := mustRun(t, ctx, o)
			if !r.Interrupted || r.OK() || r.Connections.Opened == 0 || r.Messages.Wrong+r.Messages.Lost > 0 {
				t.Errorf("%+v %+v %+v", r.Interrupted, r.Connections, r.Messages)
			}
			if c.scenario == Echo && (r.Messages.Received < 19 || r.Latency == nil) {
				t.Errorf("what there was is not told: %+v", r.Messages)
			}
		})
	}
}

func TestChildThatDiesIsTold(t *testing.T) {
	f := newFleet(1, make(chan event, 4))
	go f.collect()
	t.Cleanup(f.stop)
	a := assignment{Options: options(Idle, "ws://127.0.0.1:1/"), IDStep: 1}
	a.Connections = 0
	a.URL = "" // the child cannot work with that
	c, err := startChild(a, f.events, f.ended)
	if err != nil {
		t.Fatal(err)
	}
	f.nodes = []node{c}
	if err := f.wait(t.Context(), evConnected, 1); err == nil || !strings.Contains(err.Error(), "child process ended") {
		t.Errorf("error %v", err)
	}
}

func TestServerIsMeasuredByPid(t *testing.T) {
	s := &testServer{}
	o := options(Echo, s.start(t))
	o.PID = os.Getpid()
	r := mustRun(t, t.Context(), o)
	if r.Server == nil || r.Server.RSSBefore == 0 || r.Server.CPU <= 0 || r.Server.PerMessage == nil || r.Server.Threads == 0 {
		t.Fatalf("server %+v", r.Server)
	}
	if s := r.Series[len(r.Series)-1]; s.RSS == 0 || s.Received != 200 {
		t.Errorf("last sample %+v", s)
	}
}

// TestSourcesNeeded: rotated addresses get less than half of the ports each, since the kernel slows down when every
// second one is taken.
func TestSourcesNeeded(t *testing.T) {
	o := Options{Scenario: Idle, Connections: 1_000_000}
	few, many := sourcesNeeded(&o, 1, false), sourcesNeeded(&o, 1, true)
	if many < 2*few-1 || o.Connections/many > (1<<16)/2 {
		t.Errorf("%d addresses where each may use all ports, %d where it should not", few, many)
	}
	if n := sourcesNeeded(&Options{Scenario: Storm, Connections: 1, Messages: 1_000_000}, 1, true); n != many {
		t.Errorf("a storm of as many connects takes %d addresses, want %d", n, many)
	}
}
