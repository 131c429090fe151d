package backend

import (
	"context"
	"encoding/json"

	"roost/gateway"
	"roost/proto/client"
)

// kept is the result about what was let in for a time.
type kept struct {
	Expired  bool            `json:"expired"`
	ExpireAt int64           `json:"expire_at"`
	Info     json.RawMessage `json:"info"`
	B64Info  *string         `json:"b64info"`
	Meta     json.RawMessage `json:"meta"`
}

func (k *kept) reply(result []byte) (r gateway.RefreshReply, err error) {
	if err = json.Unmarshal(result, k); err != nil {
		return r, err
	}
	r = gateway.RefreshReply{Expired: k.Expired, ExpireAt: k.ExpireAt, Meta: given(k.Meta)}
	r.Info, err = either("info", k.Info, k.B64Info)
	return r, err
}

// refresh implements gateway.Handlers.Refresh.
func (s *Set) refresh(ctx context.Context, e gateway.RefreshEvent) (r gateway.RefreshReply, err error) {
	q := &request{event: eventRefresh, peer: &e.Peer, again: true}
	err = s.callAside(ctx, s.opts.Refresh, q, func(result []byte) (err error) {
		r, err = new(kept).reply(result)
		return err
	})
	return r, err
}

// subRefresh implements gateway.Handlers.SubRefresh.
func (s *Set) subRefresh(ctx context.Context, e gateway.SubRefreshEvent) (r gateway.SubRefreshReply, err error) {
	q := &request{event: eventSubRefresh, peer: &e.Peer, again: true, fields: &asked{Channel: e.Channel}}
	err = s.callAside(ctx, e.Backend, q, func(result []byte) error {
		k, err := new(kept).reply(result)
		r = gateway.SubRefreshReply{Expired: k.Expired, ExpireAt: k.ExpireAt, Info: k.Info}
		return err
	})
	return r, err
}

// callAside is call for what nobody waits for: however much of it there is, half of the
// backend's concurrency is left to clients' commands.
func (s *Set) callAside(ctx context.Context, backend string, q *request, use func(result []byte) error) error {
	e := s.endpoints[backend]
	if e == nil {
		return client.ErrNotAvailable
	}
	select {
	case e.aside <- struct{}{}:
		defer func() { <-e.aside }()
		return s.call(ctx, backend, q, use)
	case <-ctx.Done():
		return client.ErrTooManyRequests
	}
}
