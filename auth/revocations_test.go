package auth

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestRevocations(t *testing.T) {
	now := time.Now()
	later, past := now.Add(time.Hour), now.Add(-time.Hour)
	for _, c := range []struct {
		name   string
		do     func(*Revocations)
		user   string
		id     string
		issued time.Time
		want   error
	}{
		{"nothing", func(*Revocations) {}, "ann", "t", now, nil},
		{"blocked", func(r *Revocations) { r.BlockUser("ann", later) }, "ann", "t", now, ErrBlocked},
		{"another blocked", func(r *Revocations) { r.BlockUser("bob", later) }, "ann", "t", now, nil},
		{"block over", func(r *Revocations) { r.BlockUser("ann", past) }, "ann", "t", now, nil},
		{"unblocked", func(r *Revocations) { r.BlockUser("ann", later); r.UnblockUser("ann") }, "ann", "t", now, nil},
		{"issued before", func(r *Revocations) { r.RevokeUser("ann", now, later) }, "ann", "t", past, ErrRevoked},
		{"does not say when", func(r *Revocations) { r.RevokeUser("ann", now, later) }, "ann", "t", time.Unix(0, 0), ErrRevoked},
		{"issued after", func(r *Revocations) { r.RevokeUser("ann", past, later) }, "ann", "t", now, nil},
		{"user revocation over", func(r *Revocations) { r.RevokeUser("ann", now, past) }, "ann", "t", past, nil},
		{"token", func(r *Revocations) { r.RevokeToken("t", later) }, "ann", "t", now, ErrRevoked},
		{"token revocation over", func(r *Revocations) { r.RevokeToken("t", past) }, "ann", "t", now, nil},
		{"token twice, the first for longer", func(r *Revocations) { r.RevokeToken("t", later); r.RevokeToken("t", past) }, "ann", "t", now, ErrRevoked},
		{"another token", func(r *Revocations) { r.RevokeToken("x", later) }, "ann", "t", now, nil},
		{"tokens without id", func(r *Revocations) { r.RevokeToken("", later) }, "ann", "", now, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r, restored Revocations
			c.do(&r)
			if err := restored.Restore(r.Snapshot()); err != nil {
				t.Fatal(err)
			}
			for _, r := range []*Revocations{&r, &restored} {
				if err := r.Check(c.user, c.id, c.issued.Unix()); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			}
		})
	}
}

// Nodes restore each other's snapshots in any order.
func TestRestoreMerges(t *testing.T) {
	later := time.Now().Add(time.Hour)
	var a, b Revocations
	a.BlockUser("ann", later)
	a.RevokeToken("t", later)
	blocked := a.Snapshot()
	b.BlockUser("bob", later)
	a.RevokeUser("ann", time.Unix(100, 0), later)
	b.RevokeUser("ann", time.Unix(200, 0), later)
	for _, s := range [][]byte{a.Snapshot(), blocked, []byte("{}")} {
		if err := b.Restore(s); err != nil {
			t.Fatal(err)
		}
	}
	if b.Check("ann", "", 1000) != ErrBlocked || b.Check("bob", "", 1000) != ErrBlocked || b.Check("eve", "t", 1000) != ErrRevoked {
		t.Error("something was lost")
	}
	// Unblocking is the later word, whatever snapshots come after it.
	time.Sleep(2 * time.Millisecond) // words are told apart by the millisecond
	b.UnblockUser("ann")
	if err := b.Restore(blocked); err != nil {
		t.Fatal(err)
	}
	if err := b.Check("ann", "", 150); err != ErrRevoked {
		t.Errorf("issued between the two: %v", err)
	}
	if err := b.Check("ann", "", 300); err != nil {
		t.Errorf("unblocked: %v", err)
	}
	if err := b.Restore([]byte("[")); err == nil {
		t.Error("restored what is none")
	}
}

func TestRevocationsBounded(t *testing.T) {
	var a, b Revocations
	fill := func(r *Revocations, name string, until time.Time) {
		r.change(func(l *revocations) {
			for i := range revocationsMax {
				l.Tokens[fmt.Sprint(name, i)] = until.UnixMilli()
			}
		})
	}
	soon, late := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	fill(&a, "a", soon)
	fill(&b, "b", late)
	if err := b.Restore(a.Snapshot()); err != nil {
		t.Fatal(err)
	}
	b.RevokeToken("last", late.Add(time.Hour))
	if n := len(b.list.Tokens); n != revocationsMax {
		t.Errorf("%d tokens, want %d", n, revocationsMax)
	}
	if b.Check("", "a5", 0) != nil || b.Check("", "last", 0) != ErrRevoked {
		t.Error("those that end first must go first")
	}
}

// Users who are let in again never push out one who is blocked.
func TestUnblockedGoFirst(t *testing.T) {
	var r Revocations
	r.BlockUser("ann", time.Now().Add(time.Hour))
	r.change(func(l *revocations) {
		for i := range int64(revocationsMax) {
			l.Blocked[fmt.Sprint("u", i)] = blocked{Until: 0, Set: l.Blocked["ann"].Set + 1 + i}
		}
	})
	if n := len(r.list.Blocked); n != revocationsMax {
		t.Errorf("%d users, want %d", n, revocationsMax)
	}
	if _, kept := r.list.Blocked["u0"]; kept || r.Check("ann", "", 0) != ErrBlocked {
		t.Error("the one who is blocked went before the first who is not")
	}
}

func TestRevocationsShared(t *testing.T) {
	var r Revocations
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 100 {
				user := fmt.Sprint(i, j)
				r.BlockUser(user, time.Now().Add(time.Hour))
				if r.Check(user, "", 0) != ErrBlocked {
					t.Error("not blocked")
				}
				_ = r.Snapshot()
			}
		})
	}
	wg.Wait()
}
