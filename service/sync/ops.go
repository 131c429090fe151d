package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"roost/broker"
	"roost/service"
)

// Modes of open.
const (
	modeOpenOrCreate = "open_or_create"
	modeExisting     = "open_existing"
	modeNew          = "create_new"
)

// position is where in its log an object was seen: subscribers recover what came after it.
type position struct {
	Event uint64 `json:"event"`
	Epoch string `json:"epoch"`
}

func (o *object) position() position { return position{o.event, o.epoch} }

// opened is the answer to open, and to get without an item.
type opened struct {
	Object   info            `json:"object"`
	Position position        `json:"position"`
	Channel  string          `json:"channel"`
	Data     json.RawMessage `json:"data,omitempty"`  // of a document
	Count    *int            `json:"count,omitempty"` // of items
	Created  bool            `json:"created,omitempty"`
}

func (o *object) opened(created bool) opened {
	a := opened{Object: o.info(), Position: o.position(), Channel: Channel(o.id), Data: o.data, Created: created}
	if o.kind == kindMap || o.kind == kindList {
		a.Count = new(o.items.count)
	}
	return a
}

// written is the answer to a write.
type written struct {
	position
	Revision uint64 `json:"revision"`
	// Index of the item that was pushed, or the first of them.
	Index     *uint64         `json:"index,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`      // what a merge came to
	Results   []result        `json:"results,omitempty"`   // of a batch, one for each operation
	Duplicate bool            `json:"duplicate,omitempty"` // it had been done before, by its idempotency key
}

type result struct {
	Index *uint64 `json:"index,omitempty"`
}

func (s *Service) open(ctx context.Context, o *object, c *service.Call, p *params) (any, error) {
	switch p.Mode {
	case "", modeOpenOrCreate, modeExisting, modeNew:
	default:
		return nil, failf(CodeInvalid, "mode is %.40q, must be %s, %s or %s", p.Mode, modeOpenOrCreate, modeExisting, modeNew)
	}
	key := idempotency(c, p)
	if o.exists {
		_, mine := o.keys.known[key] // then this is not the first try
		if p.Mode == modeNew && !mine && (p.Name != "" || p.ID != "") {
			return nil, failf(CodeObjectExists, "there is such a %s already", o.kind)
		}
		return o.opened(mine), o.check(c.Caller, toRead)
	}
	if p.Mode == modeExisting || p.ID != "" {
		return nil, unknownObject(o)
	}
	if s.opts.BackendsCreate && !c.Trusted {
		return nil, failf(CodeNoPermission, "there is no such %s, and only backends create objects here", o.kind)
	}
	d := s.draft(o, c.User)
	e, err := d.create(p)
	if err != nil {
		return nil, err
	}
	if e.Object.Restricted && c.User == "" && !c.Trusted {
		return nil, failf(CodeNoPermission, "a restricted object needs a user to own it")
	}
	d.events, d.tells = append(d.events, e), key
	if err := s.commit(ctx, o, d); err != nil {
		return nil, err
	}
	return o.opened(true), nil
}

// create is the first event of an object.
func (d *draft) create(p *params) (e event, err error) {
	i := info{ID: d.o.id, Type: d.o.kind.String(), Name: p.Name, Revision: d.revision, DateCreated: d.now, DateUpdated: d.now,
		CreatedBy: d.caller, Restricted: d.s.opts.Restricted}
	if i.DateExpires, err = p.expiry(d.now, 0); err != nil {
		return e, err
	}
	if p.Restricted != nil {
		i.Restricted = *p.Restricted
	}
	d.expires = i.DateExpires
	e = event{Type: eventCreated, Object: &i}
	switch {
	case d.o.kind != kindDocument && len(p.Data) > 0:
		return e, failf(CodeInvalid, "a %s has items, no data of its own", d.o.kind)
	case len(p.Data) > 0:
		e.Data, err = d.s.value(p.Data, "data")
	case d.o.kind == kindDocument:
		e.Data = json.RawMessage("{}")
	}
	return e, err
}

// idempotency is the key by which a write is known, "" if by none.
func idempotency(c *service.Call, p *params) string {
	switch {
	case p.IdempotencyKey != "":
		return "k" + p.IdempotencyKey
	case c.ID != "":
		return "c" + c.ID
	}
	return ""
}

// write runs a write operation, or a batch of them.
func (s *Service) write(ctx context.Context, o *object, c *service.Call, p *params) (any, error) {
	key := idempotency(c, p)
	if k, ok := o.keys.known[key]; ok {
		if err := o.check(c.Caller, rightOf(c.Op, p)); err != nil {
			return nil, err
		}
		a := &written{position: position{k.event, o.epoch}, Revision: k.revision, Duplicate: p.IdempotencyKey != ""}
		if k.hasIndex {
			a.Index = &k.index
		}
		return a, nil
	}
	if !o.exists {
		return nil, unknownObject(o)
	}
	d, a, err := s.plan(o, c, p)
	if err != nil {
		return nil, err
	}
	d.tells = key
	if err := s.commit(ctx, o, d); err != nil {
		return nil, err
	}
	a.position, a.Revision = o.position(), o.revision
	return a, nil
}

// plan finds out what a write changes. It changes nothing itself.
func (s *Service) plan(o *object, c *service.Call, p *params) (*draft, *written, error) {
	d, a := s.draft(o, c.User), &written{}
	if c.Op != OpBatch && c.Op != OpTry {
		index, err := d.step(c, c.Op, p)
		a.Index = index
		if c.Op == "merge" || c.Op == "map.merge" || c.Op == "list.merge" {
			if err == nil {
				a.Data = d.events[0].Data
			}
		}
		return d, a, err
	}
	if len(p.Operations) == 0 || len(p.Operations) > maxOperations {
		return nil, nil, failf(CodeInvalid, "operations has %d entries, must be 1 to %d", len(p.Operations), maxOperations)
	}
	for i := range p.Operations {
		each := &p.Operations[i]
		index, err := d.step(c, each.Op, each)
		if err == nil {
			err = each.fits(each.Op, true)
		}
		if err == nil && d.removed && len(p.Operations) > 1 {
			err = failf(CodeInvalid, "the deletion of an object must be alone")
		}
		if failed, ok := err.(*service.Error); ok {
			failed.Message = fmt.Sprintf("operation %d of the batch: %s", i, failed.Message)
		}
		if err != nil {
			return nil, nil, err
		}
		a.Results = append(a.Results, result{index})
	}
	return d, a, nil
}

// step runs one operation on the draft. index is that of what it pushed.
func (d *draft) step(c *service.Call, name string, p *params) (index *uint64, err error) {
	op, ok := writes[name]
	switch {
	case !ok:
		return nil, failf(CodeUnknownOp, "there is no operation %.40q to write with", name)
	case strings.IndexByte(op.kinds, byte(d.o.kind)) < 0:
		return nil, failf(CodeWrongType, "%s is not an operation of a %s", name, d.o.kind)
	}
	if err := d.o.check(c.Caller, rightOf(name, p)); err != nil {
		return nil, err
	}
	if name == "list.push" {
		index = new(d.next)
	}
	return index, op.do(d, p)
}

// try tells whether the caller may do a batch, which it does not. What depends on the items there are is not
// held against it: they may be others when it is done.
func (s *Service) try(_ context.Context, o *object, c *service.Call, p *params) (any, error) {
	_, _, err := s.plan(o, c, p)
	var e *service.Error
	if errors.As(err, &e) && slices.Contains([]uint32{CodeUnknownItem, CodeItemExists, CodeWrongRevision, CodeBadIndex, CodeFull}, e.Code) {
		err = nil
	}
	return struct{}{}, err
}

func (s *Service) get(_ context.Context, o *object, c *service.Call, p *params) (any, error) {
	if err := o.check(c.Caller, toRead); err != nil {
		return nil, err
	}
	if p.Key == nil && p.Index == nil {
		return o.opened(false), nil
	}
	key, err := s.draft(o, "").key(p, true)
	if err != nil {
		return nil, err
	}
	return struct {
		Item     shown    `json:"item"`
		Position position `json:"position"`
	}{o.show(o.items.get(key)), o.position()}, nil
}

// shown is an item as callers see it.
type shown struct {
	Key         *string         `json:"key,omitempty"`
	Index       *uint64         `json:"index,omitempty"`
	Data        json.RawMessage `json:"data"`
	Revision    uint64          `json:"revision"`
	DateCreated int64           `json:"date_created"`
	DateUpdated int64           `json:"date_updated"`
	DateExpires int64           `json:"date_expires,omitempty"`
	Actor       string          `json:"actor,omitempty"` // who wrote it last
}

func (o *object) show(i *item) shown {
	v := shown{Data: i.data, Revision: i.revision, DateCreated: i.created, DateUpdated: i.updated, DateExpires: i.expires, Actor: i.actor}
	if o.kind == kindList {
		v.Index = new(keyIndex(i.key))
	} else {
		v.Key = &i.key
	}
	return v
}

// subscribe tells a gateway whether a client may follow the object.
func (s *Service) subscribe(_ context.Context, o *object, c *service.Call, _ *params) (any, error) {
	return struct{}{}, o.check(c.Caller, toRead)
}

// permissions tells who may do what, for those who manage the object.
func (s *Service) permissions(_ context.Context, o *object, c *service.Call, _ *params) (any, error) {
	grants := o.grants
	if !o.allowed(c.Caller, toManage) { // others see their own
		grants = maps.Clone(o.grants)
		maps.DeleteFunc(grants, func(identity string, _ grant) bool {
			return identity != everyone && (identity != c.User || c.User == "")
		})
	}
	if grants == nil {
		grants = map[string]grant{}
	}
	return struct {
		Restricted  bool             `json:"restricted"`
		CreatedBy   string           `json:"created_by,omitempty"`
		Permissions map[string]grant `json:"permissions"`
		Yours       grant            `json:"yours"`
	}{o.restricted, o.creator, grants,
		grant{o.allowed(c.Caller, toRead), o.allowed(c.Caller, toWrite), o.allowed(c.Caller, toManage)}}, nil
}

// publish sends a message of a stream, which is not kept.
func (s *Service) publish(ctx context.Context, o *object, c *service.Call, p *params) (any, error) {
	if o.kind != kindStream {
		return nil, failf(CodeWrongType, "stream.publish is not an operation of a %s", o.kind)
	}
	if err := o.check(c.Caller, toWrite); err != nil {
		return nil, err
	}
	data, err := s.value(p.Data, "data")
	if err != nil {
		return nil, err
	}
	m := commit{event: event{Type: eventMessage, Data: data, Actor: c.User, Date: s.now().UnixMilli()}}
	pub, err := m.encode()
	if err == nil {
		_, _, err = s.b.Publish(ctx, Channel(o.id), pub, broker.PublishOptions{})
	}
	return struct{}{}, err
}
