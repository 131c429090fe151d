package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// publishTimeout bounds a Publish whose context has no earlier deadline.
const publishTimeout = 10 * time.Second

// PublishOptions say what is kept of a publication.
type PublishOptions struct {
	// HistorySize is the number of publications the channel keeps, and HistoryTTL for
	// how long; both of its namespace. 0 stores nothing.
	HistorySize int
	HistoryTTL  time.Duration
	// IdempotencyKey is taken once in five minutes per channel.
	IdempotencyKey string
	// Version suppresses what is not newer than the channel's last version of the same
	// VersionEpoch (or of any, if it is empty). Needs history.
	Version      uint64
	VersionEpoch string
	// Kept stores in a log: the last KeptSize publications, however old they are, apart from
	// what the channel's namespace keeps.
	Kept bool
	// After, if set, is the offset that the channel's last publication must have, else nothing is
	// stored: ErrConflict. Needs Kept.
	After *uint64
	// Last ends the log: what was before it is taken away, and itself too after 30 days, so that the
	// channel then begins anew with another epoch. A publication before that goes on from it.
	Last bool
}

func (o *PublishOptions) class() uint8 {
	if o.Kept {
		return keptClass
	}
	return classOf(o.HistorySize)
}

// Publish sends pub to the followers of ch on all nodes. Without history it is gone
// then. With history it is stored first: the position is the publication's own, and
// was acknowledged by NATS. suppressed tells that the idempotency key is known or a
// newer version is there; the position is then the earlier publication's, or the top.
//
// Errors: ErrUnavailable (it may have been stored, if ctx ended or NATS went away
// meanwhile), ErrTooLarge, ErrChannel, ErrConflict.
func (b *Broker) Publish(ctx context.Context, ch string, pub Publication, o PublishOptions) (pos Position, suppressed bool, err error) {
	if len(ch) == 0 || len(ch) > maxChannel {
		return pos, false, ErrChannel
	}
	if b.closed.Load() {
		return pos, false, unavailable("publish", ErrClosed)
	}
	if pub.Time == 0 {
		pub.Time = time.Now().UnixMilli()
	}
	start := time.Now()
	if err := b.gate.enter(ctx, b.ended); err != nil {
		return pos, false, unavailable("publish", err)
	}
	defer b.gate.leave()
	pub.Offset, pub.Epoch = 0, ""
	if o.HistorySize <= 0 && !o.Kept {
		suppressed, err = b.publishLive(ctx, ch, pub, o.IdempotencyKey)
	} else {
		pos, suppressed, err = b.publishStored(ctx, ch, pub, o)
	}
	b.counts.published(time.Since(start), err)
	return pos, suppressed, err
}

func (b *Broker) publishLive(ctx context.Context, ch string, pub Publication, key string) (suppressed bool, err error) {
	if key != "" {
		if suppressed, err = b.once(ctx, ch, key); suppressed || err != nil {
			return suppressed, err
		}
	}
	if b.server != nil {
		b.deliver(ch, &pub)
		return false, nil
	}
	return false, b.send(ch, &record{Publication: pub, kind: kindLive, id: b.calls.Add(1), boot: b.boot})
}

// PublishJoinLeave tells the followers of ch on all nodes that a client came or went.
func (b *Broker) PublishJoinLeave(ch string, join bool, info []byte) error {
	if len(ch) == 0 || len(ch) > maxChannel {
		return ErrChannel
	}
	if b.closed.Load() {
		return unavailable("publish", ErrClosed)
	}
	if err := b.gate.enter(context.Background(), b.ended); err != nil {
		return unavailable("publish", err)
	}
	defer b.gate.leave()
	if b.server != nil {
		b.handler.JoinLeave(ch, join, info)
		return nil
	}
	r := &record{kind: kindLeave, Publication: Publication{Data: info}, id: b.calls.Add(1), boot: b.boot}
	if join {
		r.kind = kindJoin
	}
	return b.send(ch, r)
}

// send publishes what no stream keeps.
func (b *Broker) send(ch string, r *record) error {
	if !b.nc.IsConnected() {
		return unavailable("publish", nats.ErrDisconnected)
	}
	subject := appendToken(fmt.Appendf(nil, "%s.ch.%d.", b.opts.Prefix, shardOf(ch)), ch)
	if err := b.nc.Publish(string(subject), r.append(nil)); err != nil {
		return unavailable("publish", err)
	}
	return nil
}

// hashOf makes an idempotency key of a channel an id that NATS can compare.
func hashOf(ch, key string) keyHash {
	sum := sha256.Sum256([]byte(ch + "\x00" + key))
	return keyHash(sum[:16])
}

// attempt is one publication on its way into a stream.
type attempt struct {
	b      *Broker
	sh     *shard
	c      *channel
	at     place
	opts   PublishOptions
	rec    record
	key    keyHash
	msgID  string // key's text; "" without one
	lost   bool   // an acknowledgement was, so the record may be there
	missed bool   // c does not know the last record
}

func (b *Broker) publishStored(ctx context.Context, ch string, pub Publication, o PublishOptions) (Position, bool, error) {
	class := o.class()
	if err := b.open(ctx, ch, class); err != nil {
		return Position{}, false, err
	}
	b.streams[class][b.part(ch)].present.add(ch)
	sh := b.shard(ch)
	a := &attempt{b: b, sh: sh, c: b.pin(sh, key{ch, class}), at: b.place(ch, class), opts: o}
	defer sh.unpin(a.c)
	a.rec = record{Publication: pub, kind: kindRecord, class: class, id: b.calls.Add(1), boot: b.boot}
	if o.IdempotencyKey != "" {
		a.key = hashOf(ch, o.IdempotencyKey)
		a.msgID = a.key.String()
	}
	pos, suppressed, err := a.run(ctx)
	if err == nil && o.Last {
		err = b.endLog(ctx, a)
	}
	return pos, suppressed, err
}

// endLog takes away what is before the last record, which is all there is to know.
func (b *Broker) endLog(ctx context.Context, a *attempt) error {
	if err := b.purgeToLast(ctx, a.at); err != nil {
		b.log.Warn("what a log had before its end was not taken away", "channel", a.c.name, "error", err)
	}
	a.sh.mu.Lock()
	defer a.sh.mu.Unlock()
	if n := len(a.c.tail); n > 1 {
		a.c.floor = a.c.tail[n-2].Offset
		for len(a.c.tail) > 1 {
			b.shorten(a.c)
		}
	}
	return nil
}

// run stores the record behind the last one, and tries again as long as others come
// first. It holds the channel's turn, so that publishers of one node do not compete.
func (a *attempt) run(ctx context.Context) (Position, bool, error) {
	end := time.Now().Add(publishTimeout)
	select {
	case a.c.turn <- struct{}{}:
	default:
		select {
		case a.c.turn <- struct{}{}:
		case <-ctx.Done():
			return Position{}, false, unavailable("wait for the channel", ctx.Err())
		case <-a.b.ended:
			return Position{}, false, unavailable("wait for the channel", ErrClosed)
		}
	}
	defer func() { <-a.c.turn }()
	for try := 0; ; try++ {
		pos, settled, suppressed, err := a.step(ctx)
		if settled {
			return pos, suppressed, err
		}
		away := !a.lost && !a.b.nc.IsConnected() // nothing was sent
		if away || ctx.Err() != nil || time.Now().After(end) || a.b.closed.Load() {
			a.giveUp()
			return Position{}, false, unavailable("store", err)
		}
		pause(ctx, try)
	}
}

// giveUp leaves the channel so that the next one reads what became of this record.
func (a *attempt) giveUp() {
	a.sh.mu.Lock()
	defer a.sh.mu.Unlock()
	if a.lost || a.missed {
		a.c.known = false
	}
	if a.lost && a.msgID != "" {
		a.b.keys.doubt(a.c.key)
	}
}

// pause waits a little longer each time; not at all at first.
func pause(ctx context.Context, try int) {
	if try == 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(min(time.Millisecond<<min(try, 8), 200*time.Millisecond)):
	}
}

func (a *attempt) ttl() time.Duration {
	if a.opts.Last {
		return metaAge
	}
	return 0
}

// step is one try. An error with settled false is worth another one.
func (a *attempt) step(ctx context.Context) (pos Position, settled, suppressed bool, err error) {
	b, c := a.b, a.c
	if pos, found, err := a.head(ctx); found || err != nil {
		return pos, found, false, err
	}
	if a.msgID != "" && b.server != nil && !a.lost {
		if pos, found, err := a.taken(ctx); found || err != nil {
			return pos, found, true, err
		}
	}
	a.sh.mu.Lock()
	top := c.top
	old := a.opts.Version > 0 && a.opts.Version <= c.version &&
		(a.opts.VersionEpoch == "" || a.opts.VersionEpoch == c.versionEpoch)
	a.rec.version, a.rec.versionEpoch = c.version, c.versionEpoch
	if old {
		a.sh.mu.Unlock()
		return top, true, true, nil
	}
	if a.opts.After != nil && *a.opts.After != top.Offset {
		a.sh.mu.Unlock()
		return top, true, false, ErrConflict
	}
	last := c.expect(b.server != nil)
	a.sh.mu.Unlock()
	if a.opts.Version > 0 {
		a.rec.version, a.rec.versionEpoch = a.opts.Version, a.opts.VersionEpoch
	}
	a.rec.Offset, a.rec.Epoch = top.Offset+1, b.epochOf(c.name, c.class, top.Epoch)
	ack, err := b.store(ctx, a.at.subject, a.rec.append(nil), last, a.msgID, a.ttl())
	switch {
	case err == nil && ack.Duplicate && a.lost:
		a.missed = true // perhaps this very record: look
		if pos, found, err := a.head(ctx); found || err != nil {
			return pos, found, false, err
		}
		fallthrough
	case err == nil && ack.Duplicate:
		if pos, err = a.duplicate(ctx, ack.Seq, top); err == nil {
			a.tookKey(pos)
		}
		return pos, err == nil, true, err
	case err == nil:
		return a.stored(ack.Seq), true, false, nil
	case errors.Is(err, nats.ErrMaxPayload):
		return pos, true, false, unavailable("store", err)
	case errors.Is(err, errStale):
		a.missed = true
		return pos, false, false, err
	case errors.Is(err, nats.ErrNoResponders):
		b.forget(c.name, c.class) // the stream has no leader, or is gone: then it is made again
		if err := b.open(ctx, c.name, c.class); err != nil {
			return pos, false, false, err
		}
	case errors.Is(err, nats.ErrDisconnected):
		return pos, false, false, err // nothing was sent
	}
	a.lost, a.missed = true, true
	return pos, false, false, err
}

// duplicate returns the position of the publication that had the same key.
func (a *attempt) duplicate(ctx context.Context, seq uint64, top Position) (Position, error) {
	s, err := a.b.bySeq(ctx, a.at, seq)
	switch {
	case err == nil:
		return Position{s.Offset, s.Epoch}, nil
	case errors.Is(err, errMissing):
		return top, nil // it was dropped from the history since
	}
	return Position{}, err
}

// head makes sure that the channel's last record is known. found tells that it, or one
// before it, is this very publication, whose acknowledgement was lost.
func (a *attempt) head(ctx context.Context) (pos Position, found bool, err error) {
	a.sh.mu.Lock()
	known := a.c.known && !a.missed
	before := a.c.seq
	a.sh.mu.Unlock()
	if known {
		return pos, false, nil
	}
	s, err := a.b.last(ctx, a.at)
	if err != nil && !errors.Is(err, errMissing) {
		return pos, false, err
	}
	if err == nil && a.lost && s.seq > before {
		if pos, found, err = a.find(ctx, before+1); err != nil || found {
			return pos, found, err
		}
	}
	a.sh.mu.Lock()
	defer a.sh.mu.Unlock()
	if err != nil {
		s = stored{record: &record{}} // there is none, or none any more
	}
	if a.c.seq <= s.seq || !a.c.known || a.missed {
		a.c.moved(s.record, s.seq)
	}
	a.missed = false
	return pos, false, nil
}

// find looks for this publication among the records from a sequence on.
func (a *attempt) find(ctx context.Context, from uint64) (Position, bool, error) {
	items, err := a.b.read(ctx, a.at, from)
	if err != nil {
		return Position{}, false, err
	}
	for _, it := range items {
		r, err := decodeRecord(it.data)
		if err == nil && r.boot == a.rec.boot && r.id == a.rec.id {
			a.rec.Offset, a.rec.Epoch = r.Offset, r.Epoch
			return a.stored(it.seq), true, nil
		}
	}
	return Position{}, false, nil
}

// stored hands on what was acknowledged.
func (a *attempt) stored(seq uint64) Position {
	b, c := a.b, a.c
	pub := a.rec.Publication
	a.sh.mu.Lock()
	if seq > c.seq {
		c.moved(&a.rec, seq)
	}
	c.acked = true
	if b.server != nil {
		b.keep(a.sh, c, &pub)
	}
	a.sh.mu.Unlock()
	pos := Position{pub.Offset, pub.Epoch}
	a.tookKey(pos)
	if b.server != nil {
		b.deliver(c.name, &pub)
	}
	return pos
}

// once takes an idempotency key of a channel without history.
func (b *Broker) once(ctx context.Context, ch, key string) (taken bool, err error) {
	ack, err := b.store(ctx, b.opts.Prefix+".once."+hashOf(ch, key).String(), nil, new(uint64), "", 0)
	switch {
	case errors.Is(err, errStale):
		return true, nil
	case err != nil:
		return false, unavailable("idempotency key", err)
	}
	return ack.Duplicate, nil
}

func (b *Broker) onceStream() string { return strings.ToUpper(b.opts.Prefix) + "_ONCE" }
