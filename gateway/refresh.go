package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"roost/hub"
	"roost/internal/tally"
	"roost/proto/client"
)

// What was let in for a time is prolonged by asking a handler before that has passed. No
// client has a timer for it: its beat finds that it is due and puts a question into the
// lane of its backend, whose goroutines ask one after the other. As long as the handler
// gives no answer, nothing ends.

const (
	refreshAskers  = 64      // goroutines of a lane
	refreshWaiting = 1 << 14 // questions that wait in a lane
	refreshAgain   = time.Minute
	refreshLogs    = time.Second // between two lines of a lane in the log
	refreshFar     = 365 * 24 * time.Hour
)

// What came of a question.
const (
	refreshKept   = "kept"
	refreshEnded  = "ended"  // the handler said so
	refreshFailed = "failed" // no answer, or none that can be used: it comes again
	refreshFull   = "full"   // too many wait: it comes again
	refreshGone   = "gone"   // the client, or its subscription, ended meanwhile
)

// question is whether a client, or its subscription to ch, may go on.
type question struct {
	s  *session
	ch *hub.Channel  // nil for the client
	x  *channelExtra // of the subscription, which may have ended and another begun
}

// refreshLane has the questions for one backend.
type refreshLane struct {
	event string

	mu      sync.Mutex
	waiting []question
	askers  int
	logged  time.Time
	silent  int // failures not logged since
}

// refreshLimits are for tests to change.
type refreshLimits struct {
	again   time.Duration // refreshAgain
	waiting int           // refreshWaiting
}

// refreshes are the lanes. Static after New, but for what is in them.
type refreshes struct {
	clients  *refreshLane
	channels map[string]*refreshLane // by Namespace.SubRefreshBackend
	outcomes map[string]*tally.Of[string]
}

func newRefreshes(c *Channels) (r refreshes) {
	r.clients = &refreshLane{event: "refresh"}
	r.channels = map[string]*refreshLane{c.Default.SubRefreshBackend: {event: "sub_refresh"}}
	for _, ns := range c.named {
		r.channels[ns.SubRefreshBackend] = &refreshLane{event: "sub_refresh"}
	}
	r.outcomes = map[string]*tally.Of[string]{"refresh": {}, "sub_refresh": {}}
	return r
}

// askAt is when to ask about what expires at a time in Unix seconds, 0 for never: when
// eight or nine tenths of the time are over, as chance will have it, so that those who
// came together are not asked about together. In tenths of seconds of the node.
func (n *Node) askAt(at int64) uint32 {
	if at == 0 {
		return 0
	}
	d := max(0, time.Until(time.Unix(at, 0)))
	return n.after(min(refreshFar, d-d/10-rand.N(d/10+1)))
}

// after is the time in d, and never 0.
func (n *Node) after(d time.Duration) uint32 { return max(1, n.tenths()+tenths(d)) }

// expires notes when a session expires, in Unix seconds; 0 is never.
func (n *Node) expires(s *session, at int64) {
	s.expireAt.Store(uint32(at))
	if n.refreshed(s) && (at > 0 || s.look().askAt > 0) {
		s.change(func(e *extra) { e.askAt = n.askAt(at) })
	}
}

// expires notes when a subscription in ns expires, in Unix seconds; 0 is never. The
// session's Mu is held.
func (x *channelExtra) expires(n *Node, ns *Namespace, at int64) {
	x.expireAt = at
	if x.asks = n.opts.Handlers.asksSubRefresh(ns); x.asks {
		x.askAt = n.askAt(at)
	}
}

// refreshed tells whether a handler says how long the session lives.
func (n *Node) refreshed(s *session) bool { return n.opts.Handlers.Refresh != nil && !s.is(markRaw) }

// due tells whether it is time to ask, and then forgets that. Else next is at most the
// time until then.
func due(at *uint32, now uint32, next *time.Duration) bool {
	in := int32(*at - now)
	switch {
	case *at == 0:
		return false
	case in > 0:
		*next = min(*next, time.Duration(in)*100*time.Millisecond)
		return false
	}
	*at = 0
	return true
}

// enqueue puts a question into its lane. Any goroutine; it does not block.
func (n *Node) enqueue(q question) {
	l := n.refreshes.clients
	if q.ch != nil {
		l = n.refreshes.channels[n.subRefreshBackend(q.ch)]
	}
	if !l.put(n, q) {
		n.refreshes.outcomes[l.event].Add(refreshFull)
		n.askAgain(q, n.opts.refreshLimits.again/6)
	}
}

func (n *Node) subRefreshBackend(ch *hub.Channel) string {
	ns, _ := n.opts.Channels.of(ch.Name())
	return ns.SubRefreshBackend
}

func (l *refreshLane) put(n *Node, q question) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= n.opts.refreshLimits.waiting {
		return false
	}
	l.waiting = append(l.waiting, q)
	if l.askers < refreshAskers {
		l.askers++
		go func() {
			for q, more := l.next(); more; q, more = l.next() {
				n.refreshes.outcomes[l.event].Add(n.refresh(l, q))
			}
		}()
	}
	return true
}

// next takes a question out; false ends the goroutine that asks.
func (l *refreshLane) next() (q question, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.waiting = nil
		l.askers--
		return q, false
	}
	q, l.waiting[0] = l.waiting[0], question{}
	l.waiting = l.waiting[1:]
	return q, true
}

// refresh asks a question and does what the answer says.
func (n *Node) refresh(l *refreshLane, q question) (outcome string) {
	if n.life.Err() != nil || !q.hold(func(*extra) {}) {
		return refreshGone
	}
	ctx, cancel := context.WithTimeout(n.life, n.opts.CallTimeout)
	defer cancel()
	r, err := n.askRefresh(ctx, q)
	if err == nil && !r.Expired {
		err = n.checkAnswer(q.s, l.event, nil, r.ExpireAt)
	}
	if n.life.Err() != nil || !q.hold(func(*extra) {}) {
		return refreshGone
	}
	var end *client.Disconnect
	switch {
	case errors.As(err, &end):
		n.disconnect(q.s, *end)
	case err != nil:
		l.log(n.opts.Logger, err)
		n.askAgain(q, n.opts.refreshLimits.again)
		return refreshFailed
	case !r.Expired:
		n.keep(q, r)
		return refreshKept
	case q.ch == nil:
		n.disconnect(q.s, client.DisconnectExpired)
	case n.byServer(q.s, q.ch.Name()):
		n.disconnect(q.s, client.DisconnectSubExpired)
	default:
		n.unsubscribe(q.s, q.ch.Name(), &client.UnsubscribeExpired)
	}
	return refreshEnded
}

func (n *Node) askRefresh(ctx context.Context, q question) (RefreshReply, error) {
	p := n.asker(q.s)
	if q.ch == nil {
		return n.opts.Handlers.Refresh(ctx, RefreshEvent{Peer: p})
	}
	r, err := n.opts.Handlers.SubRefresh(ctx, SubRefreshEvent{Peer: p, Backend: n.subRefreshBackend(q.ch), Channel: q.ch.Name()})
	return RefreshReply{Expired: r.Expired, ExpireAt: r.ExpireAt, Info: r.Info}, err
}

// hold runs f with the session's Mu held, unless what is asked about has ended.
func (q question) hold(f func(*extra)) (live bool) {
	if q.s.is(markEnded) {
		return false
	}
	q.s.change(func(e *extra) {
		if live = q.ch == nil || e.channels[q.ch] == q.x; live {
			f(e)
		}
	})
	return live
}

// keep prolongs what was asked about.
func (n *Node) keep(q question, r RefreshReply) {
	q.hold(func(e *extra) {
		if q.ch != nil {
			q.x.expireAt, q.x.askAt = r.ExpireAt, n.askAt(r.ExpireAt)
			if r.Info != nil {
				q.x.info = r.Info
			}
			return
		}
		q.s.expireAt.Store(uint32(r.ExpireAt))
		e.askAt = n.askAt(r.ExpireAt)
		if r.Info != nil {
			e.info = r.Info
		}
		if r.Meta != nil {
			e.meta = r.Meta
		}
	})
	n.wake(q.s)
}

// askAgain has the question come again in half of d to d.
func (n *Node) askAgain(q question, d time.Duration) {
	d -= rand.N(d / 2)
	q.hold(func(e *extra) {
		if q.ch != nil {
			q.x.askAt = n.after(d)
		} else {
			e.askAt = n.after(d)
		}
	})
	n.wake(q.s)
}

// log tells of a failure that is not an error for clients, which say it themselves or
// were logged by who made them.
func (l *refreshLane) log(to *slog.Logger, err error) {
	var own *client.Error
	if errors.As(err, &own) {
		return
	}
	l.mu.Lock()
	silent, now := l.silent, time.Now()
	pass := now.Sub(l.logged) >= refreshLogs
	if l.silent++; pass {
		l.silent, l.logged = 0, now
	}
	l.mu.Unlock()
	if pass {
		to.Error("a client could not be refreshed", "event", l.event, "error", err, "not_logged", silent)
	}
}

// RefreshStats are the figures of the questions of Handlers.Refresh or SubRefresh.
type RefreshStats struct {
	Waiting  int               // now
	Outcomes map[string]uint64 // kept, ended, failed, full or gone; see docs/metrics.md
}

func (r *refreshes) stats() map[string]RefreshStats {
	out := make(map[string]RefreshStats)
	for event, t := range r.outcomes {
		out[event] = RefreshStats{Outcomes: t.All()}
	}
	add := func(l *refreshLane) {
		l.mu.Lock()
		defer l.mu.Unlock()
		st := out[l.event]
		st.Waiting += len(l.waiting)
		out[l.event] = st
	}
	add(r.clients)
	for _, l := range r.channels {
		add(l)
	}
	return out
}
