package client

import (
	"crypto/rand"
	"encoding/json"
)

// Write says how something is written. The zero value has no conditions.
type Write struct {
	// IfRevision is the revision that the item, or the document, must have; Absent is for an item that must not
	// be there. Else the error is CodeWrongRevision.
	IfRevision uint64
	Absent     bool
	// TTL is after how many seconds it is removed, up to a year; Forever takes that back, 0 changes nothing.
	TTL int64
	// Key of idempotency, up to 128 bytes; made up if it is empty. A write of which the program does not know
	// whether it happened is not done twice with the same key, for the next 1,024 writes to the object.
	Key string
}

// Forever is a TTL that never ends.
const Forever = -1

// params adds to those of an operation how it is written.
func (w Write) params(p map[string]any) map[string]any {
	if w.IfRevision > 0 || w.Absent {
		p["if_revision"] = w.IfRevision
	}
	switch {
	case w.TTL == Forever:
		p["ttl"] = 0
	case w.TTL != 0:
		p["ttl"] = w.TTL
	}
	if w.Key == "" {
		w.Key = rand.Text()
	}
	p["idempotency_key"] = w.Key
	return p
}

// Written is what a write came to.
type Written struct {
	Event    uint64 // its number in the object's log
	Epoch    string
	Revision uint64 // of the object, after it
	Index    uint64 // of what was pushed, or the first of it
	// Data is what a merge came to, unless it is a duplicate.
	Data json.RawMessage
	// Results are those of a batch, one for each operation, unless it is a duplicate.
	Results []struct{ Index uint64 }
	// Duplicate tells that it had been done before, by its key.
	Duplicate bool
}
