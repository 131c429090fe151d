package emulation

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"unicode/utf8"

	"github.com/centrifugal/protocol"

	"roost/broker"
	"roost/gateway"
	"roost/proto/ws"
)

// bodyFactor is how much longer than the commands a body may be: they stand in it as a
// JSON string, in which a quote takes two bytes.
const bodyFactor = 2

// bodyBesides is room for what a body holds besides, in bytes.
const bodyBesides = 1 << 10

// post takes commands and hands them to their session.
func (s *Server) post(w http.ResponseWriter, r *http.Request) {
	outcome, he := s.forward(w, r)
	if he != nil {
		s.counts.posts.Add(he.Label)
		answer(w, he)
		return
	}
	s.counts.posts.Add(outcome)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) forward(w http.ResponseWriter, r *http.Request) (outcome string, he *ws.HandshakeError) {
	b, he := s.body(w, r, s.opts.MaxMessage*bodyFactor+bodyBesides)
	if he != nil {
		return "", he
	}
	q, err := decodePost(b, isProtobuf(r))
	switch {
	case err != nil:
		return "", refusal(http.StatusBadRequest, "malformed", "the body is not {node, session, data}: %v", err)
	case q.Session == "" || len(q.Data) == 0:
		return "", refusal(http.StatusBadRequest, "malformed", "session or data is missing")
	case int64(len(q.Data)) > s.opts.MaxMessage:
		return "", refusal(http.StatusRequestEntityTooLarge, "too_large", "data has %d bytes, may have %d", len(q.Data), s.opts.MaxMessage)
	}
	ctx, cancel := context.WithTimeout(r.Context(), postTimeout)
	defer cancel()
	own := q.Node == "" || q.Node == s.opts.Node.Broker().Node()
	switch err := s.opts.Node.Post(ctx, q.Node, q.Session, q.Data); {
	case err == nil && own:
		return "delivered", nil
	case err == nil:
		return "forwarded", nil
	case errors.Is(err, gateway.ErrSessionEnded):
		return "ended", nil // the stream says why
	case errors.Is(err, gateway.ErrNoSession):
		return "", refusal(http.StatusNotFound, "no_session", "there is no such session; connect again")
	case errors.Is(err, gateway.ErrNoNode):
		return "", refusal(http.StatusNotFound, "no_node", "there is no such node any more; connect again")
	case errors.Is(err, gateway.ErrSessionBusy):
		return "", refusal(http.StatusTooManyRequests, "busy", "too many commands of this session wait")
	case errors.Is(err, broker.ErrTooLarge):
		return "", refusal(http.StatusRequestEntityTooLarge, "too_large", "data has %d bytes, too many to reach the node of the session", len(q.Data))
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "", refusal(http.StatusServiceUnavailable, "unavailable", "the node of the session cannot be reached now")
	default:
		s.opts.Logger.Warn("commands did not reach their session", "error", err)
		return "", refusal(http.StatusServiceUnavailable, "failed", "the commands did not reach the session")
	}
}

// decodePost reads the body of a request with commands.
func decodePost(b []byte, protobuf bool) (*protocol.EmulationRequest, error) {
	q := new(protocol.EmulationRequest)
	if protobuf {
		return q, q.UnmarshalCF(b)
	}
	var text struct {
		Node, Session string
		Data          *string
	}
	switch err := json.Unmarshal(b, &text); {
	case err != nil:
		return nil, err
	case !utf8.Valid(b):
		return nil, errors.New("it is not UTF-8")
	case text.Data == nil:
		return nil, errors.New("data must be a string that holds the commands")
	}
	q.Node, q.Session, q.Data = text.Node, text.Session, []byte(*text.Data)
	return q, nil
}
