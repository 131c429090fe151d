// Package hub knows which clients of this node follow which channel, and who they
// are, and carries publications to them.
//
// The members of a channel are kept per event loop, as names of 8 bytes and a byte of
// flags, and only that loop touches them: a publication is posted once to each loop
// that has members, and is written there without a lock, in slices, so that a large
// channel holds up nobody.
package hub

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"roost/proto/client"
)

const shardCount = 64

// Options of a Hub. Both functions may be called by any goroutine.
type Options struct {
	// Follow tells that this node has its first subscriber of a channel. When it has
	// returned, everything published from then on must reach Hub.Publish.
	Follow func(channel string)
	// Unfollow takes one Follow back.
	Unfollow func(channel string)
	// Lost tells that a subscriber has missed publications that cannot be had any
	// more; it is subscribed still. Called on the subscriber's loop.
	Lost func(cl *Client, channel string)
}

// Hub holds the channels and the users of one node.
type Hub struct {
	opts   Options
	seed   maphash.Seed
	ids    atomic.Int64 // numeric channel ids handed out
	shards [shardCount]shard
	users  [shardCount]userShard

	working atomic.Int64 // lists with something under way

	Channels      atomic.Int64 // with a subscriber
	Subscriptions atomic.Int64
	Users         atomic.Int64
	Deliveries    atomic.Uint64
}

type shard struct {
	mu       sync.Mutex
	channels map[string]*Channel

	following sync.Mutex // held while the broker is told; one for each channel would be memory
}

// userShard finds the clients by the hash of their user, which takes less than the name
// would. Should two users ever share one, they share a list of clients, and count as one.
type userShard struct {
	mu    sync.Mutex
	first map[uint64]*Client
}

// New makes an empty hub.
func New(opts Options) *Hub {
	h := &Hub{opts: opts, seed: maphash.MakeSeed()}
	for i := range h.shards {
		h.shards[i].channels = make(map[string]*Channel)
		h.users[i].first = make(map[uint64]*Client)
	}
	return h
}

func (h *Hub) hash(name string) uint64  { return maphash.String(h.seed, name) }
func (h *Hub) shard(name string) *shard { return &h.shards[h.hash(name)%shardCount] }

// user returns the key of a user, and the shard that has it.
func (h *Hub) user(name string) (key uint64, sh *userShard) {
	key = h.hash(name)
	return key, &h.users[key%shardCount]
}

// Acquire returns the channel and counts one more who needs it; Release takes that
// back. It may block while the broker begins to follow the channel.
func (h *Hub) Acquire(name string) *Channel {
	sh := h.shard(name)
	sh.mu.Lock()
	c := sh.channels[name]
	if c == nil {
		name = strings.Clone(name) // it may be a part of a larger buffer, or of one in use again
		c = &Channel{hub: h, name: name, id: h.ids.Add(1)}
		sh.channels[name] = c
		h.Channels.Add(1)
	}
	c.refs++
	sh.mu.Unlock()
	if !c.followed.Load() {
		h.follow(sh, c)
	}
	return c
}

// follow returns when somebody has told the broker of c.
func (h *Hub) follow(sh *shard, c *Channel) {
	sh.following.Lock()
	defer sh.following.Unlock()
	if !c.followed.Load() {
		h.opts.Follow(c.name)
		c.followed.Store(true)
	}
}

// Release gives up what Acquire counted. Any goroutine.
func (h *Hub) Release(c *Channel) {
	sh := h.shard(c.name)
	sh.mu.Lock()
	c.refs--
	last := c.refs == 0
	if last {
		delete(sh.channels, c.name)
		h.Channels.Add(-1)
	}
	sh.mu.Unlock()
	if last {
		h.opts.Unfollow(c.name)
	}
}

// Channel returns the channel if it has subscribers here.
func (h *Hub) Channel(name string) *Channel {
	sh := h.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.channels[name]
}

// Each calls f for every channel and the number of its subscribers here, those about to
// come included, with a lock held on a part of the channels.
func (h *Hub) Each(f func(c *Channel, subscribers int)) {
	for i := range h.shards {
		sh := &h.shards[i]
		sh.mu.Lock()
		for _, c := range sh.channels {
			f(c, int(c.refs))
		}
		sh.mu.Unlock()
	}
}

// Frame is what goes out to the subscribers of a channel.
type Frame struct {
	*client.Frame
	// Offset and Epoch of a publication that has them.
	Offset uint64
	Epoch  string
	Tags   map[string]string
	// Source is the publication it was made of; nil for joins and leaves, which only
	// those get who asked.
	Source any
}

// Add makes cl findable by its user. Not for anonymous clients.
func (h *Hub) Add(cl *Client) {
	if cl.User == "" {
		return
	}
	user, sh := h.user(cl.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	first := sh.first[user]
	if first == nil {
		h.Users.Add(1)
		sh.first[user] = cl
		return
	}
	cl.next, cl.prev = first.next, first
	if first.next != nil {
		first.next.prev = cl
	}
	first.next = cl
}

// Remove undoes Add.
func (h *Hub) Remove(cl *Client) {
	if cl.User == "" {
		return
	}
	user, sh := h.user(cl.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch {
	case cl.prev != nil:
		cl.prev.next = cl.next
	case sh.first[user] != cl:
		return // was never added
	case cl.next == nil:
		delete(sh.first, user)
		h.Users.Add(-1)
	default:
		sh.first[user] = cl.next
	}
	if cl.next != nil {
		cl.next.prev = cl.prev
	}
	cl.next, cl.prev = nil, nil
}

// ByUser returns the clients of a user on this node.
func (h *Hub) ByUser(user string) []*Client {
	if user == "" {
		return nil
	}
	key, sh := h.user(user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var all []*Client
	for cl := sh.first[key]; cl != nil; cl = cl.next {
		if cl.User == user {
			all = append(all, cl)
		}
	}
	return all
}
