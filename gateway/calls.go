package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/centrifugal/protocol"

	"roost/proto/client"
)

// callsPerClient bounds the calls of one client that are under way: more would be at
// the expense of others.
const callsPerClient = 64

// rpcCommand has a handler answer; other commands of the client go on meanwhile.
func (n *Node) rpcCommand(s *session, id uint32, r *protocol.RPCRequest) error {
	f := n.opts.rpc(r.Method)
	if f == nil {
		return client.ErrMethodNotFound
	}
	// The frame is the loop's again when this returns.
	e := RPCEvent{Peer: n.asker(s), Method: strings.Clone(r.Method), Data: bytes.Clone(r.Data)}
	err := n.call(s, func(ctx context.Context) {
		data, err := f(ctx, e)
		n.answer(s, id, data, err)
	})
	if err == nil {
		err = errReplied
	}
	return err
}

// sendCommand hands a message that has no answer to a handler.
func (n *Node) sendCommand(s *session, r *protocol.SendRequest) error {
	f := n.opts.Handlers.Message
	if f == nil {
		return &client.DisconnectNotAvailable
	}
	e := MessageEvent{Peer: n.asker(s), Data: bytes.Clone(r.Data)}
	return n.call(s, func(ctx context.Context) {
		var d *client.Disconnect
		switch err := f(ctx, e); {
		case errors.As(err, &d):
			n.disconnect(s, *d)
		case err != nil:
			n.reason(err) // for the log: there is no reply
		}
	})
}

// takeCall counts a call, unless too many are under way; endCall takes that back.
func (n *Node) takeCall(s *session) error {
	select {
	case n.calls <- struct{}{}:
	default:
		return client.ErrTooManyRequests
	}
	room := false
	s.change(func(e *extra) {
		if room = e.calls < callsPerClient; room {
			e.calls++
		}
	})
	if !room {
		<-n.calls
		return client.ErrTooManyRequests
	}
	return nil
}

func (n *Node) endCall(s *session) {
	s.change(func(e *extra) { e.calls-- })
	s.tidy()
	<-n.calls
}

// call runs f on a goroutine of its own, unless too many are under way.
func (n *Node) call(s *session, f func(context.Context)) error {
	if err := n.takeCall(s); err != nil {
		return err
	}
	go func() {
		ctx, cancel := context.WithTimeout(n.life, n.opts.CallTimeout)
		defer cancel()
		f(ctx)
		n.endCall(s)
	}()
	return nil
}

// answer sends what a handler said to an rpc command.
func (n *Node) answer(s *session, id uint32, data []byte, err error) {
	out := replies{n: n, s: s}
	defer out.flush()
	var d *client.Disconnect
	switch {
	case errors.As(err, &d):
		n.disconnect(s, *d)
		return
	case err != nil:
	case !s.is(markProtobuf) && len(data) > 0 && !json.Valid(data):
		err = n.unusable("rpc", "data is not JSON, which is all that this client understands")
	case len(data) > n.opts.QueueLimit:
		err = n.unusable("rpc", "it has %d bytes, more than queue-limit", len(data))
	}
	if err != nil {
		out.add(&protocol.Reply{Id: id, Error: n.reason(err).Proto()})
		return
	}
	out.add(&protocol.Reply{Id: id, Rpc: &protocol.RPCResult{Data: data}})
}

// peer tells a handler who asks.
func (n *Node) peer(s *session) Peer {
	x := s.look()
	p := Peer{Client: n.ids.id(s.Conn.Handle()), Transport: x.transport(), Protocol: "json", Encoding: "json", User: s.User, Meta: x.meta}
	if s.is(markProtobuf) {
		p.Protocol, p.Encoding = "protobuf", "binary"
	}
	if rt := s.raw(); rt != nil {
		p.Transport, p.Protocol, p.Encoding = TransportRaw, rt.name, "binary"
	}
	return p
}
