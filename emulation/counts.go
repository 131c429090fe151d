package emulation

import (
	"maps"
	"sync"
)

type counts struct {
	refused tally
	posts   tally
}

// tally counts by a small set of labels.
type tally struct {
	mu     sync.Mutex
	counts map[string]uint64
}

func (t *tally) add(label string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[string]uint64)
	}
	t.counts[label]++
}

func (t *tally) all() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}
