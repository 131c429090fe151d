package client

import (
	"context"
	"iter"
)

// Query says which items are wanted, in which order of their keys or indexes.
type Query[K string | uint64] struct {
	Descending bool
	From       *K   // where it begins
	Exclusive  bool // From itself is not wanted
	Limit      int  // of a page: 100 by default, at most 1,000
}

// Page is a part of what a query is about. Cursor is empty behind the last.
type Page struct {
	Items  []Item
	Cursor string
}

// Query reads a page of items; cursor is that of the page before, or empty.
func (x Items[K]) Query(ctx context.Context, q Query[K], cursor string) (p Page, err error) {
	ask := map[string]any{}
	if q.Descending {
		ask["order"] = "desc"
	}
	if q.From != nil {
		ask["from"] = *q.From
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

// All reads all items of a query, page by page. An error is the last that comes.
func (x Items[K]) All(ctx context.Context, q Query[K]) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for cursor := ""; ; {
			p, err := x.Query(ctx, q, cursor)
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
