package backend

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"

	"roost/gateway"
	"roost/proto/client"
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
	to := s.endpoints[r.Backend]
	if to == nil {
		return who, client.ErrNotAvailable
	}
	err = s.call(ctx, to, rawRequest(eventRawAuthorize, &r), func(result []byte) error {
		if err := json.Unmarshal(result, &who); err != nil {
			return err
		}
		if string(who.Meta) == "null" {
			who.Meta = nil
		}
		return nil
	})
	return who, err
}

// rawConnect implements gateway.Handlers.RawConnect.
func (s *Set) rawConnect(ctx context.Context, r gateway.RawRequest) (first gateway.RawData, err error) {
	to := s.endpoints[r.Backend]
	if to == nil {
		return first, client.ErrNotAvailable
	}
	q := rawRequest(eventRawConnect, &r)
	q.again = false // it counts clients
	err = s.call(ctx, to, q, func(result []byte) error {
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
			b, err := base64.StdEncoding.DecodeString(*a.B64)
			if err != nil {
				return errors.New("b64data is not standard base64")
			}
			first = gateway.RawData{Data: b, Binary: true}
		}
		return nil
	})
	return first, err
}

// rawMessage implements gateway.Handlers.RawMessage.
func (s *Set) rawMessage(ctx context.Context, m gateway.RawMessage) (answer gateway.RawData, err error) {
	to := s.endpoints[m.Backend]
	if to == nil {
		return answer, client.ErrNotAvailable
	}
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
	err = s.call(ctx, to, q, func(body []byte) error {
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
	to := s.endpoints[d.Backend]
	if to == nil {
		return client.ErrNotAvailable
	}
	q := &request{event: eventRawDisconnect, peer: &d.Peer, again: true, fields: &rawGone{Route: d.Route, Code: d.Code, Reason: d.Reason}}
	return s.call(ctx, to, q, func([]byte) error { return nil })
}
