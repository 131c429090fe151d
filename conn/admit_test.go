package conn

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roost/proto/ws"
)

// door is an Admit that waits until it is opened, or its context ends.
type door struct {
	asked chan *http.Request
	open  chan struct{}
	ended atomic.Int32 // calls whose context ended
}

func newDoor() *door {
	return &door{asked: make(chan *http.Request, 1024), open: make(chan struct{})}
}

func (d *door) admit(r *http.Request) (any, error) {
	d.asked <- r
	select {
	case <-d.open:
		return r.URL.Query().Get("token"), nil
	case <-r.Context().Done():
		d.ended.Add(1)
		return nil, context.Cause(r.Context())
	}
}

// guarded is a server with the door before its route "/", recorded, and a gate in the
// pool at "/gate".
func guarded(t *testing.T, d *door, j *journal, set ...func(*Options)) (*Server, string, *gate) {
	g := newGate()
	o := Options{Routes: []*Route{
		{Path: "/", Handler: j.record(hooks{message: echo}), Admit: d.admit},
		{Path: "/gate", Handler: g},
	}}
	for _, f := range set {
		f(&o)
	}
	s, addr := launch(t, o)
	return s, addr, g
}

func (c *client) refused(status int) *http.Response {
	c.t.Helper()
	resp := c.response(http.MethodGet)
	if resp.StatusCode != status || status == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		c.t.Fatalf("answered with %s %v, want %d", resp.Status, resp.Header, status)
	}
	_ = c.CloseWrite()
	return resp
}

func (c *client) confirmed() {
	c.t.Helper()
	if resp := c.response(http.MethodGet); resp.StatusCode != http.StatusSwitchingProtocols {
		c.t.Fatalf("answered with %s", resp.Status)
	}
}

func TestAdmit(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		var j journal
		sessions := make(chan any, 1)
		s, addr := launch(t, Options{AllowedOrigins: []string{"app.test"}, Routes: []*Route{{
			Path: "/", Inline: inline, Protocols: []string{"v1"},
			Handler:   j.record(hooks{open: func(c *Conn) { sessions <- c.Session() }, message: echo}),
			Authorize: func(*http.Request) (any, error) { return "authorized", nil },
			Admit: func(r *http.Request) (any, error) {
				switch token := r.URL.Query().Get("token"); token {
				case "":
					return nil, nil
				case "none":
					return nil, &ws.HandshakeError{Status: 401, Label: "token", Detail: "no token"}
				case "bad":
					return nil, errors.New("not you")
				case "panic":
					panic("told so")
				default:
					return token, nil
				}
			},
		}}})
		for target, status := range map[string]int{"/?token=none": 401, "/?token=bad": 403, "/?token=panic": 500} {
			c := dial(t, addr)
			c.raw(upgradeRequest(target) + text("early"))
			c.refused(status)
		}
		c := dial(t, addr)
		c.raw(upgradeRequest("/?token=ann", "Origin: https://evil.test"))
		c.refused(403)
		if len(j.all()) != 0 || s.Stats().Upgrades != 0 {
			t.Errorf("calls of refused clients: %q", j.all())
		}
		for target, session := range map[string]string{"/": "authorized", "/?token=ann": "ann"} {
			c := dial(t, addr)
			c.raw(upgradeRequest(target, "Sec-WebSocket-Protocol: v1", "Sec-WebSocket-Extensions: permessage-deflate") + text("a") + text("b")[:3])
			resp := c.response(http.MethodGet)
			if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Protocol") != "v1" || resp.Header.Get("Sec-WebSocket-Extensions") == "" {
				t.Fatalf("answered with %s %v", resp.Status, resp.Header)
			}
			if got := receive(t, sessions); got != session {
				t.Errorf("session is %v, want %s", got, session)
			}
			c.raw(text("b")[3:] + closing(ws.CloseNormal))
			c.expect(ws.OpText, "a")
			c.expect(ws.OpText, "b")
			c.expectClose(ws.CloseNormal)
		}
		if got := s.Stats().HandshakeErrors; got["token"] != 1 || got["unauthorized"] != 1 || got["panic"] != 1 || got[ws.LabelOrigin] != 1 {
			t.Errorf("handshake errors %v", got)
		}
	})
}

// TestAdmitEarly: what comes before the answer is handled after it, in order, however
// it is cut; too much of it is refused.
func TestAdmitEarly(t *testing.T) {
	var j journal
	d := newDoor()
	s, addr, _ := guarded(t, d, &j)
	c := dial(t, addr)
	_ = c.tcp().SetNoDelay(true)
	c.raw(upgradeRequest("/"))
	receive(t, d.asked)
	for _, part := range []string{text("a") + text("b")[:4], text("b")[4:], text(repeat("c", 40_000)), text("d")[:1]} {
		c.raw(part)
	}
	flood := dial(t, addr)
	flood.raw(upgradeRequest("/"))
	receive(t, d.asked)
	go func() { _, _ = flood.Write(make([]byte, 2*admitEarly)) }()
	flood.refused(http.StatusBadRequest)
	eventually(t, "the flood's check ends", func() bool { return d.ended.Load() == 1 })
	if got := j.all(); len(got) != 0 {
		t.Errorf("calls before the answer: %q", got)
	}
	close(d.open)
	c.confirmed()
	c.raw(text("d")[1:])
	for _, want := range []string{"a", "b", repeat("c", 40_000), "d"} {
		c.expect(ws.OpText, want)
	}
	if n := s.Stats().HandshakeErrors["early_data"]; n != 1 {
		t.Errorf("%d refused for early data, want 1", n)
	}
}

// TestAdmitGone: clients that leave while they are decided on end the check, and
// leave nothing behind. Nobody else notices.
func TestAdmitGone(t *testing.T) {
	for name, leave := range map[string]func(c *client){
		"close":      func(c *client) { _ = c.Close() },
		"half-close": func(c *client) { _ = c.CloseWrite() },
		"reset":      func(c *client) { _ = c.tcp().SetLinger(0); _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			const n = 8
			var j journal
			d := newDoor()
			s, addr, _ := guarded(t, d, &j, func(o *Options) { o.Workers = 2 * n })
			before := runtime.NumGoroutine()
			stays := dial(t, addr)
			stays.raw(upgradeRequest("/"))
			receive(t, d.asked)
			for i := range n {
				c := dial(t, addr)
				c.raw(upgradeRequest("/") + repeat(text("early"), i))
				receive(t, d.asked)
				leave(c)
			}
			eventually(t, "the checks end", func() bool { return d.ended.Load() == n })
			eventually(t, "all but one gone", func() bool { return s.Poller().Live() == 1 })
			close(d.open)
			stays.confirmed()
			stays.raw(text("a"))
			stays.expect(ws.OpText, "a")
			if got := j.all(); !slices.Equal(got, []string{"open", "message a"}) {
				t.Errorf("calls were %q", got)
			}
			_ = stays.Close()
			eventually(t, "no one is there", func() bool { return s.Stats().Open == 0 && s.Stats().WorkersBusy == 0 })
			if st := s.Stats(); st.Upgrades != 1 {
				t.Errorf("%d upgrades, want 1", st.Upgrades)
			}
			if got := runtime.NumGoroutine(); got > before+2*n+8 { // the pool keeps its workers for a while
				t.Errorf("%d goroutines, %d were before", got, before)
			}
		})
	}
}

// TestAdmitLate: the handshake deadline holds; what a check returns after it, one that
// does not look at its context, is dropped.
func TestAdmitLate(t *testing.T) {
	var j journal
	d := newDoor()
	stubborn := make(chan struct{})
	s, addr, _ := guarded(t, d, &j, func(o *Options) {
		o.HandshakeTimeout = 20 * time.Millisecond
		o.Routes = append(o.Routes, &Route{Path: "/stubborn", Handler: j.record(hooks{}), Admit: func(*http.Request) (any, error) {
			<-stubborn
			return "late", nil
		}})
	})
	for _, path := range []string{"/", "/stubborn"} {
		c := dial(t, addr)
		c.raw(upgradeRequest(path))
		c.refused(http.StatusServiceUnavailable)
	}
	close(stubborn)
	eventually(t, "the workers rest", func() bool { return s.Stats().WorkersBusy == 0 && s.Poller().Live() == 0 })
	onEveryLoop(t, s)
	if st := s.Stats(); st.Closed["handshake_timeout"] != 2 || st.HandshakeErrors["admit_timeout"] != 2 || len(j.all()) != 0 || st.Upgrades != 0 {
		t.Errorf("closed %v, handshake errors %v, calls %q", st.Closed, st.HandshakeErrors, j.all())
	}
}

// TestAdmitFull: admissions wait in line up to a bound, beyond it the answer is 503;
// half of the workers remain for messages.
func TestAdmitFull(t *testing.T) {
	const workers = 2
	var j journal
	d := newDoor()
	s, addr, g := guarded(t, d, &j, func(o *Options) { o.Workers = workers })
	var line []*client
	for i := range 1 + workers*admitWaiting {
		c := dial(t, addr)
		c.raw(upgradeRequest("/"))
		line = append(line, c)
		if i == 0 {
			receive(t, d.asked) // a worker has it, so that the line has room for the others
		}
	}
	eventually(t, "all wait", func() bool {
		s.admissions.mu.Lock()
		defer s.admissions.mu.Unlock()
		return len(s.admissions.queue) == workers*admitWaiting
	})
	over := dial(t, addr)
	over.raw(upgradeRequest("/"))
	over.refused(http.StatusServiceUnavailable)
	other := connect(t, addr, "/gate") // one worker is left
	for range 20 {
		other.raw(text("still here"))
		other.expect(ws.OpText, "still here")
	}
	other.raw(text("block")) // and now none
	receive(t, g.blocked)
	close(d.open)
	for _, c := range line {
		c.confirmed()
	}
	close(g.open)
	for _, c := range line {
		c.raw(text("a"))
		c.expect(ws.OpText, "a")
	}
	if st := s.Stats(); st.HandshakeErrors["admit_full"] != 1 || st.Upgrades != uint64(len(line))+1 {
		t.Errorf("%d upgrades, handshake errors %v", st.Upgrades, st.HandshakeErrors)
	}
}

// TestAdmitNoWorker: an admission waits for a worker like a message.
func TestAdmitNoWorker(t *testing.T) {
	var j journal
	d := newDoor()
	close(d.open)
	s, addr, g := guarded(t, d, &j, func(o *Options) { o.Workers = 1 })
	holder := connect(t, addr, "/gate")
	holder.raw(text("block"))
	receive(t, g.blocked)
	c := dial(t, addr)
	c.raw(upgradeRequest("/") + text("a"))
	eventually(t, "waits", func() bool { return s.Stats().Waiting == 1 })
	close(g.open)
	c.confirmed()
	c.expect(ws.OpText, "a")
	holder.expect(ws.OpText, "block")
}

// TestAdmitShutdown: who is being decided on is told to try again, and the check's
// context ends, so Shutdown waits for no one.
func TestAdmitShutdown(t *testing.T) {
	var j journal
	d := newDoor()
	s, addr, _ := guarded(t, d, &j, func(o *Options) { o.Workers = 4 })
	var clients []*client
	for range 6 { // two are asked for, four wait
		c := dial(t, addr)
		c.raw(upgradeRequest("/"))
		clients = append(clients, c)
	}
	receive(t, d.asked)
	eventually(t, "all are there", func() bool { return s.Poller().Live() == len(clients) })
	onEveryLoop(t, s)
	done := make(chan error)
	go func() { done <- s.Shutdown(context.Background()) }()
	cut := 0
	for _, c := range clients {
		resp, err := http.ReadResponse(c.br, nil)
		switch {
		case err != nil: // its request had not been read
			cut++
		case resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "":
			t.Errorf("answered with %s %v", resp.Status, resp.Header)
		}
		_ = c.Close()
	}
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
	if st := s.Stats(); st.HandshakeErrors["shutdown"]+uint64(cut) != uint64(len(clients)) || len(j.all()) != 0 || st.WorkersBusy != 0 {
		t.Errorf("cut %d, handshake errors %v, calls %q, %d workers busy", cut, st.HandshakeErrors, j.all(), st.WorkersBusy)
	}
}

// TestAdmitAborted races admissions with clients that leave: whoever hears of Open
// hears of Close, and nobody else does.
func TestAdmitAborted(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		const clients, rounds = 4, 100
		var opens, closes atomic.Int32
		s, addr := launch(t, Options{Workers: 4, Poller: pollerLoops(2), Routes: []*Route{{Path: "/", Inline: inline,
			Handler: &hooks{
				open:    func(c *Conn) { opens.Add(1) },
				message: echo,
				close:   func(*Conn, Reason, ws.CloseCode) { closes.Add(1) },
			},
			Admit: func(r *http.Request) (any, error) {
				runtime.Gosched()
				return nil, nil
			},
		}}})
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for i := range rounds {
					c := dial(t, addr)
					if i%2 == 0 {
						_ = c.tcp().SetLinger(0)
					}
					_, _ = c.Write([]byte(upgradeRequest("/") + repeat(text("a"), i%3)))
					if i%5 == 0 {
						_, _ = c.br.Peek(1)
					}
					_ = c.Close()
				}
			})
		}
		wg.Wait()
		eventually(t, "all gone", func() bool { return s.Poller().Live() == 0 })
		stopNow(s)
		if st := s.Stats(); opens.Load() != closes.Load() || st.Upgrades != uint64(opens.Load()) || st.Open != 0 {
			t.Errorf("%d opens, %d closes, statistics say %d upgrades, %d open", opens.Load(), closes.Load(), st.Upgrades, st.Open)
		}
	})
}

// TestAdmitGoneInLine: nobody decides on clients that left while they were waiting.
func TestAdmitGoneInLine(t *testing.T) {
	var j journal
	d := newDoor()
	s, addr, _ := guarded(t, d, &j, func(o *Options) { o.Workers = 1 })
	first := dial(t, addr)
	first.raw(upgradeRequest("/"))
	receive(t, d.asked)
	var line []*client
	for range 5 {
		c := dial(t, addr)
		c.raw(upgradeRequest("/"))
		line = append(line, c)
	}
	eventually(t, "all wait", func() bool {
		s.admissions.mu.Lock()
		defer s.admissions.mu.Unlock()
		return len(s.admissions.queue) == len(line)
	})
	for _, c := range line {
		_ = c.Close()
	}
	eventually(t, "they are gone", func() bool { return s.Poller().Live() == 1 })
	close(d.open)
	first.confirmed()
	eventually(t, "the worker rests", func() bool { return s.Stats().WorkersBusy == 0 })
	if len(d.asked) != 0 {
		t.Errorf("%d clients that had gone were decided on", len(d.asked))
	}
}
