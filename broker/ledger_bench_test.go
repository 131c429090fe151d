package broker

import (
	"context"
	"strconv"
	"syscall"
	"testing"
	"time"

	"roost/internal/proctest"
)

// BenchmarkLedger tells what an entry costs the process with the embedded server: CPU to
// come and to go, and bytes of heap while it is there (docs/adr/0010).
func BenchmarkLedger(b *testing.B) {
	br, err := New(Options{Dir: b.TempDir(), Handler: newRecorder(), Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	defer br.Close()
	l, err := br.NewLedger(b.Context(), LedgerOptions{Lost: func(string, []byte, func()) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	value := []byte(`{"client":"5b4f1c8e-0c9e-4a53-8a5e-0a2a55b6a1c0","transport":"websocket","protocol":"json","encoding":"json","user":"user123"}`)
	key := func(i int) string { return "5b4f1c8e-0c9e-4a53-8a5e-0a2a" + strconv.Itoa(10_000_000+i) }
	heap := func() float64 { return float64(proctest.LiveHeap()) }
	cpu := func() float64 {
		var r syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
		return float64(r.Utime.Nano()+r.Stime.Nano()) / 1000
	}
	n := float64(b.N)
	before, began := heap(), cpu()
	for i := range b.N {
		if err := l.Add(b.Context(), key(i), value); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu()-began)/n, "µs-CPU/add")
	b.ReportMetric((heap()-before)/n, "B-heap/entry")
	began = cpu()
	for i := range b.N {
		l.Remove(key(i))
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric((cpu()-began)/n, "µs-CPU/remove")
}
