package sync

import (
	"container/heap"
	"slices"
)

// object is the state of one object: what its log amounts to. Of whoever has the turn of its cell.
type object struct {
	id    string
	kind  kind
	event uint64 // the last event; 0: there never was one
	epoch string

	exists     bool
	name       string
	creator    string // "" is nobody
	revision   uint64
	created    int64 // Unix ms, as the others
	updated    int64
	expires    int64 // 0: never
	restricted bool
	grants     map[string]grant // by identity
	data       []byte           // of a document
	items      items
	next       uint64 // index of a list
	expiring   expiries
	keys       keyRing

	root     uint64   // event up to which the root page tells all; 0: there is none
	rootSeq  uint64   // of the root page, where that is known
	rootRead bool     // it is
	pages    []string // that the root page names
}

// grant is what an identity may do with a restricted object.
type grant struct {
	Read   bool `json:"read,omitempty"`
	Write  bool `json:"write,omitempty"`
	Manage bool `json:"manage,omitempty"`
}

// info is an object as callers see it.
type info struct {
	ID          string `json:"id"`
	Type        string `json:"type"`
	Name        string `json:"name,omitempty"`
	Revision    uint64 `json:"revision"`
	DateCreated int64  `json:"date_created"`
	DateUpdated int64  `json:"date_updated"`
	DateExpires int64  `json:"date_expires,omitempty"`
	CreatedBy   string `json:"created_by,omitempty"`
	Restricted  bool   `json:"restricted,omitempty"`
}

func (o *object) info() info {
	return info{o.id, o.kind.String(), o.name, o.revision, o.created, o.updated, o.expires, o.creator, o.restricted}
}

// clear takes away what an object has, but for its place in the log.
func (o *object) clear() {
	*o = object{id: o.id, kind: o.kind, event: o.event, epoch: o.epoch, revision: o.revision, keys: o.keys,
		root: o.root, rootSeq: o.rootSeq, rootRead: o.rootRead, pages: o.pages}
}

// nextExpiry is when the object or the first of its items expires; 0 is never.
func (o *object) nextExpiry() int64 {
	at := o.expires
	if i := o.firstExpiring(); i != nil && (at == 0 || i.expires < at) {
		at = i.expires
	}
	return at
}

// firstExpiring returns the item that expires first, or nil.
func (o *object) firstExpiring() *item {
	for len(o.expiring) > 0 {
		first := o.expiring[0]
		if i := o.items.get(first.key); i != nil && i.expires == first.at {
			return i
		}
		heap.Pop(&o.expiring) // it was written since, or has gone
	}
	return nil
}

// put makes an item part of the object.
func (o *object) put(i *item) {
	o.items.put(i)
	if i.expires != 0 {
		heap.Push(&o.expiring, expiry{i.expires, i.key})
	}
}

// expiry is when an item goes.
type expiry struct {
	at  int64
	key string
}

// expiries is a heap; what it says of items that were written since does not hold.
type expiries []expiry

func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].at < e[j].at }
func (e expiries) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *expiries) Push(v any)        { *e = append(*e, v.(expiry)) }
func (e *expiries) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// keysKept is how many idempotency keys of an object are known.
const keysKept = 1024

// keyRing are the last idempotency keys.
type keyRing struct {
	known map[string]done
	order []string
}

// done is what a write with a key did.
type done struct {
	event, revision uint64
	index           uint64 // of the first item
	hasIndex        bool
}

func (r *keyRing) add(key string, d done) {
	if r.known == nil {
		r.known = make(map[string]done)
	}
	if _, ok := r.known[key]; !ok {
		r.order = append(r.order, key)
	}
	r.known[key] = d
	if len(r.order) > keysKept {
		delete(r.known, r.order[0])
		r.order = slices.Delete(r.order, 0, 1)
	}
}
