package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"roost/broker"
)

// Every shard has one owner, about as many each, and few move when one comes or goes.
func TestOwners(t *testing.T) {
	owners := func(ids ...string) (all [Shards]string) {
		for shard := range Shards {
			for _, id := range ids {
				p := &peers{id: id, seen: map[string]time.Time{}}
				for _, other := range ids {
					if other != id {
						p.seen[other] = time.Now()
					}
				}
				if !p.mine()(shard) {
					continue
				}
				if all[shard] != "" {
					t.Fatalf("shard %d has two owners", shard)
				}
				all[shard] = id
			}
			if all[shard] == "" {
				t.Fatalf("shard %d has no owner", shard)
			}
		}
		return all
	}
	three, two := owners("a", "b", "c"), owners("a", "b")
	count, moved := map[string]int{}, 0
	for shard := range Shards {
		count[three[shard]]++
		if three[shard] != "c" && three[shard] != two[shard] {
			moved++
		}
	}
	if moved != 0 {
		t.Errorf("%d shards moved between those that stayed", moved)
	}
	for id, n := range count {
		if n < Shards/6 {
			t.Errorf("%s owns %d of %d", id, n, Shards)
		}
	}
}

// counter is an object of a test.
type counter struct{ n, loaded int }

// cells of counters, which say how often they were loaded.
func counters(gen *uint64) (*Cells[counter], *int) {
	loads := 0
	var mu sync.Mutex
	return &Cells[counter]{
		Generation: func() uint64 { return *gen },
		Load: func(context.Context, string) (*counter, error) {
			mu.Lock()
			defer mu.Unlock()
			loads++
			return &counter{loaded: loads}, nil
		},
	}, &loads
}

// One user at a time, and what is in memory is not read again.
func TestCells(t *testing.T) {
	var gen uint64
	c, loads := counters(&gen)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if err := c.With(t.Context(), "key", func(v *counter) error { v.n++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	value := func() (n int) {
		if err := c.With(t.Context(), "key", func(v *counter) error { n = v.n; return nil }); err != nil {
			t.Error(err)
		}
		return n
	}
	if value() != 8000 || *loads != 1 {
		t.Errorf("%d of 8000, %d loads", value(), *loads)
	}
	for what, outdate := range map[string]func(){
		"forgotten":         func() { c.Forget(ShardOf("key")) },
		"missed something":  func() { gen++ },
		"not used for long": func() { c.sweep(time.Now().Add(time.Second)) },
		"an error": func() {
			if c.With(t.Context(), "key", func(*counter) error { return errors.New("x") }) == nil {
				t.Error("an error is lost")
			}
		},
	} {
		before := *loads
		if outdate(); value() != 0 || *loads != before+1 {
			t.Errorf("%s: %d loads more", what, *loads-before)
		}
	}
	if st := c.Stats(); st.InUse != 1 {
		t.Errorf("%+v", st)
	}
}

// After a conflict the object is read again, and the call begins again; what is refused changes nothing.
func TestConflict(t *testing.T) {
	var gen uint64
	c, loads := counters(&gen)
	tries := 0
	err := c.With(t.Context(), "key", func(*counter) error {
		if tries++; tries < 4 {
			return fmt.Errorf("store: %w", broker.ErrConflict)
		}
		return nil
	})
	if err != nil || tries != 4 || *loads != 4 {
		t.Errorf("%v after %d tries, %d loads", err, tries, *loads)
	}
	err = c.With(t.Context(), "key", func(*counter) error { return Errorf(1400, "no") })
	if err == nil || *loads != 4 {
		t.Errorf("%v, %d loads", err, *loads)
	}
	if err := c.With(t.Context(), "key", func(*counter) error { return broker.ErrConflict }); !errors.Is(err, Unavailable) {
		t.Errorf("conflicts without end: %v", err)
	}
}

// Who waits for its turn does so no longer than it wants.
func TestTurn(t *testing.T) {
	var gen uint64
	c, _ := counters(&gen)
	err := c.With(t.Context(), "key", func(*counter) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return c.With(ctx, "key", func(*counter) error { return nil })
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestAnswers(t *testing.T) {
	revision := uint64(7)
	failed := &Error{Code: 1408, Message: "ä", Revision: &revision}
	_, err := decodeAnswer(encodeAnswer(nil, failed))
	var got *Error
	if !errors.As(err, &got) || got.Code != 1408 || *got.Revision != 7 || got.Message != "ä" {
		t.Errorf("%+v", err)
	}
	if b, err := decodeAnswer(encodeAnswer([]byte("{}"), nil)); err != nil || string(b) != "{}" {
		t.Errorf("%q, %v", b, err)
	}
	for _, b := range [][]byte{nil, {answerError}, {7, 1}} {
		if _, err := decodeAnswer(b); err == nil {
			t.Errorf("%v is an answer", b)
		}
	}
	if got := string(Reply(nil, failed)); got != `{"error":{"code":1408,"message":"ä","revision":7}}` {
		t.Error(got)
	}
}
