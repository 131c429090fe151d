package conn

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"roost/proto/ws"
)

var errHandshakeLate = &ws.HandshakeError{Status: http.StatusRequestTimeout, Label: "timeout",
	Detail: "the request head did not arrive in time"}

var headEnd = []byte("\r\n\r\n")

var errNoRoute = &ws.HandshakeError{Status: http.StatusNotFound, Label: "not_found",
	Detail: "there is nothing at this path"}

// handshake takes a part of an upgrade request.
func (h *loop) handshake(c *Conn, b []byte) {
	head := b
	if c.part != nil {
		c.part.head = append(c.part.head, b...)
		head = c.part.head
	}
	if h.foreign(head) {
		h.hand(c, head)
		return
	}
	r, n, err := ws.ParseHead(head)
	switch {
	case err != nil:
		h.refuse(c, nil, ReasonHandshake, err)
		return
	case n == 0:
		if c.part == nil {
			c.part = &partial{head: append([]byte(nil), b...)}
		}
		return
	}
	c.part = nil
	route := h.server.byPath[r.URL.Path]
	if route == nil || !wantsUpgrade(r) && h.server.opts.HTTP != nil {
		h.serveHTTP(c, r, route)
		return
	}
	if held, err := h.turn(c, head); err != nil {
		h.refuse(c, r, ReasonHandshake, err)
	} else if !held {
		h.begin(c, r, route, head[n:])
	}
}

// begin upgrades a connection whose turn has come; rest is what came behind its request.
func (h *loop) begin(c *Conn, r *http.Request, route *Route, rest []byte) {
	if h.server.refusing.Load() {
		h.refuse(c, r, ReasonHandshake, errStorm("drained", "this server lets nobody in for now", drainedTime))
		return
	}
	if err := h.upgrade(c, r, route); err != nil {
		h.refuse(c, r, ReasonHandshake, err)
		return
	}
	switch {
	case len(rest) == 0:
	case c.state == stateOpen:
		h.decode(c, rest)
	case c.state == stateAdmit:
		h.keep(c, rest)
	}
}

func wantsUpgrade(r *http.Request) bool { return len(r.Header["Upgrade"]) > 0 }

// upgrade confirms the upgrade, asks a worker to decide, or says why not.
func (h *loop) upgrade(c *Conn, r *http.Request, route *Route) error {
	s := h.server
	u, err := ws.CheckUpgrade(r)
	if err != nil {
		return err
	}
	if err := ws.CheckOrigin(r, s.opts.AllowedOrigins); err != nil {
		return err
	}
	if route.Choose != nil {
		chosen, err := route.ask(func(r *http.Request) (any, error) { return route.Choose(r) }, r)
		if err != nil {
			return err
		}
		route = chosen.(*Route)
	}
	if route.Authorize != nil {
		session, err := route.ask(route.Authorize, r)
		if err != nil {
			return err
		}
		c.pc.SetSession(session)
	}
	if route.Admit != nil {
		return h.admit(c, r, route, &u)
	}
	h.confirm(c, route, &u)
	return nil
}

// confirm answers the request with 101 and opens the connection.
func (h *loop) confirm(c *Conn, route *Route, u *ws.Upgrade) {
	s := h.server
	deflate := u.Deflate && !s.opts.NoDeflate
	h.resp = ws.AppendUpgradeResponse(h.resp[:0], u, route.choose(u.Protocols), deflate)
	if deflate {
		c.window = u.WindowBits
	}
	h.stats.open.Add(1) // before the client can know
	if _, err := h.loop.Write(&c.pc, h.resp, nil, false); err != nil {
		h.stats.open.Add(-1)
		c.state = stateRefused // gone already; the handler has never heard of it
		return
	}
	c.state = stateOpen
	h.shaken(c)
	c.route = route.id
	c.clock = h.now()
	h.stats.upgrades.Add(1)
	if route.Beat != nil {
		h.beats.set(c, h.after(route.firstBeat))
		h.arm(c, 0)
	} else {
		h.loop.SetDeadline(&c.pc, s.ticks.spread())
	}
	if route.Inline {
		s.guard(c, func() { route.Handler.Open(c) })
	} else {
		h.enqueue(c, item{kind: itemOpen})
	}
}

// ask runs Choose, Authorize or Admit.
func (rt *Route) ask(decide func(*http.Request) (any, error), r *http.Request) (session any, err error) {
	defer func() {
		if v := recover(); v != nil {
			rt.server.logPanic(nil, v)
			err = &ws.HandshakeError{Status: http.StatusInternalServerError, Label: "panic", Detail: "the server failed to check the request"}
		}
	}()
	return decide(r)
}

// choose picks the route's most wanted subprotocol among those offered.
func (rt *Route) choose(offered []string) string {
	for _, p := range rt.Protocols {
		if slices.Contains(offered, p) {
			return p
		}
	}
	return ""
}

// refuse answers with the error's response and ends the connection. r is nil where
// there is no whole request.
func (h *loop) refuse(c *Conn, r *http.Request, why Reason, err error) {
	var he *ws.HandshakeError
	if !errors.As(err, &he) {
		he = &ws.HandshakeError{Status: http.StatusForbidden, Label: "unauthorized", Detail: err.Error()}
	}
	h.server.handshakeErrors.Add(he.Label)
	h.resp = he.AppendResponse(h.resp[:0])
	if r != nil && r.Method == http.MethodHead { // RFC 9110 section 9.3.2: no body
		h.resp = h.resp[:bytes.Index(h.resp, headEnd)+len(headEnd)]
	}
	h.respond(c, why)
}

func (h *loop) respond(c *Conn, why Reason) {
	if c.part != nil && c.part.admit != nil {
		c.part.admit.cancel()
	}
	c.part = nil
	_, _ = c.pc.Write(h.resp, nil)
	c.pc.Finish(why)
	c.state = stateRefused
	h.shaken(c)
}

// serveHTTP answers a request that is no upgrade to a known route.
func (h *loop) serveHTTP(c *Conn, r *http.Request, route *Route) {
	var resp *Response
	if h.server.opts.HTTP != nil {
		resp = h.server.answer(r)
	}
	switch {
	case resp != nil:
		h.resp = resp.append(h.resp[:0], r.Method == http.MethodHead)
		h.respond(c, ReasonHTTP)
	case route != nil: // says what an upgrade needs
		_, err := ws.CheckUpgrade(r)
		h.refuse(c, r, ReasonHandshake, err)
	default:
		h.refuse(c, r, ReasonHandshake, errNoRoute)
	}
}

func (s *Server) answer(r *http.Request) (resp *Response) {
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(nil, v)
			resp = &Response{Status: http.StatusInternalServerError, ContentType: "text/plain", Body: []byte("internal error\n")}
		}
	}()
	return s.opts.HTTP(r)
}

func (resp *Response) append(dst []byte, headOnly bool) []byte {
	dst = fmt.Appendf(dst, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: ", resp.Status, http.StatusText(resp.Status), resp.ContentType)
	dst = strconv.AppendInt(dst, int64(len(resp.Body)), 10)
	dst = append(dst, "\r\nConnection: close\r\nX-Content-Type-Options: nosniff\r\n"...)
	for k, vs := range resp.Header {
		for _, v := range vs {
			dst = append(dst, k+": "+v+"\r\n"...)
		}
	}
	dst = append(dst, "\r\n"...)
	if headOnly {
		return dst
	}
	return append(dst, resp.Body...)
}
