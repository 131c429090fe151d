package gateway

import (
	"sync"
	"time"
)

// lastSeen remembers when users left this node: the latest lastSeenMax of them, since
// the start of the process.
type lastSeen struct {
	mu    sync.Mutex
	young map[string]int64 // Unix seconds, the newer half
	old   map[string]int64
}

const lastSeenMax = 100_000

// left notes that a client of the user has gone.
func (l *lastSeen) left(user string) {
	if user == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.young == nil || len(l.young) >= lastSeenMax/2 {
		l.old, l.young = l.young, make(map[string]int64)
	}
	l.young[user] = time.Now().Unix()
}

// at returns when the user was last seen leaving, in Unix seconds, or 0.
func (l *lastSeen) at(user string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.young[user]; ok {
		return t
	}
	return l.old[user]
}
