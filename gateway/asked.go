package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/centrifugal/protocol"

	"roost/auth"
	"roost/proto/client"
)

// unusable is an answer of a handler that cannot be followed; it is counted.
func (n *Node) unusable(event, format string, args ...any) error {
	n.counts.unusable.Add(event)
	return fmt.Errorf("the answer to %s cannot be used: %s", event, fmt.Sprintf(format, args...))
}

// checkAnswer tells what is wrong with what handlers may say of any client.
func (n *Node) checkAnswer(s *session, event string, data []byte, expireAt int64) error {
	if !s.is(markProtobuf) && len(data) > 0 && !json.Valid(data) {
		return n.unusable(event, "data is not JSON, which is all that this client understands")
	}
	return n.checkExpiry(event, expireAt)
}

func (n *Node) checkExpiry(event string, at int64) error {
	if at != 0 && (at <= time.Now().Unix() || at > 1<<32-1) {
		return n.unusable(event, "expire_at %d is not in the future, in Unix seconds", at)
	}
	return nil
}

// cloned copies what points into the frame.
func cloned(r *protocol.SubscribeRequest) (*protocol.SubscribeRequest, error) {
	b, err := r.MarshalCF()
	own := new(protocol.SubscribeRequest)
	if err != nil || own.UnmarshalCF(b) != nil {
		return nil, client.ErrBadRequest
	}
	return own, nil
}

// askConnect has a handler decide on a client without a token.
func (n *Node) askConnect(out *replies, cmd *protocol.Command) error {
	s, r := out.s, cmd.Connect
	e := ConnectEvent{Peer: n.asker(s), Name: strings.Clone(r.Name), Version: strings.Clone(r.Version), Data: bytes.Clone(r.Data)}
	subs := make(map[string]*protocol.SubscribeRequest, len(r.Subs))
	for name, q := range r.Subs {
		own, err := cloned(q)
		if err != nil {
			return err
		}
		name = strings.Clone(name)
		subs[name] = own
		e.Channels = append(e.Channels, name)
	}
	id := cmd.Id
	return n.pend(out, "connect", id, "", func(ctx context.Context, out *replies) error {
		a, err := n.opts.Handlers.Connect(ctx, e)
		if err == nil {
			err = n.checkAnswer(s, "connect", a.Data, a.ExpireAt)
		}
		if err != nil {
			return err
		}
		for _, ch := range slices.AppendSeq(slices.Clone(a.Channels), maps.Keys(a.Subs)) {
			if _, err := n.namespace(ch); err != nil {
				return n.unusable("connect", "channel %q: %v", ch, err)
			}
		}
		c := auth.Connect{User: a.User, ExpireAt: a.ExpireAt, Info: a.Info, Meta: a.Meta, Channels: a.Channels, Subs: a.Subs}
		return n.enter(ctx, out, id, c, subs, &protocol.ConnectResult{Data: a.Data})
	})
}

// askSubscribe has a handler decide on a subscription.
func (n *Node) askSubscribe(out *replies, cmd *protocol.Command, j *joining) error {
	s := out.s
	r, err := cloned(cmd.Subscribe)
	if err != nil {
		return err
	}
	j.name = r.Channel
	e := SubscribeEvent{Peer: n.asker(s), Backend: j.ns.SubscribeBackend, Channel: r.Channel, Data: r.Data}
	id := cmd.Id
	return n.pend(out, "subscribe", id, r.Channel, func(ctx context.Context, out *replies) error {
		ask := n.opts.Handlers.Subscribe
		if j.ns.service != nil {
			ask = j.ns.service.Subscribe
		}
		a, err := ask(ctx, e)
		if ctx.Err() == context.Canceled {
			return client.ErrPermissionDenied // unsubscribed by the server, or gone
		}
		if err == nil {
			err = n.checkAnswer(s, "subscribe", a.Data, a.ExpireAt)
		}
		if err != nil {
			return err
		}
		j.info, j.data, j.expireAt, j.asked = a.Info, a.Data, a.ExpireAt, true
		return n.follow(ctx, out, id, r, j, a.Override)
	})
}

// askPublish has a handler decide on a publication, and what is published.
func (n *Node) askPublish(out *replies, id uint32, ns *Namespace, r *protocol.PublishRequest) error {
	s := out.s
	e := PublishEvent{Peer: n.asker(s), Backend: ns.PublishBackend, Channel: strings.Clone(r.Channel), Data: bytes.Clone(r.Data)}
	return n.pend(out, "publish", id, e.Channel, func(ctx context.Context, out *replies) error {
		a, err := n.opts.Handlers.Publish(ctx, e)
		if err != nil {
			return err
		}
		if a.Data == nil {
			a.Data = e.Data
		}
		if err := n.publishOf(ctx, s, ns, e.Channel, a); err != nil {
			return err
		}
		out.add(&protocol.Reply{Id: id, Publish: &protocol.PublishResult{}})
		return errReplied
	})
}
