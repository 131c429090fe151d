package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/centrifugal/protocol"

	"roost/proto/client"
)

// pending is a command whose handler is being asked. Guarded by the session's Mu.
type pending struct {
	channel string             // "" for connect
	cancel  context.CancelFunc // for when the client goes; nil if the call is of use to others
	waited  bool               // the turn is parked for it
	off     bool               // the server has unsubscribed the client meanwhile
}

// errParked tells that the frame's other commands wait for a call to end.
var errParked = errors.New("gateway: parked")

// pend answers a command on a goroutine of its own by f. While it is under way, later
// commands of the client that name the channel wait; those behind a connect, all.
func (n *Node) pend(out *replies, kind string, id uint32, channel string, f func(context.Context, *replies) error) error {
	s := out.s
	if err := n.takeCall(s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(n.life, n.opts.CallTimeout)
	p := &pending{channel: strings.Clone(channel)}
	if kind != "publish" {
		p.cancel = cancel
	}
	s.change(func(e *extra) { e.pending = append(e.pending, p) })
	if kind == "connect" {
		out.park(1)
	}
	go func() {
		defer cancel()
		own := &replies{n: n, s: s, ctx: ctx}
		if d := n.settle(own, kind, id, &protocol.Reply{Id: id}, f(ctx, own)); d != nil {
			n.fail(s, d)
		}
		own.flush()
		off, waits := s.done(p)
		if off { // it came between the handler's answer and the subscription
			n.unsubscribe(s, p.channel, &client.UnsubscribeServer)
		}
		n.endCall(s)
		if waits || kind == "connect" {
			s.Conn.Unpark()
		}
	}()
	if kind == "connect" {
		return errParked
	}
	return errReplied
}

// done takes a pending command out; waits says that the turn is parked for it.
func (s *session) done(p *pending) (off, waits bool) {
	s.change(func(e *extra) {
		e.pending = slices.DeleteFunc(e.pending, func(o *pending) bool { return o == p })
		off, waits = p.off, p.waited
	})
	return off, waits
}

// hold parks the client's turn if a command must wait for another, and reports whether
// it did: one about the same channel, or, where as many are under way as may be, the
// oldest.
func (n *Node) hold(out *replies, cmd *protocol.Command) bool {
	s, ch := out.s, channelOf(cmd)
	if ch == "" {
		return false
	}
	e := s.look()
	at := slices.IndexFunc(e.pending, func(p *pending) bool { return p.channel == ch })
	if at < 0 {
		if len(e.pending) == 0 || e.calls < callsPerClient {
			return false
		}
		at = 0
	}
	p := e.pending[at]
	out.park(0)
	waits := false
	s.change(func(e *extra) {
		waits = slices.Contains(e.pending, p)
		p.waited = waits
	})
	if !waits {
		s.Conn.Unpark() // it has ended just now
	}
	return true
}

func channelOf(cmd *protocol.Command) string {
	switch {
	case cmd.Subscribe != nil:
		return cmd.Subscribe.Channel
	case cmd.Unsubscribe != nil:
		return cmd.Unsubscribe.Channel
	case cmd.Publish != nil:
		return cmd.Publish.Channel
	case cmd.Presence != nil:
		return cmd.Presence.Channel
	case cmd.PresenceStats != nil:
		return cmd.PresenceStats.Channel
	case cmd.History != nil:
		return cmd.History.Channel
	case cmd.SubRefresh != nil:
		return cmd.SubRefresh.Channel
	}
	return ""
}

// park keeps what is behind the first commands of the frame, those done and more.
func (o *replies) park(more int) {
	enc := o.s.encoding()
	o.s.Conn.Park(enc.Opcode(), client.Skip(enc, o.frame, o.done+more), o.s.quit)
}

// quit cancels the calls that are of use to the client alone. Any goroutine.
func (s *session) quit() {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.extra == nil {
		return
	}
	for _, p := range s.extra.pending {
		if p.cancel != nil {
			p.cancel()
		}
	}
}

// turnOff keeps a subscription that is being decided on from coming about.
func (s *session) turnOff(channel string) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.extra == nil {
		return
	}
	for _, p := range s.extra.pending {
		if channel != "" && p.channel == channel && p.cancel != nil {
			p.off = true
			p.cancel()
		}
	}
}
