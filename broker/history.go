package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxReads bounds the reads of history at a time.
const maxReads = 64

// HistoryQuery says which publications are wanted.
type HistoryQuery struct {
	// Since, if set, asks for those after it, or with Reverse before it. Another epoch
	// than the channel's gives none; an empty one fits all.
	Since *Position
	// Limit is how many at most; 0 asks for the position only, -1 for all.
	Limit   int
	Reverse bool // the latest first
	// Size and TTL are the namespace's, as for Publish.
	Size int
	TTL  time.Duration
	Kept bool // in their place, as for Publish
}

func (q *HistoryQuery) class() uint8 {
	if q.Kept {
		return keptClass
	}
	return classOf(q.Size)
}

// History returns publications of a channel in the order of their offsets, and the
// channel's position, which is exact as of a moment after the call began. It does not
// tell whether there is a gap after Since: if the first offset is not the next one,
// what was between is gone. A channel that never had a publication has offset 0 and
// an epoch which the first one keeps. The publications are shared. Errors:
// ErrUnavailable, ErrChannel.
func (b *Broker) History(ctx context.Context, ch string, q HistoryQuery) ([]*Publication, Position, error) {
	if len(ch) == 0 || len(ch) > maxChannel {
		return nil, Position{}, ErrChannel
	}
	if q.Kept {
		q.Size, q.TTL = KeptSize, 0
	}
	if q.Size <= 0 {
		return nil, Position{}, nil
	}
	k := key{ch, q.class()}
	sh := b.shard(ch)
	sh.mu.Lock()
	if c := sh.channels[k]; b.fresh(sh, c) && !b.behind(c, q.Since) {
		if pubs, ok := b.known(c).answer(q); ok {
			c.used = time.Now().UnixMilli()
			top := b.known(c).top
			sh.mu.Unlock()
			b.counts.hits.Add(1)
			return pubs, top, nil
		}
	}
	sh.mu.Unlock()
	if b.absent(k) {
		return nil, Position{0, b.emptyEpoch(k.name, k.class)}, nil
	}
	h, err := b.fetch(ctx, sh, flightKey{k, q.Limit != 0})
	if err != nil {
		return nil, Position{}, unavailable("history", err)
	}
	pubs, _ := h.answer(q)
	return pubs, h.top, nil
}

// behind tells that somebody has seen more of a channel than this node, where a record
// that is stored and acknowledged is still on its way; under the shard's mu.
func (b *Broker) behind(c *channel, since *Position) bool {
	if since == nil {
		return false
	}
	top := b.known(c).top
	return since.Offset > top.Offset && (since.Epoch == top.Epoch || since.Epoch == "")
}

// history is the end of a channel's publications: those in pubs have no gap and end
// with top, if there are any. All after floor are there if all is set.
type history struct {
	top   Position
	floor uint64
	pubs  []*Publication
	all   bool
}

// known is the history in memory; under the shard's mu.
func (b *Broker) known(c *channel) history {
	return history{top: Position{c.top.Offset, b.epochOf(c.name, c.class, c.top.Epoch)}, floor: c.floor, pubs: c.tail}
}

// answer selects what was asked for; ok is false if it takes more than h has.
func (h history) answer(q HistoryQuery) (pubs []*Publication, ok bool) {
	if q.Limit == 0 {
		return nil, true
	}
	if q.Since != nil && q.Since.Epoch != "" && q.Since.Epoch != h.top.Epoch {
		return nil, true
	}
	lo, hi := h.floor+1, h.top.Offset
	if size := uint64(q.Size); hi > size {
		lo = max(lo, hi-size+1)
	}
	if q.Since != nil && q.Reverse {
		hi = min(hi, max(q.Since.Offset, 1)-1)
	} else if q.Since != nil {
		lo = max(lo, q.Since.Offset+1)
	}
	if lo > hi {
		return nil, true
	}
	var oldest int64
	if q.TTL > 0 {
		oldest = time.Now().Add(-q.TTL).UnixMilli()
	}
	n := len(h.pubs)
	if !h.all && (n == 0 || h.pubs[n-1].Offset != h.top.Offset || h.pubs[0].Offset > lo && h.pubs[0].Time >= oldest) {
		return nil, false
	}
	for _, p := range h.pubs {
		if p.Offset >= lo && p.Offset <= hi && p.Time >= oldest {
			pubs = append(pubs, p)
		}
	}
	if q.Reverse {
		slices.Reverse(pubs)
	}
	if q.Limit > 0 && len(pubs) > q.Limit {
		pubs = pubs[:q.Limit]
	}
	return pubs, true
}

// flightKey names reads that may be shared.
type flightKey struct {
	key
	full bool // with publications
}

// flight is a read that runs, and the next one, which all wait for who came after it
// had begun: their answer must not be older than their question.
type flight struct {
	next *call
}

type call struct {
	done chan struct{}
	res  history
	err  error
}

// fetch reads from the stream, at most once at a time for each channel.
func (b *Broker) fetch(ctx context.Context, sh *shard, k flightKey) (history, error) {
	sh.mu.Lock()
	if sh.closed {
		sh.mu.Unlock()
		return history{}, ErrClosed
	}
	f := sh.flights[k]
	var c *call
	if f == nil {
		f = &flight{}
		sh.flights[k] = f
		c = &call{done: make(chan struct{})}
		b.done.Add(1)
		go b.fly(sh, k, f, c)
	} else {
		if f.next == nil {
			f.next = &call{done: make(chan struct{})}
		}
		c = f.next
	}
	sh.mu.Unlock()
	select {
	case <-c.done:
		return c.res, c.err
	case <-ctx.Done():
		return history{}, ctx.Err()
	}
}

func (b *Broker) fly(sh *shard, k flightKey, f *flight, c *call) {
	defer b.done.Done()
	for c != nil {
		c.res, c.err = b.readHistory(sh, k)
		close(c.done)
		sh.mu.Lock()
		c, f.next = f.next, nil
		if c == nil {
			delete(sh.flights, k)
		}
		sh.mu.Unlock()
	}
}

// readHistory reads from the stream and remembers what it learnt.
func (b *Broker) readHistory(sh *shard, k flightKey) (h history, err error) {
	select {
	case b.reading <- struct{}{}:
		defer func() { <-b.reading }()
	case <-b.ended:
		return h, ErrClosed
	}
	b.counts.reads.Add(1)
	c := b.pin(sh, k.key)
	defer sh.unpin(c)
	gen := b.gen.Load()
	sh.mu.Lock()
	certain := b.server != nil || sh.follows[k.name] > 0 && time.Now().After(sh.settled)
	sh.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if err := b.open(ctx, k.name, k.class); err != nil {
		return h, err
	}
	last, h, err := b.readRecords(ctx, k)
	if errors.Is(err, nats.ErrNoResponders) {
		b.forget(k.name, k.class)
	}
	if err != nil {
		return h, err
	}
	h.top.Epoch = b.epochOf(k.name, k.class, h.top.Epoch)
	for _, p := range h.pubs {
		p.Epoch = h.top.Epoch
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	b.learn(sh, c, last, h)
	if certain {
		c.gen = gen
	}
	return h, nil
}

// readRecords returns the last record of a channel, of sequence 0 if there is none,
// and its history.
func (b *Broker) readRecords(ctx context.Context, k flightKey) (last stored, h history, err error) {
	at := b.place(k.name, k.class)
	last.record = &record{}
	if !k.full || b.opts.Replicas > 1 {
		switch s, err := b.last(ctx, at); {
		case errors.Is(err, errMissing):
			return last, h, nil
		case err != nil:
			return last, h, err
		default:
			last, h.top = s, Position{s.Offset, s.Epoch}
		}
	}
	if !k.full {
		return last, h, nil
	}
	for try := 0; ; try++ {
		items, err := b.read(ctx, at, 1)
		if err != nil {
			return last, h, err
		}
		top, got, err := collect(items)
		if err != nil {
			return last, h, err
		}
		if top.seq >= last.seq {
			return top, got, nil
		}
		if ctx.Err() != nil { // the replica that answers still lags behind
			return last, h, ctx.Err()
		}
		pause(ctx, try+1)
	}
}

// collect makes a history of a channel's records.
func collect(items []item) (last stored, h history, err error) {
	last.record, h.all = &record{}, true
	for _, it := range items {
		r, err := decodeRecord(it.data)
		if err != nil {
			return last, h, fmt.Errorf("record %d of %s: %w", it.seq, it.subject, err)
		}
		last = stored{record: r, seq: it.seq}
		switch {
		case r.kind == kindMark:
			h.pubs, h.floor = nil, r.Offset
		case len(h.pubs) > 0 && r.Offset != h.pubs[len(h.pubs)-1].Offset+1:
			h.pubs = nil
			fallthrough
		default:
			h.pubs = append(h.pubs, &r.Publication)
		}
	}
	h.top = Position{last.Offset, last.Epoch}
	return last, h, nil
}

// learn takes over what was read, unless newer records are known. Under mu.
func (b *Broker) learn(sh *shard, c *channel, last stored, h history) {
	if c.known && c.seq > last.seq {
		return
	}
	if !c.known || c.seq < last.seq {
		c.moved(last.record, last.seq)
	}
	if !c.based {
		c.based, c.base = true, last.Offset
	}
	if h.all && (len(c.tail) < len(h.pubs)) {
		c.floor = h.floor
		b.dropTail(c)
		for _, p := range h.pubs {
			b.keep(sh, c, p)
		}
	}
}

// RemoveHistory takes all publications of a channel away; its offset and epoch stay.
// Errors: ErrUnavailable, ErrChannel.
func (b *Broker) RemoveHistory(ctx context.Context, ch string) error {
	if len(ch) == 0 || len(ch) > maxChannel {
		return ErrChannel
	}
	if b.closed.Load() {
		return unavailable("remove history", ErrClosed)
	}
	for class := range classes {
		at := b.place(ch, uint8(class))
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		_, err := b.js.Stream(ctx, at.stream)
		if err == nil {
			err = b.removeClass(ctx, ch, uint8(class), at)
		}
		cancel()
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return unavailable("remove history", err)
		}
	}
	return nil
}

// removeClass stores a mark, which hides what is before it, and then gives the space
// back.
func (b *Broker) removeClass(ctx context.Context, ch string, class uint8, at place) error {
	sh := b.shard(ch)
	c := b.pin(sh, key{ch, class})
	defer sh.unpin(c)
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for try := 0; ; try++ {
		s, err := b.last(ctx, at)
		if errors.Is(err, errMissing) {
			return nil
		}
		if err != nil {
			return err
		}
		if s.kind != kindMark {
			s.record = &record{kind: kindMark, class: class, version: s.version, versionEpoch: s.versionEpoch,
				Publication: Publication{Offset: s.Offset, Epoch: b.epochOf(ch, class, s.Epoch), Time: time.Now().UnixMilli()}}
			sh.mu.Lock()
			c.acked = false
			sh.mu.Unlock()
			ack, err := b.store(ctx, at.subject, s.append(nil), &s.seq, "", 0)
			if errors.Is(err, errStale) && ctx.Err() == nil {
				pause(ctx, try)
				continue
			}
			if err != nil {
				return err
			}
			s.seq = ack.Seq
		}
		b.marked(sh, c, s)
		return b.purgeToLast(ctx, at)
	}
}

// marked forgets what a mark hides.
func (b *Broker) marked(sh *shard, c *channel, s stored) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.seq > c.seq || !c.known {
		c.moved(s.record, s.seq)
	}
	if c.seq == s.seq {
		b.dropTail(c)
	}
	c.floor = max(c.floor, s.Offset)
}
