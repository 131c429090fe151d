package gateway

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"roost/poller"
	"roost/proto/client"
)

// A drain disconnects clients evenly over a time, so that other nodes never see an avalanche. A
// share of them is shed, and the node serves on; with all of them the node is drained: it lets
// nobody in until the drain is aborted.

// States of DrainStatus.
const (
	DrainServing  = "serving"
	DrainShedding = "shedding" // a share of the clients is being disconnected
	DrainDraining = "draining" // all are, and nobody is let in
	DrainDrained  = "drained"  // all have been
)

// The requests and result of Drain, DrainStatus and DrainAbort.
type (
	DrainRequest struct {
		Percent uint32 `json:"percent"` // of the clients, 1 to 100
		Seconds uint32 `json:"seconds"` // over which they go, 0 to 86400
	}
	DrainStatusRequest struct{}
	DrainAbortRequest  struct{}
	DrainResult        struct {
		State string `json:"state"`
		Total uint32 `json:"total"` // clients that this drain is about
		Done  uint32 `json:"done"`  // of them, those that it has disconnected, or that have gone by themselves
		Until int64  `json:"until"` // Unix seconds when the last are to go, 0 where none goes on
	}
)

// MaxDrain is the longest time that a drain may take.
const MaxDrain = 24 * time.Hour

const (
	drainTick    = 20 * time.Millisecond // about: it varies by a half of that
	drainRetries = 50                    // ticks for which a client that is busy is put off
	// strayTick is how often a drained node looks for clients that came in while it was decided
	// on them, or that connected late.
	strayTick = time.Second
)

// drainRank is who wants a drain; one of a higher rank takes the place of another.
type drainRank uint8

const (
	drainByNode drainRank = iota // it sheds by itself
	drainByOperator
	drainAtEnd // the process is ending
)

// drain is the one of a node. Guarded by mu.
type drain struct {
	mu     sync.Mutex
	state  string // "" is serving
	rank   drainRank
	total  int
	done   int
	until  time.Time
	cancel context.CancelFunc // nil unless it goes on, or the node is drained
	gone   atomic.Uint64      // disconnected by all drains
}

func (d *drain) status() *DrainResult {
	r := &DrainResult{State: d.state, Total: uint32(d.total), Done: uint32(d.done)}
	switch d.state {
	case "":
		r.State = DrainServing
	case DrainShedding, DrainDraining:
		r.Until = d.until.Unix()
	}
	return r
}

// end has the drain that goes on, if any, do nothing more.
func (d *drain) end() {
	if d.cancel != nil {
		d.cancel()
	}
	d.state, d.cancel = "", nil
}

// Drain disconnects a share of this node's clients, evenly over a time: with 3001 if it is all of
// them (1012 on raw routes), and then the node is not ready and lets nobody in, else with 3011. It
// returns at once. Errors: 107 where the request is wrong, 108 where a drain is going on.
func (n *Node) Drain(_ context.Context, r *DrainRequest) (*DrainResult, error) {
	over := time.Duration(r.Seconds) * time.Second
	switch {
	case r.Percent < 1 || r.Percent > 100:
		return nil, client.BadRequest("percent is %d, must be 1 to 100", r.Percent)
	case over > MaxDrain:
		return nil, client.BadRequest("seconds is %d, must be 0 to %d", r.Seconds, int(MaxDrain/time.Second))
	}
	count := -1
	if r.Percent < 100 {
		count = int((int64(n.counts.clients.Load())*int64(r.Percent) + 99) / 100)
	}
	return n.startDrain(count, over, drainByOperator)
}

// Shed disconnects some of this node's clients with 3011, evenly over a time. A drain that is
// asked for meanwhile takes its place. Errors as of Drain.
func (n *Node) Shed(count int, over time.Duration) error {
	_, err := n.startDrain(max(0, count), over, drainByNode)
	return err
}

// Leave is a drain of all clients before the end of the process, in the place of whatever drain
// goes on. It returns at once; over is up to MaxDrain.
func (n *Node) Leave(over time.Duration) {
	_, _ = n.startDrain(-1, over, drainAtEnd) // refused only where this has been done
}

// startDrain begins a drain of count clients, -1 for all.
func (n *Node) startDrain(count int, over time.Duration, rank drainRank) (*DrainResult, error) {
	d := &n.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != "" && rank <= d.rank {
		return nil, &client.Error{Code: client.ErrNotAvailable.Code, Message: "not available: the node is " + d.state + " already"}
	}
	d.end()
	ctx, cancel := context.WithCancel(n.life)
	d.state, d.cancel, d.done, d.total, d.rank = DrainShedding, cancel, 0, count, rank
	d.until = time.Now().Add(over)
	if count < 0 {
		d.state, d.total = DrainDraining, int(n.counts.clients.Load())
		n.server.Refuse(true)
	}
	go n.drainAll(ctx, count, over)
	return d.status(), nil
}

// DrainStatus tells how far a drain is.
func (n *Node) DrainStatus(context.Context, *DrainStatusRequest) (*DrainResult, error) {
	n.drain.mu.Lock()
	defer n.drain.mu.Unlock()
	return n.drain.status(), nil
}

// DrainAbort ends a drain: the clients that are left stay, and others are let in.
func (n *Node) DrainAbort(context.Context, *DrainAbortRequest) (*DrainResult, error) {
	d := &n.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
	n.server.Refuse(false)
	return d.status(), nil
}

// Draining tells whether a drain goes on, or the node is drained. Any goroutine.
func (n *Node) Draining() bool {
	n.drain.mu.Lock()
	defer n.drain.mu.Unlock()
	return n.drain.state != ""
}

// look tells how many clients are yet to go, and whether the node lets nobody in.
func (d *drain) look() (left int64, refuses bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != "" {
		left = int64(max(0, d.total-d.done))
	}
	return left, d.state == DrainDraining || d.state == DrainDrained
}

// drainee is a client that is to go.
type drainee struct {
	loop   *poller.Loop
	handle poller.Handle
	put    uint8 // times it was put off
}

// drainees are count clients at random, -1 for all that there are.
func (n *Node) drainees(count int) (list []drainee) {
	n.each(func(s *session) {
		list = append(list, drainee{loop: s.Conn.Loop(), handle: s.Conn.Handle()})
	})
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	if count >= 0 {
		list = list[:min(count, len(list))]
	}
	return list
}

// drainAll disconnects count clients, -1 for all that there are and will be.
func (n *Node) drainAll(ctx context.Context, count int, over time.Duration) {
	d, list := &n.drain, n.drainees(count)
	d.change(ctx, func() { d.total = len(list) })
	n.drainOver(ctx, list, over, count < 0)
	if count >= 0 {
		d.change(ctx, d.end)
		return
	}
	d.change(ctx, func() { d.state = DrainDrained })
	for wait(ctx, strayTick); ctx.Err() == nil; wait(ctx, strayTick) {
		if n.counts.clients.Load() > 0 {
			strays := n.drainees(count)
			d.change(ctx, func() { d.total += len(strays) })
			n.drainOver(ctx, strays, 0, true)
		}
	}
}

// drainOver disconnects these clients over a time, by a full drain or not.
func (n *Node) drainOver(ctx context.Context, list []drainee, over time.Duration, all bool) {
	p, begin := pace{total: len(list), over: over}, time.Now()
	for put := []drainee(nil); len(list)+len(put) > 0 && ctx.Err() == nil; {
		due := p.due(time.Since(begin))
		put = n.dismiss(ctx, append(put, list[:due]...), all)
		list = list[due:]
		wait(ctx, drainTick/2+rand.N(drainTick))
	}
}

func wait(ctx context.Context, t time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(t):
	}
}

// change is for the drain of ctx, unless that was ended.
func (d *drain) change(ctx context.Context, f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() == nil {
		f()
	}
}

// pace tells how many of a number of things are due. When it was not asked for some time, as the
// machine was busy, it makes that good little by little: no second has more than 1.25 of the mean.
type pace struct {
	total int
	over  time.Duration
	given int

	last   time.Duration // when it was asked
	credit float64       // how many it may give at once
}

const (
	paceHaste = 1.15 // of the mean rate, at which it catches up
	paceBurst = 0.1  // seconds of the mean rate that it may give at once
)

// due returns how many more are due after a time, and counts them.
func (p *pace) due(after time.Duration) int {
	if p.over == 0 {
		n := p.total - p.given
		p.given = p.total
		return n
	}
	rate := float64(p.total) / p.over.Seconds()
	p.credit = min(p.credit+rate*paceHaste*(after-p.last).Seconds(), rate*paceBurst+1)
	p.last = after
	want := int(float64(p.total) * min(1, float64(after)/float64(p.over)))
	n := max(0, min(want-p.given, int(p.credit)))
	p.given += n
	p.credit -= float64(n)
	return n
}

// dismiss disconnects clients and returns those that are put off, since they are in the middle of
// something.
func (n *Node) dismiss(ctx context.Context, list []drainee, all bool) (busy []drainee) {
	done := 0
	for _, l := range n.server.Poller().Loops() {
		n.on(l, func() {
			for _, e := range list {
				if e.loop != l || ctx.Err() != nil {
					continue
				}
				s := sessionAt(l, e.handle)
				if s != nil && s.Conn.Busy() && e.put < drainRetries {
					e.put++
					busy = append(busy, e)
					continue
				}
				done++
				if s != nil && !s.is(markEnded) {
					n.drain.gone.Add(1)
					n.disconnect(s, s.farewell(all))
				}
			}
		})
	}
	n.drain.change(ctx, func() { n.drain.done += done })
	return busy
}

// farewell is what a client is told that a drain disconnects.
func (s *session) farewell(all bool) client.Disconnect {
	switch {
	case s.is(markRaw):
		return errRestart
	case all:
		return client.DisconnectShutdown
	}
	return client.DisconnectForceReconnect
}
