package sync

import (
	"container/heap"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"roost/service"
)

// What expires, an object or items of it, is written down beside the logs: for each object when the first
// thing goes. Whoever owns a shard reads that when it gains it, and looks at an object when its time has
// come. So things go late rather than early, and objects with nothing to expire cost nothing.

const (
	expiringAtOnce = 16               // objects that are looked at
	expireAgain    = time.Second      // after a failure
	expireTimeout  = 10 * time.Second // of one object
	expireItems    = 100              // that go in one commit,
	expireBytes    = 256 << 10        // and of about how many bytes
)

// schedule says when to look at which object, of the shards that this instance owns.
type schedule struct {
	s    *Service
	wake chan struct{}
	free chan struct{}

	mu      sync.Mutex
	at      map[string]int64 // Unix ms, by object: what is written down
	queue   expiries         // of objects; what differs from at does not hold
	pending map[int]bool     // shards that are to be read
}

func (c *schedule) init(s *Service) {
	c.s, c.wake, c.free = s, make(chan struct{}, 1), make(chan struct{}, expiringAtOnce)
	c.at, c.pending = make(map[string]int64), make(map[int]bool)
}

func (c *schedule) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at)
}

func bucketOf(shard int) string { return fmt.Sprintf("%s-ttl-%d", Namespace, shard) }

func (c *schedule) gained(shard int) {
	c.mu.Lock()
	c.pending[shard] = true
	c.mu.Unlock()
	c.signal()
}

func (c *schedule) lost(shard int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, shard)
	for id := range c.at {
		if service.ShardOf(id) == shard {
			delete(c.at, id)
		}
	}
}

func (c *schedule) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// add has an object looked at, at that time or before. It is called before what expires then is stored.
func (c *schedule) add(ctx context.Context, id string, at int64) error {
	c.mu.Lock()
	known, ok := c.at[id]
	c.mu.Unlock()
	if ok && known <= at {
		return nil
	}
	return c.put(ctx, id, at)
}

func (c *schedule) put(ctx context.Context, id string, at int64) error {
	err := c.s.b.Put(ctx, bucketOf(service.ShardOf(id)), id, binary.AppendVarint(nil, at), 0)
	if err == nil {
		c.note(id, at)
	}
	return err
}

func (c *schedule) note(id string, at int64) {
	c.mu.Lock()
	c.at[id] = at
	heap.Push(&c.queue, expiry{at, id})
	c.mu.Unlock()
	c.signal()
}

// run looks at objects when their time has come.
func (c *schedule) run() {
	for {
		c.read()
		wait := time.Hour
		for _, id := range c.due(&wait) {
			select {
			case c.free <- struct{}{}:
			case <-c.s.stopped:
				return
			}
			c.s.done.Go(func() {
				defer func() { <-c.free }()
				c.look(id)
			})
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-c.wake:
		case <-c.s.stopped:
			t.Stop()
			return
		}
		t.Stop()
	}
}

// due returns the objects whose time has come, and sets wait to the time until the next.
func (c *schedule) due(wait *time.Duration) (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.s.now().UnixMilli()
	if len(c.pending) > 0 {
		*wait = expireAgain
	}
	for len(c.queue) > 0 {
		first := c.queue[0]
		if c.at[first.key] == first.at && first.at > now {
			*wait = min(*wait, time.Duration(first.at-now)*time.Millisecond)
			return ids
		}
		heap.Pop(&c.queue)
		if c.at[first.key] == first.at {
			ids = append(ids, first.key)
		}
	}
	return ids
}

// read learns what is written down of the shards that were gained.
func (c *schedule) read() {
	c.mu.Lock()
	shards := make([]int, 0, len(c.pending))
	for shard := range c.pending {
		shards = append(shards, shard)
	}
	c.mu.Unlock()
	for _, shard := range shards {
		ctx, cancel := context.WithTimeout(context.Background(), expireTimeout)
		all, err := c.s.b.Load(ctx, bucketOf(shard))
		cancel()
		if err != nil {
			c.s.log.Warn("what expires could not be read, it is tried again", "shard", shard, "error", err)
			return
		}
		c.mu.Lock()
		owned := c.pending[shard]
		delete(c.pending, shard)
		for id, text := range all {
			at, n := binary.Varint(text)
			if old, ok := c.at[id]; n > 0 && owned && (!ok || at < old) {
				c.at[id] = at
				heap.Push(&c.queue, expiry{at, id})
			}
		}
		c.mu.Unlock()
	}
}

// look takes away what has expired of an object, and writes down when to look again.
func (c *schedule) look(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), expireTimeout)
	defer cancel()
	err := c.s.cells.With(ctx, id, func(o *object) error {
		if err := c.s.expire(ctx, o); err != nil {
			return err
		}
		if next := o.nextExpiry(); next != 0 {
			return c.put(ctx, id, next)
		}
		if err := c.s.b.Put(ctx, bucketOf(service.ShardOf(id)), id, nil, 0); err != nil {
			return err
		}
		c.mu.Lock()
		delete(c.at, id)
		c.mu.Unlock()
		return nil
	})
	if err == nil {
		return
	}
	c.s.log.Warn("what has expired could not be taken away, it is tried again", "object", id, "error", err)
	time.AfterFunc(expireAgain, func() { c.again(id) })
}

// again has an object looked at now, if it still is this instance's.
func (c *schedule) again(id string) {
	c.mu.Lock()
	if at, ok := c.at[id]; ok {
		heap.Push(&c.queue, expiry{at, id})
	}
	c.mu.Unlock()
	c.signal()
}

// expire takes away what has expired of an object.
func (s *Service) expire(ctx context.Context, o *object) error {
	for o.exists {
		d := s.draft(o, "")
		if o.expires != 0 && o.expires <= d.now {
			d.remove(reasonTTL)
		} else {
			s.expireItems(o, d)
		}
		if len(d.events) == 0 {
			return nil
		}
		n := len(d.events)
		if err := s.commit(ctx, o, d); err != nil {
			return err
		}
		s.counts.expired.Add(uint64(n))
	}
	return nil
}

// expireItems drafts the removal of some items that have expired.
func (s *Service) expireItems(o *object, d *draft) {
	bytes := 0
	for len(d.events) < expireItems && bytes < expireBytes {
		i := o.firstExpiring()
		if i == nil || i.expires > d.now {
			return
		}
		heap.Pop(&o.expiring)
		bytes += i.weight()
		if d.item(i.key) != nil { // it may be in the queue twice
			d.removeItem(i.key, reasonTTL)
		}
	}
}
