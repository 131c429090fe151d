package client

import (
	"encoding/base64"
	"errors"
	"unicode/utf8"

	"github.com/centrifugal/protocol"
	"github.com/centrifugal/protocol/cfjson"
)

var errNotUTF8 = errors.New("not UTF-8") // browsers close on it

func encodeJSON(r *protocol.Reply) ([]byte, error) {
	b, err := protocol.DefaultJsonReplyEncoder.Encode(r)
	if err == nil && !utf8.Valid(b) {
		err = errNotUTF8
	}
	return b, err
}

// isJSON tells whether data can travel as it is in a text message.
func isJSON(data []byte) bool { return cfjson.Valid(data) && utf8.Valid(data) }

// jsonValue returns data as a JSON value: itself, or else as a string, in base64 if it is
// no text.
func jsonValue(data []byte) []byte {
	switch {
	case len(data) == 0:
		return []byte("null")
	case isJSON(data):
		return data
	case utf8.Valid(data):
		return cfjson.AppendString(nil, string(data))
	}
	return cfjson.AppendString(nil, base64.StdEncoding.EncodeToString(data))
}

// JSONString appends data as a JSON string that holds a JSON value, as JSON clients get
// it that agreed to deltas.
func JSONString(dst, data []byte) []byte { return cfjson.AppendString(dst, string(jsonValue(data))) }

// presentable is a copy of r in which all payloads are JSON; r itself where it cannot be
// copied.
func presentable(r *protocol.Reply) *protocol.Reply {
	c := new(protocol.Reply)
	if b, err := r.MarshalCF(); err != nil || c.UnmarshalCF(b) != nil {
		return r
	}
	if c.Push != nil {
		presentPush(c.Push)
	}
	if c.Connect != nil {
		present(&c.Connect.Data)
		for _, s := range c.Connect.Subs {
			presentSubscription(s)
		}
	}
	if c.Subscribe != nil {
		presentSubscription(c.Subscribe)
	}
	for _, i := range c.Presence.GetPresence() {
		presentInfo(i)
	}
	for _, p := range c.History.GetPublications() {
		presentPublication(p)
	}
	if c.Rpc != nil {
		present(&c.Rpc.Data)
	}
	return c
}

func presentPush(p *protocol.Push) {
	presentPublication(p.Pub)
	presentInfo(p.Join.GetInfo())
	presentInfo(p.Leave.GetInfo())
	if p.Message != nil {
		present(&p.Message.Data)
	}
	if p.Subscribe != nil {
		present(&p.Subscribe.Data)
	}
}

func presentSubscription(s *protocol.SubscribeResult) {
	present(&s.Data)
	for _, p := range s.Publications {
		presentPublication(p)
	}
}

func presentPublication(p *protocol.Publication) {
	if p != nil {
		present(&p.Data)
		presentInfo(p.Info)
	}
}

func presentInfo(i *protocol.ClientInfo) {
	if i != nil {
		present(&i.ConnInfo)
		present(&i.ChanInfo)
	}
}

func present(p *protocol.Raw) {
	if len(*p) > 0 {
		*p = jsonValue(*p)
	}
}
