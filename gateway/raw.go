package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"roost/auth"
	"roost/conn"
	"roost/internal/tally"
	"roost/proto/client"
	"roost/proto/ws"
)

// Clients of raw routes are sessions like others: they have users, are listed,
// disconnected, revoked and drained by the same code. But they have no commands and no
// subscriptions, and what they send goes to their route's carrier on the loop.

// rawCarrier brings a route's events to its backend. Its methods are called on the
// client's loop and must not block; those for one client come in order.
type rawCarrier interface {
	opened(s *session, r *RawRequest)
	message(s *session, op ws.Opcode, payload []byte)
	closed(s *session, d *RawDisconnect)
}

// rawRoute is a route at work.
type rawRoute struct {
	// Static after New.
	RawRoute
	name    string
	node    *Node
	carrier rawCarrier
	route   *conn.Route
	counts  rawCounts
}

type rawCounts struct {
	clients atomic.Int64
	in, out atomic.Uint64
	dropped tally.Of[string] // messages of the backend, by why
	failed  tally.Of[string] // clients that were closed since what they sent could not be brought, by why
}

// Why clients are closed by their route, for metrics.
const (
	rawKind    = "kind"     // text or binary, which the route does not take
	rawFull    = "full"     // too much waits for the backend
	rawLost    = "lost"     // NATS is away
	rawNobody  = "nobody"   // no backend listens
	rawLarge   = "large"    // too large for NATS
	rawBackend = "backend"  // the backend failed, or answered with an error
	rawGone    = "gone"     // messages to a client that has gone
	rawUTF8    = "utf8"     // text that is none
	rawSubject = "subject"  // no client's subject
	rawBadEnd  = "bad_code" // a close with a code that cannot be sent
)

var (
	errRawAway  = client.Disconnect{Code: uint32(ws.CloseTryAgainLater), Reason: "the backend cannot be reached, try again later"}
	errRawFull  = client.Disconnect{Code: uint32(ws.CloseTryAgainLater), Reason: "too much waits for the backend, try again later"}
	errRawText  = client.Disconnect{Code: uint32(ws.CloseUnsupported), Reason: "this route takes text messages only"}
	errRawBin   = client.Disconnect{Code: uint32(ws.CloseUnsupported), Reason: "this route takes binary messages only"}
	errRawLarge = client.Disconnect{Code: uint32(ws.CloseTooBig), Reason: "the message is larger than the backend takes"}
)

// newRaw makes the routes.
func (n *Node) newRaw() error {
	for _, name := range slices.Sorted(maps.Keys(n.opts.Raw)) {
		rt := &rawRoute{RawRoute: n.opts.Raw[name].withDefaults(&n.opts), name: name, node: n}
		rt.route = &conn.Route{
			Path: rt.Path, Handler: rt, Inline: true, Protocols: rt.Subprotocols, MaxMessage: rt.MaxMessage, HardLimit: n.opts.QueueLimit,
			Beat: n.beat, FirstBeat: n.opts.PingInterval,
		}
		if rt.Path == "" { // no request has it: the query is no part of the path
			rt.route.Path = RawPath + "?route=" + name
		}
		if rt.Auth == rawAuthNone {
			rt.route.Authorize = func(r *http.Request) (any, error) { return rt.session(rt.request(r), auth.Connect{}), nil }
		} else {
			rt.route.Admit = rt.admit
		}
		if rt.Subject == "" {
			rt.carrier = newRawCalls(rt)
		}
		n.raw = append(n.raw, rt)
	}
	return nil
}

// connectRaw connects the routes that need it to NATS.
func (n *Node) connectRaw() error {
	for _, rt := range n.raw {
		if rt.Subject == "" {
			continue
		}
		c, err := newRawNATS(rt)
		if err != nil {
			return err
		}
		rt.carrier = c
	}
	return nil
}

// chooseRaw finds a route by name. On the loop.
func (n *Node) chooseRaw(r *http.Request) (*conn.Route, error) {
	name := r.URL.Query().Get("route")
	for _, rt := range n.raw {
		if rt.name == name {
			return rt.route, nil
		}
	}
	detail := fmt.Sprintf("there is no raw route %.64q: routes are configured under raw, and named by %s?route=NAME", name, RawPath)
	return nil, &ws.HandshakeError{Status: http.StatusNotFound, Label: "raw_route", Detail: detail}
}

// admit decides on an upgrade by token or by asking the backend. In a worker.
func (rt *rawRoute) admit(r *http.Request) (any, error) {
	q := rt.request(r)
	var c auth.Connect
	var err error
	if rt.Auth == rawAuthBackend {
		c, err = rt.ask(r.Context(), q)
	} else {
		c, err = rt.node.admitted(r)
	}
	if err != nil {
		return nil, err
	}
	if most := rt.UserConnections; most > 0 && c.User != "" && len(rt.node.hub.ByUser(c.User)) >= most {
		return nil, &ws.HandshakeError{Status: http.StatusTooManyRequests, Label: "connection_limit", Detail: "this user has as many connections as it may"}
	}
	if len(c.User) > rawMaxUser {
		return nil, &ws.HandshakeError{Status: http.StatusForbidden, Label: "user_name", Detail: fmt.Sprintf("the user's name has %d bytes, a raw route takes %d", len(c.User), rawMaxUser)}
	}
	return rt.session(q, c), nil
}

// rawMaxUser bounds a user's name, in bytes: it is a part of NATS subjects, where a byte
// may take three and a line has 4 KiB at most.
const rawMaxUser = 256

// ask has the backend say who a client is.
func (rt *rawRoute) ask(ctx context.Context, q *RawRequest) (auth.Connect, error) {
	n := rt.node
	ctx, cancel := context.WithTimeout(ctx, n.opts.CallTimeout)
	defer cancel()
	who, err := n.opts.Handlers.RawAuthorize(ctx, *q)
	if err == nil {
		err = n.checkExpiry("raw_authorize", who.ExpireAt)
	}
	var no *client.Error
	var end *client.Disconnect
	switch {
	case err == nil:
	case errors.As(err, &no) && no.Code == client.ErrUnauthorized.Code:
		return auth.Connect{}, &ws.HandshakeError{Status: http.StatusUnauthorized, Label: "raw_refused", Detail: "the backend does not know this client"}
	case errors.As(err, &no) && !no.Temporary && no.Code != client.ErrNotAvailable.Code:
		return auth.Connect{}, &ws.HandshakeError{Status: http.StatusForbidden, Label: "raw_refused", Detail: "the backend refused this client: " + line(no.Message)}
	case errors.As(err, &end):
		return auth.Connect{}, &ws.HandshakeError{Status: http.StatusForbidden, Label: "raw_refused", Detail: "the backend refused this client: " + line(end.Reason)}
	default:
		n.reason(err) // for the log
		return auth.Connect{}, &ws.HandshakeError{Status: http.StatusServiceUnavailable, Label: "raw_backend", Header: http.Header{"Retry-After": {"1"}},
			Detail: "the backend cannot say whether this client may connect"}
	}
	c := auth.Connect{User: who.User, Meta: who.Meta, ExpireAt: who.ExpireAt}
	if n.revoked.Check(c.User, "", 0) != nil {
		return auth.Connect{}, errBlocked
	}
	return c, nil
}

// line is text that may stand in one line of an answer.
func line(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
}

// request is what the backend hears of an upgrade request.
func (rt *rawRoute) request(r *http.Request) *RawRequest {
	q := &RawRequest{RawPeer: rt.peer(), Path: strings.Clone(r.URL.Path), Query: strings.Clone(r.URL.RawQuery)}
	for _, p := range rt.Subprotocols {
		if offers(r, p) {
			q.Subprotocol = p
			break
		}
	}
	for _, name := range rt.Headers {
		if v := r.Header.Get(name); v != "" {
			if q.Headers == nil {
				q.Headers = make(map[string]string)
			}
			q.Headers[strings.ToLower(name)] = strings.Clone(v)
		}
	}
	return q
}

func (rt *rawRoute) peer() RawPeer {
	return RawPeer{Peer: Peer{Transport: TransportRaw, Protocol: rt.name, Encoding: "binary"}, Route: rt.name, Backend: rt.Backend, ContentType: rt.ContentType}
}

// session makes the session of a client that may come in.
func (rt *rawRoute) session(q *RawRequest, c auth.Connect) *session {
	s := new(session)
	s.User = c.User
	s.set(markRaw | markNative)
	s.expireAt.Store(uint32(c.ExpireAt))
	s.setToken(c)
	s.change(func(e *extra) { e.raw = &rawExtra{request: q} })
	return s
}

// raw returns the session's route, nil for clients of the client protocol. From Open on.
func (s *session) raw() *rawRoute {
	if !s.is(markRaw) {
		return nil
	}
	return s.Conn.Route().Handler.(*rawRoute)
}

// Open implements conn.Handler.
func (rt *rawRoute) Open(c *conn.Conn) {
	n, s := rt.node, c.Session().(*session)
	s.Conn = c
	s.set(markOpen)
	rt.counts.clients.Add(1)
	var q *RawRequest
	s.change(func(e *extra) { q, e.raw = e.raw.request, nil })
	q.Peer = n.peer(s)
	s.tidy()
	n.hub.Add(&s.Client)
	n.counts.clients.Add(1)
	n.counts.connects.Add(1)
	n.connected(s)
	rt.note(s, func() {
		if !rt.NoEvents {
			rt.carrier.opened(s, q)
		}
	})
	if n.revoked.Check(s.User, s.look().token, int64(s.issuedAt.Load())) != nil { // since it was let in
		n.disconnect(s, client.DisconnectInvalidToken)
	}
}

// Message implements conn.Handler.
func (rt *rawRoute) Message(c *conn.Conn, op ws.Opcode, payload []byte) {
	s := c.Session().(*session)
	switch {
	case s.is(markEnded):
		return
	case op == ws.OpText && rt.Messages == rawBinary:
		rt.fail(s, rawKind, errRawBin)
		return
	case op == ws.OpBinary && rt.Messages == rawText:
		rt.fail(s, rawKind, errRawText)
		return
	}
	if w := rt.noting(s); w != nil {
		w.keep(op, payload)
		return
	}
	rt.message(s, op, payload)
}

func (rt *rawRoute) message(s *session, op ws.Opcode, payload []byte) {
	rt.counts.in.Add(1)
	rt.carrier.message(s, op, payload)
}

// Close implements conn.Handler.
func (rt *rawRoute) Close(c *conn.Conn, why conn.Reason, code ws.CloseCode) {
	n, s := rt.node, c.Session().(*session)
	s.set(markEnded)
	rt.counts.clients.Add(-1)
	n.counts.clients.Add(-1)
	n.counts.closes.Add(uint32(code))
	n.hub.Remove(&s.Client)
	n.seen.left(s.User)
	s.End()
	d := &RawDisconnect{RawPeer: rt.peer(), Code: uint32(code), Reason: conn.Label(why)}
	d.Peer = n.peer(s)
	rt.ended(s, d)
}

// fail closes a client that cannot be served. Any goroutine.
func (rt *rawRoute) fail(s *session, why string, d client.Disconnect) {
	if s.marks.Or(markEnded)&markEnded != 0 {
		return
	}
	rt.counts.failed.Add(why)
	rt.node.disconnect(s, d)
}

// opcode is that of a message to clients of which nothing is said.
func (rt *rawRoute) opcode(binary bool) ws.Opcode {
	switch {
	case rt.Messages == rawBinary, rt.Messages == rawAny && binary:
		return ws.OpBinary
	}
	return ws.OpText
}

// errRawUTF8 is a message as text that is none.
var errRawUTF8 = errors.New("gateway: a text message that is not UTF-8")

// send sends a message to a client. Any goroutine.
func (rt *rawRoute) send(s *session, op ws.Opcode, data []byte) error {
	if op == ws.OpText && !utf8.Valid(data) {
		rt.counts.dropped.Add(rawUTF8)
		return errRawUTF8
	}
	if err := s.Conn.Send(op, data); err != nil {
		rt.counts.dropped.Add(rawGone)
		return err
	}
	rt.counts.out.Add(1)
	return nil
}

// RawStats are the figures of raw routes.
type RawStats struct {
	Routes  []RawRouteStats // by name
	Queued  int64           // bytes that wait for NATS now
	Overrun uint64          // times that NATS dropped messages of backends, since too many waited to be read
}

// RawRouteStats are the figures of a raw route: totals since the start, but for Clients.
type RawRouteStats struct {
	Route   string
	Clients int64 // now
	In, Out uint64
	Dropped map[string]uint64 // messages of the backend, by why
	Failed  map[string]uint64 // clients closed by the route, by why
}

func (n *Node) rawStats() (st RawStats) {
	for _, rt := range n.raw {
		c := &rt.counts
		st.Routes = append(st.Routes, RawRouteStats{rt.name, c.clients.Load(), c.in.Load(), c.out.Load(), c.dropped.All(), c.failed.All()})
	}
	if n.wire != nil {
		w := n.wire.Stats()
		st.Queued, st.Overrun = w.Queued, w.Dropped
	}
	return st
}

// startRaw has the backends of raw routes heard, once there are loops.
func (n *Node) startRaw() error {
	if n.wire != nil {
		n.startRecents()
	}
	for _, rt := range n.raw {
		if c, ok := rt.carrier.(*rawNATS); ok {
			if err := c.start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// endRaw waits until the backends have been told all, or ctx has ended.
func (n *Node) endRaw(ctx context.Context) {
	waitFor(ctx, &n.notings)
	for _, rt := range n.raw {
		if c, ok := rt.carrier.(*rawCalls); ok {
			waitFor(ctx, &c.work)
		}
	}
	if n.wire != nil {
		n.wire.Close()
	}
}

// waitFor returns when work is done, or ctx has ended.
func waitFor(ctx context.Context, work *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
