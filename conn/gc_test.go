//go:build linux

package conn

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"

	"roost/internal/proctest"
)

// BenchmarkCollector measures what a collection costs with a million idle sessions,
// without their sockets: the objects, and the tables with the pointers that the
// poller has, a slot and a descriptor's entry each.
//
//	go test -run '^$' -bench Collector -benchtime 20x ./conn
func BenchmarkCollector(b *testing.B) {
	const sessions = 1_000_000
	for _, bc := range []struct {
		name string
		n    int
	}{{"empty", 0}, {"million", sessions}} {
		b.Run(bc.name, func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(-1)) // only those that are asked for
			before := proctest.LiveHeap()
			t := newTables(bc.n)
			heap := proctest.LiveHeap() - before
			start := readCollector()
			begin := time.Now()
			for b.Loop() {
				runtime.GC()
			}
			wall := time.Since(begin)
			end := readCollector()
			runtime.KeepAlive(t)
			per := float64(b.N)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(1e3*wall.Seconds()/per, "wall-ms/GC")
			b.ReportMetric(1e3*(end.cpu-start.cpu)/per, "runtime-cpu-ms/GC")
			b.ReportMetric(1e3*(end.process-start.process)/per, "process-cpu-ms/GC")
			p50, most := end.pausesSince(start)
			b.ReportMetric(1e6*p50, "pause-p50-µs")
			b.ReportMetric(1e6*most, "pause-max-µs")
			if bc.n > 0 {
				b.ReportMetric(float64(heap)/float64(bc.n), "B/session")
			}
		})
	}
}

// tables hold connections as the poller does.
type tables struct {
	chunks []*[4096]tableSlot
	byFD   []*Conn
}

type tableSlot struct {
	conn *Conn
	_    uint64 // deadline and generation
}

func newTables(n int) *tables {
	t := &tables{byFD: make([]*Conn, n)}
	for i := range n {
		if i%4096 == 0 {
			t.chunks = append(t.chunks, new([4096]tableSlot))
		}
		c := new(Conn)
		c.state = stateOpen
		t.chunks[i/4096][i%4096].conn = c
		t.byFD[i] = c
	}
	return t
}

// collector is what the runtime has counted so far.
type collector struct {
	cpu     float64 // seconds, by the runtime: from wall time, so other programs add to it
	process float64 // seconds of the whole process, by the kernel
	pauses  *metrics.Float64Histogram
}

func readCollector() collector {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(s)
	var ru syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	process := time.Duration(ru.Utime.Nano() + ru.Stime.Nano()).Seconds()
	return collector{s[0].Value.Float64(), process, s[1].Value.Float64Histogram()}
}

// pausesSince returns the median and the longest pause, as upper bounds of the
// histogram's buckets, in seconds.
func (c collector) pausesSince(start collector) (p50, most float64) {
	var counts []uint64
	var total uint64
	for i, n := range c.pauses.Counts {
		counts = append(counts, n-start.pauses.Counts[i])
		total += counts[i]
	}
	var seen uint64
	for i, n := range counts {
		if n == 0 {
			continue
		}
		upper := c.pauses.Buckets[i+1]
		if math.IsInf(upper, 1) {
			upper = c.pauses.Buckets[i]
		}
		if seen*2 < total {
			p50 = upper
		}
		seen += n
		most = upper
	}
	return p50, most
}
