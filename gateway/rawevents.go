package gateway

import "encoding/json"

// RawPeer is the client of a raw route that an event comes from.
type RawPeer struct {
	Peer
	Route string `json:"route"`
	// Backend is that of the route.
	Backend string `json:"-"`
	// ContentType is that of the route.
	ContentType string `json:"-"`
}

// RawRequest is an upgrade request of a client of a raw route. Its Client is empty as
// long as it is only asked whether it may come in.
type RawRequest struct {
	RawPeer
	Subprotocol string `json:"subprotocol,omitempty"` // agreed on
	Path        string `json:"path"`
	Query       string `json:"query,omitempty"` // as in the URL
	// Headers are those of RawRoute.Headers, by lower-case name; the first value counts.
	Headers map[string]string `json:"headers,omitempty"`
}

// RawIdentity is whom a backend lets in.
type RawIdentity struct {
	User     string          `json:"user"`
	Meta     json.RawMessage `json:"meta"`
	ExpireAt int64           `json:"expire_at"` // Unix seconds, 0 = never
}

// RawData is one message as it is. The zero value is none.
type RawData struct {
	Data   []byte
	Binary bool // frame, else text, which is UTF-8; what clients get is of the kind the route takes
}

// RawMessage is a message of a client.
type RawMessage struct {
	RawPeer
	RawData
}

// RawDisconnect is the end of a client.
type RawDisconnect struct {
	RawPeer
	Code   uint32 `json:"code"`   // of the close frame, 1006 without one
	Reason string `json:"reason"` // a label as in roost_closed_total
}
