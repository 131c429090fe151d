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
// staleCheck where garbage has gathered that the collector did not look at, it is collected
// and released. What messages have in turn belongs to them: to get it back from the system
// costs more than it takes. Connections that were taken over are no wave.
func giveMemoryBack(ctx context.Context, srv *conn.Server) {
	tick := time.NewTicker(calmCheck)
	defer tick.Stop()
	st := srv.Poller().Stats()
	seen := st.Opened + st.Closed
	released := seen
	var next, again time.Time // again is zero unless a second release is to come
	stale, cycles := time.Now().Add(staleCheck), collections()
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
			old := false
			if now.After(stale) {
				was := cycles
				cycles, stale = collections(), now.Add(staleCheck)
				old = cycles == was && garbage()
			}
			if !calm || now.Before(next) || changes == released && !second && !old {
				continue
			}
			if again = (time.Time{}); changes != released {
				again = now.Add(calmAgain)
			}
			released = changes
			debug.FreeOSMemory()
			next = now.Add(calmShare * time.Since(now))
		}
	}
}

// collections is how often the collector has run by itself.
func collections() uint64 {
	s := []runtimemetrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}}
	runtimemetrics.Read(s)
	return s[0].Value.Uint64()
}

// garbage reports whether the heap holds clearly more than the last collection left.
func garbage() bool {
	s := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	runtimemetrics.Read(s)
	objects, live := s[0].Value.Uint64(), s[1].Value.Uint64()
	return objects > live+live/staleShare
}
