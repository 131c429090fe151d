package conn

import (
	"context"
	"net/http"
	"sync"

	"roost/proto/ws"
)

const (
	admitWaiting = 16       // admissions that may wait, for each worker
	admitEarly   = 64 << 10 // bytes kept of what a client sends before the answer
)

var retryAfter = http.Header{"Retry-After": {"1"}}

var (
	errAdmitEarly = &ws.HandshakeError{Status: http.StatusBadRequest, Label: "early_data",
		Detail: "a client must wait for the answer to its upgrade (RFC 6455 section 4.1)"}
	errAdmitFull = &ws.HandshakeError{Status: http.StatusServiceUnavailable, Label: "admit_full", Header: retryAfter,
		Detail: "too many clients wait to be let in"}
	errAdmitLate = &ws.HandshakeError{Status: http.StatusServiceUnavailable, Label: "admit_timeout", Header: retryAfter,
		Detail: "the request could not be checked in time"}
	errAdmitShutdown = &ws.HandshakeError{Status: http.StatusServiceUnavailable, Label: "shutdown", Header: retryAfter,
		Detail: "the server is shutting down"}
)

// admission is an upgrade that a worker decides on. The connection is in stateAdmit
// and has it in its partial for that long. Static.
type admission struct {
	conn    *Conn
	route   *Route
	request *http.Request
	upgrade ws.Upgrade
	cancel  context.CancelFunc // ends the request's context
}

// admissions are those of a server. A part of the workers decides on them, so that
// slow decisions do not keep messages from being handled.
type admissions struct {
	mu    sync.Mutex
	busy  int          // turns that stand for admissions, at most half of Options.Workers
	queue []*admission // first come first served
}

// admit asks a worker. The deadline remains that of the handshake.
func (h *loop) admit(c *Conn, r *http.Request, route *Route, u *ws.Upgrade) error {
	ctx, cancel := context.WithCancel(context.Background())
	a := &admission{conn: c, route: route, request: r.WithContext(ctx), upgrade: *u, cancel: cancel}
	c.state, c.part = stateAdmit, &partial{admit: a}
	if !h.server.queueAdmission(a) {
		return errAdmitFull
	}
	return nil
}

// keep holds back what a client sends before it has its answer, as far as that can be
// an oversight.
func (h *loop) keep(c *Conn, b []byte) {
	c.part.head = append(c.part.head, b...)
	if len(c.part.head) > admitEarly {
		h.refuse(c, c.part.admit.request, ReasonHandshake, errAdmitEarly)
	}
}

func (s *Server) queueAdmission(a *admission) bool {
	q := &s.admissions
	q.mu.Lock()
	if len(q.queue) >= admitWaiting*s.opts.Workers {
		q.mu.Unlock()
		return false
	}
	q.queue = append(q.queue, a)
	start := q.busy < max(1, s.opts.Workers/2)
	if start {
		q.busy++
	}
	q.mu.Unlock()
	if start {
		s.submit(&turn{admits: true})
	}
	return true
}

// admitNext decides on the first admission and reports whether there are more; then
// others get the worker first.
func (s *Server) admitNext() (more bool) {
	q := &s.admissions
	q.mu.Lock()
	var a *admission
	if len(q.queue) > 0 {
		a = q.queue[0]
		q.queue[0] = nil
		q.queue = q.queue[1:]
	}
	q.mu.Unlock()
	if a != nil && a.request.Context().Err() == nil {
		session, err := a.route.ask(a.route.Admit, a.request)
		h := a.conn.loop()
		h.loop.Post(func() { h.admitted(a, session, err) })
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) > 0 {
		return true
	}
	q.busy--
	return false
}

// admitted ends an admission, unless the client has gone or been answered.
func (h *loop) admitted(a *admission, session any, err error) {
	c := a.conn
	if c.state != stateAdmit {
		return
	}
	if err != nil {
		h.refuse(c, a.request, ReasonHandshake, err)
		return
	}
	a.cancel()
	early := c.part.head
	c.part = nil
	if session != nil {
		c.pc.SetSession(session)
	}
	h.confirm(c, a.route, &a.upgrade)
	if len(early) > 0 && c.state == stateOpen {
		h.decode(c, early)
	}
}
