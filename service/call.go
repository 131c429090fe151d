// Package service is what the services on the gateway stand on: how a call finds the one instance that
// owns what it is about, how its objects are kept in memory while they are in use and rebuilt from their
// logs, and what callers are told when that fails. docs/services.md shows how to write one.
//
// A service speaks NATS only. It runs in a gateway's process or in its own, in as many instances as one
// likes; each owns a part of the objects. Ownership is for speed and for what is to happen at a time: it
// is the log, which takes only what follows on what its writer has seen, that keeps two instances
// from contradicting each other.
package service

import (
	"encoding/json"
	"hash/fnv"
)

// Shards is the number of parts that objects are owned by. Instances of a service must agree on it.
const Shards = 64

// ShardOf returns the part an object belongs to.
func ShardOf(key string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // never fails
	s := h.Sum32()
	return int((s ^ s>>16) % Shards)
}

// Caller is who calls.
type Caller struct {
	User   string `json:"user,omitempty"`   // "" is nobody
	Client string `json:"client,omitempty"` // the connection; "" for backends
	// Trusted callers are backends, which may do everything.
	Trusted bool `json:"trusted,omitempty"`
}

// Call is a request to a service.
type Call struct {
	Caller
	Op string `json:"op"`
	// Key is the object that it is about.
	Key  string          `json:"key"`
	Data json.RawMessage `json:"data,omitempty"`
	// ID makes it happen once, though it may arrive twice. Set by the Router.
	ID string `json:"id,omitempty"`
	// Parsed is what the service made of Data when it found the Key, so that it need not do so again.
	Parsed any `json:"-"`
}

func (c *Call) encode() ([]byte, error) { return json.Marshal(c) }

func decodeCall(b []byte) (*Call, error) {
	c := new(Call)
	return c, json.Unmarshal(b, c)
}
