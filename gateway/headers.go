package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"roost/internal/setting"
	"roost/proto/ws"
)

// Bounds of what is kept of a client's request for handlers.
const (
	maxHeaderNames  = 32
	maxHeaderValues = 4 << 10 // bytes
)

// neverShown are headers that are about one connection or one body, and would be wrong on
// another (RFC 9110 section 7.6.1).
var neverShown = []string{"accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive",
	"proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

// HeaderProblems returns all that is wrong with names as Options.Headers.
func HeaderProblems(names []string) (all []error) {
	seen := make(map[string]bool)
	for i, name := range names {
		lower := strings.ToLower(name)
		var err error
		switch {
		case !ws.IsToken(name):
			err = fmt.Errorf("%q is no name of a header", name)
		case slices.Contains(neverShown, lower), strings.HasPrefix(lower, "sec-websocket-"), strings.HasPrefix(lower, "roost-"):
			err = fmt.Errorf("%q is about the client's own connection or request: leave it out", name)
		case seen[lower]:
			err = fmt.Errorf("%q is there twice", name)
		}
		seen[lower] = true
		if err != nil {
			all = append(all, setting.At(err, strconv.Itoa(i)))
		}
	}
	if len(names) > maxHeaderNames {
		all = append(all, fmt.Errorf("there are %d, at most %d may be shown", len(names), maxHeaderNames))
	}
	return all
}

// prepareHeaders makes o.Headers the names as requests have them.
func (o *Options) prepareHeaders() error {
	if err := errors.Join(HeaderProblems(o.Headers)...); err != nil {
		return fmt.Errorf("gateway: Headers: %w", err)
	}
	o.Headers = slices.Clone(o.Headers)
	for i, name := range o.Headers {
		o.Headers[i] = http.CanonicalHeaderKey(name)
	}
	return nil
}

// keepHeaders keeps of an upgrade request what handlers get to see. Errors are
// *ws.HandshakeError.
func (n *Node) keepHeaders(s *session, r *http.Request) error {
	var values []string
	size := 0
	for i, name := range n.opts.Headers {
		separator := ", " // RFC 9110 section 5.3
		if name == "Cookie" {
			separator = "; " // RFC 9113 section 8.2.3
		}
		v := strings.Join(r.Header[name], separator)
		if v == "" {
			continue
		}
		if strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return &ws.HandshakeError{Status: http.StatusBadRequest, Label: "bad_header", Detail: "the header " + name + " has a control character"}
		}
		if size += len(v); size > maxHeaderValues {
			return &ws.HandshakeError{Status: http.StatusRequestHeaderFieldsTooLarge, Label: "large_headers",
				Detail: fmt.Sprintf("%s take more than %d bytes", strings.Join(n.opts.Headers, ", "), maxHeaderValues)}
		}
		if values == nil {
			values = make([]string, len(n.opts.Headers))
		}
		values[i] = strings.Clone(v)
	}
	if values != nil {
		s.change(func(e *extra) { e.headers = &values })
	}
	return nil
}

// asker is peer with the headers of the client's request, for what is asked. What is told
// after the fact has none: it is stored, where secrets should not lie.
func (n *Node) asker(s *session) Peer {
	p := n.peer(s)
	if values := s.look().headers; values != nil {
		p.Headers = make(map[string]string, len(*values))
		for i, v := range *values {
			if v != "" {
				p.Headers[strings.ToLower(n.opts.Headers[i])] = v
			}
		}
	}
	return p
}
