package gateway

import (
	"context"
	"math/rand/v2"
	"sync"
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
	}
)

const (
	maxDrain   = 24 * time.Hour
	drainTick  = 20 * time.Millisecond // about: it varies by a half of that
	drainRetry = 2                     // times that a client which is busy is put off
)

// drain is the one of a node. Guarded by mu.
type drain struct {
	mu     sync.Mutex
	state  string // "" is serving
	total  int
	done   int
	cancel context.CancelFunc // nil unless it goes on
}

func (d *drain) status() *DrainResult {
	r := &DrainResult{State: d.state, Total: uint32(d.total), Done: uint32(d.done)}
	if r.State == "" {
		r.State = DrainServing
	}
	return r
}

// Drain disconnects a share of this node's clients, evenly over a time: with 3001 if it is all of
// them, and then the node is not ready and lets nobody in, else with 3011. It returns at once.
// Errors: 107 where the request is wrong, 112 where a drain is going on.
func (n *Node) Drain(_ context.Context, r *DrainRequest) (*DrainResult, error) {
	over := time.Duration(r.Seconds) * time.Second
	switch {
	case r.Percent < 1 || r.Percent > 100:
		return nil, client.BadRequest("percent is %d, must be 1 to 100", r.Percent)
	case over > maxDrain:
		return nil, client.BadRequest("seconds is %d, must be 0 to %d", r.Seconds, int(maxDrain/time.Second))
	}
	count := -1
	if r.Percent < 100 {
		count = int((int64(n.counts.clients.Load())*int64(r.Percent) + 99) / 100)
	}
	return n.startDrain(count, over)
}

// Shed disconnects some of this node's clients with 3011, evenly over a time. Errors as of Drain.
func (n *Node) Shed(count int, over time.Duration) error {
	_, err := n.startDrain(max(0, count), over)
	return err
}

// startDrain begins a drain of count clients, -1 for all.
func (n *Node) startDrain(count int, over time.Duration) (*DrainResult, error) {
	d := &n.drain
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil || d.state == DrainDrained {
		return nil, &client.Error{Code: client.ErrNotAvailable.Code, Message: "not available: the node is " + d.state + " already"}
	}
	ctx, cancel := context.WithCancel(n.life)
	d.state, d.cancel, d.done, d.total = DrainShedding, cancel, 0, count
	why := client.DisconnectForceReconnect
	if count < 0 {
		d.state, d.total = DrainDraining, int(n.counts.clients.Load())
		why = client.DisconnectShutdown
		n.server.Refuse(true)
	}
	go n.drainAll(ctx, count, over, why)
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
	r := d.status()
	if d.cancel != nil {
		d.cancel()
		d.cancel = nil
	}
	d.state = ""
	n.server.Refuse(false)
	r.State = DrainServing
	return r, nil
}

// Draining tells whether a drain goes on, or the node is drained. Any goroutine.
func (n *Node) Draining() bool {
	n.drain.mu.Lock()
	defer n.drain.mu.Unlock()
	return n.drain.state != ""
}

// draining tells whether the node lets nobody in.
func (n *Node) draining() bool {
	n.drain.mu.Lock()
	defer n.drain.mu.Unlock()
	return n.drain.state == DrainDraining || n.drain.state == DrainDrained
}

// drainee is a client that is to go.
type drainee struct {
	loop   *poller.Loop
	handle poller.Handle
	put    uint8 // times it was put off
}

// drainAll disconnects count clients, -1 for all that there are.
func (n *Node) drainAll(ctx context.Context, count int, over time.Duration, why client.Disconnect) {
	var list []drainee
	n.each(func(s *session) {
		list = append(list, drainee{loop: s.Conn.Loop(), handle: s.Conn.Handle()})
	})
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	if count >= 0 {
		list = list[:min(count, len(list))]
	}
	d := &n.drain
	d.mu.Lock()
	if ctx.Err() == nil {
		d.total = len(list)
	}
	d.mu.Unlock()
	p := pace{total: len(list), over: over}
	begin := time.Now()
	for len(list) > 0 && ctx.Err() == nil {
		due := min(p.due(time.Since(begin)), len(list))
		list = append(list[due:], n.dismiss(ctx, list[:due], why)...)
		select {
		case <-ctx.Done():
		case <-time.After(drainTick/2 + rand.N(drainTick)):
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() != nil {
		return // aborted
	}
	d.cancel()
	d.cancel = nil
	if d.state = ""; count < 0 {
		d.state = DrainDrained
	}
}

// pace tells how many of a number of things are due.
type pace struct {
	total int
	over  time.Duration
	given int
}

// due returns how many more are due after a time, and counts them. What is given after the end, as
// it was put off, is not counted.
func (p *pace) due(after time.Duration) int {
	if after >= p.over {
		p.given = p.total
		return p.total
	}
	want := int(float64(p.total) * float64(after) / float64(p.over))
	n := max(0, want-p.given)
	p.given += n
	return n
}

// dismiss disconnects clients and returns those that are put off, since they are in the middle of
// something.
func (n *Node) dismiss(ctx context.Context, list []drainee, why client.Disconnect) (busy []drainee) {
	done := 0
	for _, l := range n.server.Poller().Loops() {
		n.on(l, func() {
			for _, e := range list {
				if e.loop != l || ctx.Err() != nil {
					continue
				}
				s := sessionAt(l, e.handle)
				if s != nil && s.Conn.Busy() && e.put < drainRetry {
					e.put++
					busy = append(busy, e)
					continue
				}
				done++
				if s != nil && !s.is(markEnded) {
					n.disconnect(s, why)
				}
			}
		})
	}
	n.drain.mu.Lock()
	n.drain.done += done
	n.drain.mu.Unlock()
	return busy
}
