// Package tally counts events by a small set of keys, for metrics.
package tally

import (
	"sync"
	"sync/atomic"
)

// Of counts by keys of type K, of which there must be few: none is ever forgotten. The
// zero value is ready. Any goroutine.
type Of[K comparable] struct {
	mu     sync.RWMutex
	counts map[K]*atomic.Uint64
}

// Add counts one of k.
func (t *Of[K]) Add(k K) {
	t.mu.RLock()
	c := t.counts[k]
	t.mu.RUnlock()
	if c == nil {
		t.mu.Lock()
		if c = t.counts[k]; c == nil {
			if t.counts == nil {
				t.counts = make(map[K]*atomic.Uint64)
			}
			c = new(atomic.Uint64)
			t.counts[k] = c
		}
		t.mu.Unlock()
	}
	c.Add(1)
}

// All returns a copy of the counts.
func (t *Of[K]) All() map[K]uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make(map[K]uint64, len(t.counts))
	for k, c := range t.counts {
		out[k] = c.Load()
	}
	return out
}
