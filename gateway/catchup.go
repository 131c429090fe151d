package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"roost/broker"
	"roost/hub"
)

// catchUps are the channels whose subscribers may have missed something. After NATS was
// away these are all that have positions, so a few goroutines take one after the other.
type catchUps struct {
	mu      sync.Mutex
	queue   []*hub.Channel
	queued  map[*hub.Channel]bool
	workers int
}

const (
	catchUpWorkers = 16
	// catchUpPause is how long a worker rests when the history cannot be read.
	catchUpPause = 200 * time.Millisecond
)

// Gap implements broker.Handler.
func (e *events) Gap(name string) {
	n := (*Node)(e)
	if ch := n.hub.Channel(name); ch != nil {
		n.catchUp(ch)
	}
}

// catchUp has the channel's history compared with what its subscribers got. Any goroutine.
func (n *Node) catchUp(ch *hub.Channel) {
	if _, _, known := ch.Position(); !known {
		return // nobody has been told a position
	}
	c := &n.behind
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queued[ch] {
		return
	}
	if c.queued == nil {
		c.queued = make(map[*hub.Channel]bool)
	}
	c.queued[ch] = true
	c.queue = append(c.queue, ch)
	if c.workers < catchUpWorkers {
		c.workers++
		go n.catchUpAll()
	}
}

func (c *catchUps) next() *hub.Channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.queue, c.queued = nil, nil // they were large once
		c.workers--
		return nil
	}
	ch := c.queue[0]
	c.queue[0] = nil
	c.queue = c.queue[1:]
	delete(c.queued, ch) // a gap from now on may be one that the coming read does not see
	return ch
}

// catchUpAll works until the queue is empty. A history that cannot be read says nothing
// of what was missed: the subscribers wait for it, however long that takes.
func (n *Node) catchUpAll() {
	for ch := n.behind.next(); ch != nil; ch = n.behind.next() {
		if n.catchUpOne(ch) {
			continue
		}
		select {
		case <-time.After(catchUpPause):
			n.catchUp(ch)
		case <-n.ended:
		}
	}
}

// catchUpOne delivers what a channel has missed, or gives its continuity up; false says
// that the history could not be read now.
func (n *Node) catchUpOne(ch *hub.Channel) bool {
	offset, epoch, known := ch.Position()
	ns, _ := n.opts.Channels.of(ch.Name())
	if !known || ns == nil || n.hub.Channel(ch.Name()) != ch {
		return true
	}
	ctx, cancel := n.timeout()
	defer cancel()
	since := &broker.Position{Offset: offset, Epoch: epoch}
	pubs, top, err := n.broker.History(ctx, ch.Name(), ns.query(since, -1, false))
	if errors.Is(err, broker.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if err == nil && top.Epoch == epoch && (len(pubs) == 0 && top.Offset == offset || len(pubs) > 0 && pubs[0].Offset == offset+1) {
		for _, p := range pubs {
			if n.deliver(ch, p) == hub.Gap {
				break // another Gap will be told of what came meanwhile
			}
		}
		return true
	}
	n.counts.gaps.Add(1)
	n.opts.Logger.Warn("publications were missed and cannot be recovered: subscribers start over", "channel", ch.Name(), "had", offset, "top", top.Offset, "error", err)
	n.hub.Reset(ch)
	return true
}
