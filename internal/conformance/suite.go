package conformance

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options say how the suites are run and what the server under test is set to.
// The zero value runs everything that needs no knowledge of the server.
type Options struct {
	Parallel int           // connections under test at a time, default 8
	Timeout  time.Duration // for one case, but for 9, 12 and 13; default 10 s
	Only     []string      // IDs or names to run, or their prefixes ("7.", "upgrade"); default all
	Messages int           // messages in each case of 9.7, 9.8, 12 and 13; default 1000, as in the original

	// What follows is for RunHostile.

	Deflate           bool                  // the server accepts permessage-deflate
	MaxMessage        int64                 // bytes in a message and in a frame the server takes; 0: cases on limits are left out
	HandshakeDeadline time.Duration         // the server's, for a whole request head; 0: cases on it are left out
	IdleDeadline      time.Duration         // after which the server cuts a peer that answers no ping; 0: left out
	BadOrigin         string                // an Origin the server refuses with 403; "": left out
	Aborts            int                   // connections reset in each of the aborts cases, default 1000
	Memory            func() (int64, error) // the server's resident bytes; nil: not looked at
	MemoryBound       int64                 // bytes Memory may grow by in one case, default 64 MiB
}

func (o Options) withDefaults() Options {
	if o.Parallel <= 0 {
		o.Parallel = 8
	}
	if o.Timeout <= 0 {
		o.Timeout = scriptTimeout
	}
	if o.Aborts <= 0 {
		o.Aborts = 1000
	}
	if o.MemoryBound <= 0 {
		o.MemoryBound = 64 << 20
	}
	return o
}

func (o Options) selects(name string) bool {
	return len(o.Only) == 0 || slices.ContainsFunc(o.Only, func(p string) bool { return strings.HasPrefix(name, p) })
}

// Counts are how many cases ended in which class.
type Counts map[Class]int

// RunAll plays the Autobahn cases against the echo server at url, reports
// every case that failed with what was sent, expected and seen, and logs the
// counts and the cases that are neither OK nor failed. It must be called from
// the test's goroutine.
func RunAll(t testing.TB, url string, o Options) Counts {
	t.Helper()
	o = o.withDefaults()
	cases := Cases()
	if len(cases) != CaseCount {
		t.Fatalf("%d cases instead of %d", len(cases), CaseCount)
	}
	cases = slices.DeleteFunc(cases, func(c Case) bool { return !o.selects(c.ID) })
	began := time.Now()
	results := make([]Result, len(cases))
	inParallel(o.Parallel, len(cases), func(i int) {
		c := cases[i]
		if c.bulk != nil && c.bulk.count > 1 && o.Messages > 0 {
			c.bulk.count = o.Messages
		}
		results[i] = run(context.Background(), url, c, o.Timeout)
	})
	counts := Counts{}
	for _, r := range results {
		class := r.Class()
		counts[class]++
		switch class {
		case Failed, Unimplemented:
			t.Errorf("%v", r)
		case NonStrict, Informational:
			t.Logf("%s %s: saw %q", r.ID, class, r.Seen)
		}
	}
	t.Logf("%d cases in %v: %v", len(results), time.Since(began).Round(time.Millisecond), counts)
	return counts
}

// inParallel calls do(0) to do(n-1), at most width at a time.
func inParallel(width, n int, do func(int)) {
	var wg sync.WaitGroup
	turn := make(chan struct{}, width)
	for i := range n {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			do(i)
		})
	}
	wg.Wait()
}
