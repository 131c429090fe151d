package broker

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// discard is a Handler that hears nothing.
type discard struct{}

func (discard) Publication(string, *Publication)     {}
func (discard) JoinLeave(string, bool, []byte)       {}
func (discard) Gap(string)                           {}
func (discard) Notice(string, []byte)                {}
func (discard) Query(string, []byte) ([]byte, error) { return nil, nil }

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // RUSAGE_SELF always exists
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportCPU adds the process's CPU per operation since begin.
func reportCPU(b *testing.B, begin time.Duration) {
	b.ReportMetric(float64(cpu()-begin)/float64(b.N)/1e3, "cpu-µs/op")
}

func rss(b *testing.B) float64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		b.Skip("no /proc")
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
			if err != nil {
				b.Fatal(err)
			}
			return float64(kb) / 1024
		}
	}
	b.Skip("no VmRSS")
	return 0
}

func benchStart(b *testing.B, dir string) *Broker {
	n, err := New(Options{Dir: dir, Handler: discard{}, Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	return n
}

var benchPub = Publication{Data: make([]byte, 128)}

func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name     string
		o        PublishOptions
		channels int
		workers  int
	}{
		{"live", PublishOptions{}, 1, 1},
		{"live/key", PublishOptions{IdempotencyKey: "k"}, 1, 1}, // another one each time
		{"history/1channel/1", PublishOptions{HistorySize: 100, HistoryTTL: time.Hour}, 1, 1},
		{"history/key", PublishOptions{IdempotencyKey: "k", HistorySize: 100, HistoryTTL: time.Hour}, 1, 1},
		{"history/1000channels/1", PublishOptions{HistorySize: 100, HistoryTTL: time.Hour}, 1000, 1},
		{"history/1000channels/32", PublishOptions{HistorySize: 100, HistoryTTL: time.Hour}, 1000, 32},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := benchStart(b, b.TempDir())
			defer n.Close()
			for i := range c.channels { // streams are opened, and heads known
				if _, _, err := n.Publish(b.Context(), "ch"+strconv.Itoa(i), benchPub, c.o); err != nil {
					b.Fatal(err)
				}
			}
			var next atomic.Int64
			var done sync.WaitGroup
			begin := cpu()
			b.ReportAllocs()
			b.ResetTimer()
			for range c.workers {
				done.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						o := c.o
						if o.IdempotencyKey != "" {
							o.IdempotencyKey = strconv.FormatInt(i, 10)
						}
						if _, _, err := n.Publish(b.Context(), "ch"+strconv.FormatInt(i%int64(c.channels), 10), benchPub, o); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			done.Wait()
			b.StopTimer()
			reportCPU(b, begin)
		})
	}
}

// filled is a folder with 10,000 channels of 20 records each, interleaved: the one that
// ROOST_BENCH_DATA names, if it is there already. So memory after a start can be seen in
// a process that did not fill it.
func filled(b *testing.B) string {
	dir := os.Getenv("ROOST_BENCH_DATA")
	if dir == "" {
		dir = b.TempDir()
	} else if _, err := os.Stat(dir); err == nil {
		return dir
	}
	n := benchStart(b, dir)
	var done sync.WaitGroup
	for w := range 32 {
		done.Go(func() {
			for range 20 {
				for i := w; i < 10_000; i += 32 {
					if _, _, err := n.Publish(b.Context(), fmt.Sprintf("ch%d", i), benchPub, PublishOptions{HistorySize: 100}); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	done.Wait()
	if err := n.Close(); err != nil {
		b.Fatal(err)
	}
	return dir
}

// BenchmarkStart is a start with 200,000 records.
func BenchmarkStart(b *testing.B) {
	dir := filled(b)
	runtime.GC()
	before := rss(b)
	begin := cpu()
	b.ResetTimer()
	for range b.N {
		n := benchStart(b, dir)
		b.StopTimer()
		b.ReportMetric(rss(b)-before, "MB-more")
		b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.StopTimer()
	reportCPU(b, begin)
}

// BenchmarkRead reads the 20 records of channels that are not in memory.
func BenchmarkRead(b *testing.B) {
	n := benchStart(b, filled(b))
	defer n.Close()
	begin := cpu()
	b.ResetTimer()
	for i := range b.N {
		pubs, _, err := n.History(b.Context(), fmt.Sprintf("ch%d", i*7919%10_000), HistoryQuery{Limit: -1, Size: 100})
		if err != nil || len(pubs) != 20 {
			b.Fatalf("%d publications, error %v", len(pubs), err)
		}
	}
	b.StopTimer()
	reportCPU(b, begin)
}

// BenchmarkPosition asks for the position of channels that have none in memory.
func BenchmarkPosition(b *testing.B) {
	n := benchStart(b, b.TempDir())
	defer n.Close()
	begin := cpu()
	b.ResetTimer()
	for i := range b.N {
		if _, _, err := n.History(b.Context(), fmt.Sprintf("ch%d", i), HistoryQuery{Size: 100}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	reportCPU(b, begin)
}
