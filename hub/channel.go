package hub

import (
	"sync"
	"sync/atomic"

	"roost/conn"
	"roost/poller"
)

// Channel is a channel that has subscribers on this node. There may be as many as there
// are clients: its size, and that of list, is all that one costs here but for its name.
type Channel struct {
	// Static.
	hub  *Hub
	name string
	id   int64

	followed atomic.Bool  // set under the shard's following
	refs     int32        // guarded by the shard's mu
	wants    atomic.Int32 // members that are told of joins and leaves

	// Guarded by mu.
	mu    sync.Mutex
	at    place
	last  *[]byte // data of the latest publication where deltas may be wanted
	first *list   // there is one for each loop with members
}

// place is a position; the zero place is unknown.
type place struct {
	offset uint64
	epoch  string
}

func (p place) known() bool { return p.epoch != "" }

// Name returns the channel's name.
func (c *Channel) Name() string { return c.name }

// ID returns the number that stands for the name on this node.
func (c *Channel) ID() int64 { return c.id }

// Position returns how far this node has come, if it knows.
func (c *Channel) Position() (offset uint64, epoch string, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.offset, c.at.epoch, c.at.known()
}

// list is the members of a channel on one loop. Only that loop's goroutine uses it, but
// for next, which the channel's mu guards.
type list struct {
	ch      *Channel
	next    *list // of another loop
	loop    *poller.Loop
	members []member

	at      place // of the latest publication whose delivery has begun
	*during       // nil while the list is at rest, as most are most of the time
}

// during is what a list needs while something is under way.
type during struct {
	// What was delivered while subscribers read the history: they get it from here.
	waiting int
	recent  []*Frame

	// Publications to deliver; the first one has reached [0,from), goes up to to, and
	// those behind came later than it.
	queue    []*Frame
	from, to int
}

// work returns what is under way, to add to it.
func (x *list) work() *during {
	if x.during == nil {
		x.during = new(during)
		x.ch.hub.working.Add(1)
	}
	return x.during
}

type member struct {
	conn  poller.Handle
	flags Flags
}

// on returns the channel's list on a loop.
func (c *Channel) on(l *poller.Loop, create bool) *list {
	c.mu.Lock()
	defer c.mu.Unlock()
	for x := c.first; x != nil; x = x.next {
		if x.loop == l {
			return x
		}
	}
	if !create {
		return nil
	}
	c.first = &list{ch: c, next: c.first, loop: l, at: c.at}
	return c.first
}

// tidy gives up what is not needed any more, the list itself if it is empty.
func (x *list) tidy() {
	if x.during != nil {
		if x.waiting > 0 || len(x.queue) > 0 {
			return
		}
		x.during = nil
		x.ch.hub.working.Add(-1)
	}
	if len(x.members) > 0 {
		return
	}
	c := x.ch
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := &c.first; *at != nil; at = &(*at).next {
		if *at == x {
			*at = x.next
			return
		}
	}
}

// recentMax bounds what is kept for subscribers that read the history.
const recentMax = 4096

// Wait begins to keep what is delivered on the loop, for a subscriber that now reads
// the history and will call Join or Quit. Loop goroutine only.
func (c *Channel) Wait(l *poller.Loop) { c.on(l, true).work().waiting++ }

// Quit ends Wait without joining. Loop goroutine only.
func (c *Channel) Quit(l *poller.Loop) {
	if x := c.on(l, false); x != nil {
		x.quit()
	}
}

func (x *list) quit() {
	x.waiting--
	if x.waiting == 0 {
		x.recent = nil
	}
	x.tidy()
}

// Joined is what Join says.
type Joined struct {
	// Offset and Epoch up to which the client must be served by the caller; what
	// follows is delivered.
	Offset uint64
	Epoch  string
	// Between are the publications after the history's position up to Offset.
	Between []*Frame
}

// Join makes the client a member. history, if not nil, is the position up to which
// the caller has read after Wait, and least the offset the client has already: another
// node may have been ahead. It fails where this loop has not come that far, where
// publications between the history and the deliveries are missing, or where the client
// is Positioned and no position is known: then the history must be read again. Loop
// goroutine only; the subscription must have been reserved.
func (c *Channel) Join(cl *Client, flags Flags, history *Position, least uint64) (j Joined, ok bool) {
	l := cl.Conn.Loop()
	x := c.on(l, true)
	if history != nil {
		j, ok = x.bridge(history)
		ok = ok && j.Offset >= least
		defer x.quit()
	} else {
		j, ok = Joined{Offset: x.at.offset, Epoch: x.at.epoch}, flags&Positioned == 0 || x.at.known()
		defer x.tidy()
	}
	if !ok {
		return j, false
	}
	if !cl.settle(c, uint32(len(x.members))) { // given up meanwhile
		return j, true
	}
	if x.members == nil {
		x.members = make([]member, 0, 1)
	}
	x.members = append(x.members, member{conn: cl.Conn.Handle(), flags: flags})
	if flags&JoinLeave != 0 {
		c.wants.Add(1)
	}
	c.hub.Subscriptions.Add(1)
	return j, true
}

// Position is a place in a channel's stream.
type Position struct {
	Offset uint64
	Epoch  string
}

// bridge finds what lies between a position read from the history and what this loop
// delivers next.
func (x *list) bridge(h *Position) (j Joined, ok bool) {
	want := place{h.Offset, h.Epoch}
	if !x.at.known() {
		c := x.ch
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.at.known() && (c.at.epoch != want.epoch || c.at.offset > want.offset) {
			return j, false // somebody knew better; this loop has not delivered that
		}
		if !c.at.known() {
			c.at = want
		}
		x.at = want
	}
	j.Offset, j.Epoch = x.at.offset, x.at.epoch
	if x.at.epoch != want.epoch {
		return j, false
	}
	if want.offset >= x.at.offset {
		return j, true
	}
	for i, f := range x.recent {
		if f.Offset == want.offset+1 {
			j.Between = x.recent[i:]
			return j, true
		}
	}
	return j, false
}

// Leave ends the client's subscription, reserved or live, and tells its flags. Loop
// goroutine only. It gives up what Acquire counted for the subscription.
func (c *Channel) Leave(cl *Client) (flags Flags, was bool) {
	at, flags, ok := cl.drop(c)
	if !ok {
		return 0, false
	}
	if flags&live != 0 {
		if x := c.on(cl.Conn.Loop(), false); x != nil {
			x.remove(int(at))
			x.tidy()
		}
		c.hub.Subscriptions.Add(-1)
		if flags&JoinLeave != 0 {
			c.wants.Add(-1)
		}
	}
	c.hub.Release(c)
	return flags, flags&live != 0
}

// remove takes member i out. Others are moved so that each stays in its part: served
// by the delivery at hand, not served yet, or come later than it.
func (x *list) remove(i int) {
	n := len(x.members)
	ends := [3]*int{2: &n}
	if x.during != nil {
		ends[0], ends[1] = &x.from, &x.to
	}
	for _, end := range ends {
		if end == nil || i >= *end {
			continue
		}
		*end--
		if *end != i {
			x.members[i] = x.members[*end]
			x.moved(i)
			i = *end
		}
	}
	x.members = x.members[:n]
	if cap(x.members) > 64 && n < cap(x.members)/4 {
		x.members = append(make([]member, 0, n*2), x.members...)
	}
}

// moved tells the member now at i where it stands.
func (x *list) moved(i int) {
	if cl := x.client(x.members[i].conn); cl != nil {
		cl.settle(x.ch, uint32(i))
	}
}

// client returns whom a handle names.
func (x *list) client(h poller.Handle) *Client {
	pc := conn.Get(x.loop, h)
	if pc == nil {
		return nil
	}
	o, ok := pc.Session().(Owner)
	if !ok {
		return nil
	}
	return o.HubClient()
}
