package gateway

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"roost/internal/proctest"
	"roost/proto/client"
)

// In every second of a drain of 15,000 over 30 s the rate stays within 30 % of the mean, however
// irregular the looks at the time are.
func TestPace(t *testing.T) {
	const total, over = 15_000, 30 * time.Second
	r := rand.New(rand.NewPCG(1, 2))
	p := pace{total: total, over: over}
	var at []time.Duration
	for now := time.Duration(0); len(at) < total; now += drainTick/2 + time.Duration(r.Int64N(int64(drainTick))) {
		for range min(p.due(now), total-len(at)) {
			at = append(at, now)
		}
	}
	const mean = total / 30
	for second := time.Duration(0); second < over-time.Second; second += 100 * time.Millisecond {
		n := 0
		for _, d := range at {
			if d >= second && d < second+time.Second {
				n++
			}
		}
		if n < mean*7/10 || n > mean*13/10 {
			t.Errorf("%d in the second from %v, the mean is %d", n, second, mean)
		}
	}
	if last := at[total-1]; last > over+drainTick*2 {
		t.Errorf("the last goes after %v", last)
	}
}

func TestDrain(t *testing.T) {
	n := start(t, nil)
	var all []*raw
	for range 10 {
		r := n.dial("")
		r.ok(`{"connect":{}}`)
		all = append(all, r)
	}
	for _, bad := range []DrainRequest{{Percent: 0}, {Percent: 101}, {Percent: 50, Seconds: 86401}} {
		var e *client.Error
		if _, err := n.Drain(t.Context(), &bad); !errors.As(err, &e) || e.Code != client.ErrBadRequest.Code {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	state := func(want string, done int) {
		t.Helper()
		proctest.Eventually(t, func() error {
			r, err := n.DrainStatus(t.Context(), nil)
			if err != nil || r.State != want || int(r.Done) != done {
				return fmt.Errorf("%+v, %v, want %s with %d gone", r, err, want, done)
			}
			return nil
		})
	}
	if _, err := n.Drain(t.Context(), &DrainRequest{Percent: 40}); err != nil {
		t.Fatal(err)
	}
	state(DrainServing, 4)
	if err := n.Ready(); err != nil {
		t.Errorf("shedding makes the node not ready: %v", err)
	}
	proctest.Eventually(t, func() error {
		if got := n.Stats().Disconnects[client.DisconnectForceReconnect.Code]; got != 4 || n.Stats().Clients != 6 {
			return fmt.Errorf("%d were shed, %d are there", got, n.Stats().Clients)
		}
		return nil
	})
	if _, err := n.Drain(t.Context(), &DrainRequest{Percent: 100, Seconds: 3600}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Drain(t.Context(), &DrainRequest{Percent: 10}); err == nil {
		t.Error("two drains at a time")
	}
	if n.Ready() == nil {
		t.Error("a node that is being drained is ready")
	}
	if status, _ := n.upgrade("/connection/websocket"); status != 503 {
		t.Errorf("status %d while it is being drained", status)
	}
	if _, err := n.DrainAbort(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := n.Ready(); err != nil {
		t.Error(err)
	}
	if n.Stats().Clients != 6 {
		t.Errorf("%d clients are left after the abort", n.Stats().Clients)
	}
	if _, err := n.Drain(t.Context(), &DrainRequest{Percent: 100}); err != nil {
		t.Fatal(err)
	}
	state(DrainDrained, 6)
	if n.Ready() == nil {
		t.Error("a drained node is ready")
	}
	for _, r := range all {
		_ = r.conn.Close()
	}
}
