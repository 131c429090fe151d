package backend

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"

	"roost/auth"
	"roost/gateway"
)

// asked are the fields of events that ask for a decision.
type asked struct {
	Channel  string   `json:"channel,omitempty"`
	Name     string   `json:"name,omitempty"`
	Version  string   `json:"version,omitempty"`
	Channels []string `json:"channels,omitempty"`
}

// either is what may come as JSON or in base64.
func either(name string, raw json.RawMessage, b64 *string) ([]byte, error) {
	raw = given(raw)
	if b64 == nil {
		return raw, nil
	}
	if raw != nil {
		return nil, errors.New("the result has both " + name + " and b64" + name)
	}
	b, err := base64.StdEncoding.DecodeString(*b64)
	if err != nil {
		return nil, errors.New("b64" + name + " is not standard base64")
	}
	return b, nil
}

// shown is what results have for others and for the client.
type shown struct {
	Info    json.RawMessage `json:"info"`
	B64Info *string         `json:"b64info"`
	Data    json.RawMessage `json:"data"`
	B64Data *string         `json:"b64data"`
}

func (s *shown) bytes() (info, data []byte, err error) {
	if info, err = either("info", s.Info, s.B64Info); err == nil {
		data, err = either("data", s.Data, s.B64Data)
	}
	return info, data, err
}

// connect implements gateway.Handlers.Connect.
func (s *Set) connect(ctx context.Context, e gateway.ConnectEvent) (r gateway.ConnectReply, err error) {
	q := &request{event: eventConnect, peer: &e.Peer, data: e.Data, again: true, fields: &asked{Name: e.Name, Version: e.Version, Channels: e.Channels}}
	err = s.call(ctx, s.opts.Connect, q, func(result []byte) (err error) {
		var a struct {
			shown
			User     string          `json:"user"`
			ExpireAt int64           `json:"expire_at"`
			Meta     json.RawMessage `json:"meta"`
			Channels []string        `json:"channels"`
			Subs     map[string]struct {
				shown
				Override *auth.SubscribeOverride `json:"override"`
			} `json:"subs"`
		}
		if err := json.Unmarshal(result, &a); err != nil {
			return err
		}
		r = gateway.ConnectReply{User: a.User, ExpireAt: a.ExpireAt, Meta: given(a.Meta), Channels: a.Channels, Subs: make(map[string]auth.SubOptions, len(a.Subs))}
		for ch, sub := range a.Subs {
			o := auth.SubOptions{Override: sub.Override.Override()}
			if o.Info, o.Data, err = sub.bytes(); err != nil {
				return err
			}
			r.Subs[ch] = o
		}
		r.Info, r.Data, err = a.bytes()
		return err
	})
	return r, err
}

// subscribe implements gateway.Handlers.Subscribe.
func (s *Set) subscribe(ctx context.Context, e gateway.SubscribeEvent) (r gateway.SubscribeReply, err error) {
	q := &request{event: eventSubscribe, peer: &e.Peer, data: e.Data, again: true, fields: &asked{Channel: e.Channel}}
	err = s.call(ctx, e.Backend, q, func(result []byte) (err error) {
		var a struct {
			shown
			ExpireAt int64                   `json:"expire_at"`
			Override *auth.SubscribeOverride `json:"override"`
		}
		if err := json.Unmarshal(result, &a); err != nil {
			return err
		}
		r.ExpireAt, r.Override = a.ExpireAt, a.Override.Override()
		r.Info, r.Data, err = a.bytes()
		return err
	})
	return r, err
}

// publish implements gateway.Handlers.Publish.
func (s *Set) publish(ctx context.Context, e gateway.PublishEvent) (r gateway.PublishReply, err error) {
	q := &request{event: eventPublish, peer: &e.Peer, data: e.Data, fields: &asked{Channel: e.Channel}}
	err = s.call(ctx, e.Backend, q, func(result []byte) (err error) {
		var a struct {
			shown
			SkipHistory bool              `json:"skip_history"`
			Tags        map[string]string `json:"tags"`
		}
		if err := json.Unmarshal(result, &a); err != nil {
			return err
		}
		r.SkipHistory, r.Tags = a.SkipHistory, a.Tags
		_, r.Data, err = a.bytes()
		return err
	})
	return r, err
}
