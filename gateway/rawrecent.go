package gateway

import (
	"errors"
	"slices"
	"time"

	"roost/poller"
)

// rawRecents are, by loop, the clients of raw routes that had a message over NATS lately: where
// NATS breaks, theirs may be lost. Static after start.
type rawRecents map[*poller.Loop]*rawRecent

// rawRecent are those of one loop, which owns it.
type rawRecent struct {
	now, before []poller.Handle // since the last turn of rawTurn, and in the one before
}

// rawTurn is how long a message counts as under way after NATS has confirmed it, at least; at most
// twice that.
const rawTurn = 5 * time.Second

var errRawBroken = errors.New("gateway: the connection to NATS broke")

// startRecents begins to note who has messages, once there are loops.
func (n *Node) startRecents() {
	all := make(rawRecents)
	for _, l := range n.server.Poller().Loops() {
		all[l] = new(rawRecent)
	}
	n.recents.Store(&all)
	go func() {
		for tick := time.NewTicker(rawTurn); ; {
			select {
			case <-n.ended:
				tick.Stop()
				return
			case <-tick.C:
			}
			for l, r := range all {
				l.Post(func() { r.turn(l) })
			}
		}
	}()
}

// turn forgets who had messages a while ago. On the loop.
func (r *rawRecent) turn(l *poller.Loop) {
	for _, h := range r.now {
		if s := sessionAt(l, h); s != nil {
			s.marks.And(^markRecent)
		}
	}
	r.now, r.before = r.before[:0], r.now
}

// touch notes that a client has a message under way. On the loop.
func (n *Node) touch(s *session) {
	if s.is(markRecent) {
		return
	}
	s.set(markRecent)
	r := (*n.recents.Load())[s.Conn.Loop()]
	r.now = append(r.now, s.Conn.Handle())
}

// rawBroken closes the clients whose messages NATS may have lost, so that none is served with a hole.
// It is called by NATS and does not block.
func (n *Node) rawBroken() {
	all := n.recents.Load()
	if all == nil || n.parting.Load() {
		return // not started, or nothing is under way
	}
	for l, r := range *all {
		l.Post(func() {
			for _, h := range slices.Concat(r.before, r.now) {
				if s := sessionAt(l, h); s != nil {
					s.Lost(errRawBroken)
				}
			}
		})
	}
}
