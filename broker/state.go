package broker

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Bounds on channels that are remembered though nobody here follows them, per shard.
const (
	maxIdle  = 256 // that have publications
	maxEmpty = 4   // that have none: reading that again costs little
)

// shard is a part of the channels.
type shard struct {
	mu       sync.Mutex
	channels map[key]*channel // of whose history something is known
	follows  map[string]int32 // in a cluster: Follow minus Unfollow
	flights  map[flightKey]*flight
	closed   bool // no more flights

	subMu   sync.Mutex // held while sub changes, which asks the server
	sub     *nats.Subscription
	settled time.Time // when sub was surely known everywhere
}

func (sh *shard) init() {
	sh.channels = make(map[key]*channel)
	sh.follows = make(map[string]int32)
	sh.flights = make(map[flightKey]*flight)
}

// key names a channel's history; one of another class is another history.
type key struct {
	name  string
	class uint8
}

func (sh *shard) close() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.closed = true
}

// channel is what this node knows about a channel with history. Guarded by its
// shard's mu, but for the turn.
type channel struct {
	key
	turn chan struct{} // held by the one who publishes
	pins int           // users who keep it from being forgotten
	used int64         // Unix ms

	// The last record, as far as this node knows: what the next one is stored on.
	known        bool
	seq          uint64 // 0: there is none
	top          Position
	version      uint64
	versionEpoch string
	acked        bool // it is this node's, and nothing was sent since

	gen    uint64 // of Broker.gen in which top was certain; see fresh
	based  bool   // in a cluster: whether base is known,
	base   uint64 // the offset that live records go on from,
	told   bool   // and whether it was handed to the Handler
	floor  uint64 // records up to it were removed
	tail   []*Publication
	weight int64 // bytes of tail
}

func (b *Broker) shard(ch string) *shard { return &b.shards[shardOf(ch)] }

// pin returns the state of a channel and keeps it until unpin.
func (b *Broker) pin(sh *shard, k key) *channel {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c := sh.channels[k]
	if c == nil {
		b.makeRoom(sh)
		c = &channel{key: k, turn: make(chan struct{}, 1)}
		sh.channels[k] = c
	}
	c.used = time.Now().UnixMilli()
	c.pins++
	return c
}

func (sh *shard) unpin(c *channel) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c.pins--
	if c.pins == 0 && (!c.known || c.seq == 0 && len(sh.channels) > maxEmpty) && sh.follows[c.name] == 0 {
		delete(sh.channels, c.key)
	}
}

// makeRoom forgets a channel that was not used for long; under mu.
func (b *Broker) makeRoom(sh *shard) {
	if len(sh.channels) < maxIdle {
		return
	}
	const sample = 8
	var oldest *channel
	seen := 0
	for _, c := range sh.channels { // begins anywhere
		if seen++; seen > sample {
			break
		}
		if c.pins > 0 || sh.follows[c.name] > 0 {
			continue
		}
		if oldest == nil || c.used < oldest.used {
			oldest = c
		}
	}
	if oldest != nil {
		b.dropTail(oldest)
		delete(sh.channels, oldest.key)
	}
}

// fresh tells whether c.top is the channel's true position: the only node knows it,
// and one of many if it has missed nothing since it was certain. Under mu.
func (b *Broker) fresh(sh *shard, c *channel) bool {
	switch {
	case c == nil || !c.known:
		return false
	case b.server != nil:
		return true
	}
	return sh.follows[c.name] > 0 && c.gen == b.gen.Load() && b.nc.IsConnected()
}

// moved notes the last record of a channel; under mu.
func (c *channel) moved(r *record, seq uint64) {
	c.known, c.seq, c.top = true, seq, Position{r.Offset, r.Epoch}
	c.version, c.versionEpoch = r.version, r.versionEpoch
}

// expect returns which sequence the next record is to be stored on, and notes that one is sent. NATS
// loads the block of the last record to compare. That is left out where nothing can have come between:
// the broker of an embedded server is the only one that writes, and all it sent is acknowledged. Under
// mu, for who has the turn.
func (c *channel) expect(embedded bool) *uint64 {
	seq, sole := c.seq, embedded && c.acked
	c.acked = false
	if sole {
		return nil
	}
	return &seq
}

// keep puts a publication behind the tail; under mu.
func (b *Broker) keep(sh *shard, c *channel, pub *Publication) {
	if n := len(c.tail); n > 0 && (c.tail[n-1].Offset+1 != pub.Offset || c.tail[n-1].Epoch != pub.Epoch) {
		b.dropTail(c)
	}
	c.tail = append(c.tail, pub)
	c.weight += pub.weight()
	b.tails.Add(pub.weight())
	for len(c.tail) > classes[c.class] {
		b.shorten(c)
	}
	b.trim(sh, c)
}

func (b *Broker) shorten(c *channel) {
	w := c.tail[0].weight()
	c.tail[0] = nil
	c.tail = c.tail[1:]
	c.weight -= w
	b.tails.Add(-w)
}

// trim keeps all tails within their bound: those of other channels of the shard go
// first, then the oldest of c. Under mu.
func (b *Broker) trim(sh *shard, c *channel) {
	for _, other := range sh.channels {
		if b.tails.Load() <= b.opts.TailBytes {
			return
		}
		if other != c {
			b.dropTail(other)
		}
	}
	for len(c.tail) > 0 && b.tails.Load() > b.opts.TailBytes {
		b.shorten(c)
	}
}

func (b *Broker) dropTail(c *channel) {
	b.tails.Add(-c.weight)
	c.tail, c.weight = nil, 0
}

// weight is what a publication takes in memory, about, in bytes.
func (p *Publication) weight() int64 {
	const fixed = 160
	n := fixed + len(p.Data) + len(p.Info) + len(p.Note)
	for k, v := range p.Tags {
		n += 64 + len(k) + len(v)
	}
	return int64(n)
}
