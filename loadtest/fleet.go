package loadtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// base ties the monotonic clock to Unix time once, so that clock never steps back within a process and agrees
// between processes as well as the wall clock does.
var base = time.Now()

// clock is the time in Unix ns.
func clock() int64 { return base.UnixNano() + int64(time.Since(base)) }

// command is what a node is told. Within a node they take effect in the order given.
type command struct {
	Do string `json:"do"`
	N  int64  `json:"n,omitempty"`
}

// The commands.
const (
	doConnect = "connect" // N connections in total are to be tried; answered by evConnected
	doBegin   = "begin"   // the measured phase begins; a node that has no more to send answers evOver
	doRound   = "round"   // fanout, closed loop: message N is to be waited for, and sent by who has the sender; publish: the first N are
	doCut     = "cut"     // reconnect: the share of the clients is to be cut
	doMark    = "mark"    // upgrade: the server is about to be replaced (N 1), or has been (0)
	doHalt    = "halt"    // send no more, now; answered by evOver
	doFinish  = "finish"  // take in the last answers (fanout: of N messages), for at most the timeout; answered by evFinished
	doClose   = "close"   // closing handshake with all; answered by evClosed, after which the node is gone
)

// event is what a node, or a process around it, tells.
type event struct {
	Kind  string `json:"kind"`
	N     int64  `json:"n,omitempty"`
	Stats *stats `json:"stats,omitempty"`
	Text  string `json:"text,omitempty"`
}

// The events. Each may carry stats.
const (
	evStats     = "stats"
	evConnected = "connected"
	evOver      = "over"   // N messages were sent
	evRound     = "round"  // fanout and publish, closed loop: every receiver here has the message
	evFolded    = "folded" // upgrade: Stats.Pause has the longest pauses around a replacement
	evFinished  = "finished"
	evClosed    = "closed"
	evDied      = "died" // a child process ended unasked; Text says how
)

// node is an event loop, or a child process with some. Its events go to the channel it was made with.
type node interface {
	do(command) // never blocks for long; any goroutine
}

// assignment is a node's share of the work.
type assignment struct {
	Options // Connections, Messages, Rate, ConnectRate, ConnectParallel, Churn are this node's share

	IDBase, IDStep uint32 // its connections have the ids IDBase, IDBase+IDStep, ...
	Sender         bool   // fanout: has the sending connection
	Solo           bool   // there is no other node
	Seed           uint64 // of Sec-WebSocket-Key, and the run's mark in what is published; the same everywhere
	AllChannels    int    // of the run
}

// split cuts a into n shares that sum up to it.
func (a assignment) split(n int) []assignment {
	parts := make([]assignment, n)
	for i := range parts {
		p := a
		p.Connections = int(share(int64(a.Connections), n, i))
		p.Messages = share(a.Messages, n, i)
		if a.Scenario == Fanout { // the sender's node does all the sending, for all of the time
			p.Messages = a.Messages
		} else {
			p.Rate = a.Rate / float64(n)
		}
		p.Bystanders, p.BystanderRate = int(share(int64(a.Bystanders), n, i)), a.BystanderRate/float64(n)
		p.ConnectRate, p.Churn = a.ConnectRate/float64(n), a.Churn/float64(n)
		p.ConnectParallel = max(1, int(share(int64(a.ConnectParallel), n, i)))
		p.IDBase, p.IDStep = a.IDBase+uint32(i)*a.IDStep, a.IDStep*uint32(n)
		p.Sender = a.Sender && i == 0
		p.Solo = a.Solo && n == 1
		parts[i] = p
	}
	return parts
}

// share is part i of n parts of total that differ by at most one, the larger ones first. It never shrinks while
// total grows.
func share(total int64, n, i int) int64 {
	s := total / int64(n)
	if int64(i) < total%int64(n) {
		s++
	}
	return s
}

// fleet is all nodes of a run.
type fleet struct {
	// Static after newFleet.
	nodes  []node
	leaves int    // event loops in all of them
	rounds bool   // each round follows the one before (fanout)
	seed   uint64 // as in the assignments
	events chan event
	woken  chan struct{} // capacity 1: something changed
	ended  chan struct{} // closed by stop

	// Guarded by mu.
	mu       sync.Mutex
	sum      *stats
	interval hist             // latencies since the last takeInterval
	seen     map[string]int64 // events by kind
	sent     int64            // told by evOver, largest
	died     error
	pauses   []hist // by evFolded
}

func newFleet(leaves int, events chan event) *fleet {
	return &fleet{
		leaves: leaves, events: events, woken: make(chan struct{}, 1), ended: make(chan struct{}),
		sum: newStats(), interval: newHist(), seen: map[string]int64{},
	}
}

// collect takes in events until stop. It is the fleet's only goroutine.
func (f *fleet) collect() {
	for {
		select {
		case e := <-f.events:
			f.take(e)
		case <-f.ended:
			return
		}
	}
}

func (f *fleet) take(e event) {
	f.mu.Lock()
	if e.Stats != nil {
		f.sum.add(e.Stats)
		if e.Stats.Latency.Histogram != nil {
			f.interval.Merge(e.Stats.Latency.Histogram)
		}
	}
	f.seen[e.Kind]++
	nextRound := false
	switch e.Kind {
	case evOver:
		f.sent = max(f.sent, e.N)
	case evRound:
		nextRound = f.rounds && f.seen[evRound]%int64(f.leaves) == 0
	case evFolded:
		f.pauses = append(f.pauses, e.Stats.Pause)
	case evDied:
		f.died = errors.New(e.Text)
	}
	f.mu.Unlock()
	if nextRound {
		f.do(command{Do: doRound, N: e.N + 1})
	}
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

func (f *fleet) do(c command) {
	for i, n := range f.nodes {
		if c.Do == doConnect {
			n.do(command{Do: doConnect, N: share(c.N, len(f.nodes), i)})
			continue
		}
		n.do(c)
	}
}

// wait returns when n events of that kind have been seen in total. Its error is ctx's, or says that a child
// process died.
func (f *fleet) wait(ctx context.Context, kind string, n int64) error {
	for {
		f.mu.Lock()
		done, died := f.seen[kind] >= n, f.died
		f.mu.Unlock()
		switch {
		case done:
			return nil
		case died != nil:
			return died
		}
		select {
		case <-f.woken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// snapshot returns the sum of all counts so far; its histograms are absent.
func (f *fleet) snapshot() stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := *f.sum
	s.Latency, s.Connect, s.Back, s.Errors = hist{}, hist{}, hist{}, nil
	return s
}

// takeInterval returns the 99th percentile and the largest, in µs, of the latencies since it was last called; 0 for none.
func (f *fleet) takeInterval() (p99, longest int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.interval.TotalCount() > 0 {
		p99 = f.interval.ValueAtPercentile(99)
		longest = f.interval.Max()
		f.interval.Reset()
	}
	return p99, longest
}

// over is the number of evOver to wait for: the sender's alone in a fanout, else everyone's.
func (f *fleet) over(s Scenario) int64 {
	if s == Fanout {
		return 1
	}
	return int64(f.leaves)
}

// sentTotal is how many messages were sent, as far as nodes have told.
func (f *fleet) sentTotal() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(f.sent, f.sum.Sent)
}

// stop ends collect. Nodes must have been told to close.
func (f *fleet) stop() { close(f.ended) }

// emit sends an event unless the fleet has ended, in which case nobody listens.
func emit(events chan<- event, ended <-chan struct{}, e event) {
	select {
	case events <- e:
	case <-ended:
	}
}

// open makes the nodes that o asks for: event loops here, or children when one process cannot hold them all.
func open(o *Options) (*fleet, error) {
	capacity, err := connectionsPerProcess()
	if err != nil {
		return nil, err
	}
	held := heldAtOnce(o)
	if o.Scenario == Upgrade && held > capacity {
		return nil, fmt.Errorf("too few descriptors: upgrade runs in one process, and this user's limit (ulimit -Hn) allows %d connections there, not %d", capacity, held)
	}
	processes := o.Processes
	if processes == 0 {
		processes = (held + capacity - 1) / capacity
	}
	if need := (held + processes - 1) / processes; need > capacity {
		return nil, fmt.Errorf("too few descriptors: this user's limit (ulimit -Hn) allows %d connections per process, but --connections %d in --processes %d needs %d; give --processes %d or more (or 0), or raise the limit",
			capacity, o.Connections, processes, need, (held+capacity-1)/capacity)
	}
	a := assignment{Options: *o, IDStep: 1, Sender: o.Scenario == Fanout, Solo: true, Seed: uint64(clock()), AllChannels: o.allChannels()}
	events := make(chan event, 64)
	f := newFleet(processes*o.Threads, events)
	f.rounds, f.seed = o.Scenario == Fanout, a.Seed
	if processes > 1 {
		for _, part := range a.split(processes) {
			c, err := startChild(part, events, f.ended)
			if err != nil {
				f.do(command{Do: doClose})
				f.stop()
				return nil, err
			}
			f.nodes = append(f.nodes, c)
		}
	} else if f.nodes, err = startWorkers(a, events, f.ended); err != nil {
		f.stop()
		return nil, err
	}
	go f.collect()
	return f, nil
}

// heldAtOnce is how many sockets the run has open at the most.
func heldAtOnce(o *Options) int {
	switch {
	case o.storms():
		return o.ConnectParallel
	case o.Scenario == Fanout:
		return o.Connections + 1
	}
	return o.Connections
}
