package broker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"roost/internal/proctest"
)

// TestSuspend: the folder goes to another broker, or comes back, and nothing that was
// acknowledged is missing.
func TestSuspend(t *testing.T) {
	dir := t.TempDir()
	old, _ := start(t, Options{Dir: dir})
	first := publish(t, old, "ch", "a", kept)
	ledger, err := old.NewLedger(t.Context(), LedgerOptions{Lost: func(string, []byte, func()) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.Add(t.Context(), "client", []byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = ledger.Close(t.Context())
	live := PublishOptions{IdempotencyKey: "k"} // without history
	publish(t, old, "live", "a", live)
	key := kept
	key.IdempotencyKey = "k"
	keyed := publish(t, old, "keyed", "a", key)
	if err := old.Suspend(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := old.Publish(t.Context(), "ch", Publication{Data: []byte("no")}, kept); err == nil {
		t.Error("a suspended broker has stored something")
	}
	if err := old.Resume(); err != nil {
		t.Fatal(err)
	}
	proctest.Eventually(t, old.Ready)
	if second := publish(t, old, "ch", "b", kept); second.Offset != first.Offset+1 || second.Epoch != first.Epoch {
		t.Errorf("after Resume %+v, before %+v", second, first)
	}
	if err := old.Suspend(); err != nil {
		t.Fatal(err)
	}
	will := old.Will()
	next, _ := start(t, Options{Dir: dir, Heir: &will})
	if err := old.server.start(old.opts); err == nil {
		t.Error("two brokers have the folder")
	}
	if next.Node() != old.Node() || next.boot != old.boot {
		t.Errorf("the next broker is %s %s, want %s %s", next.Node(), next.boot, old.Node(), old.boot)
	}
	old.Abandon()
	if got, _ := offsets(t, next, "ch", HistoryQuery{Limit: -1, Size: 10}); got != "1a 2b" {
		t.Errorf("history %q", got)
	}
	if third := publish(t, next, "ch", "c", kept); third.Offset != 3 || third.Epoch != first.Epoch {
		t.Errorf("after the takeover %+v", third)
	}
	if _, suppressed, err := next.Publish(t.Context(), "live", Publication{Data: []byte("a")}, live); err != nil || !suppressed {
		t.Errorf("the same key again: suppressed %v, error %v", suppressed, err)
	}
	if pos, suppressed, err := next.Publish(t.Context(), "keyed", Publication{Data: []byte("a")}, key); err != nil || !suppressed || pos != keyed {
		t.Errorf("the same key again: %+v, suppressed %v, error %v; want %+v", pos, suppressed, err, keyed)
	}
	lost := make(chan string, 1)
	ledger, err = next.NewLedger(t.Context(), LedgerOptions{Lost: func(key string, _ []byte, done func()) error { lost <- key; done(); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.check(); err != nil {
		t.Error(err)
	}
	select {
	case key := <-lost:
		t.Errorf("the client %q counts as lost, but its gateway was taken over", key)
	default:
	}
	_ = ledger.Close(t.Context())
}

// While a folder changes hands nothing waits for the disk: its marker stays as it is. So a power cut in
// between, or later, is seen as one, and the end of the last broker as that.
func TestMarkerOfTakeover(t *testing.T) {
	boot := boots(t)
	boot("one")
	dir := t.TempDir()
	state := func() string {
		text, err := os.ReadFile(filepath.Join(dir, "state.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first, _ := start(t, Options{Dir: dir})
	pos := publish(t, first, "ch", "a", kept)
	serving := state()
	given := func(b *Broker) {
		if err := b.Suspend(); err != nil {
			t.Fatal(err)
		}
		if now := state(); now != serving {
			t.Errorf("given up: %s, before %s", now, serving)
		}
	}
	given(first)
	will := first.Will()
	second, _ := start(t, Options{Dir: dir, Heir: &will})
	if now := state(); now != serving {
		t.Errorf("taken over: %s, before %s", now, serving)
	}
	first.Abandon()
	if next := publish(t, second, "ch", "b", kept); next != (Position{2, pos.Epoch}) {
		t.Errorf("after the takeover %+v, before %+v", next, pos)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	boot("two")
	third, _ := start(t, Options{Dir: dir})
	if next := publish(t, third, "ch", "c", kept); next != (Position{3, pos.Epoch}) {
		t.Errorf("after an end in order %+v, before %+v", next, pos)
	}
	serving = state()
	given(third)
	boot("three")
	fourth, _ := start(t, Options{Dir: dir})
	if next := publish(t, fourth, "ch", "d", kept); next.Offset != 4 || next.Epoch == pos.Epoch {
		t.Errorf("after a power cut in between %+v, before %+v", next, pos)
	}
}

// BenchmarkTakeover is the time from the suspension of a broker to the moment when the next
// one is ready.
func BenchmarkTakeover(b *testing.B) {
	dir := b.TempDir()
	old, err := New(Options{Dir: dir, Handler: newRecorder(), Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 700)
	for i := range 100_000 {
		if _, _, err := old.Publish(context.Background(), fmt.Sprint("ch", i%2000), Publication{Data: data}, PublishOptions{HistorySize: 100, HistoryTTL: time.Hour}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	var suspend, open time.Duration
	for range b.N {
		begin := time.Now()
		if err := old.Suspend(); err != nil {
			b.Fatal(err)
		}
		suspend += time.Since(begin)
		begin = time.Now()
		will := old.Will()
		next, err := New(Options{Dir: dir, Handler: newRecorder(), Logger: quiet(), Heir: &will})
		if err != nil {
			b.Fatal(err)
		}
		open += time.Since(begin)
		b.StopTimer()
		old.Abandon()
		old = next
		b.StartTimer()
	}
	b.ReportMetric(float64(suspend.Milliseconds())/float64(b.N), "ms-suspend/op")
	b.ReportMetric(float64(open.Milliseconds())/float64(b.N), "ms-open/op")
	_ = old.Close()
}
