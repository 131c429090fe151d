package main

import (
	"context"
	"runtime/debug"
	"time"

	"roost/conn"
)

const (
	calmCheck = time.Second
	calmShare = 50 // a release may take one part in so many of the time
)

// giveMemoryBack returns to the system what a wave of connects or disconnects has
// left behind. The runtime keeps twice the live heap and gives the rest back slowly,
// which a density gateway should not; so once the count has been still for a moment
// after a change, the garbage is collected and released.
func giveMemoryBack(ctx context.Context, srv *conn.Server) {
	tick := time.NewTicker(calmCheck)
	defer tick.Stop()
	var seen, released uint64
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			st := srv.Poller().Stats()
			changes := st.Opened + st.Closed
			calm := changes == seen
			seen = changes
			if !calm || changes == released || now.Before(next) {
				continue
			}
			released = changes
			debug.FreeOSMemory()
			took := time.Since(now)
			next = now.Add(calmShare * took)
		}
	}
}
