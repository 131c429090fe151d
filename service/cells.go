package service

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"roost/broker"
)

const (
	// cellIdle is how long an object stays in memory after it was used.
	cellIdle = 30 * time.Second
	// conflictTries is how often a call begins again since another instance wrote meanwhile.
	conflictTries = 8
)

// Cells are the objects of a service that are in use, each with one user at a time. What nobody uses
// takes no memory.
type Cells[T any] struct {
	// Load makes an object from its log. Static.
	Load func(ctx context.Context, key string) (*T, error)
	// Generation changes when what is in memory may be outdated, see broker.Generation. Static.
	Generation func() uint64

	shards [Shards]cellShard[T]
	counts cellCounts
}

type cellCounts struct{ loads, conflicts atomic.Uint64 }

type cellShard[T any] struct {
	mu    sync.Mutex
	cells map[string]*cell[T]
	gen   uint64 // goes up when what is in memory may be outdated
}

type cell[T any] struct {
	turn chan struct{} // held by the user
	// Guarded by the shard's mu.
	users int
	used  time.Time
	// The turn's.
	value *T // nil: not loaded
	gen   uint64
}

// With has f use an object. After broker.ErrConflict it is loaded again and f called again, which must
// have changed nothing then; after any other error that is no *Error it is loaded again for the next one.
// Any goroutine.
func (c *Cells[T]) With(ctx context.Context, key string, f func(*T) error) error {
	sh := &c.shards[ShardOf(key)]
	x := sh.take(key)
	defer sh.give(key, x)
	select {
	case x.turn <- struct{}{}:
	default:
		select {
		case x.turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-x.turn }()
	for try := 0; ; try++ {
		if gen := sh.generation() + c.Generation(); x.value == nil || x.gen != gen {
			c.counts.loads.Add(1)
			v, err := c.Load(ctx, key)
			if err != nil {
				x.value = nil
				return err
			}
			x.value, x.gen = v, gen
		}
		err := f(x.value)
		var own *Error
		if err == nil || errors.As(err, &own) {
			return err
		}
		x.value = nil
		if !errors.Is(err, broker.ErrConflict) {
			return err
		}
		if c.counts.conflicts.Add(1); try == conflictTries {
			return Unavailable
		}
	}
}

func (sh *cellShard[T]) generation() uint64 {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.gen
}

func (sh *cellShard[T]) take(key string) *cell[T] {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.cells == nil {
		sh.cells = make(map[string]*cell[T])
	}
	x := sh.cells[key]
	if x == nil {
		x = &cell[T]{turn: make(chan struct{}, 1)}
		sh.cells[key] = x
	}
	x.users++
	return x
}

func (sh *cellShard[T]) give(key string, x *cell[T]) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	x.users--
	x.used = time.Now()
	if x.users == 0 && x.value == nil {
		delete(sh.cells, key)
	}
}

// Forget drops what is in memory of a shard: it may be outdated.
func (c *Cells[T]) Forget(shard int) {
	sh := &c.shards[shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.gen++
	for key, x := range sh.cells {
		if x.users == 0 {
			delete(sh.cells, key)
		}
	}
}

// Sweep drops what has not been used for long, until stopped is closed.
func (c *Cells[T]) Sweep(stopped <-chan struct{}) {
	t := time.NewTicker(cellIdle / 4)
	defer t.Stop()
	for {
		select {
		case <-stopped:
			return
		case <-t.C:
			c.sweep(time.Now().Add(-cellIdle))
		}
	}
}

func (c *Cells[T]) sweep(before time.Time) {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		kept := 0
		for key, x := range sh.cells {
			if x.users == 0 && x.used.Before(before) {
				delete(sh.cells, key)
			} else {
				kept++
			}
		}
		if kept == 0 {
			sh.cells = nil // its buckets are those of the largest crowd
		}
		sh.mu.Unlock()
	}
}

// CellStats are figures of Cells.
type CellStats struct {
	InUse            int // in memory now
	Loads, Conflicts uint64
}

// Stats returns the figures so far.
func (c *Cells[T]) Stats() CellStats {
	s := CellStats{Loads: c.counts.loads.Load(), Conflicts: c.counts.conflicts.Load()}
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		s.InUse += len(sh.cells)
		sh.mu.Unlock()
	}
	return s
}
