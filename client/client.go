// Package client is a client of the gateway's shared state, see docs/sync.md: documents, maps, lists and
// streams, with their changes as events, over one connection of centrifuge-go.
//
// A write that gets no answer, since the connection is away or was lost meanwhile, is sent again until its
// context ends, with a key by which the service does it once. Events of an object come one after the other,
// each once, in the order of its log, also over disconnects.
package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// Options of New. The zero value connects as nobody, in JSON.
type Options struct {
	// Token of the connection, or GetToken, which is also asked for a new one when it expires.
	Token    string
	GetToken func() (string, error)
	// Protobuf is the encoding on the wire instead of JSON; what one writes and reads is JSON with both.
	Protobuf bool
	// Config is that of centrifuge-go, for all else.
	Config centrifuge.Config
}

// Client is one connection. Its methods may be called by any goroutine.
type Client struct {
	link *centrifuge.Client
}

// New makes a client of the gateway at a URL such as wss://example.com/connection/websocket. Connect it then.
func New(url string, o Options) *Client {
	config := o.Config
	config.Token = o.Token
	if o.GetToken != nil {
		config.GetToken = func(centrifuge.ConnectionTokenEvent) (string, error) { return o.GetToken() }
	}
	if o.Protobuf {
		return &Client{centrifuge.NewProtobufClient(url, config)}
	}
	return &Client{centrifuge.NewJsonClient(url, config)}
}

// Centrifuge returns the connection itself: channels, presence, history, rpc.
func (c *Client) Centrifuge() *centrifuge.Client { return c.link }

// Connect begins to connect, and to connect again whenever the connection is lost.
func (c *Client) Connect() error { return c.link.Connect() }

// Close ends the connection for good.
func (c *Client) Close() { c.link.Close() }

// Error is what the service refused, see docs/sync.md.
type Error struct {
	Code    uint32
	Message string
	// Revision is the current one, with CodeWrongRevision and CodeItemExists.
	Revision uint64
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// Codes of Error.
const (
	CodeInvalid       = 1400
	CodeTooLarge      = 1401
	CodeUnknownObject = 1402
	CodeNoPermission  = 1403
	CodeWrongType     = 1404
	CodeObjectExists  = 1405
	CodeUnknownItem   = 1406
	CodeItemExists    = 1407
	CodeWrongRevision = 1408
	CodeBadTTL        = 1409
	CodeBadIndex      = 1410
	CodeBadCursor     = 1411
	CodeBadKey        = 1412
	CodeFull          = 1413
	CodeUnknownOp     = 1414
	CodeBadName       = 1415
	CodeClientsOnly   = 1416
)

var revisionIn = regexp.MustCompile(`revision (?:is )?(\d+)`)

// failure is an error as callers see it; final says that the call must not be sent again.
func failure(err error) (e error, final bool) {
	var own *centrifuge.Error
	if !errors.As(err, &own) {
		return err, errors.Is(err, centrifuge.ErrClientClosed)
	}
	f := &Error{Code: own.Code, Message: own.Message}
	if m := revisionIn.FindStringSubmatch(own.Message); m != nil && (f.Code == CodeWrongRevision || f.Code == CodeItemExists) {
		f.Revision, _ = strconv.ParseUint(m[1], 10, 64) // digits, and if they are too many, 0
	}
	return f, !own.Temporary && own.Code != 100 && own.Code != 111
}

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// call does an operation until it is answered or ctx ends, or once.
func (c *Client) call(ctx context.Context, op string, params, result any, once bool) error {
	text, err := json.Marshal(params)
	if err != nil {
		return err
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		answer, err := c.link.RPC(ctx, "sync."+op, text)
		if err == nil {
			if result == nil {
				return nil
			}
			return json.Unmarshal(answer.Data, result)
		}
		err, final := failure(err)
		if final || once || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// Write says how something is written. The zero value has no conditions.
type Write struct {
	// IfRevision is the revision that the item, or the document, must have; Absent for an item that must not be there.
	IfRevision uint64
	Absent     bool
	// TTL is after how many seconds it is removed; Forever takes that back, 0 changes nothing.
	TTL int64
	// Key of idempotency; made up if it is empty.
	Key string
}

// Forever is a TTL that never ends.
const Forever = -1

func (w *Write) params(p map[string]any) map[string]any {
	if w.IfRevision > 0 || w.Absent {
		p["if_revision"] = w.IfRevision
	}
	switch {
	case w.TTL == Forever:
		p["ttl"] = 0
	case w.TTL != 0:
		p["ttl"] = w.TTL
	}
	if p["idempotency_key"] = w.Key; w.Key == "" {
		p["idempotency_key"] = rand.Text()
	}
	return p
}

// Written is what a write came to.
type Written struct {
	Event    uint64 // its number in the object's log
	Epoch    string
	Revision uint64 // of the object, after it
	Index    uint64 // of what was pushed, or the first of it
	Data     json.RawMessage
	// Duplicate tells that it had been done before, by its key.
	Duplicate bool
}
