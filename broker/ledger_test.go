package broker

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"roost/internal/proctest"
)

// finder keeps what was lost.
type finder struct {
	mu    sync.Mutex
	found map[string]string
}

func (f *finder) lost(key string, value []byte, done func()) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.found == nil {
		f.found = map[string]string{}
	}
	f.found[key] = string(value)
	go done()
	return nil
}

func (f *finder) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.found)
}

func ledger(t *testing.T, b *Broker, grace time.Duration) (*Ledger, *finder) {
	t.Helper()
	f := &finder{}
	l, err := b.NewLedger(t.Context(), LedgerOptions{Lost: f.lost, Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	l.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = l.Close(ctx)
	})
	return l, f
}

func fill(t *testing.T, l *Ledger, entries int) {
	t.Helper()
	for i := range entries {
		if err := l.Add(t.Context(), strconv.Itoa(i), []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
}

// What an earlier run on the same data left is found once, all but what it removed.
func TestLedgerRestart(t *testing.T) {
	dir := t.TempDir()
	const entries, removed = 2500, 500
	b, _ := start(t, Options{Dir: dir})
	l, f := ledger(t, b, 0)
	fill(t, l, entries)
	for i := range removed {
		l.Remove(strconv.Itoa(i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if f.count() > 0 {
		t.Error("a node found its own entries")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for round, want := range []int{entries - removed, 0} {
		b, _ := start(t, Options{Dir: dir})
		l, f := ledger(t, b, 0)
		proctest.Eventually(t, func() error {
			runs, err := b.Load(t.Context(), "ledger")
			if err != nil || len(runs) != 1 || f.count() != want {
				return fmt.Errorf("round %d: %d found, %d runs, %v", round, f.count(), len(runs), err)
			}
			return nil
		})
		if round == 0 && f.found["500"] != "value" {
			t.Errorf("%q", f.found["500"])
		}
		if err := l.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Another node finds the entries of one that is lost, after the grace time; those of the
// living are left alone.
func TestLedgerOtherNode(t *testing.T) {
	t.Parallel()
	s := natsServer(t, t.TempDir(), -1)
	a, _ := start(t, Options{URLs: []string{s.ClientURL()}, Node: "a.*"})
	b, _ := start(t, Options{URLs: []string{s.ClientURL()}, Node: "b"})
	mine, _ := ledger(t, a, 2*time.Second)
	fill(t, mine, 10)
	other, f := ledger(t, b, 2*time.Second)
	fill(t, other, 10)
	time.Sleep(4 * time.Second)
	if n := f.count(); n > 0 {
		t.Errorf("%d entries of the living were found", n)
	}
	a.nc.Close() // as a kill looks to the others
	proctest.Eventually(t, func() error {
		runs, err := b.Load(t.Context(), "ledger")
		if f.count() != 10 || err != nil || len(runs) != 1 {
			return fmt.Errorf("%d of 10, %d runs, %v", f.count(), len(runs), err)
		}
		return nil
	})
}
