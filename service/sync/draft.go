package sync

import (
	"encoding/json"
	"maps"
)

// draft is a commit while it is made: the object as it is, and what the operations so far have changed.
// The object itself changes when the commit is stored.
type draft struct {
	s      *Service
	o      *object
	caller string // who acts
	now    int64  // Unix ms
	events []event

	revision uint64 // of what this commit changes
	data     []byte
	expires  int64
	items    map[string]*item // that it changes; nil is one that goes
	count    int
	next     uint64
	removed  bool
	access   *access
	tells    string // key of idempotency
}

func (s *Service) draft(o *object, actor string) *draft {
	return &draft{
		s: s, o: o, caller: actor, now: s.now().UnixMilli(), revision: o.revision + 1,
		data: o.data, expires: o.expires, count: o.items.count, next: o.next,
	}
}

// commit returns what the operations come to.
func (d *draft) commit() *commit {
	c := &commit{}
	if len(d.events) == 1 {
		c.event = d.events[0]
	} else {
		c.event = event{Type: eventBatch, Events: d.events}
	}
	c.Actor, c.Date = d.caller, d.now
	c.note = note{Key: d.tells, Access: d.access}
	return c
}

func (d *draft) item(key string) *item {
	if i, ok := d.items[key]; ok {
		return i
	}
	return d.o.items.get(key)
}

func (d *draft) change(key string, i *item) {
	if d.items == nil {
		d.items = make(map[string]*item)
	}
	d.items[key] = i
}

// about begins an event about an item.
func (d *draft) about(kind, key string) event {
	e := event{Type: kind, Revision: d.revision}
	if d.o.kind == kindList {
		e.Index = new(keyIndex(key))
	} else {
		e.Key = &key
	}
	return e
}

// putItem sets an item, or adds it.
func (d *draft) putItem(p *params, key string, data json.RawMessage) error {
	old := d.item(key)
	e := d.about(eventItemAdded, key)
	e.Data = data
	var expires int64
	if old != nil {
		e.Type, e.Previous, expires = eventItemUpdated, old.data, old.expires
	} else if d.count++; d.count > d.s.opts.MaxItems {
		return failf(CodeFull, "the %s has %d items, at most %d are allowed", d.o.kind, d.o.items.count, d.s.opts.MaxItems)
	}
	var err error
	if e.DateExpires, err = p.expiry(d.now, expires); err != nil {
		return err
	}
	d.change(key, &item{key: key, data: data, revision: d.revision, expires: e.DateExpires})
	d.events = append(d.events, e)
	return nil
}

func (d *draft) removeItem(key, reason string) {
	old := d.item(key)
	e := d.about(eventItemRemoved, key)
	e.Previous, e.Reason = old.data, reason
	d.change(key, nil)
	d.count--
	d.events = append(d.events, e)
}

// setData sets a document.
func (d *draft) setData(p *params, data json.RawMessage) error {
	expires, err := p.expiry(d.now, d.expires)
	if err != nil {
		return err
	}
	d.events = append(d.events, event{Type: eventUpdated, Data: data, Previous: d.data, Revision: d.revision, DateExpires: expires})
	d.data, d.expires = data, expires
	return nil
}

func (d *draft) remove(reason string) {
	d.events = append(d.events, event{Type: eventRemoved, Reason: reason, Revision: d.revision})
	d.removed = true
}

// accessNow returns who may do what, to be changed.
func (d *draft) accessNow() *access {
	if d.access == nil {
		d.access = &access{Restricted: d.o.restricted, Grants: maps.Clone(d.o.grants)}
		if d.access.Grants == nil {
			d.access.Grants = map[string]grant{}
		}
	}
	return d.access
}

// nextExpiry is when the first thing expires that this commit makes; 0 is never.
func (d *draft) nextExpiry() int64 {
	at := d.expires
	if d.removed {
		return 0
	}
	for _, i := range d.items {
		if i != nil && i.expires != 0 && (at == 0 || i.expires < at) {
			at = i.expires
		}
	}
	return at
}

// expectItem checks if_revision against an item; 0 is one that is not there.
func expectItem(p *params, i *item) error {
	var is uint64
	if i != nil {
		is = i.revision
	}
	return p.expect(is)
}

func (p *params) expect(is uint64) error {
	if p.IfRevision != nil && *p.IfRevision != is {
		return wrongRevision(*p.IfRevision, is)
	}
	return nil
}
