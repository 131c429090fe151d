// Package backend has an application's own servers answer what clients ask: it
// implements gateway.Handlers by HTTP POST with JSON, or by NATS requests with the same
// JSON.
//
// # Request
//
//	{"event":"rpc","client":"…","transport":"websocket","protocol":"json","encoding":"json",
//	 "user":"ann","meta":{…},"method":"echo","data":{…}}
//
// user, meta, method and data are left out where they are empty. Data that is not JSON,
// which only clients of the Protobuf protocol can send, comes as b64data in standard
// base64 instead.
//
// # Answer
//
// HTTP status 200, Content-Type application/json, and exactly one of
//
//	{"result":{"data":{…}}}            or {"result":{"b64data":"…"}}, or {"result":{}}
//	{"error":{"code":400,"message":"no such order","temporary":false}}
//	{"disconnect":{"code":4000,"reason":"come back later"}}
//
// Errors have a code of the application, 400 to 1999, or one of the protocol, 100 to
// 112, whose message and temporary are then the protocol's. Disconnects have 4000 to
// 4999 and a reason of at most 120 bytes; clients come back after those below 4500. A
// message, which has no reply, is answered {"result":{}}; its client notices only a
// disconnect.
//
// # What clients get when a backend fails
//
// Error 100, which is temporary, and the log says which backend failed and why; but 111,
// also temporary, if too many calls wait for it, and 108 if nobody listens on its NATS
// subject, which NATS does not tell from nobody ever having listened. 104 is what a
// client gets for a method without a rule, or one that can be no NATS subject.
package backend

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"roost/gateway"
	"roost/proto/client"
)

// Asker sends a NATS request and returns its answer. Several goroutines use it at once.
// It must return when the context ends. An error with a method NoResponders() bool that
// says true means that nobody listens on the subject.
type Asker interface {
	Ask(ctx context.Context, subject string, data []byte) ([]byte, error)
}

// Options of a Set.
type Options struct {
	Config
	// Ask sends the requests of endpoints whose URL starts with nats:.
	Ask Asker
	// Observe, if set, is told each call: its outcome, as in Count, and how long it
	// took, waiting and retries included. It runs on the call's goroutine.
	Observe func(backend, event, outcome string, took time.Duration)
	Logger  *slog.Logger
}

// Set is the backends of a gateway. Its methods may be called by any goroutine.
type Set struct {
	// Static after construction.
	opts      Options
	endpoints map[string]*endpoint
}

// New returns the backends of o, or all that Config.Validate finds wrong with it. It
// connects to none of them yet.
func New(o Options) (*Set, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Observe == nil {
		o.Observe = func(string, string, string, time.Duration) {}
	}
	s := &Set{opts: o, endpoints: make(map[string]*endpoint, len(o.Backends))}
	for name, e := range o.Backends {
		if e.Subject() != "" && o.Ask == nil {
			return nil, errors.New("backend: " + name + " is asked over NATS, for which Options.Ask is required")
		}
		s.endpoints[name] = newEndpoint(name, e.withDefaults(), o.Ask)
	}
	return s, nil
}

// Close gives up idle connections. Calls under way end by themselves.
func (s *Set) Close() {
	for _, e := range s.endpoints {
		e.asker.close()
	}
}

// Handlers returns functions for the events that the configuration sends to a backend.
func (s *Set) Handlers() (h gateway.Handlers) {
	if len(s.opts.RPC) > 0 {
		h.RPC = s.rpc
	}
	if s.opts.Message != "" {
		h.Message = s.message
	}
	if s.opts.Disconnect != "" {
		h.Disconnect = s.disconnect
	}
	if s.opts.Unsubscribe != "" {
		h.Unsubscribe = s.unsubscribe
	}
	if s.opts.Connect != "" {
		h.Connect = s.connect
	}
	if s.opts.Refresh != "" {
		h.Refresh = s.refresh
	}
	if len(s.endpoints) > 0 {
		h.Subscribe, h.Publish, h.SubRefresh, h.ByNamespace = s.subscribe, s.publish, s.subRefresh, true
		h.RawAuthorize, h.RawConnect, h.RawMessage, h.RawDisconnect = s.rawAuthorize, s.rawConnect, s.rawMessage, s.rawDisconnect
	}
	return h
}

// call asks a backend by its name and hands the result to use, whose error means that it is
// garbage. The error it returns is a *client.Error or a *client.Disconnect.
func (s *Set) call(ctx context.Context, backend string, q *request, use func(result []byte) error) error {
	e := s.endpoints[backend]
	if e == nil {
		return client.ErrNotAvailable
	}
	_, reply := s.try(ctx, e, q, use)
	return reply
}

// try is call that says what came of it, too.
func (s *Set) try(ctx context.Context, e *endpoint, q *request, use func(result []byte) error) (outcome, error) {
	begun := time.Now()
	raw, err := e.ask(ctx, q)
	switch {
	case err != nil:
	case q.raw != nil:
		err = use(raw)
	default:
		err = parse(raw, use)
	}
	o, reply := judge(err)
	e.calls[q.event][o].Add(1)
	s.opts.Observe(e.name, q.event.String(), o.String(), time.Since(begun))
	if o.isFault() {
		if also, ok := e.quiet.pass(time.Now()); ok {
			s.opts.Logger.Warn("a backend failed", "backend", e.name, "event", q.event.String(), "outcome", o.String(), "error", clip(err.Error()), "not_logged", also)
		}
	}
	return o, reply
}

// judge says what came of a call, and what its client gets.
func judge(err error) (outcome, error) {
	var own *client.Error
	var end *client.Disconnect
	var f *fault
	switch {
	case err == nil:
		return outcomeOK, nil
	case errors.As(err, &f):
		return f.outcome, f.outcome.reply()
	case errors.As(err, &own):
		return outcomeError, own
	case errors.As(err, &end):
		return outcomeDisconnect, end
	}
	return outcomeBroken, client.ErrInternal
}

// Stats are the figures of one backend.
type Stats struct {
	Backend string
	// InFlight calls are under way, Waiting ones wait for their turn.
	InFlight, Waiting int
	Calls             []Count // those that are not 0
}

// Count is how many calls of an event had an outcome, of which the backend said "ok",
// "error" and "disconnect". The others are: "busy", too many calls wait; "timeout";
// "canceled", by the gateway; "unreachable", no connection; "broken", it broke before
// the answer was whole; "status", neither 200 nor a "redirect", which is not followed;
// "type", not application/json; "empty"; "large"; "garbage", not as the package says;
// "nobody", no NATS subscriber; "method", which is no NATS subject.
type Count struct {
	Event, Outcome string
	Total          uint64
}

// Stats returns the figures of all backends, by name.
func (s *Set) Stats() []Stats {
	all := make([]Stats, 0, len(s.endpoints))
	for _, e := range s.endpoints {
		all = append(all, e.stats())
	}
	slices.SortFunc(all, func(a, b Stats) int { return strings.Compare(a.Backend, b.Backend) })
	return all
}
