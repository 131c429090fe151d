package gateway

import (
	"math/rand/v2"
	"time"

	"roost/conn"
	"roost/hub"
	"roost/proto/client"

	"github.com/centrifugal/protocol"
)

// firstPing spreads the first pings, so that clients that came together are not asked
// together.
func (n *Node) firstPing(s *session) {
	in := n.opts.PingInterval/2 + rand.N(n.opts.PingInterval/2)
	l, h := s.Conn.Loop(), s.Conn.Handle()
	l.Post(func() {
		s.pingAt = n.tenths() + tenths(in)
		if c := conn.Get(l, h); c != nil {
			c.BeatAfter(min(in, n.expiry(s)))
		}
	})
}

func tenths(d time.Duration) uint32 { return uint32(d / (100 * time.Millisecond)) }

// beat is what time does to a session: pings, their missing answers, expiry. It
// returns when to come again. On the loop.
func (n *Node) beat(c *conn.Conn) time.Duration {
	s, ok := c.Session().(*session)
	if !ok || !s.is(markOpen) || s.is(markEnded) {
		return n.opts.StaleTimeout
	}
	if !s.is(markConnected) {
		if s.look().calls > 0 { // its connect command is being decided on
			return n.opts.StaleTimeout
		}
		n.disconnect(s, client.DisconnectStale)
		return n.opts.StaleTimeout
	}
	next := n.expiry(s)
	if s.is(markEnded) {
		return n.opts.StaleTimeout
	}
	if s.is(markNative) {
		return 0 // conn's own pings and their deadline do
	}
	now := n.tenths()
	pong := tenths(n.opts.PongTimeout)
	interval := tenths(n.opts.PingInterval)
	if s.is(markAwait) && now-(s.pingAt-interval) >= pong {
		n.disconnect(s, client.DisconnectNoPong)
		return n.opts.StaleTimeout
	}
	if int32(now-s.pingAt) >= 0 {
		s.pingAt = now + interval
		n.ping(s)
	}
	due := s.pingAt - now
	if s.is(markAwait) {
		due = min(due, s.pingAt-interval+pong-now)
	}
	return min(next, time.Duration(max(due, 1))*100*time.Millisecond)
}

func (n *Node) ping(s *session) {
	s.set(markAwait)
	n.counts.pings.Add(1)
	_ = s.Conn.PushPrepared(n.pings[s.encoding()])
}

const longAway = 24 * time.Hour

// expiry ends what has expired and not been refreshed, and has handlers asked about the
// rest in time; it returns when something may
// expire next.
func (n *Node) expiry(s *session) (next time.Duration) {
	now := time.Now()
	next = longAway
	left := func(at int64) time.Duration {
		d := time.Unix(at, 0).Add(n.opts.ExpiryGrace).Sub(now)
		if d > 0 {
			next = min(next, d)
		}
		return d
	}
	if at := s.expireAt.Load(); at > 0 && !n.refreshed(s) && left(int64(at)) <= 0 {
		n.disconnect(s, client.DisconnectExpired)
		return next
	}
	s.Mu.Lock()
	var over []string
	var ask []question
	if s.extra != nil {
		now := n.tenths()
		if due(&s.extra.askAt, now, &next) {
			ask = append(ask, question{s: s})
		}
		for ch, x := range s.extra.channels {
			switch {
			case due(&x.askAt, now, &next):
				ask = append(ask, question{s, ch, x})
			case !x.asks && x.expireAt > 0 && left(x.expireAt) <= 0:
				over = append(over, ch.Name())
			}
		}
	}
	s.Mu.Unlock()
	for _, q := range ask {
		n.enqueue(q)
	}
	for _, name := range over {
		if n.byServer(s, name) {
			n.disconnect(s, client.DisconnectSubExpired)
			return next
		}
		go n.unsubscribe(s, name, &client.UnsubscribeExpired)
	}
	return next
}

// byServer tells whether the server subscribed the client, which then cannot come back to
// the channel but by connecting again.
func (n *Node) byServer(s *session, name string) bool {
	_, flags, live := s.Subscription(name)
	return live && flags&hub.ServerSide != 0
}

// unsubscribePush tells a client that the server ended a subscription: by name, as SDKs
// do not look for the number there.
func unsubscribePush(ch *hub.Channel, u *client.Unsubscribe) *protocol.Push {
	return &protocol.Push{Channel: ch.Name(), Unsubscribe: &protocol.Unsubscribe{Code: u.Code, Reason: u.Reason}}
}
