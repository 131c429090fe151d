package broker

import (
	"sync/atomic"
	"time"
)

// LatencyBounds are the upper bounds of the buckets of Stats.Latency but the last,
// which has none.
var LatencyBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2500 * time.Millisecond,
}

// Stats are counts since the start.
type Stats struct {
	Publishes  uint64 // by this node, acknowledged or suppressed
	Failures   uint64 // publishes that were not
	Deliveries uint64 // publications handed to the Handler
	Reconnects uint64
	Errors     uint64 // that the embedded server told: services refused, trouble with its files
	Dropped    uint64 // times that live messages may have been dropped on the way in
	Gaps       uint64 // told to the Handler
	Repairs    uint64 // live gaps closed by reading the stream
	Reads      uint64 // of history from a stream
	TailHits   uint64 // reads answered from memory
	TailBytes  int64  // in memory now
	// Latency counts publishes by duration, in buckets of LatencyBounds and one for
	// those above; LatencySum is their total.
	Latency    [len(LatencyBounds) + 1]uint64
	LatencySum time.Duration
}

type counts struct {
	failures, deliveries, reconnects, dropped atomic.Uint64
	gaps, repairs, reads, hits                atomic.Uint64
	latency                                   [len(LatencyBounds) + 1]atomic.Uint64
	latencySum                                atomic.Int64
}

func (c *counts) published(d time.Duration, err error) {
	if err != nil {
		c.failures.Add(1)
		return
	}
	i := 0
	for i < len(LatencyBounds) && d > LatencyBounds[i] {
		i++
	}
	c.latency[i].Add(1)
	c.latencySum.Add(int64(d))
}

// Stats returns the counts so far.
func (b *Broker) Stats() Stats {
	c := &b.counts
	s := Stats{
		Failures: c.failures.Load(), Deliveries: c.deliveries.Load(),
		Reconnects: c.reconnects.Load(), Dropped: c.dropped.Load(), Gaps: c.gaps.Load(),
		Repairs: c.repairs.Load(), Reads: c.reads.Load(), TailHits: c.hits.Load(),
		TailBytes: b.tails.Load(), LatencySum: time.Duration(c.latencySum.Load()),
	}
	if b.server != nil {
		s.Errors = b.server.log.count()
	}
	for i := range c.latency {
		s.Latency[i] = c.latency[i].Load()
		s.Publishes += s.Latency[i]
	}
	return s
}
