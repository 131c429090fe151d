package hub

import (
	"sync"

	"roost/conn"
)

// Client is what the hub knows of one client. It is meant to be embedded.
type Client struct {
	// Static after it was given to the hub.
	Conn *conn.Conn
	User string

	// Guarded by the hub's lock of that user.
	next, prev *Client

	// Mu guards the subscriptions and what an embedder puts under it. It is held
	// briefly, and no other lock is taken meanwhile.
	Mu   sync.Mutex
	subs []sub
}

// Flags of a subscription.
type Flags uint16

const (
	Protobuf   Flags = 1 << iota // frames in Protobuf, else JSON
	ByID                         // pushes carry the numeric id, not the name
	Delta                        // deltas were agreed
	deltaReady                   // has the publication deltas are made against
	JoinLeave                    // wants joins and leaves
	Filtered                     // publications pass a filter, see Filterer
	ServerSide                   // subscribed by the server
	Positioned                   // must not miss a publication unnoticed
	Presence                     // is listed in presence
	Announce                     // its coming and going is told to others
	live                         // is a member of the channel's list
)

// sub is one subscription of a client.
type sub struct {
	ch    *Channel
	at    uint32 // index in the channel's list on the client's loop, if live
	flags Flags
}

// Filterer is implemented by sessions whose subscriptions may be Filtered.
type Filterer interface {
	Wants(ch *Channel, tags map[string]string) bool
}

// Owner is implemented by what conn.Conn.Session returns.
type Owner interface{ HubClient() *Client }

// Reserved is the answer of Reserve.
type Reserved uint8

// Answers.
const (
	ReservedNow    Reserved = iota
	ReservedBefore          // it is subscribed, or about to be
	ReservedNot             // has as many as it may
	ReservedGone            // the client has ended
)

// Reserve notes that a subscription to ch is under way. Any goroutine.
func (cl *Client) Reserve(ch *Channel, flags Flags, max int) Reserved {
	cl.Mu.Lock()
	defer cl.Mu.Unlock()
	switch {
	case cl.find(nil) >= 0:
		return ReservedGone
	case cl.find(ch) >= 0:
		return ReservedBefore
	case len(cl.subs) >= max:
		return ReservedNot
	}
	if cl.subs == nil {
		cl.subs = make([]sub, 0, 1) // one is by far the most frequent count
	}
	cl.subs = append(cl.subs, sub{ch: ch, flags: flags &^ live})
	return ReservedNow
}

// End refuses further subscriptions and returns the channels of those there are. An
// entry without a channel stands for it, so that no client pays for a flag.
func (cl *Client) End() []*Channel {
	cl.Mu.Lock()
	defer cl.Mu.Unlock()
	if cl.find(nil) >= 0 {
		return nil
	}
	var all []*Channel
	for _, s := range cl.subs {
		all = append(all, s.ch)
	}
	cl.subs = append(cl.subs, sub{})
	return all
}

// find returns the index of the subscription to ch, or -1; under Mu.
func (cl *Client) find(ch *Channel) int {
	for i := range cl.subs {
		if cl.subs[i].ch == ch {
			return i
		}
	}
	return -1
}

// Subscription returns the channel of that name if cl follows it. Any goroutine.
func (cl *Client) Subscription(name string) (ch *Channel, flags Flags, isLive bool) {
	cl.Mu.Lock()
	defer cl.Mu.Unlock()
	for _, s := range cl.subs {
		if s.ch != nil && s.ch.name == name {
			return s.ch, s.flags, s.flags&live != 0
		}
	}
	return nil, 0, false
}

// Subscriptions calls f for a copy of all live subscriptions. Any goroutine.
func (cl *Client) Subscriptions(f func(ch *Channel, flags Flags)) {
	cl.Mu.Lock()
	all := append([]sub(nil), cl.subs...)
	cl.Mu.Unlock()
	for _, s := range all {
		if s.flags&live != 0 {
			f(s.ch, s.flags)
		}
	}
}

// drop takes the subscription out of the client; it returns where it stood in the
// list, if it was live.
func (cl *Client) drop(ch *Channel) (at uint32, flags Flags, ok bool) {
	cl.Mu.Lock()
	defer cl.Mu.Unlock()
	i := cl.find(ch)
	if i < 0 {
		return 0, 0, false
	}
	s := cl.subs[i]
	last := len(cl.subs) - 1
	cl.subs[i] = cl.subs[last]
	cl.subs[last] = sub{}
	cl.subs = cl.subs[:last]
	if last == 0 {
		cl.subs = nil
	}
	return s.at, s.flags, true
}

// settle notes where the client now stands in the list of ch.
func (cl *Client) settle(ch *Channel, at uint32) (ok bool) {
	cl.Mu.Lock()
	defer cl.Mu.Unlock()
	i := cl.find(ch)
	if i < 0 {
		return false
	}
	cl.subs[i].at = at
	cl.subs[i].flags |= live
	return true
}
