package main

import (
	"context"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"

	"roost/conn"
)

const (
	calmCheck = time.Second
	calmShare = 50              // a release may take one part in so many of the time
	calmAgain = 2 * time.Second // after the first release of a wave

	// While nobody comes or goes, pings and scrapes still leave garbage, up to
	// another live heap of it before the collector would look.
	staleCheck = 30 * time.Second
	staleShare = 8 // garbage above one part in so many of the live heap is released
)

// giveMemoryBack returns to the system what a wave of connects or disconnects has
// left behind. The runtime keeps twice the live heap and gives the rest back slowly,
// which a density gateway should not; so once the count has been still for a moment
// after a change, again when what the change kept busy has come to rest, and every
// staleCheck where garbage has gathered, it is collected and released.
func giveMemoryBack(ctx context.Context, srv *conn.Server) {
	tick := time.NewTicker(calmCheck)
	defer tick.Stop()
	var seen, released uint64
	var next, again, stale time.Time // again is zero unless a second release is to come
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			st := srv.Poller().Stats()
			changes := st.Opened + st.Closed
			calm := changes == seen
			seen = changes
			second := !again.IsZero() && now.After(again)
			if !calm || now.Before(next) || changes == released && !second && (now.Before(stale) || !garbage()) {
				continue
			}
			if again = (time.Time{}); changes != released {
				again = now.Add(calmAgain)
			}
			released = changes
			debug.FreeOSMemory()
			next = now.Add(calmShare * time.Since(now))
			stale = now.Add(staleCheck)
		}
	}
}

// garbage reports whether the heap holds clearly more than the last collection left.
func garbage() bool {
	s := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	runtimemetrics.Read(s)
	objects, live := s[0].Value.Uint64(), s[1].Value.Uint64()
	return objects > live+live/staleShare
}
