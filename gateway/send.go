package gateway

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/centrifugal/protocol"

	"roost/broker"
	"roost/proto/client"
	"roost/proto/ws"
)

// The request and result of Send.
type (
	SendRequest struct {
		User    string `json:"user,omitempty"`
		Client  string `json:"client,omitempty"`
		Session string `json:"session,omitempty"` // of an emulated client
		// Opcode of the message to clients of raw routes: text or binary. Default: what
		// the route has; binary for B64Data where it has both.
		Opcode  string          `json:"opcode,omitempty"`
		Data    json.RawMessage `json:"data,omitempty"`
		B64Data []byte          `json:"b64data,omitempty"` // instead of Data
	}
	SendResult struct {
		NumClients uint32 `json:"num_clients"`
	}
)

// sendOutcome is what a node did for a SendRequest.
type sendOutcome struct {
	Sent  uint32 `json:"sent"`
	Gone  uint32 `json:"gone,omitempty"`  // have ended, or were cut for taking too little
	Unfit uint32 `json:"unfit,omitempty"` // would not understand the data
}

// Send sends a message to one client, by its id or emulated session, or to all clients of a user. A user who is not
// there is no error, a client is.
func (n *Node) Send(ctx context.Context, r *SendRequest) (*SendResult, error) {
	given := 0
	for _, whom := range []string{r.User, r.Client, r.Session} {
		if whom != "" {
			given++
		}
	}
	if given != 1 {
		return nil, client.BadRequest("exactly one of user, client and session must be given")
	}
	if r.Opcode != "" && r.Opcode != rawText && r.Opcode != rawBinary {
		return nil, client.BadRequest("opcode is %.20q, must be text or binary", r.Opcode)
	}
	if _, err := payload(r.Data, r.B64Data); err != nil {
		return nil, err
	}
	var all sendOutcome
	err := ask(ctx, n, "send", r, func(o sendOutcome) {
		all.Sent += o.Sent
		all.Gone += o.Gone
		all.Unfit += o.Unfit
	})
	switch {
	case all.Sent > 0 && r.User == "": // whatever the other nodes say
		return &SendResult{NumClients: all.Sent}, nil
	case errors.Is(err, broker.ErrTooLarge):
		return nil, client.ErrLimitExceeded
	case err != nil:
		return nil, n.failed(err)
	case all.Unfit > 0 && all.Sent == 0:
		return nil, client.BadRequest("the data is not what the client understands: JSON where its protocol is that, UTF-8 for text")
	case all.Gone > 0 && r.User == "":
		return nil, &client.Error{Code: client.ErrNotAvailable.Code, Message: "not available: the client has gone, or took too little and was cut"}
	case all.Sent == 0 && r.User == "":
		return nil, &client.Error{Code: client.ErrNotAvailable.Code, Message: "not available: no such client is connected"}
	}
	return &SendResult{NumClients: all.Sent}, nil
}

// localSend sends to the clients of this node.
func (n *Node) localSend(r *SendRequest) (o sendOutcome) {
	data, err := payload(r.Data, r.B64Data)
	if err != nil {
		return o // Send has looked
	}
	isJSON := len(r.Data) > 0 || json.Valid(data)
	for _, s := range n.targets(r.User, r.Client, r.Session) {
		if rt := s.raw(); rt != nil {
			o.count(rt.send(s, rt.sendOpcode(r), data))
			continue
		}
		switch {
		case !s.is(markProtobuf) && !isJSON:
			o.Unfit++
		case s.is(markEnded):
			o.Gone++
		default:
			o.count(n.tell(s, &protocol.Push{Message: &protocol.Message{Data: data}}))
		}
	}
	return o
}

func (o *sendOutcome) count(err error) {
	switch {
	case err == nil:
		o.Sent++
	case errors.Is(err, errRawUTF8):
		o.Unfit++
	default:
		o.Gone++
	}
}

// sendOpcode is that of a message by the server API.
func (rt *rawRoute) sendOpcode(r *SendRequest) ws.Opcode {
	switch r.Opcode {
	case rawText:
		return ws.OpText
	case rawBinary:
		return ws.OpBinary
	}
	return rt.opcode(len(r.B64Data) > 0)
}
