package backend

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"

	"roost/gateway"
	"roost/proto/client"
)

// event is what a backend is asked about.
type event uint8

const (
	eventRPC event = iota
	eventMessage
	eventDisconnect
	eventUnsubscribe
	eventConnect
	eventSubscribe
	eventPublish
	eventRawAuthorize
	eventRawConnect
	eventRawMessage
	eventRawDisconnect
	eventRefresh
	eventSubRefresh
	events // how many there are
)

var eventNames = [events]string{"rpc", "message", "disconnect", "unsubscribe", "connect", "subscribe", "publish",
	"raw_authorize", "raw_connect", "raw_message", "raw_disconnect", "refresh", "sub_refresh"}

func (e event) String() string { return eventNames[e] }

// rpc implements gateway.Handlers.RPC.
func (s *Set) rpc(ctx context.Context, e gateway.RPCEvent) (data []byte, err error) {
	for _, r := range s.opts.RPC {
		if !r.matches(e.Method) {
			continue
		}
		q := &request{event: eventRPC, peer: &e.Peer, method: e.Method, data: e.Data, again: s.opts.Backends[r.Backend].RetryRPC}
		err = s.call(ctx, r.Backend, q, func(result []byte) (err error) {
			data, err = resultData(result, e.Encoding)
			return err
		})
		return data, err
	}
	return nil, client.ErrMethodNotFound
}

// message implements gateway.Handlers.Message.
func (s *Set) message(ctx context.Context, e gateway.MessageEvent) error {
	q := &request{event: eventMessage, peer: &e.Peer, data: e.Data}
	return s.call(ctx, s.opts.Message, q, func([]byte) error { return nil })
}

// resultData reads {"data":…} or {"b64data":"…"} for a client of that encoding.
func resultData(result []byte, encoding string) ([]byte, error) {
	var r struct {
		Data json.RawMessage `json:"data"`
		B64  *string         `json:"b64data"`
	}
	if data, ok := only(result, "data"); ok {
		return data, nil
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return nil, err
	}
	if r.B64 == nil {
		return r.Data, nil
	}
	if r.Data != nil {
		return nil, errors.New("the result has both data and b64data")
	}
	data, err := base64.StdEncoding.DecodeString(*r.B64)
	switch {
	case err != nil:
		return nil, errors.New("b64data is not standard base64")
	case encoding != "binary" && len(data) > 0 && !json.Valid(data):
		return nil, errors.New("b64data is not JSON, which is all that this client understands")
	}
	return data, nil
}
