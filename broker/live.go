package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// settleTime is what the servers of a cluster get to tell each other of a new
	// subscription.
	settleTime = 500 * time.Millisecond
	// repairTimeout bounds the reading of records missed in a partition's live
	// messages, which wait meanwhile.
	repairTimeout = 2 * time.Second
	// livePending bounds the messages of a partition that wait for the Handler, in bytes.
	livePending = 64 << 20
)

// Follow tells that this node has subscribers of ch. All that is published after it
// returned reaches the Handler. It may wait for NATS once per partition, for 2 s at most.
func (b *Broker) Follow(ch string) {
	if b.server != nil {
		return // all that is published is published here
	}
	sh := b.shard(ch)
	sh.subMu.Lock()
	defer sh.subMu.Unlock()
	sh.mu.Lock()
	sh.follows[ch]++
	sh.mu.Unlock()
	if sh.sub != nil || b.closed.Load() {
		return
	}
	sub, err := b.nc.Subscribe(fmt.Sprintf("%s.ch.%d.*", b.opts.Prefix, shardOf(ch)), func(m *nats.Msg) { b.message(sh, m) })
	if err == nil {
		sh.sub = sub
		err = errors.Join(sub.SetPendingLimits(-1, livePending), b.nc.FlushTimeout(2*time.Second))
	}
	if err != nil {
		b.log.Warn("follow: NATS did not confirm; positions are checked when it is back", "error", err)
	}
	if b.nc.ConnectedClusterName() == "" && err == nil {
		return
	}
	sh.mu.Lock()
	sh.settled = time.Now().Add(settleTime)
	sh.mu.Unlock()
	time.AfterFunc(settleTime, func() { b.gaps(sh) })
}

// Unfollow takes one Follow back.
func (b *Broker) Unfollow(ch string) {
	if b.server != nil {
		return
	}
	sh := b.shard(ch)
	sh.subMu.Lock()
	defer sh.subMu.Unlock()
	sh.mu.Lock()
	if sh.follows[ch]--; sh.follows[ch] <= 0 {
		delete(sh.follows, ch)
		for class := range classes {
			if c := sh.channels[key{ch, uint8(class)}]; c != nil { // it hears no more of it
				b.dropTail(c)
				c.based, c.base, c.told, c.gen = false, 0, false, 0
			}
		}
	}
	nobody := len(sh.follows) == 0
	sh.mu.Unlock()
	if nobody && sh.sub != nil {
		if err := sh.sub.Unsubscribe(); err != nil && !b.closed.Load() {
			b.log.Warn("unfollow", "error", err)
		}
		sh.sub = nil
	}
}

func (b *Broker) deliver(ch string, pub *Publication) {
	b.counts.deliveries.Add(1)
	b.handler.Publication(ch, pub)
}

// process delivers one live message of a partition.
func (b *Broker) process(sh *shard, m *nats.Msg) {
	ch, ok := fromToken(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	r, err := decodeRecord(m.Data)
	if !ok || err != nil {
		b.log.Warn("unknown live message", "subject", m.Subject, "error", err)
		return
	}
	sh.mu.Lock()
	followed := sh.follows[ch] > 0
	sh.mu.Unlock()
	if !followed {
		return
	}
	if r.kind >= kindLive && !b.hold.first(r.boot, r.id) {
		return
	}
	switch r.kind {
	case kindLive:
		b.deliver(ch, &r.Publication)
	case kindJoin, kindLeave:
		b.handler.JoinLeave(ch, r.kind == kindJoin, r.Data)
	default:
		seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil {
			b.log.Warn("live record without a sequence", "subject", m.Subject)
			return
		}
		b.sequence(sh, ch, stored{record: r, seq: seq})
	}
}

// sequence delivers a live record in its place: those that were missed come first,
// those that were delivered do not come again.
func (b *Broker) sequence(sh *shard, ch string, s stored) {
	c := b.pin(sh, key{ch, s.class})
	defer sh.unpin(c)
	if s.kind == kindMark {
		b.marked(sh, c, s)
		return
	}
	sh.mu.Lock()
	based, base, told := c.based, c.base, c.told
	renewed := told && c.known && c.top.Epoch != s.Epoch && s.Offset <= base
	sh.mu.Unlock()
	switch {
	case renewed:
		b.gap(ch) // the channel began anew, or its epoch did
	case based && s.Offset <= base && told:
		return
	case based && s.Offset > base+1:
		b.repair(sh, c, base, s)
	}
	b.tell(sh, c, s)
}

// tell delivers a record and makes it the one to go on from.
func (b *Broker) tell(sh *shard, c *channel, s stored) {
	sh.mu.Lock()
	if s.seq > c.seq || !c.known {
		c.moved(s.record, s.seq)
	}
	if n := len(c.tail); n == 0 || s.Offset > c.tail[n-1].Offset || s.Epoch != c.tail[n-1].Epoch {
		b.keep(sh, c, &s.Publication)
	}
	if !c.based || c.told || s.Offset >= c.base {
		c.based, c.base, c.told = true, s.Offset, true
	}
	sh.mu.Unlock()
	b.deliver(c.name, &s.Publication)
}

// repair delivers the records between base and s, or tells that there is a gap.
func (b *Broker) repair(sh *shard, c *channel, base uint64, s stored) {
	ctx, cancel := context.WithTimeout(context.Background(), repairTimeout)
	defer cancel()
	items, err := b.read(ctx, b.place(c.name, c.class), 1)
	next := base + 1
	for _, it := range items {
		r, rerr := decodeRecord(it.data)
		if rerr != nil || r.kind != kindRecord || r.Offset < next || r.Offset >= s.Offset {
			continue
		}
		if r.Offset > next {
			break
		}
		b.tell(sh, c, stored{record: r, seq: it.seq})
		next++
	}
	if next == s.Offset {
		b.counts.repairs.Add(1)
		return
	}
	b.log.Warn("missed publications cannot be had any more", "channel", c.name, "from", next, "to", s.Offset-1, "error", err)
	b.gap(c.name)
}

func (b *Broker) gap(ch string) {
	b.counts.gaps.Add(1)
	b.handler.Gap(ch)
}

// gaps tells of all followed channels of a shard that something may be missing.
func (b *Broker) gaps(sh *shard) {
	if b.closed.Load() {
		return
	}
	sh.mu.Lock()
	names := make([]string, 0, len(sh.follows))
	for ch := range sh.follows {
		names = append(names, ch)
	}
	sh.mu.Unlock()
	for _, ch := range names {
		b.gap(ch)
	}
}

func (b *Broker) disconnected(_ *nats.Conn, err error) {
	b.gen.Add(1)
	if !b.closed.Load() {
		b.log.Warn("NATS is away", "error", err)
	}
}

// reconnected waits until streams can be read again, and then has all positions
// checked.
func (b *Broker) reconnected(*nats.Conn) {
	b.counts.reconnects.Add(1)
	b.gen.Add(1)
	if b.server != nil {
		return // nothing was delivered by way of the connection
	}
	go b.recheck(b.gen.Load())
}

func (b *Broker) recheck(gen uint64) {
	select {
	case <-time.After(settleTime):
	case <-b.ended:
		return
	}
	for try := 1; b.gen.Load() == gen; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		_, err := b.Load(ctx, "meta")
		pause(ctx, try)
		cancel()
		if err == nil {
			break
		}
		if b.closed.Load() {
			return
		}
	}
	if b.gen.Load() != gen {
		return // away again, or dropped: who came last checks
	}
	b.log.Info("NATS is back")
	for i := range b.shards {
		b.gaps(&b.shards[i])
	}
}

// asyncError hears of messages dropped because the Handler was too slow.
func (b *Broker) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	b.log.Warn("NATS", "error", err)
	if !errors.Is(err, nats.ErrSlowConsumer) || sub == nil {
		return
	}
	b.counts.dropped.Add(1)
	b.gen.Add(1)
	for i := range b.shards {
		sh := &b.shards[i]
		sh.subMu.Lock()
		mine := sh.sub == sub
		sh.subMu.Unlock()
		if mine {
			go b.gaps(sh)
		}
	}
}
