package backend

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"

	"roost/gateway"
)

// Clients of raw routes bring messages of whatever protocol. Over HTTP a message is the body
// of a request as it is, so that a server that knows nothing of roost can answer it; who sent
// it stands in headers. That clients come and go is told as JSON like any other event. Over
// NATS only raw_authorize is asked here; the gateway brings the rest itself.

const (
	textType   = "text/plain; charset=utf-8"
	binaryType = "application/octet-stream"
)

// Headers of a message's request.
const (
	headerEvent  = "Roost-Event"  // raw_message
	headerRoute  = "Roost-Route"  // its name
	headerClient = "Roost-Client" // its id
	headerUser   = "Roost-User"   // percent-encoded (RFC 3986 section 2.1), left out for nobody
)

// rawMessage is what a request has that is a message as it is.
type rawMessage struct {
	header   http.Header
	answered string // Content-Type of the answer
}

// rawAsked are the fields of what is asked or told of a client's upgrade request.
type rawAsked struct {
	Route       string            `json:"route"`
	Subprotocol string            `json:"subprotocol,omitempty"`
	Path        string            `json:"path"`
	Query       string            `json:"query,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
}

// rawGone are the fields of what is told of a client's end.
type rawGone struct {
	Route  string `json:"route"`
	Code   uint32 `json:"code"`
	Reason string `json:"reason"`
}

func rawRequest(ev event, r *gateway.RawRequest) *request {
	return &request{event: ev, peer: &r.Peer, again: true, fields: &rawAsked{
		Route: r.Route, Subprotocol: r.Subprotocol, Path: r.Path, Query: r.Query, Headers: r.Headers}}
}

// rawAuthorize implements gateway.Handlers.RawAuthorize.
func (s *Set) rawAuthorize(ctx context.Context, r gateway.RawRequest) (who gateway.RawIdentity, err error) {
	err = s.call(ctx, r.Backend, rawRequest(eventRawAuthorize, &r), func(result []byte) error {
		err := json.Unmarshal(result, &who)
		who.Meta = given(who.Meta)
		return err
	})
	return who, err
}

// rawConnect implements gateway.Handlers.RawConnect.
func (s *Set) rawConnect(ctx context.Context, r gateway.RawRequest) (first gateway.RawData, err error) {
	q := rawRequest(eventRawConnect, &r)
	q.again = false // it counts clients
	err = s.call(ctx, r.Backend, q, func(result []byte) (err error) {
		var a struct {
			Text *string `json:"text"`
			B64  *string `json:"b64data"`
		}
		if err := json.Unmarshal(result, &a); err != nil {
			return err
		}
		switch {
		case a.Text != nil && a.B64 != nil:
			return errors.New("the result has both text and b64data")
		case a.Text != nil:
			first.Data = []byte(*a.Text)
		case a.B64 != nil:
			first.Binary = true
			first.Data, err = either("data", nil, a.B64)
		}
		return err
	})
	return first, err
}

// rawMessage implements gateway.Handlers.RawMessage.
func (s *Set) rawMessage(ctx context.Context, m gateway.RawMessage) (answer gateway.RawData, err error) {
	h := http.Header{headerEvent: {eventRawMessage.String()}, headerRoute: {m.Route}, headerClient: {m.Client}, "Content-Type": {m.ContentType}, "Accept": {"*/*"}}
	if m.User != "" {
		h[headerUser] = []string{url.PathEscape(m.User)}
	}
	switch {
	case m.ContentType != "":
	case m.Binary:
		h["Content-Type"] = []string{binaryType}
	default:
		h["Content-Type"] = []string{textType}
	}
	q := &request{event: eventRawMessage, peer: &m.Peer, data: m.Data, raw: &rawMessage{header: h}}
	err = s.call(ctx, m.Backend, q, func(body []byte) error {
		if len(body) > 0 {
			kind, _, _ := mime.ParseMediaType(q.raw.answered)
			answer = gateway.RawData{Data: body, Binary: kind == binaryType}
		}
		return nil
	})
	return answer, err
}

// rawDisconnect implements gateway.Handlers.RawDisconnect.
func (s *Set) rawDisconnect(ctx context.Context, d gateway.RawDisconnect) error {
	q := &request{event: eventRawDisconnect, peer: &d.Peer, again: true, fields: &rawGone{Route: d.Route, Code: d.Code, Reason: d.Reason}}
	return s.call(ctx, d.Backend, q, func([]byte) error { return nil })
}
