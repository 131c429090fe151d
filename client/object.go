package client

import "context"

// Object is what documents, maps, lists and streams have in common. Its methods may be called by any goroutine.
// Errors are *Error, the context's, or centrifuge.ErrClientClosed.
type Object struct {
	// Static after opening.
	log  *log
	tell func(Event)
}

// ID returns the object's id.
func (x *Object) ID() string { return x.log.id }

// Name returns the object's name, empty if it has none.
func (x *Object) Name() string { return x.log.name }

// Revision goes up by one with each write to the object; this is that of the last event.
func (x *Object) Revision() uint64 {
	x.log.mu.Lock()
	defer x.log.mu.Unlock()
	return x.log.revision
}

// Close ends following the object, for this opening of it. Further calls do nothing.
func (x *Object) Close() { x.log.c.leave(x) }

// write does a write operation, in its turn.
func (x *Object) write(ctx context.Context, op string, p map[string]any, w Write) (r Written, err error) {
	p["id"] = x.log.id
	p = w.params(p)
	select {
	case x.log.turn <- struct{}{}:
	case <-ctx.Done():
		return r, ctx.Err()
	}
	defer func() { <-x.log.turn }()
	return r, x.log.c.call(ctx, op, p, &r, false)
}

// read does an operation that may be done twice.
func (x *Object) read(ctx context.Context, op string, p map[string]any, result any) error {
	p["id"] = x.log.id
	return x.log.c.call(ctx, op, p, result, false)
}

// Operation is one of a batch, such as {"op": "map.set", "key": "k", "data": 1}; docs/sync.md has them all.
type Operation map[string]any

// Batch does several write operations at once: all, or none. Of w it takes the Key.
func (x *Object) Batch(ctx context.Context, w Write, all ...Operation) (Written, error) {
	return x.write(ctx, "batch", map[string]any{"operations": all}, w)
}

// OnDisconnect has write operations done when this connection ends, in the place of those it asked for before; none
// withdraws them. After a reconnect the service knows of none: ask again when Centrifuge says that it is connected.
func (x *Object) OnDisconnect(ctx context.Context, all ...Operation) error {
	return x.read(ctx, "on_disconnect", map[string]any{"operations": all}, nil)
}

// Remove removes the object. Of w it takes IfRevision and the Key.
func (x *Object) Remove(ctx context.Context, w Write) (Written, error) {
	return x.write(ctx, "delete", map[string]any{}, w)
}

// SetTTL says in how many seconds the object is removed, Forever for never. Of w it takes the Key.
func (x *Object) SetTTL(ctx context.Context, ttl int64, w Write) (Written, error) {
	w.TTL = ttl
	return x.write(ctx, "set_ttl", map[string]any{}, w)
}

// Grant is what an identity may do.
type Grant struct {
	Read   bool `json:"read,omitempty"`
	Write  bool `json:"write,omitempty"`
	Manage bool `json:"manage,omitempty"`
}

// Grant says what a user may do, * is everyone, in the place of what was said before. Of w it takes the Key.
func (x *Object) Grant(ctx context.Context, identity string, g Grant, w Write) (Written, error) {
	return x.write(ctx, "grant", map[string]any{"identity": identity, "read": g.Read, "write": g.Write, "manage": g.Manage}, w)
}

// Revoke takes from a user what it was granted. Of w it takes the Key.
func (x *Object) Revoke(ctx context.Context, identity string, w Write) (Written, error) {
	return x.write(ctx, "revoke", map[string]any{"identity": identity}, w)
}

// Restrict turns permissions on or off. Of w it takes the Key.
func (x *Object) Restrict(ctx context.Context, on bool, w Write) (Written, error) {
	return x.write(ctx, "restrict", map[string]any{"restricted": on}, w)
}

// Permissions are who may do what with an object.
type Permissions struct {
	Restricted  bool             `json:"restricted"`
	CreatedBy   string           `json:"created_by"`
	Permissions map[string]Grant `json:"permissions"` // of others only for those who manage it
	Yours       Grant            `json:"yours"`
}

// Permissions reads who may do what.
func (x *Object) Permissions(ctx context.Context) (p Permissions, err error) {
	return p, x.read(ctx, "permissions", map[string]any{}, &p)
}
