package auth

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// Revocations say whom and what to refuse although the signature is right. The zero
// value is ready; any goroutine.
type Revocations struct {
	mu   sync.RWMutex
	list revocations
}

// revocations by user or token id; times in Unix milliseconds.
type revocations struct {
	Blocked map[string]blocked `json:"blocked,omitempty"`
	Users   map[string]issued  `json:"users,omitempty"`
	Tokens  map[string]int64   `json:"tokens,omitempty"` // until
}

type blocked struct {
	Until int64 `json:"until"` // 0: unblocked
	Set   int64 `json:"set"`   // when that was said: the latest word counts
}

type issued struct {
	Before int64 `json:"before"` // Unix seconds
	Until  int64 `json:"until"`
}

func (l *revocations) revokeUser(user string, i issued) {
	u := l.Users[user]
	l.Users[user] = issued{max(i.Before, u.Before), max(i.Until, u.Until)}
}

func (l *revocations) revokeToken(id string, until int64) { l.Tokens[id] = max(until, l.Tokens[id]) }

// revocationsMax bounds each kind; the oldest ones of a fuller list go first.
const revocationsMax = 100_000

// BlockUser refuses a user.
func (r *Revocations) BlockUser(user string, until time.Time) {
	r.change(func(l *revocations) { l.Blocked[user] = blocked{until.UnixMilli(), time.Now().UnixMilli()} })
}

// UnblockUser takes BlockUser back.
func (r *Revocations) UnblockUser(user string) {
	r.change(func(l *revocations) { l.Blocked[user] = blocked{0, time.Now().UnixMilli()} })
}

// RevokeUser refuses a user's tokens that were issued before a time, in whole seconds,
// or do not say.
func (r *Revocations) RevokeUser(user string, issuedBefore, until time.Time) {
	r.change(func(l *revocations) { l.revokeUser(user, issued{issuedBefore.Unix(), until.UnixMilli()}) })
}

// RevokeToken refuses the token with this id; of several ends the last counts.
func (r *Revocations) RevokeToken(id string, until time.Time) {
	r.change(func(l *revocations) { l.revokeToken(id, until.UnixMilli()) })
}

// Check returns ErrBlocked, ErrRevoked or nil. issuedAt is in Unix seconds.
func (r *Revocations) Check(user, id string, issuedAt int64) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := time.Now().UnixMilli()
	if b, ok := r.list.Blocked[user]; ok && b.Until > now {
		return ErrBlocked
	}
	if i, ok := r.list.Users[user]; ok && i.Until > now && issuedAt < i.Before {
		return ErrRevoked
	}
	if until, ok := r.list.Tokens[id]; ok && id != "" && until > now {
		return ErrRevoked
	}
	return nil
}

func (r *Revocations) change(f func(*revocations)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.list
	if l.Blocked == nil {
		l.Blocked, l.Users, l.Tokens = make(map[string]blocked), make(map[string]issued), make(map[string]int64)
	}
	f(l)
	now := time.Now().UnixMilli()
	maps.DeleteFunc(l.Blocked, func(_ string, b blocked) bool { return b.Until != 0 && b.Until < now })
	maps.DeleteFunc(l.Users, func(_ string, i issued) bool { return i.Until < now })
	maps.DeleteFunc(l.Tokens, func(_ string, until int64) bool { return until < now })
	bound(l.Blocked, func(b blocked) int64 {
		if b.Until == 0 { // kept only against older words of other nodes, so those go before any block
			return b.Set - math.MaxInt64
		}
		return b.Set
	})
	bound(l.Users, func(i issued) int64 { return i.Until })
	bound(l.Tokens, func(until int64) int64 { return until })
}

// bound drops the entries of the lowest age from a map that is too full.
func bound[V any](m map[string]V, age func(V) int64) {
	if len(m) <= revocationsMax {
		return
	}
	oldest := slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Compare(age(m[a]), age(m[b])) })
	for _, k := range oldest[:len(m)-revocationsMax] {
		delete(m, k)
	}
}

// Snapshot returns all of it for Restore.
func (r *Revocations) Snapshot() []byte {
	r.mu.RLock()
	defer r.mu.RUnlock()
	b, _ := json.Marshal(r.list) // maps of plain values can always be encoded
	return b
}

// Restore merges a snapshot in; where both know a user or token, the later word counts.
func (r *Revocations) Restore(b []byte) error {
	var other revocations
	if err := json.Unmarshal(b, &other); err != nil {
		return fmt.Errorf("auth: restore revocations: %w", err)
	}
	r.change(func(l *revocations) {
		for k, v := range other.Blocked {
			if v.Set > l.Blocked[k].Set {
				l.Blocked[k] = v
			}
		}
		for k, v := range other.Users {
			l.revokeUser(k, v)
		}
		for k, v := range other.Tokens {
			l.revokeToken(k, v)
		}
	})
	return nil
}
