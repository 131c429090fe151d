package client

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
)

// Document is one JSON value.
type Document struct{ *Object }

// Document opens a document, or creates it. Without a name it is a new one. Errors: *Error, ctx's.
func (c *Client) Document(ctx context.Context, name string, o Open) (*Document, error) {
	x, err := c.open(ctx, "document", name, o)
	return &Document{x}, err
}

// Data returns the value as of the last event, which must not be changed.
func (d *Document) Data() json.RawMessage {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.data
}

// Set replaces the value.
func (d *Document) Set(ctx context.Context, data any, w Write) (Written, error) {
	return d.write(ctx, "set", map[string]any{"data": data}, w)
}

// Merge sets members of a value that is an object; null takes one away.
func (d *Document) Merge(ctx context.Context, data any, w Write) (Written, error) {
	return d.write(ctx, "merge", map[string]any{"data": data}, w)
}

// Mutate replaces the value by what change makes of it, which is called again if somebody else writes meanwhile.
func (d *Document) Mutate(ctx context.Context, change func(json.RawMessage) (any, error)) (Written, error) {
	d.mu.Lock()
	data, revision := d.data, d.revision
	d.mu.Unlock()
	for {
		next, err := change(data)
		if err != nil {
			return Written{}, err
		}
		r, err := d.Set(ctx, next, Write{IfRevision: revision})
		var no *Error
		if !errors.As(err, &no) || no.Code != CodeWrongRevision {
			return r, err
		}
		var a opened
		if err := d.read(ctx, "get", map[string]any{}, &a); err != nil {
			return r, err
		}
		data, revision = a.Data, a.Object.Revision
	}
}

// Revision is a document as it was.
type Revision struct {
	Revision uint64          `json:"revision"`
	Data     json.RawMessage `json:"data"`
	Date     int64           `json:"date"` // Unix milliseconds
	Actor    string          `json:"actor"`
}

// History reads what the document was, the latest first: at most 100.
func (d *Document) History(ctx context.Context, limit int) ([]Revision, error) {
	var a struct{ Revisions []Revision }
	return a.Revisions, d.read(ctx, "history", map[string]any{"limit": limit}, &a)
}

// Stream is messages to whoever follows it at the moment.
type Stream struct{ *Object }

// Stream opens a stream, or creates it.
func (c *Client) Stream(ctx context.Context, name string, o Open) (*Stream, error) {
	x, err := c.open(ctx, "stream", name, o)
	return &Stream{x}, err
}

// Publish sends a message, at most once.
func (s *Stream) Publish(ctx context.Context, data any) error {
	return s.c.call(ctx, "stream.publish", map[string]any{"id": s.id, "data": data}, nil, true)
}

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

// Query says which items are wanted, in which order.
type Query struct {
	Descending bool
	From       any  // a key or an index
	Exclusive  bool // From itself is not wanted
	Limit      int  // of a page: 100 by default, at most 1,000
}

// Page is a part of what a query is about. Cursor is empty behind the last.
type Page struct {
	Items  []Item
	Cursor string
}

func (x *Object) item(ctx context.Context, p map[string]any) (*Item, error) {
	var a struct{ Item Item }
	err := x.read(ctx, "get", p, &a)
	var no *Error
	if errors.As(err, &no) && (no.Code == CodeUnknownItem || no.Code == CodeBadIndex) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &a.Item, nil
}

// Query reads a page of items; cursor is that of the page before, or empty.
func (x *Object) query(ctx context.Context, q Query, cursor string) (p Page, err error) {
	ask := map[string]any{}
	if q.Descending {
		ask["order"] = "desc"
	}
	if q.From != nil {
		ask["from"] = q.From
	}
	if q.Exclusive {
		ask["bounds"] = "exclusive"
	}
	if q.Limit > 0 {
		ask["limit"] = q.Limit
	}
	if cursor != "" {
		ask["cursor"] = cursor
	}
	return p, x.read(ctx, "query", ask, &p)
}

// all reads items page by page.
func (x *Object) all(ctx context.Context, q Query) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for cursor := ""; ; {
			p, err := x.query(ctx, q, cursor)
			if err != nil {
				yield(Item{}, err)
				return
			}
			for _, i := range p.Items {
				if !yield(i, nil) {
					return
				}
			}
			if cursor = p.Cursor; cursor == "" {
				return
			}
		}
	}
}

// Map is JSON values by key.
type Map struct{ *Object }

// Map opens a map, or creates it.
func (c *Client) Map(ctx context.Context, name string, o Open) (*Map, error) {
	x, err := c.open(ctx, "map", name, o)
	return &Map{x}, err
}

// Get reads an item; nil is one that is not there.
func (m *Map) Get(ctx context.Context, key string) (*Item, error) {
	return m.item(ctx, map[string]any{"key": key})
}

// Set sets an item.
func (m *Map) Set(ctx context.Context, key string, data any, w Write) (Written, error) {
	return m.write(ctx, "map.set", map[string]any{"key": key, "data": data}, w)
}

// Insert adds an item; CodeItemExists if it is there.
func (m *Map) Insert(ctx context.Context, key string, data any, w Write) (Written, error) {
	return m.write(ctx, "map.insert", map[string]any{"key": key, "data": data}, w)
}

// Merge sets members of an item that is an object; null takes one away.
func (m *Map) Merge(ctx context.Context, key string, data any, w Write) (Written, error) {
	return m.write(ctx, "map.merge", map[string]any{"key": key, "data": data}, w)
}

// Delete removes an item.
func (m *Map) Delete(ctx context.Context, key string, w Write) (Written, error) {
	return m.write(ctx, "map.delete", map[string]any{"key": key}, w)
}

// Mutate replaces an item by what change makes of it, nil if it is not there; it is called again if somebody
// else writes meanwhile.
func (m *Map) Mutate(ctx context.Context, key string, change func(json.RawMessage) (any, error)) (Written, error) {
	for {
		item, err := m.Get(ctx, key)
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
		r, err := m.Set(ctx, key, next, w)
		var no *Error
		if !errors.As(err, &no) || no.Code != CodeWrongRevision {
			return r, err
		}
	}
}

// Query reads a page of items in the order of their keys; cursor is that of the page before, or empty.
func (m *Map) Query(ctx context.Context, q Query, cursor string) (Page, error) {
	return m.query(ctx, q, cursor)
}

// All reads all items of a query, page by page.
func (m *Map) All(ctx context.Context, q Query) iter.Seq2[Item, error] { return m.all(ctx, q) }

// List is JSON values by index, which the service assigns.
type List struct{ *Object }

// List opens a list, or creates it.
func (c *Client) List(ctx context.Context, name string, o Open) (*List, error) {
	x, err := c.open(ctx, "list", name, o)
	return &List{x}, err
}

// Push adds items to the end, at most 100; Written.Index is that of the first.
func (l *List) Push(ctx context.Context, w Write, items ...any) (Written, error) {
	return l.write(ctx, "list.push", map[string]any{"items": items}, w)
}

// Get reads an item; nil is one that is not there.
func (l *List) Get(ctx context.Context, index uint64) (*Item, error) {
	return l.item(ctx, map[string]any{"index": index})
}

// Set sets an item that is there.
func (l *List) Set(ctx context.Context, index uint64, data any, w Write) (Written, error) {
	return l.write(ctx, "list.set", map[string]any{"index": index, "data": data}, w)
}

// Merge sets members of an item that is an object; null takes one away.
func (l *List) Merge(ctx context.Context, index uint64, data any, w Write) (Written, error) {
	return l.write(ctx, "list.merge", map[string]any{"index": index, "data": data}, w)
}

// Delete removes an item.
func (l *List) Delete(ctx context.Context, index uint64, w Write) (Written, error) {
	return l.write(ctx, "list.delete", map[string]any{"index": index}, w)
}

// Query reads a page of items in the order of their indexes; cursor is that of the page before, or empty.
func (l *List) Query(ctx context.Context, q Query, cursor string) (Page, error) {
	return l.query(ctx, q, cursor)
}

// All reads all items of a query, page by page.
func (l *List) All(ctx context.Context, q Query) iter.Seq2[Item, error] { return l.all(ctx, q) }
