package emulation

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"roost/proto/ws"
)

var retrySoon = http.Header{"Retry-After": {"5"}}

// refusal is an answer that is an error.
func refusal(status int, label, format string, args ...any) *ws.HandshakeError {
	he := &ws.HandshakeError{Status: status, Label: label, Detail: fmt.Sprintf(format, args...)}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		he.Header = retrySoon
	}
	return he
}

var tooManyConnections = refusal(http.StatusServiceUnavailable, "connections", "too many connections").AppendResponse(nil)

// answer writes a refusal.
func answer(w http.ResponseWriter, he *ws.HandshakeError) {
	h := w.Header()
	for name, values := range he.Header {
		h[name] = values
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(he.Status)
	_, _ = fmt.Fprintf(w, "%d %s: %s\n", he.Status, http.StatusText(he.Status), he.Detail)
}

// shared does what all paths have in common: who may ask from where, by which method,
// and in what time.
func (s *Server) shared(method string, serve func(http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.SetWriteDeadline(time.Now().Add(writeTimeout)) // a request before may have left one
		w.Header().Set("Vary", "Origin")
		if err := ws.CheckOrigin(r, s.opts.AllowedOrigins); err != nil {
			s.counts.refused.Add(ws.LabelOrigin)
			answer(w, handshakeError(err))
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" { // what WebSockets from there may do anyway
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Allow-Credentials", "true")
		}
		switch r.Method {
		case method:
			serve(w, r)
		case http.MethodOptions:
			preflight(w, r, method)
		default:
			he := refusal(http.StatusMethodNotAllowed, ws.LabelMethod, "the method is %.20s, must be %s", r.Method, method)
			he.Header = http.Header{"Allow": {method + ", OPTIONS"}}
			s.counts.refused.Add(ws.LabelMethod)
			answer(w, he)
		}
	}
}

func handshakeError(err error) *ws.HandshakeError {
	var he *ws.HandshakeError
	if !errors.As(err, &he) {
		he = refusal(http.StatusInternalServerError, "internal", "internal error")
	}
	return he
}

// preflight tells a browser what a page of an origin that may connect may send.
func preflight(w http.ResponseWriter, r *http.Request, method string) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", method)
	if asked := r.Header.Values("Access-Control-Request-Headers"); len(asked) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(asked, ", "))
	}
	h.Set("Access-Control-Max-Age", "3600")
	h.Add("Vary", "Access-Control-Request-Headers")
	w.WriteHeader(http.StatusNoContent)
}

// body reads a request's body of at most limit bytes, in the time a request has.
func (s *Server) body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *ws.HandshakeError) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(s.opts.RequestTimeout))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, refusal(http.StatusRequestEntityTooLarge, "too_large", "the body has more than %d bytes", limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refusal(http.StatusRequestTimeout, "timeout", "the body did not arrive within %v", s.opts.RequestTimeout)
	case err != nil:
		return nil, refusal(http.StatusBadRequest, "body", "the body did not arrive: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{}) // only now: net/http reads what is left of a body that was refused
	return b, nil
}

// isProtobuf tells whether the body of a request is in Protobuf, else it is in JSON.
func isProtobuf(r *http.Request) bool {
	return strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "application/octet-stream")
}
