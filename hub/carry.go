package hub

// Place is a channel as a hub hands it to that of another process.
type Place struct {
	ID     int64
	Name   string
	Offset uint64
	Epoch  string // "" if the position is unknown
	Last   []byte // data of the latest publication, nil where no deltas are made
}

// Places calls f for every channel, with a lock held on a part of them. Publications should
// not come meanwhile. Any goroutine.
func (h *Hub) Places(f func(Place)) {
	h.Each(func(c *Channel, _ int) {
		c.mu.Lock()
		p := Place{ID: c.id, Name: c.name, Offset: c.at.offset, Epoch: c.at.epoch}
		if c.last != nil {
			p.Last = *c.last
		}
		c.mu.Unlock()
		f(p)
	})
}

// LastID returns the highest number that a channel has had.
func (h *Hub) LastID() int64 { return h.ids.Load() }

// Settle makes the channel of a Place, with its number and position, and counts one who needs
// it: Release takes that back. numbers after last are given to new channels. Only for a hub
// that nobody uses yet.
func (h *Hub) Settle(p Place, last int64) *Channel {
	c := h.Acquire(p.Name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.id, c.at = p.ID, place{p.Offset, p.Epoch}
	if p.Last != nil {
		c.last = &p.Last
	}
	h.ids.Store(max(h.ids.Load(), last))
	return c
}

// Carry calls f for the client's subscriptions, with the flags that Resume needs. It reports
// false, perhaps without a call, where one is under way or the client has ended. Loop goroutine
// of the client only, while no publications come.
func (cl *Client) Carry(f func(c *Channel, flags Flags)) bool {
	cl.Mu.Lock()
	all := append([]sub(nil), cl.subs...)
	cl.Mu.Unlock()
	for _, s := range all {
		if s.ch == nil || s.flags&live == 0 {
			return false
		}
	}
	for _, s := range all {
		flags := s.flags &^ live
		if x := s.ch.on(cl.Conn.Loop(), false); x != nil && int(s.at) < len(x.members) {
			flags |= x.members[s.at].flags & deltaReady
		}
		f(s.ch, flags)
	}
	return true
}

// Resume makes the client a member as it was, at the channel's position. It counts one who
// needs the channel. Loop goroutine of the client only.
func (c *Channel) Resume(cl *Client, flags Flags) {
	sh := c.hub.shard(c.name)
	sh.mu.Lock()
	c.refs++
	sh.mu.Unlock()
	x := c.on(cl.Conn.Loop(), true)
	if x.members == nil {
		x.members = make([]member, 0, 1)
	}
	cl.Mu.Lock()
	if cl.subs == nil {
		cl.subs = make([]sub, 0, 1)
	}
	cl.subs = append(cl.subs, sub{ch: c, at: uint32(len(x.members)), flags: flags&^deltaReady | live})
	cl.Mu.Unlock()
	x.members = append(x.members, member{conn: cl.Conn.Handle(), flags: flags})
	if flags&JoinLeave != 0 {
		c.wants.Add(1)
	}
	c.hub.Subscriptions.Add(1)
}

// Working tells whether publications are on their way to subscribers, or subscribers on their
// way to a channel.
func (h *Hub) Working() bool { return h.working.Load() > 0 }
