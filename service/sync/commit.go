package sync

import (
	"encoding/json"
	"errors"
	"strconv"

	"roost/broker"
	"roost/service"
)

// Types of events.
const (
	eventCreated     = "created"
	eventUpdated     = "updated"
	eventItemAdded   = "item_added"
	eventItemUpdated = "item_updated"
	eventItemRemoved = "item_removed"
	eventTTL         = "ttl"    // the object or an item goes at another time
	eventAccess      = "access" // somebody may do more or less
	eventRemoved     = "removed"
	eventMessage     = "message" // of a stream: it has no id and is not kept
	eventBatch       = "batch"   // several, all at once
)

// Reasons why something was removed.
const (
	reasonUser = "user"
	reasonTTL  = "ttl"
)

// event is what subscribers get, and with its note what an object is rebuilt from. Its id is the offset of its publication.
type event struct {
	Type        string          `json:"type"`
	Object      *info           `json:"object,omitempty"` // created
	Key         *string         `json:"key,omitempty"`
	Index       *uint64         `json:"index,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
	Previous    json.RawMessage `json:"previous,omitempty"`
	Revision    uint64          `json:"revision,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	DateExpires int64           `json:"date_expires,omitempty"`
	Actor       string          `json:"actor,omitempty"`
	Date        int64           `json:"date,omitempty"`
	Events      []event         `json:"events,omitempty"` // batch
}

// note is the part of a commit that subscribers do not get.
type note struct {
	Key    string  `json:"k,omitempty"` // of idempotency
	Access *access `json:"a,omitempty"`
}

// access is who may do what, all of it.
type access struct {
	Restricted bool             `json:"r,omitempty"`
	Grants     map[string]grant `json:"g,omitempty"`
}

// commit is one record of the log: one event, or several that happen at once.
type commit struct {
	event
	note
}

// itemKey returns the key of the item that an event is about, "" if it is about the object.
func (e *event) itemKey() string {
	switch {
	case e.Key != nil:
		return *e.Key
	case e.Index != nil:
		return indexKey(*e.Index)
	}
	return ""
}

// append encodes an event as JSON; json.Marshal would take several times as long.
func (e *event) append(dst []byte) ([]byte, error) {
	dst = append(append(append(dst, `{"type":"`...), e.Type...), '"')
	if e.Object != nil {
		b, err := service.Marshal(e.Object)
		if err != nil {
			return nil, err
		}
		dst = append(append(dst, `,"object":`...), b...)
	}
	var err error
	if e.Key != nil {
		if dst, err = appendString(append(dst, `,"key":`...), *e.Key); err != nil {
			return nil, err
		}
	}
	if e.Index != nil {
		dst = strconv.AppendUint(append(dst, `,"index":`...), *e.Index, 10)
	}
	if e.Data != nil {
		dst = append(append(dst, `,"data":`...), e.Data...)
	}
	if e.Previous != nil {
		dst = append(append(dst, `,"previous":`...), e.Previous...)
	}
	if e.Revision != 0 {
		dst = strconv.AppendUint(append(dst, `,"revision":`...), e.Revision, 10)
	}
	if e.Reason != "" {
		dst = append(append(append(dst, `,"reason":"`...), e.Reason...), '"')
	}
	if e.DateExpires != 0 {
		dst = strconv.AppendInt(append(dst, `,"date_expires":`...), e.DateExpires, 10)
	}
	if e.Actor != "" {
		if dst, err = appendString(append(dst, `,"actor":`...), e.Actor); err != nil {
			return nil, err
		}
	}
	if e.Date != 0 {
		dst = strconv.AppendInt(append(dst, `,"date":`...), e.Date, 10)
	}
	for i := range e.Events {
		sep := byte(',')
		if i == 0 {
			dst, sep = append(dst, `,"events":`...), '['
		}
		if dst, err = e.Events[i].append(append(dst, sep)); err != nil {
			return nil, err
		}
	}
	if len(e.Events) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}'), nil
}

// appendString appends a JSON string.
func appendString(dst []byte, s string) ([]byte, error) {
	b, err := service.Marshal(s)
	return append(dst, b...), err
}

// encode returns what is published.
func (c *commit) encode() (pub broker.Publication, err error) {
	if pub.Data, err = c.event.append(nil); err != nil {
		return pub, err
	}
	if c.note != (note{}) {
		pub.Note, err = service.Marshal(&c.note)
	}
	pub.Time = c.Date
	// Deltas pay where much stays the same.
	pub.Delta = c.Type == eventUpdated && len(c.Data) > 256
	return pub, err
}

func decodeCommit(pub *broker.Publication) (*commit, error) {
	c := new(commit)
	if err := json.Unmarshal(pub.Data, &c.event); err != nil {
		return nil, err
	}
	for i := -1; i < len(c.Events); i++ {
		e := &c.event
		if i >= 0 {
			e = &c.Events[i]
		}
		if e.Type == eventCreated && e.Object == nil {
			return nil, errors.New("an object is created that is not described")
		}
	}
	if len(pub.Note) > 0 {
		if err := json.Unmarshal(pub.Note, &c.note); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// apply makes a commit part of the object.
func (o *object) apply(c *commit, at broker.Position) {
	o.event, o.epoch = at.Offset, at.Epoch
	if c.Type == eventBatch {
		for i := range c.Events {
			o.applyEvent(&c.Events[i], &c.event)
		}
	} else {
		o.applyEvent(&c.event, &c.event)
	}
	if a := c.Access; a != nil {
		o.restricted, o.grants = a.Restricted, a.Grants
	}
	if c.note.Key != "" {
		d := done{event: o.event, revision: o.revision}
		first := &c.event
		if len(c.Events) > 0 {
			first = &c.Events[0]
		}
		if first.Index != nil {
			d.index, d.hasIndex = *first.Index, true
		}
		o.keys.add(c.note.Key, d)
	}
}

// applyEvent makes one event part of the object; of says who caused it, and when.
func (o *object) applyEvent(e, of *event) {
	if e.Revision != 0 {
		o.revision, o.updated = e.Revision, of.Date
	}
	switch e.Type {
	case eventCreated:
		o.clear()
		o.exists, o.name, o.creator = true, e.Object.Name, e.Object.CreatedBy
		o.created, o.updated, o.expires = of.Date, of.Date, e.Object.DateExpires
		o.revision, o.restricted, o.data = e.Object.Revision, e.Object.Restricted, e.Data
	case eventUpdated:
		o.data, o.expires = e.Data, e.DateExpires
	case eventItemAdded, eventItemUpdated:
		key := e.itemKey()
		i := &item{key: key, data: e.Data, revision: e.Revision, created: of.Date, updated: of.Date, expires: e.DateExpires, actor: of.Actor}
		if old := o.items.get(key); old != nil && e.Type == eventItemUpdated {
			i.created = old.created
		}
		o.put(i)
		if e.Index != nil {
			o.next = max(o.next, *e.Index+1)
		}
	case eventItemRemoved:
		o.items.remove(e.itemKey())
	case eventTTL:
		if key := e.itemKey(); key == "" {
			o.expires = e.DateExpires
		} else if old := o.items.get(key); old != nil {
			i := *old
			i.expires = e.DateExpires
			o.put(&i)
		}
	case eventRemoved:
		o.clear()
	}
}
