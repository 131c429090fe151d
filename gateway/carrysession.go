package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/centrifugal/protocol"

	"roost/auth"
	"roost/conn"
	"roost/hub"
	"roost/internal/pack"
	"roost/proto/client"
)

var (
	_ conn.Mover = (*handler)(nil)
	_ conn.Mover = (*rawRoute)(nil)
)

// Leave implements conn.Mover.
func (h *handler) Leave(dst []byte, c *conn.Conn) ([]byte, bool) {
	return (*Node)(h).appendSession(dst, c)
}

// Arrive implements conn.Mover.
func (h *handler) Arrive(c *conn.Conn, state []byte) error {
	n := (*Node)(h)
	s, err := n.arrive(c, state)
	if err != nil {
		return err
	}
	n.counts.transports.Add(1)
	if s.is(markConnected) {
		n.counts.clients.Add(1)
		n.hub.Add(&s.Client)
	}
	return nil
}

// Leave implements conn.Mover.
func (rt *rawRoute) Leave(dst []byte, c *conn.Conn) ([]byte, bool) {
	return rt.node.appendSession(dst, c)
}

// Arrive implements conn.Mover.
func (rt *rawRoute) Arrive(c *conn.Conn, state []byte) error {
	s, err := rt.node.arrive(c, state)
	if err != nil {
		return err
	}
	rt.counts.clients.Add(1)
	rt.node.counts.clients.Add(1)
	rt.node.hub.Add(&s.Client)
	return nil
}

// Parts of a session that few have, in the order of their bits.
const (
	carriedToken = 1 << iota // its id, info and meta
	carriedAdmitted
	carriedHeaders
	carriedAsk
	carriedChannels
)

// appendSession appends what the node of another process needs of a session. It reports false
// where something is under way for it. On the loop.
func (n *Node) appendSession(dst []byte, c *conn.Conn) ([]byte, bool) {
	s, ok := c.Session().(*session)
	if !ok || !s.is(markOpen) || s.is(markEnded|markBroken|markFailed) {
		return dst, false
	}
	x := s.look()
	if x.emulated != nil || x.calls > 0 || len(x.pending) > 0 || x.raw != nil {
		return dst, false
	}
	dst = pack.AppendUint(dst, uint64(s.marks.Load()&^markRecent))
	dst = pack.AppendString(dst, s.User)
	dst = pack.AppendUint(dst, uint64(s.expireAt.Load()))
	dst = pack.AppendUint(dst, uint64(s.issuedAt.Load()))
	dst = pack.AppendUint(dst, uint64(s.pingAt))
	dst, ok = n.appendExtra(dst, &x)
	if !ok {
		return dst, false
	}
	whole := s.Carry(func(ch *hub.Channel, flags hub.Flags) {
		dst = pack.AppendInt(dst, ch.ID())
		dst = pack.AppendUint(dst, uint64(flags))
	})
	return dst, whole
}

func (n *Node) appendExtra(dst []byte, x *extra) ([]byte, bool) {
	var parts uint64
	set := func(has bool, part uint64) {
		if has {
			parts |= part
		}
	}
	set(x.token != "" || x.info != nil || x.meta != nil, carriedToken)
	set(x.admitted != nil, carriedAdmitted)
	set(x.headers != nil, carriedHeaders)
	set(x.askAt != 0, carriedAsk)
	set(len(x.channels) > 0, carriedChannels)
	dst = pack.AppendUint(dst, parts)
	if parts&carriedToken != 0 {
		dst = pack.AppendString(dst, x.token)
		dst = pack.AppendBytes(dst, x.info)
		dst = pack.AppendBytes(dst, x.meta)
	}
	if parts&carriedAdmitted != 0 {
		b, err := json.Marshal(x.admitted)
		if err != nil {
			return dst, false
		}
		dst = pack.AppendBytes(dst, b)
	}
	if parts&carriedHeaders != 0 {
		dst = pack.AppendUint(dst, uint64(len(*x.headers)))
		for _, v := range *x.headers {
			dst = pack.AppendString(dst, v)
		}
	}
	if parts&carriedAsk != 0 {
		dst = pack.AppendUint(dst, uint64(x.askAt))
	}
	if parts&carriedChannels == 0 {
		return dst, true
	}
	dst = pack.AppendUint(dst, uint64(len(x.channels)))
	for ch, cx := range x.channels {
		dst = pack.AppendInt(dst, ch.ID())
		dst = pack.AppendBytes(dst, cx.info)
		dst = pack.AppendInt(dst, cx.expireAt)
		dst = pack.AppendUint(dst, uint64(cx.askAt))
		dst = pack.AppendBool(dst, cx.asks)
		var filter []byte
		if cx.filter != nil {
			var err error
			if filter, err = json.Marshal(cx.filter.Node()); err != nil {
				return dst, false
			}
		}
		dst = pack.AppendBytes(dst, filter)
	}
	return dst, true
}

var errHeritage = errors.New("gateway: a session names a channel that was not handed over")

// arrive makes a session again. On the loop.
func (n *Node) arrive(c *conn.Conn, state []byte) (*session, error) {
	r := pack.NewReader(state)
	s := new(session)
	s.Conn = c
	s.marks.Store(uint32(r.Uint()))
	s.User = r.String()
	s.expireAt.Store(uint32(r.Uint()))
	s.issuedAt.Store(uint32(r.Uint()))
	s.pingAt = uint32(r.Uint())
	if parts := r.Uint(); parts != 0 {
		x, err := n.readExtra(r, parts)
		if err != nil {
			return nil, err
		}
		s.extra = x
	}
	c.SetSession(s)
	for r.Len() > 0 {
		ch, flags := n.heritage.channels[r.Int()], hub.Flags(r.Uint())
		if r.Err() != nil || ch == nil {
			return nil, errors.Join(errHeritage, r.Err())
		}
		ch.Resume(&s.Client, flags)
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("gateway: a session: %w", err)
	}
	n.askSoon(s)
	return s, nil
}

// askSoon has handlers asked about what they were about to be asked by the other node.
func (n *Node) askSoon(s *session) {
	if s.expireAt.Load() > 0 && n.refreshed(s) && s.look().askAt == 0 {
		s.change(func(e *extra) { e.askAt = n.after(time.Second) })
	}
	if s.extra == nil {
		return
	}
	for _, x := range s.extra.channels {
		if x.asks && x.expireAt > 0 && x.askAt == 0 {
			x.askAt = n.after(time.Second)
		}
	}
}

func (n *Node) readExtra(r *pack.Reader, parts uint64) (*extra, error) {
	x := new(extra)
	if parts&carriedToken != 0 {
		x.token, x.info, x.meta = r.String(), clone(r.Bytes()), clone(r.Bytes())
	}
	if parts&carriedAdmitted != 0 {
		x.admitted = new(auth.Connect)
		if err := json.Unmarshal(r.Bytes(), x.admitted); err != nil {
			return nil, fmt.Errorf("gateway: a session's token: %w", err)
		}
	}
	if parts&carriedHeaders != 0 {
		var headers []string
		for range r.Uint() {
			if headers = append(headers, r.String()); r.Err() != nil {
				return nil, r.Err()
			}
		}
		if len(headers) == len(n.opts.Headers) {
			x.headers = &headers
		}
	}
	if parts&carriedAsk != 0 {
		x.askAt = uint32(r.Uint())
	}
	if parts&carriedChannels == 0 {
		return x, r.Err()
	}
	x.channels = make(map[*hub.Channel]*channelExtra)
	for range r.Uint() { // ends with the first that is not there
		ch := n.heritage.channels[r.Int()]
		cx := &channelExtra{info: clone(r.Bytes()), expireAt: r.Int(), askAt: uint32(r.Uint()), asks: r.Bool()}
		if b := r.Bytes(); b != nil {
			var node protocol.FilterNode
			err := json.Unmarshal(b, &node)
			if err == nil {
				cx.filter, err = client.CompileFilter(&node)
			}
			if err != nil {
				return nil, fmt.Errorf("gateway: a session's filter: %w", err)
			}
		}
		if r.Err() != nil || ch == nil {
			return nil, errors.Join(errHeritage, r.Err())
		}
		x.channels[ch] = cx
	}
	return x, r.Err()
}

// clone keeps a part of a record.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}
