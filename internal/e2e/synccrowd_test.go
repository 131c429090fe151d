//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
	"github.com/centrifugal/protocol"
)

// follower counts the events that a bare client gets of a channel.
type follower struct {
	r    *raw
	next uint64
	err  error
}

// take reads until the event last, or something that is not the next one.
func (f *follower) take(last uint64) {
	for f.next <= last && f.err == nil {
		reply, err := f.r.next()
		switch {
		case err != nil:
			f.err = err
		case reply.Push == nil || reply.Push.Pub == nil:
		case reply.Push.Pub.Offset != f.next:
			f.err = fmt.Errorf("event %d instead of %d", reply.Push.Pub.Offset, f.next)
		default:
			f.next++
		}
	}
}

// Very many follow one document: each gets each event once.
func TestSyncCrowd(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--services", "sync", "--memory", "--allow-anonymous")
	var opened struct{ Channel string }
	g.must(t, "sync/open", object{"type": "document", "name": "d"}, &opened)
	followers, writes := make([]*follower, size(t, "SYNC_SUBSCRIBERS", 300)), uint64(50)
	for i := range followers {
		r := g.rawClient(t, i%2 == 0)
		_ = r.conn.SetDeadline(time.Now().Add(5 * time.Minute))
		followers[i] = &follower{r: r, next: 2}
		r.send(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}}, &protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: opened.Channel}})
		for {
			reply, err := r.next()
			if err != nil || reply.Error != nil {
				t.Fatalf("follower %d: %+v, %v", i, reply, err)
			}
			if reply.Subscribe != nil {
				break
			}
		}
	}
	before := g.metrics(t)
	var all sync.WaitGroup
	for _, f := range followers {
		all.Go(func() { f.take(writes + 1) })
	}
	for n := range writes {
		g.must(t, "sync/set", object{"type": "document", "name": "d", "data": object{"n": n}}, nil)
	}
	all.Wait()
	for i, f := range followers {
		if f.err != nil {
			t.Fatalf("follower %d, at event %d: %v", i, f.next, f.err)
		}
	}
	after := g.metrics(t)
	cpu := (after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]) * 1e6
	t.Logf("%d followers, %d writes: %.2f µs of the gateway's CPU for each event delivered", len(followers), writes, cpu/float64(len(followers)*int(writes)))
}

// How long it takes until a write is answered, and until a subscriber has it: before and after the answer.
func BenchmarkSyncUpdate(b *testing.B) {
	g := start(b, configuration, "--services", "sync", "--data", b.TempDir())
	ann, _ := g.connected(b, true, "ann")
	bob, _ := g.connected(b, true, "bob")
	var opened struct{ Channel string }
	ann.call(b, "open", object{"type": "document", "name": "d"}, &opened)
	sub := bob.subscription(b, opened.Channel, centrifuge.SubscriptionConfig{})
	seen := make(chan time.Time, 1)
	sub.OnPublication(func(centrifuge.PublicationEvent) { seen <- time.Now() })
	if err := sub.Subscribe(); err != nil {
		b.Fatal(err)
	}
	bob.wait(b, "subscribed", opened.Channel)
	var answered, arrived, between []time.Duration
	for i := 0; b.Loop(); i++ {
		sent := time.Now()
		ann.call(b, "set", object{"type": "document", "name": "d", "data": object{"n": i}}, nil)
		answer := time.Now()
		event := <-seen
		answered, arrived, between = append(answered, answer.Sub(sent)), append(arrived, event.Sub(sent)), append(between, event.Sub(answer))
		time.Sleep(2 * time.Millisecond)
	}
	for name, all := range map[string][]time.Duration{"answer": answered, "event": arrived, "event-after-answer": between} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), name+"-p99-µs")
	}
}
