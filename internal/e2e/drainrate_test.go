//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
)

// farewell is how a client was sent away.
type farewell struct {
	at   time.Time // when it saw the close
	code uint16
	err  error // nil where there was a close frame
}

// leaver connects, follows a channel, and answers pings until it is sent away.
func leaver(g *gateway, channel string, there func(), gone chan<- farewell) error {
	r, err := dial(g.address, true)
	if err != nil {
		return err
	}
	if _, err := r.connect(""); err != nil {
		return err
	}
	reply, err := r.call(&protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: channel}})
	if err != nil || reply.Error != nil {
		return fmt.Errorf("subscribe: %v, %w", reply, err)
	}
	_ = r.conn.SetDeadline(time.Time{})
	there()
	go func() {
		defer r.conn.Close()
		for {
			_, err := r.next()
			if err == nil {
				continue
			}
			f := farewell{at: time.Now(), err: err}
			var c *closed
			if errors.As(err, &c) {
				f.code, f.err = c.code, nil
			}
			gone <- f
			return
		}
	}()
	return nil
}

// TestDrainRate has many clients of which each notes when it is sent away. What a busy machine does to the times is no
// failure; ROOST_E2E_DRAIN_BAR=30 asks for a rate within so many percent of the mean in each second.
func TestDrainRate(t *testing.T) {
	clients, seconds, bar := size(t, "DRAIN_CLIENTS", 300), size(t, "DRAIN_SECONDS", 2), size(t, "DRAIN_BAR", 1_000_000)
	const channels, connecting = 100, 32
	g := start(t, configuration, "--memory")
	gone := make(chan farewell, clients)
	var there atomic.Int64
	var open sync.WaitGroup
	for c := range connecting {
		open.Go(func() {
			for i := c; i < clients; i += connecting {
				if err := leaver(g, fmt.Sprint("live:", i%channels), func() { there.Add(1) }, gone); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if open.Wait(); there.Load() != int64(clients) {
		t.Fatalf("%d of %d clients are there", there.Load(), clients)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() { // so that they are not all idle
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				if err := g.api("publish", object{"channel": fmt.Sprint("live:", i%channels), "data": i}, nil); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	begin := time.Now()
	g.must(t, "drain", object{"percent": 100, "seconds": seconds}, nil)
	var at []time.Duration
	for range clients {
		f := <-gone
		if f.err != nil || f.code != 3001 {
			t.Errorf("a client was sent away with %d, %v", f.code, f.err)
		}
		at = append(at, f.at.Sub(begin))
	}
	close(stop)
	<-ended
	slices.Sort(at)
	perSecond := make([]int, seconds)
	for _, d := range at {
		perSecond[min(int(d/time.Second), seconds-1)]++
	}
	mean := float64(clients) / float64(seconds)
	t.Logf("%d clients, mean %.0f/s; by second: %v; the last after %v", clients, mean, perSecond, at[clients-1])
	most, least := 0, clients
	for from := time.Duration(0); from <= time.Duration(seconds-1)*time.Second; from += 10 * time.Millisecond {
		low, _ := slices.BinarySearch(at, from)
		high, _ := slices.BinarySearch(at, from+time.Second)
		most, least = max(most, high-low), min(least, high-low)
	}
	t.Logf("in any second, every 10 ms: %d to %d, %+.1f %% to %+.1f %%", least, most, 100*(float64(least)/mean-1), 100*(float64(most)/mean-1))
	if slack := mean * float64(bar) / 100; float64(most) > mean+slack || float64(least) < mean-slack {
		t.Errorf("that is not within %d %% of the mean", bar)
	}
}
