package client

import "encoding/json"

// Types of Event.
const (
	Created     = "created" // again, after it was removed
	Updated     = "updated"
	ItemAdded   = "item_added"
	ItemUpdated = "item_updated"
	ItemRemoved = "item_removed"
	TTL         = "ttl"
	Access      = "access"
	Message     = "message" // of a stream
	Removed     = "removed"
	// Snapshot tells that so much was missed that the object was read anew: what was derived from events must be, too.
	Snapshot = "snapshot"
	// Refused is the last event: nothing follows any more, Event.Err says why. The object may be opened again.
	Refused = "refused"
)

// Event is one change of an object. Of a batch there are several with the same number.
type Event struct {
	Type        string          `json:"type"`
	Number      uint64          `json:"-"` // in the object's log; of a Message that of the last event
	Key         string          `json:"key"`
	Index       uint64          `json:"index"`
	Data        json.RawMessage `json:"data"`
	Previous    json.RawMessage `json:"previous"`
	Revision    uint64          `json:"revision"`
	Reason      string          `json:"reason"`       // of a removal: user or ttl
	DateExpires int64           `json:"date_expires"` // Unix milliseconds; 0: never
	Actor       string          `json:"actor"`        // who did it
	Date        int64           `json:"date"`         // Unix milliseconds
	Events      []Event         `json:"events"`       // not seen by callers
	Err         error           `json:"-"`            // of Refused
}
