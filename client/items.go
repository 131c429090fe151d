package client

import (
	"context"
	"encoding/json"
)

// Item is an entry of a map, which has a key, or of a list, which has an index.
type Item struct {
	Key         string          `json:"key"`
	Index       uint64          `json:"index"`
	Data        json.RawMessage `json:"data"`
	Revision    uint64          `json:"revision"`     // of the object, when it was written last
	DateUpdated int64           `json:"date_updated"` // Unix milliseconds
	DateExpires int64           `json:"date_expires"` // 0: never
	Actor       string          `json:"actor"`        // who wrote it last
}

// Items is what maps and lists have in common; K is what names an item.
type Items[K string | uint64] struct{ *Object }

// Map is JSON values by key.
type Map struct{ Items[string] }

// Map opens a map, or creates it. Without a name it is a new one.
func (c *Client) Map(ctx context.Context, name string, o Open) (*Map, error) {
	x, err := c.open(ctx, "map", name, &o)
	if err != nil {
		return nil, err
	}
	return &Map{Items[string]{x}}, nil
}

// List is JSON values by index, which the service assigns.
type List struct{ Items[uint64] }

// List opens a list, or creates it. Without a name it is a new one.
func (c *Client) List(ctx context.Context, name string, o Open) (*List, error) {
	x, err := c.open(ctx, "list", name, &o)
	if err != nil {
		return nil, err
	}
	return &List{Items[uint64]{x}}, nil
}

// about begins the parameters of an operation on an item.
func (x Items[K]) about(key K) map[string]any {
	if _, ok := any(key).(string); ok {
		return map[string]any{"key": key}
	}
	return map[string]any{"index": key}
}

// Get reads an item; nil is one that is not there.
func (x Items[K]) Get(ctx context.Context, key K) (*Item, error) {
	var a struct{ Item Item }
	err := x.read(ctx, "get", x.about(key), &a)
	if code := codeOf(err); code == CodeUnknownItem || code == CodeBadIndex {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &a.Item, nil
}

// Set sets an item, which in a list must be there.
func (x Items[K]) Set(ctx context.Context, key K, data any, w Write) (Written, error) {
	p := x.about(key)
	p["data"] = data
	return x.write(ctx, "set", p, w)
}

// Merge sets members of an item that is an object; null takes one away.
func (x Items[K]) Merge(ctx context.Context, key K, data any, w Write) (Written, error) {
	p := x.about(key)
	p["data"] = data
	return x.write(ctx, "merge", p, w)
}

// Delete removes an item. Of w it takes IfRevision and the Key.
func (x Items[K]) Delete(ctx context.Context, key K, w Write) (Written, error) {
	return x.write(ctx, "delete", x.about(key), w)
}

// SetItemTTL says in how many seconds an item is removed, Forever for never. Of w it takes the Key.
func (x Items[K]) SetItemTTL(ctx context.Context, key K, ttl int64, w Write) (Written, error) {
	w.TTL = ttl
	return x.write(ctx, "set_ttl", x.about(key), w)
}

// Mutate replaces an item by what change makes of it, nil if it is not there; it is called again if somebody
// else writes meanwhile. Its errors are returned.
func (x Items[K]) Mutate(ctx context.Context, key K, change func(json.RawMessage) (any, error)) (Written, error) {
	for {
		item, err := x.Get(ctx, key)
		if err != nil {
			return Written{}, err
		}
		old, w := json.RawMessage(nil), Write{Absent: true}
		if item != nil {
			old, w = item.Data, Write{IfRevision: item.Revision}
		}
		next, err := change(old)
		if err != nil {
			return Written{}, err
		}
		r, err := x.Set(ctx, key, next, w)
		if codeOf(err) != CodeWrongRevision {
			return r, err
		}
	}
}

// Insert adds an item; CodeItemExists if it is there. Of w it takes the TTL and the Key.
func (m *Map) Insert(ctx context.Context, key string, data any, w Write) (Written, error) {
	return m.write(ctx, "map.insert", map[string]any{"key": key, "data": data}, w)
}

// Push adds items to the end, at most 100; Written.Index is that of the first.
func (l *List) Push(ctx context.Context, w Write, items ...any) (Written, error) {
	return l.write(ctx, "list.push", map[string]any{"items": items}, w)
}
