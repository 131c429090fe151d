package conn

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"roost/proto/ws"
)

// TestPace: what begins keeps to the rate in the long run, and to the burst at once.
func TestPace(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		rate, burst int
		at, wait    []time.Duration
	}{
		{10, 1, []time.Duration{0, 0, 0, 250 * ms, 10000 * ms, 10000 * ms}, []time.Duration{0, 100 * ms, 200 * ms, 50 * ms, 0, 100 * ms}},
		{10, 3, []time.Duration{0, 0, 0, 0, 0, 1000 * ms, 1000 * ms}, []time.Duration{0, 0, 0, 100 * ms, 200 * ms, 0, 0}},
		{1000, 1, []time.Duration{5 * ms, 5 * ms, 6 * ms, 9 * ms}, []time.Duration{0, 1 * ms, 1 * ms, 0}},
	} {
		p, at := newPace(c.rate, c.burst, 0), time.Duration(0)
		for i, now := range c.at {
			var wait time.Duration
			if wait, at = p.take(at, now); wait != c.wait[i] {
				t.Errorf("%d/s, %d at once: number %d at %v waits %v, want %v", c.rate, c.burst, i, now, wait, c.wait[i])
			}
		}
	}
}

// TestStormAddresses: what is refused takes no turn, addresses have turns of their own, and
// those whose time has come are forgotten.
func TestStormAddresses(t *testing.T) {
	s := newStorm(&StormOptions{AddressRate: 1, AddressBurst: 2, Backlog: time.Second})
	enter := func(address string, want string) {
		t.Helper()
		wait, ok := s.enter(netip.MustParseAddr(address))
		got := "now"
		switch {
		case !ok:
			got = "away"
		case wait > 0:
			got = "later"
		}
		if got != want {
			t.Errorf("%s: %s (%v), want %s", address, got, wait, want)
		}
	}
	s.begun = time.Now()
	for _, want := range []string{"now", "now", "later", "away", "away"} {
		enter("192.0.2.1", want)
	}
	enter("::ffff:192.0.2.1", "away") // the same one
	enter("192.0.2.2", "now")
	for _, want := range []string{"now", "now", "later", "away"} {
		enter("2001:db8::"+strconv.Itoa(len(want)), want) // of one /64
	}
	enter("2001:db8:0:1::1", "now")
	s.begun = s.begun.Add(-time.Hour)
	for i := range 3000 {
		enter(fmt.Sprintf("198.51.%d.%d", 100+i>>8, i&255), "now")
	}
	s.begun = s.begun.Add(-time.Hour)
	for i := range 2000 {
		enter(fmt.Sprintf("203.0.%d.%d", 100+i>>8, i&255), "now")
	}
	if n := len(s.addresses); n > 2000+1024 {
		t.Errorf("%d addresses are remembered", n)
	}
}

// stormy upgrades n clients at once and returns those that were let in, and the answers of the
// others.
func stormy(t *testing.T, addr string, n int) (in []*client, away []*http.Response) {
	t.Helper()
	var all []*client
	for range n {
		c := dial(t, addr)
		c.raw(upgradeRequest("/") + text("early"))
		all = append(all, c)
	}
	for _, c := range all {
		switch resp := c.response(http.MethodGet); resp.StatusCode {
		case http.StatusSwitchingProtocols:
			in = append(in, c)
		case http.StatusServiceUnavailable:
			away = append(away, resp)
		default:
			t.Fatal(resp.Status)
		}
	}
	return in, away
}

// TestStormHeld: those that come too soon wait for their turn, and what they sent meanwhile is
// not lost.
func TestStormHeld(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		s, addr := one(t, inline, &hooks{message: echo}, func(o *Options) {
			o.Storm = StormOptions{Rate: 50, Burst: 1, Backlog: 10 * time.Second}
			o.Poller.Tick = 10 * time.Millisecond
		})
		var all []*client
		for range 20 {
			c := dial(t, addr)
			c.raw(upgradeRequest("/") + text("early"))
			all = append(all, c)
		}
		eventually(t, "some wait", func() bool { return s.Stats().Held > 0 })
		for _, c := range all {
			if resp := c.response(http.MethodGet); resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(resp.Status)
			}
			c.expect(ws.OpText, "early")
		}
		if st := s.Stats(); st.Held != 0 || st.Handshakes != 0 || st.Open != 20 {
			t.Errorf("%d held, %d handshakes, %d open", st.Held, st.Handshakes, st.Open)
		}
	})
}

// TestStormAway: those whose turn is too far away are told when to come back.
func TestStormAway(t *testing.T) {
	s, addr := one(t, true, &hooks{message: echo}, func(o *Options) {
		o.Storm = StormOptions{Rate: 1, Burst: 3, Backlog: time.Millisecond}
	})
	begun := time.Now()
	in, away := stormy(t, addr, 30)
	if most := 4 + int(time.Since(begun)/time.Second); len(in) < 3 || len(in) > most {
		t.Errorf("%d were let in, want 3 to %d", len(in), most)
	}
	for _, resp := range away {
		if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || n < 1 || n > 40 {
			t.Errorf("Retry-After: %q", resp.Header.Get("Retry-After"))
		}
	}
	if n := s.Stats().HandshakeErrors["storm"]; n != uint64(len(away)) {
		t.Errorf("%d are counted, want %d", n, len(away))
	}
	for _, c := range in {
		c.expect(ws.OpText, "early")
	}
}

// TestStormGone: who leaves, or sends too much, while it waits, and a server that stops, leave
// nothing behind.
func TestStormGone(t *testing.T) {
	s, addr := one(t, true, &hooks{}, func(o *Options) {
		o.Storm = StormOptions{Rate: 1, Burst: 1, Backlog: 10 * time.Second}
	})
	connect(t, addr, "/")
	gone, much, stays := dial(t, addr), dial(t, addr), dial(t, addr)
	for _, c := range []*client{gone, much, stays} {
		c.raw(upgradeRequest("/"))
	}
	eventually(t, "all three wait", func() bool { return s.Stats().Held == 3 })
	_ = gone.Close()
	much.raw(repeat("x", admitEarly+1))
	if resp := much.response(http.MethodGet); resp.StatusCode != http.StatusBadRequest {
		t.Error(resp.Status)
	}
	eventually(t, "one waits", func() bool { return s.Stats().Held == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(ctx) }()
	if resp := stays.response(http.MethodGet); resp.StatusCode != http.StatusServiceUnavailable {
		t.Error(resp.Status)
	}
	_ = stays.Close()
	receive(t, ended)
	if st := s.Stats(); st.Held != 0 || st.Handshakes != 0 {
		t.Errorf("%d held, %d handshakes", st.Held, st.Handshakes)
	}
}

// TestStormHandshakes: only so many may be between acceptance and answer; who has been
// answered makes room.
func TestStormHandshakes(t *testing.T) {
	s, addr := one(t, true, &hooks{message: echo}, func(o *Options) { o.Storm.Handshakes = 5 })
	var slow []*client
	for range 5 {
		slow = append(slow, dial(t, addr))
	}
	eventually(t, "five are there", func() bool { return s.Stats().Handshakes == 5 })
	if resp := dial(t, addr).response(http.MethodGet); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Error(resp.Status)
	}
	if n := s.Stats().HandshakeErrors["handshakes"]; n != 1 {
		t.Errorf("%d are counted", n)
	}
	slow[0].raw(upgradeRequest("/"))
	slow[0].response(http.MethodGet)
	_ = slow[1].Close()
	eventually(t, "there is room", func() bool { return s.Stats().Handshakes == 3 })
	connect(t, addr, "/")
}

// TestStormOptions: what makes no sense is refused.
func TestStormOptions(t *testing.T) {
	for _, o := range []StormOptions{{Rate: -1}, {Burst: -1}, {AddressRate: maxStormRate + 1}, {AddressBurst: -1}, {Handshakes: -1}, {Backlog: -1}, {Backlog: time.Hour}} {
		if s, err := New(Options{Routes: []*Route{{Path: "/", Handler: &hooks{}}}, Storm: o}); err == nil {
			stopNow(s)
			t.Errorf("%+v is taken", o)
		}
	}
}
