package gateway

import (
	"context"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/centrifugal/protocol"

	"roost/auth"
	"roost/conn"
	"roost/hub"
	"roost/poller"
	"roost/proto/client"
	"roost/proto/ws"
)

// session is one client. With its strings and one subscription it is all that an idle
// client holds beyond its connection.
type session struct {
	hub.Client // first: the hub's callbacks are cast back

	extra *extra        // guarded by Mu; nil for most
	marks atomic.Uint32 // see mark; above markBits when the client connected

	// Unix seconds.
	expireAt atomic.Uint32 // 0 = never
	issuedAt atomic.Uint32 // of the connection's token, 0 = it does not say

	pingAt uint32 // the loop's: when the next ping is due, in tenths of seconds of the node
}

type mark = uint32

const (
	markOpen mark = 1 << iota // Conn is set
	markProtobuf
	markNative    // native ping frames instead of the protocol's
	markConnected // the connect command was answered
	markFailed    // the connect command was refused: nothing else may follow
	markAwait     // a ping is out
	markEnded
	markRaw    // of a raw route
	markBroken // something it sent was lost: nothing after that may be brought
	markRecent // stands in rawRecents
	markBits   = iota
)

// connectUnit is that of the time of the connect command, from the start of the node: 22
// bits of it last a year and four months.
const connectUnit = 10 * time.Second

// extra is what few clients have.
type extra struct {
	admitted *auth.Connect      // token checked before the upgrade
	emulated *Emulated          // nil for a WebSocket
	info     []byte             // of the connection, shown to others
	token    string             // jti of the connection's token
	meta     []byte             // of the connection's token, for handlers
	calls    int32              // of handlers, under way
	askAt    uint32             // when Handlers.Refresh is to be asked, in tenths of seconds of the node; 0 is not, or asked now
	pending  []*pending         // those of them that commands wait for
	headers  *[]string          // values of Options.Headers, "" for those it does not have; nil without any
	gone     *client.Disconnect // what the gateway ended the connection with, if Handlers.Disconnect is to hear
	channels map[*hub.Channel]*channelExtra
	raw      *rawExtra
}

// rawExtra is what a client of a raw route has now and then.
type rawExtra struct {
	request *RawRequest // until it is open
	noting  *noting     // until its backend may be told
	lane    *lane
}

// channelExtra is what few subscriptions have.
type channelExtra struct {
	info     []byte
	expireAt int64 // Unix seconds, 0 = never
	filter   *client.Filter
	askAt    uint32 // of Handlers.SubRefresh, as in extra
	asks     bool   // that alone ends the subscription
}

func sessionOf(cl *hub.Client) *session { return (*session)(unsafe.Pointer(cl)) }

// HubClient implements hub.Owner.
func (s *session) HubClient() *hub.Client { return &s.Client }

func (s *session) is(m mark) bool { return s.marks.Load()&m != 0 }
func (s *session) set(m mark)     { s.marks.Or(m) }

func (s *session) encoding() client.Encoding {
	if s.is(markProtobuf) {
		return client.Protobuf
	}
	return client.JSON
}

// setToken notes which token the connection goes by.
func (s *session) setToken(c auth.Connect) {
	s.issuedAt.Store(uint32(min(max(c.IssuedAt, 0), math.MaxUint32)))
	if c.ID == "" && c.Info == nil && c.Meta == nil && s.look().token == "" {
		return // as for most, who need no extra for that
	}
	s.change(func(e *extra) {
		e.token = c.ID
		if c.Info != nil {
			e.info = c.Info
		}
		if c.Meta != nil {
			e.meta = c.Meta
		}
	})
}

// connected notes that the connect command has been answered; connectedAt tells when,
// in Unix seconds, to a connectUnit.
func (n *Node) connected(s *session) {
	s.set(mark(time.Since(n.started)/connectUnit)<<markBits | markConnected)
}

func (n *Node) connectedAt(s *session) int64 {
	return n.started.Add(time.Duration(s.marks.Load()>>markBits) * connectUnit).Unix()
}

// change runs f on the session's extra, which it makes if need be.
func (s *session) change(f func(*extra)) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.extra == nil {
		s.extra = new(extra)
	}
	f(s.extra)
}

// tidy gives up the session's extra if nothing is in it.
func (s *session) tidy() {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if e := s.extra; e != nil && e.admitted == nil && e.emulated == nil && e.info == nil && e.token == "" && e.meta == nil && e.calls == 0 && e.askAt == 0 && e.headers == nil && e.gone == nil && len(e.channels) == 0 && e.raw == nil {
		s.extra = nil
	}
}

func (e *extra) transport() string {
	if e.emulated != nil {
		return e.emulated.transport
	}
	return TransportWebSocket
}

// look returns a copy of the session's extra.
func (s *session) look() extra {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.extra == nil {
		return extra{}
	}
	return *s.extra
}

func (s *session) channel(ch *hub.Channel) (x channelExtra) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.extra != nil && s.extra.channels[ch] != nil {
		x = *s.extra.channels[ch]
	}
	return x
}

// changeChannel runs f on what is kept beside the subscription to ch.
func (s *session) changeChannel(ch *hub.Channel, f func(*channelExtra)) {
	s.change(func(e *extra) {
		if e.channels == nil {
			e.channels = make(map[*hub.Channel]*channelExtra)
		}
		if e.channels[ch] == nil {
			e.channels[ch] = new(channelExtra)
		}
		f(e.channels[ch])
	})
}

func (s *session) forget(ch *hub.Channel) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.extra != nil {
		delete(s.extra.channels, ch)
	}
}

// Wants implements hub.Filterer. On the loop.
func (s *session) Wants(ch *hub.Channel, tags map[string]string) bool {
	f := s.channel(ch).filter
	return f == nil || f.Match(tags)
}

// newRoute is the WebSocket transport.
func (n *Node) newRoute() *conn.Route {
	rt := &conn.Route{
		Path:       "/connection/websocket",
		Handler:    (*handler)(n),
		Protocols:  []string{"centrifuge-protobuf", "centrifuge-json"},
		Peek:       n.peek,
		Beat:       n.beat,
		FirstBeat:  n.opts.StaleTimeout,
		MaxMessage: n.opts.MaxMessage,
		HardLimit:  n.opts.QueueLimit,
		NoPong:     ws.CloseCode(client.DisconnectNoPong.Code),
	}
	if n.opts.UpgradeAuth {
		rt.Admit = n.admit
	} else {
		rt.Authorize = func(r *http.Request) (any, error) { return n.newSession(r) }
	}
	return rt
}

// newSession reads from the request how the client speaks, and by which transport. Its
// errors are *ws.HandshakeError.
func (n *Node) newSession(r *http.Request) (*session, error) {
	s := new(session)
	switch e, err := n.emulated(r, s); {
	case err != nil:
		return nil, err
	case e != nil:
		s.extra = &extra{emulated: e}
	}
	if err := n.keepHeaders(s, r); err != nil {
		return nil, err
	}
	q := r.URL.Query()
	if q.Get("format") == "protobuf" || q.Get("cf_protocol") == "protobuf" || offers(r, "centrifuge-protobuf") {
		s.set(markProtobuf)
	}
	if q.Get("cf_ws_frame_ping_pong") == "true" {
		s.set(markNative)
	}
	return s, nil
}

func offers(r *http.Request, protocol string) bool {
	for _, v := range r.Header["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(v, ",") {
			if strings.TrimSpace(p) == protocol {
				return true
			}
		}
	}
	return false
}

// handler is the node as conn sees it.
type handler Node

// Open implements conn.Handler.
func (h *handler) Open(c *conn.Conn) {
	s := c.Session().(*session)
	s.Conn = c
	s.set(markOpen)
	(*Node)(h).counts.transports.Add(1)
}

// Message implements conn.Handler: one frame with one or more commands.
func (h *handler) Message(c *conn.Conn, _ ws.Opcode, payload []byte) {
	n, s := (*Node)(h), c.Session().(*session)
	ctx, cancel := n.timeout()
	defer cancel()
	out := replies{n: n, s: s, ctx: ctx, frame: payload}
	err := client.Decode(s.encoding(), payload, func(cmd *protocol.Command) error {
		if s.is(markEnded) {
			return nil
		}
		err := n.command(&out, cmd)
		out.done++
		return err
	})
	out.flush()
	if err != nil && err != errParked {
		n.fail(s, err)
	}
}

// Close implements conn.Handler.
func (h *handler) Close(c *conn.Conn, why conn.Reason, code ws.CloseCode) {
	n, s := (*Node)(h), c.Session().(*session)
	s.set(markEnded)
	s.quit()
	n.counts.transports.Add(-1)
	n.counts.closes.Add(uint32(code))
	if !s.is(markConnected) {
		return
	}
	n.counts.clients.Add(-1)
	n.hub.Remove(&s.Client)
	n.seen.left(s.User)
	for i := range n.opts.Services {
		n.opts.Services[i].Gone(n.ids.id(c.Handle()))
	}
	left, announce := n.leaveAll(s)
	if n.notices.disconnect != nil {
		n.noteGone(s, why, left)
	}
	for _, ch := range announce {
		n.announce(s, ch, false)
	}
}

// leaveAll ends all subscriptions of a client that has gone. It returns their names, if
// somebody wants to hear them, and the channels that are to be told.
func (n *Node) leaveAll(s *session) (left []string, announce []*hub.Channel) {
	channels := s.End()
	if len(channels) == 0 {
		return nil, nil
	}
	n.onLoop(s.Conn, func() {
		for _, ch := range channels {
			flags, live := ch.Leave(&s.Client)
			if live && flags&hub.Announce != 0 {
				announce = append(announce, ch)
			}
			if live && n.notices.disconnect != nil {
				left = append(left, ch.Name())
			}
		}
	})
	return left, announce
}

// fail ends a session for an error: a disconnect as it is, anything else as a bad
// request.
func (n *Node) fail(s *session, err error) {
	d, ok := err.(*client.Disconnect)
	if !ok {
		bad := client.DisconnectBadRequest
		d = &bad
		n.opts.Logger.Info("a client sent what is not the protocol", "client", n.ids.id(s.Conn.Handle()), "user", s.User, "error", err)
	}
	n.disconnect(s, *d)
}

// disconnect closes the client's connection with a code. Any goroutine.
func (n *Node) disconnect(s *session, d client.Disconnect) {
	s.set(markEnded)
	if n.notices.disconnect != nil {
		why := d
		s.change(func(e *extra) {
			if e.gone == nil {
				e.gone = &why
			}
		})
	}
	n.counts.disconnects.Add(d.Code)
	s.Conn.Close(ws.CloseCode(d.Code), d.Reason)
}

// replies gathers what a frame's commands are answered at once, so that it goes out as
// one frame.
type replies struct {
	n   *Node
	s   *session
	ctx context.Context // of all commands of the frame
	buf []byte

	frame []byte // the commands, of which the first are done
	done  int
}

const repliesMax = 32 << 10 // bytes in one frame, about

func (o *replies) add(r *protocol.Reply) {
	if r.Id == 0 { // a send command
		return
	}
	b, err := client.AppendReply(o.buf, o.s.encoding(), r)
	if err != nil {
		o.n.opts.Logger.Error("a reply could not be encoded", "error", err)
		b, _ = client.AppendReply(o.buf, o.s.encoding(), &protocol.Reply{Id: r.Id, Error: client.ErrInternal.Proto()})
	}
	o.buf = b
	if r.Error != nil {
		o.n.counts.errors.Add(r.Error.Code)
	}
	if len(o.buf) > repliesMax {
		o.flush()
	}
}

func (o *replies) flush() {
	if len(o.buf) > 0 {
		_ = o.s.Conn.Send(o.s.encoding().Opcode(), o.buf)
		o.buf = o.buf[:0]
	}
}

// find returns the session of a client id of this node. Not for a loop's goroutine.
func (n *Node) find(id string) (s *session) {
	h, ok := n.ids.handle(id)
	if !ok {
		return nil
	}
	l := n.server.Poller().Loop(h)
	if l == nil {
		return nil
	}
	if !n.on(l, func() { s = sessionAt(l, h) }) || s == nil || !s.is(markConnected) {
		return nil
	}
	return s
}

func sessionAt(l *poller.Loop, h poller.Handle) *session {
	c := conn.Get(l, h)
	if c == nil {
		return nil
	}
	s, _ := c.Session().(*session)
	return s
}

// each calls f for every connected session of this node, one at a time, on the loops
// and in slices. Not for a loop's goroutine.
func (n *Node) each(f func(*session)) {
	const slice = 1024
	for _, l := range n.server.Poller().Loops() {
		for from, more, alive := uint32(0), true, true; more && alive; {
			alive = n.on(l, func() {
				from, more = l.Each(from, slice, func(pc *poller.Conn) {
					if s, ok := pc.Session().(*session); ok && s.is(markConnected) {
						f(s)
					}
				})
			})
		}
	}
}

// peek answers nothing: it takes a pong without asking a worker. On the loop.
func (n *Node) peek(c *conn.Conn, _ ws.Opcode, payload []byte) bool {
	s, ok := c.Session().(*session)
	if !ok || !s.is(markAwait) || !client.IsPong(s.encoding(), payload) {
		return false
	}
	s.marks.And(^markAwait)
	return true
}

func (n *Node) tenths() uint32 { return uint32(time.Since(n.started) / (100 * time.Millisecond)) }
