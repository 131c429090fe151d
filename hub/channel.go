package hub

import (
	"sync"

	"roost/conn"
	"roost/poller"
)

// Channel is a channel that has subscribers on this node.
type Channel struct {
	// Static.
	hub      *Hub
	name     string
	id       int64
	followed sync.Once

	refs int32 // guarded by the lock of the hub's shard

	// Guarded by mu.
	mu     sync.Mutex
	known  bool // the position below is
	offset uint64
	epoch  string
	last   []byte  // data of the latest publication where deltas may be wanted
	lists  []*list // one for each loop with members
}

// Name returns the channel's name.
func (c *Channel) Name() string { return c.name }

// ID returns the number that stands for the name on this node.
func (c *Channel) ID() int64 { return c.id }

// Position returns how far this node has come, if it knows.
func (c *Channel) Position() (offset uint64, epoch string, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset, c.epoch, c.known
}

// list is the members of a channel on one loop. Only that loop's goroutine uses it.
type list struct {
	ch      *Channel
	loop    *poller.Loop
	members []member

	// Position of the latest publication whose delivery has begun.
	known  bool
	offset uint64
	epoch  string

	// What was delivered while subscribers read the history: they get it from here.
	waiting int
	recent  []*Frame

	// Publications to deliver; the first one has reached [0,from), goes up to to, and
	// those behind came later than it.
	queue    []*Frame
	from, to int
}

type member struct {
	conn  poller.Handle
	flags Flags
}

// on returns the channel's list on a loop.
func (c *Channel) on(l *poller.Loop, create bool) *list {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.lists {
		if x.loop == l {
			return x
		}
	}
	if !create {
		return nil
	}
	x := &list{ch: c, loop: l, known: c.known, offset: c.offset, epoch: c.epoch}
	c.lists = append(c.lists, x)
	return x
}

// tidy gives an empty list up.
func (x *list) tidy() {
	if len(x.members) > 0 || x.waiting > 0 || len(x.queue) > 0 {
		return
	}
	c := x.ch
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, y := range c.lists {
		if y == x {
			c.lists = append(c.lists[:i], c.lists[i+1:]...)
			break
		}
	}
	if len(c.lists) == 0 {
		c.lists = nil
	}
}

// recentMax bounds what is kept for subscribers that read the history.
const recentMax = 4096

// Wait begins to keep what is delivered on the loop, for a subscriber that now reads
// the history and will call Join or Quit. Loop goroutine only.
func (c *Channel) Wait(l *poller.Loop) { c.on(l, true).waiting++ }

// Quit ends Wait without joining. Loop goroutine only.
func (c *Channel) Quit(l *poller.Loop) {
	if x := c.on(l, false); x != nil {
		x.quit()
		x.tidy()
	}
}

func (x *list) quit() {
	x.waiting--
	if x.waiting == 0 {
		x.recent = nil
	}
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
// the caller has read after Wait. It fails where publications between that and the
// deliveries are missing, or the client is Positioned and no position is known: then
// the history must be read again. Loop goroutine only; the subscription must have been
// reserved.
func (c *Channel) Join(cl *Client, flags Flags, history *Position) (j Joined, ok bool) {
	l := cl.Conn.Loop()
	x := c.on(l, true)
	if history != nil {
		if j, ok = x.bridge(history); !ok {
			x.quit()
			x.tidy()
			return j, false
		}
		x.quit()
	} else if flags&Positioned != 0 && !x.known {
		x.tidy()
		return j, false
	} else {
		j.Offset, j.Epoch = x.offset, x.epoch
	}
	if !cl.settle(c, uint32(len(x.members))) { // given up meanwhile
		x.tidy()
		return j, true
	}
	x.members = append(x.members, member{conn: cl.Conn.Handle(), flags: flags})
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
	if !x.known {
		c := x.ch
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.known && (c.epoch != h.Epoch || c.offset > h.Offset) {
			return j, false // somebody knew better; this loop has not delivered that
		}
		if !c.known {
			c.known, c.offset, c.epoch = true, h.Offset, h.Epoch
		}
		x.known, x.offset, x.epoch = true, h.Offset, h.Epoch
	}
	j.Offset, j.Epoch = x.offset, x.epoch
	if x.epoch != h.Epoch {
		return j, false
	}
	if h.Offset >= x.offset {
		return j, true
	}
	for i, f := range x.recent {
		if f.Offset == h.Offset+1 {
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
	}
	c.hub.Release(c)
	return flags, flags&live != 0
}

// remove takes member i out. Others are moved so that each stays in its part: served
// by the delivery at hand, not served yet, or come later than it.
func (x *list) remove(i int) {
	n := len(x.members)
	for _, end := range []*int{&x.from, &x.to, &n} {
		if i >= *end {
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
