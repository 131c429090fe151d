package gateway

import (
	"context"
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
		for range p.due(now) {
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
	if p.due(time.Hour) != 0 {
		t.Error("more than there are")
	}
	if last := at[total-1]; last > over+drainTick*2 {
		t.Errorf("the last goes after %v", last)
	}
}

// Clients that leave by themselves take their place in the schedule with them: the rest goes neither
// faster nor later for it.
func TestPaceOfSome(t *testing.T) {
	const total, over = 15_000, 30 * time.Second
	r := rand.New(rand.NewPCG(3, 4))
	p := pace{total: total, over: over}
	var closes [30]int
	left := 0
	for now := time.Duration(0); now < over; now += drainTick/2 + time.Duration(r.Int64N(int64(drainTick))) {
		for range p.due(now) {
			if r.IntN(10) == 0 { // it has left
				left++
				continue
			}
			closes[now/time.Second]++
		}
	}
	mean := (total - left) / 30
	for second, n := range closes {
		if n < mean*7/10 || n > mean*13/10 {
			t.Errorf("%d in second %d, the mean is %d", n, second, mean)
		}
	}
}

// A machine that stops the process for a while makes that second a quiet one, and none after it a busy one.
func TestPaceAfterStalls(t *testing.T) {
	const total, over = 15_000, 30 * time.Second
	r := rand.New(rand.NewPCG(5, 6))
	p := pace{total: total, over: over}
	var at []time.Duration
	for now := time.Duration(0); len(at) < total; now += drainTick/2 + time.Duration(r.Int64N(int64(drainTick))) {
		for range p.due(now) {
			at = append(at, now)
		}
		if r.IntN(500) == 0 {
			now += time.Second
		}
		if now > 2*over {
			t.Fatalf("%d have gone after %v", len(at), now)
		}
	}
	for i, from := range at {
		n := 0
		for _, d := range at[i:] {
			if d >= from+time.Second {
				break
			}
			n++
		}
		if n > total/30*13/10 {
			t.Fatalf("%d in the second from %v", n, from)
		}
	}
}

// A few go one by one, however rarely; all at once where there is no time.
func TestPaceOfFew(t *testing.T) {
	few := pace{total: 3, over: time.Hour}
	gone := 0
	for now := time.Duration(0); now <= time.Hour; now += drainTick {
		n := few.due(now)
		if gone += n; n > 1 {
			t.Errorf("%d after %v", n, now)
		}
	}
	if all := (&pace{total: 7}); gone != 3 || all.due(0) != 7 || all.due(0) != 0 {
		t.Errorf("%d of few", gone)
	}
}

// A drain of all takes the place of a shed that nobody has asked for, and of no other.
func TestDrainInsteadOfShed(t *testing.T) {
	n := start(t, nil)
	for range 4 {
		n.dial("").ok(`{"connect":{}}`)
	}
	if err := n.Shed(2, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := n.Shed(2, time.Hour); err == nil {
		t.Error("two sheds at a time")
	}
	r, err := n.Drain(t.Context(), &DrainRequest{Percent: 50, Seconds: 3600})
	if err != nil || r.State != DrainShedding || r.Until < time.Now().Unix() {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := n.Drain(t.Context(), &DrainRequest{Percent: 100}); err == nil {
		t.Error("a drain instead of a share that was asked for")
	}
	if err := n.Shed(1, 0); err == nil {
		t.Error("a shed instead of a share that was asked for")
	}
	if r, err = n.DrainAbort(t.Context(), nil); err != nil || r.State != DrainServing || r.Done != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err = n.Drain(t.Context(), &DrainRequest{Percent: 100, Seconds: 3600}); err != nil {
		t.Error(err)
	}
	n.Leave(2 * time.Hour)
	r, _ = n.DrainStatus(t.Context(), nil)
	if r.State != DrainDraining || r.Until < time.Now().Add(90*time.Minute).Unix() {
		t.Errorf("at the end of the process: %+v", r)
	}
	if got := n.Stats().Clients; got != 4 {
		t.Errorf("%d clients are left", got)
	}
}

// Who sends half a message is put off, others are not, and who never ends it goes as well.
func TestDrainPutsOff(t *testing.T) {
	n := start(t, nil)
	slow, stuck, quiet := n.dial(""), n.dial(""), n.dial("")
	for _, r := range []*raw{slow, stuck, quiet} {
		r.ok(`{"connect":{}}`)
	}
	const ping = `{"id":9,"rpc":{"method":"none","data":1}}`
	head := []byte{0x81, 0x80 | byte(len(ping)), 0, 0, 0, 0}
	for _, r := range []*raw{slow, stuck} {
		if _, err := r.conn.Write(append(head[:6:6], ping[:9]...)); err != nil {
			t.Fatal(err)
		}
	}
	half := func() (count int) {
		n.each(func(s *session) {
			if s.Conn.Busy() {
				count++
			}
		})
		return count
	}
	proctest.Eventually(t, func() error {
		if got := half(); got != 2 {
			return fmt.Errorf("%d are in the middle of a message", got)
		}
		return nil
	})
	list := n.drainees(-1)
	put := n.dismiss(t.Context(), list, true)
	if len(put) != 2 {
		t.Fatalf("%d of %d were put off", len(put), len(list))
	}
	quiet.ends(3001)
	if _, err := slow.conn.Write([]byte(ping[9:])); err != nil {
		t.Fatal(err)
	}
	if m := slow.next(); m.Error == nil || m.ID != 9 { // answered in full
		t.Errorf("%+v", m)
	}
	n.drainOver(t.Context(), put, 0, true)
	slow.ends(3001)
	stuck.ends(3001)
}

// Plain WebSocket clients know no codes of the client protocol.
func TestDrainRaw(t *testing.T) {
	n := start(t, func(o *Options) {
		o.Raw = RawRoutes{"echo": {Backend: "b", Auth: "none", Path: "/own", Messages: "text"}}
		o.Handlers.RawMessage = func(_ context.Context, m RawMessage) (RawData, error) { return m.RawData, nil }
	})
	for _, percent := range []uint32{99, 100} {
		status, r := n.upgrade("/own")
		if status != 101 {
			t.Fatal(status)
		}
		proctest.Eventually(t, func() error {
			if got := n.Stats().Clients; got != 1 {
				return fmt.Errorf("%d clients", got)
			}
			_, err := n.Drain(t.Context(), &DrainRequest{Percent: percent})
			return err
		})
		r.ends(1012)
	}
}

// A client that connects late, having been upgraded before, does not stay on a drained node.
func TestDrainStray(t *testing.T) {
	n := start(t, nil)
	late := n.dial("")
	if _, err := n.Drain(t.Context(), &DrainRequest{Percent: 100}); err != nil {
		t.Fatal(err)
	}
	late.ok(`{"connect":{}}`)
	late.ends(3001)
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
