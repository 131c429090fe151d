package gateway

import (
	"context"

	"roost/proto/client"
	"roost/proto/ws"
)

// noting is a client of a raw route that is being noted as connected: where the ends of
// clients are told at least once, its backend hears of it only when that is stored. Owned by
// the loop.
type noting struct {
	early  []rawJob // what it sent meanwhile: one read's worth, as it is not read any more
	end    func()   // tells of its end, which came meanwhile
	failed bool     // its backend has not heard of it, and never will
}

// note stores that a client is there, and then has opened run. On the loop.
func (rt *rawRoute) note(s *session, opened func()) {
	if rt.node.notices.clients == nil {
		opened()
		return
	}
	w := new(noting)
	s.Conn.Pause()
	s.change(func(e *extra) { e.raw = &rawExtra{noting: w} })
	rt.node.notings.Go(func() {
		ctx, cancel := context.WithTimeout(rt.node.life, commandTime)
		defer cancel()
		err := rt.node.noteConnected(ctx, s)
		if noted := func() { rt.noted(s, w, opened, err) }; !s.Conn.Loop().Post(noted) {
			noted() // nobody else is left
		}
	})
}

// noted goes on when a client has been stored, or could not be. On the loop.
func (rt *rawRoute) noted(s *session, w *noting, opened func(), err error) {
	if err != nil {
		w.failed, w.early = true, nil
		rt.node.opts.Logger.Warn("a client of a raw route was closed, since it could not be noted as connected", "route", rt.name, "error", err)
		rt.fail(s, rawLost, errRawAway)
		return
	}
	s.change(func(e *extra) { e.raw = nil })
	s.tidy()
	opened()
	for _, j := range w.early {
		rt.message(s, j.op, j.data)
	}
	if w.end != nil {
		w.end()
	}
	s.Conn.Resume()
}

// noting returns how far a client is from being noted, nil if it has been.
func (rt *rawRoute) noting(s *session) *noting {
	if rt.node.notices.clients == nil {
		return nil
	}
	if e := s.look(); e.raw != nil {
		return e.raw.noting
	}
	return nil
}

// keep keeps a message for when the client has been noted.
func (w *noting) keep(op ws.Opcode, payload []byte) {
	if !w.failed {
		w.early = append(w.early, rawJob{data: append(make([]byte, 0, len(payload)), payload...), op: op})
	}
}

// ended tells of a client's end, as soon as it may be told.
func (rt *rawRoute) ended(s *session, d *RawDisconnect) {
	tell := func() {
		if !rt.NoEvents {
			rt.carrier.closed(s, d)
		}
		if rt.node.notices.disconnect != nil {
			rt.node.noteEnd(s, client.Disconnect{Code: d.Code, Reason: d.Reason}, nil)
		}
	}
	switch w := rt.noting(s); {
	case w == nil:
		tell()
	case !w.failed:
		w.end = tell
	}
}
