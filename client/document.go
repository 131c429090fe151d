package client

import (
	"context"
	"encoding/json"
)

// Document is one JSON value.
type Document struct{ *Object }

// Document opens a document, or creates it. Without a name it is a new one.
func (c *Client) Document(ctx context.Context, name string, o Open) (*Document, error) {
	x, err := c.open(ctx, "document", name, &o)
	if err != nil {
		return nil, err
	}
	return &Document{x}, nil
}

// Data returns the value as of the last event, which must not be changed.
func (d *Document) Data() json.RawMessage {
	d.log.mu.Lock()
	defer d.log.mu.Unlock()
	return d.log.data
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
// Its errors are returned.
func (d *Document) Mutate(ctx context.Context, change func(json.RawMessage) (any, error)) (Written, error) {
	d.log.mu.Lock()
	data, revision := d.log.data, d.log.revision
	d.log.mu.Unlock()
	for {
		next, err := change(data)
		if err != nil {
			return Written{}, err
		}
		r, err := d.Set(ctx, next, Write{IfRevision: revision})
		if codeOf(err) != CodeWrongRevision {
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
