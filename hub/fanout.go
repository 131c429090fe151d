package hub

import (
	"roost/conn"
	"roost/proto/client"
)

// slice is how many members are served before a loop looks at its other work.
const slice = 1024

// Verdict says what became of a publication.
type Verdict uint8

const (
	Nobody    Verdict = iota // has no subscribers here
	Delivered                // is on its way
	Known                    // was delivered before
	Gap                      // is not the next one; nothing was delivered
)

// Publish carries a publication to the channel's subscribers. Those that have an
// offset must come in their order; one that leaves a gap is not delivered. frame is
// called once, only if somebody is to get it, with the data of the publication before
// if keep was set for it: deltas are made against that. Any goroutine.
func (h *Hub) Publish(c *Channel, offset uint64, epoch string, keep []byte, frame func(before []byte) *Frame) Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	if offset > 0 {
		next := place{offset, epoch}
		switch {
		case !c.at.known():
		case c.at.epoch == next.epoch && offset <= c.at.offset:
			return Known
		case c.at.epoch != next.epoch && offset == 1 && c.at.offset == 0, c.at.epoch == next.epoch && offset == c.at.offset+1:
		default:
			return Gap
		}
		c.at = next
	}
	var before []byte
	if c.last != nil {
		before, c.last = *c.last, nil
	}
	if keep != nil {
		c.last = &keep
	}
	if c.first == nil {
		return Nobody
	}
	c.post(frame(before))
	return Delivered
}

// post gives f to each loop with members; under mu, so that the order is the same on
// all of them.
func (c *Channel) post(f *Frame) {
	for x := c.first; x != nil; x = x.next {
		x.loop.Post(func() { x.deliver(f) })
	}
}

// Wants tells whether anybody here is to be told who joins and leaves.
func (c *Channel) Wants() bool { return c.wants.Load() > 0 }

// Tell carries a join or leave to those who want it. Any goroutine.
func (h *Hub) Tell(c *Channel, f *Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.post(f)
}

// Reset gives up the channel's continuity: subscribers that must not miss a
// publication are told by Options.Lost, and the position is forgotten. Any goroutine.
func (h *Hub) Reset(c *Channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.last = place{}, nil
	for x := c.first; x != nil; x = x.next {
		x.loop.Post(x.lost)
	}
}

func (x *list) lost() {
	x.at = place{}
	if x.during != nil {
		x.recent = nil
	}
	for _, m := range append([]member(nil), x.members...) {
		if m.flags&Positioned == 0 {
			continue
		}
		if cl := x.client(m.conn); cl != nil {
			x.ch.hub.opts.Lost(cl, x.ch.name)
		}
	}
}

// deliver begins with f, or puts it behind what is being delivered.
func (x *list) deliver(f *Frame) {
	w := x.work()
	w.queue = append(w.queue, f)
	if len(w.queue) == 1 && x.begin() {
		x.step()
	}
}

// begin prepares the first of the queue that has to be delivered.
func (x *list) begin() bool {
	for len(x.queue) > 0 {
		f := x.queue[0]
		if f.Offset == 0 || f.Offset > x.at.offset || f.Epoch != x.at.epoch {
			x.note(f)
			x.from, x.to = 0, len(x.members)
			return true
		}
		x.shift()
	}
	x.tidy()
	return false
}

func (x *list) shift() {
	x.queue[0] = nil
	x.queue = x.queue[1:]
	if len(x.queue) == 0 {
		x.queue = nil
	}
	x.from, x.to = 0, 0
}

// note moves the list's position on.
func (x *list) note(f *Frame) {
	if f.Offset == 0 {
		return
	}
	x.at = place{f.Offset, f.Epoch}
	if x.waiting > 0 {
		if len(x.recent) == recentMax {
			x.recent = nil // who waits that long reads again
		}
		x.recent = append(x.recent, f)
	}
}

// step serves one slice of the first publication, then the next ones as far as the
// slice reaches, and asks for another turn if there is more.
func (x *list) step() {
	var sent uint64
	defer func() { x.ch.hub.Deliveries.Add(sent) }()
	for left := slice; ; {
		f := x.queue[0]
		end := min(x.to, x.from+left)
		left -= end - x.from
		for ; x.from < end; x.from++ {
			if x.send(&x.members[x.from], f) {
				sent++
			}
		}
		if x.from < x.to || left == 0 {
			break
		}
		x.shift()
		if !x.begin() {
			return
		}
	}
	x.loop.Post(x.again)
}

func (x *list) again() {
	if x.during != nil && len(x.queue) > 0 {
		x.step()
	}
}

// send writes f to one member and reports whether it did.
func (x *list) send(m *member, f *Frame) bool {
	if f.Source == nil && m.flags&JoinLeave == 0 {
		return false
	}
	c := conn.Get(x.loop, m.conn)
	if c == nil {
		return false
	}
	if f.Source != nil && m.flags&Filtered != 0 {
		if s, ok := c.Session().(Filterer); ok && !s.Wants(x.ch, f.Tags) {
			return false
		}
	}
	s := client.Shape{ByID: m.flags&ByID != 0}
	if m.flags&Protobuf != 0 {
		s.Encoding = client.Protobuf
	}
	if f.Source != nil && m.flags&Delta != 0 {
		s.Delta = client.DeltaFull
		if m.flags&deltaReady != 0 {
			s.Delta = client.DeltaPatch
		}
		m.flags |= deltaReady
	}
	return c.PushPrepared(f.Prepared(s)) == nil
}
