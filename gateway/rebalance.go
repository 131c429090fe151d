package gateway

import (
	"encoding/json"
	"sync"
	"time"
)

// Nodes of a cluster tell each other how many clients they have. Where one has far fewer than the
// others, as it is new, those with more than the mean shed clients, which a load balancer then
// takes elsewhere. See docs/adr/0011-rebalance.md.

// RebalanceOptions say whether and how fast a node sheds clients towards others. The zero value of
// Rate and Threshold means the default.
type RebalanceOptions struct {
	On bool
	// Rate is how many clients this node sheds per second at most. Default: 100.
	Rate int
	// Threshold is by how many percent a node must differ from the mean before clients are moved.
	// Default: 20. They are until all are within a quarter of it.
	Threshold int
}

const (
	defaultRebalanceRate      = 100
	defaultRebalanceThreshold = 20

	rebalanceEvery = 5 * time.Second
	rebalanceFresh = 3 * rebalanceEvery // after which a node that says nothing does not count
	rebalanceSure  = 3                  // looks in a row that must see the need, before anything is done
	rebalanceWarm  = 12                 // looks after the start of this node without doing anything
	rebalanceLeast = 50                 // clients of a node on average; fewer are not worth moving
	noticeLoad     = "load"
)

// load is what a node says of itself.
type load struct {
	Node    string `json:"node"`
	Clients int    `json:"clients"`
	Full    bool   `json:"full,omitempty"` // it lets nobody in
}

// balancer decides how many clients a node sheds. One goroutine at a time.
type balancer struct {
	rate      int     // clients per look
	threshold float64 // share of the mean
	looks     int
	sure      int // looks in a row that have seen the need
	active    bool
}

// look returns how many clients this node should shed until the next look. others are the nodes
// that let clients in and were heard of lately; own is the number of clients here.
func (b *balancer) look(own int, others []int) int {
	b.looks++
	low, high, sum := own, own, own
	for _, n := range others {
		low, high, sum = min(low, n), max(high, n), sum+n
	}
	mean := float64(sum) / float64(len(others)+1)
	within := func(share float64) bool {
		return float64(low) >= mean*(1-share) && float64(high) <= mean*(1+share)
	}
	switch {
	case len(others) == 0 || mean < rebalanceLeast || within(b.threshold/4):
		b.sure, b.active = 0, false
	case within(b.threshold):
		b.sure = 0 // goes on if it was at it
	default:
		if b.sure++; b.sure >= rebalanceSure {
			b.active = true
		}
	}
	if !b.active || b.looks <= rebalanceWarm || float64(own) <= mean+1 {
		return 0
	}
	return min(b.rate, int(float64(own)-mean))
}

// peers are the loads of the other nodes.
type peers struct {
	mu   sync.Mutex
	seen map[string]peerLoad
}

type peerLoad struct {
	load
	at time.Time
}

// heard takes down what a node says.
func (p *peers) heard(l load, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = make(map[string]peerLoad)
	}
	p.seen[l.Node] = peerLoad{l, now}
}

// counts returns the clients of the others that let clients in, and forgets those not heard of.
func (p *peers) counts(own string, now time.Time) (all []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, l := range p.seen {
		switch {
		case now.Sub(l.at) > rebalanceFresh:
			delete(p.seen, id)
		case id != own && !l.Full:
			all = append(all, l.Clients)
		}
	}
	return all
}

// rebalance tells the others how many clients there are here, and sheds some where it should.
func (n *Node) rebalance() {
	o := n.opts.Rebalance
	b := balancer{rate: o.Rate * int(rebalanceEvery/time.Second), threshold: float64(o.Threshold) / 100}
	t := time.NewTicker(rebalanceEvery)
	defer t.Stop()
	for {
		select {
		case <-n.ended:
			return
		case <-t.C:
		}
		own := int(n.counts.clients.Load())
		text, err := json.Marshal(load{Node: n.broker.Node(), Clients: own, Full: n.Ready() != nil})
		if err == nil {
			_ = n.broker.Notify(noticeLoad, text) // the next one will do
		}
		count := b.look(own, n.peers.counts(n.broker.Node(), time.Now()))
		if count == 0 || n.Ready() != nil {
			continue
		}
		if err := n.Shed(count, rebalanceEvery*9/10); err != nil { // it must be over at the next look
			continue // a drain is going on
		}
		n.counts.rebalanced.Add(uint64(count))
	}
}

// heardLoad takes a noticeLoad.
func (n *Node) heardLoad(data []byte) {
	var l load
	if err := json.Unmarshal(data, &l); err != nil || l.Node == "" || l.Clients < 0 {
		n.opts.Logger.Warn("a node says something of its load that cannot be read", "error", err)
		return
	}
	n.peers.heard(l, time.Now())
}
