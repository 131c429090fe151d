package conn

import "roost/proto/ws"

// parking is why a turn hands out no messages for the time being. It is set and looked
// at by the turn's worker; Unpark takes it away once that has left. Its fields are
// guarded by the turn's mu.
type parking struct {
	rest item   // to be handed out first afterwards, unless its buf is nil
	gone func() // nil once called
	left bool   // the worker has left the turn
	over bool   // before it did
}

// Park keeps the connection's further messages back until Unpark, without holding a
// worker: what the client goes on to send waits in its inbox, up to whose limits it is
// read. rest, if there is any, is then handed to Handler.Message before those; it is
// copied. gone, unless it is nil, is called once, if nothing more will come from the
// client before Unpark, as it leaves or has gone: on the loop or in a worker, so it must
// not block. Handler.Close waits for Unpark, too. Call Park from Handler.Message of this
// very connection, at most once each time, on a route that is not inline.
func (c *Conn) Park(op ws.Opcode, rest []byte, gone func()) {
	p := &parking{gone: gone}
	if len(rest) > 0 {
		p.rest = item{kind: itemMessage, op: op, buf: copyPayload(rest)}
	}
	t := c.turn
	t.mu.Lock()
	defer t.mu.Unlock()
	t.park = p
}

// Unpark ends Park: exactly one call for each, which may come before Handler.Message has
// returned. Any goroutine.
func (c *Conn) Unpark() {
	t := c.turn
	t.mu.Lock()
	p := t.park
	if p == nil || !p.left {
		if p != nil { // a panic may have ended it
			p.over = true
		}
		t.mu.Unlock()
		return
	}
	t.park = nil
	t.mu.Unlock()
	h := c.loop()
	if !h.server.submit(t) {
		h.loop.Post(func() {
			if c.state == stateOpen {
				h.arm(c, h.server.ticks.overload)
			}
		})
	}
	h.server.parked.Add(-1)
}

// end takes the function that is to hear of the end.
func (p *parking) end() (gone func()) {
	if p != nil {
		gone, p.gone = p.gone, nil
	}
	return gone
}

// leave puts back what of items, from next on, the worker has not come to. It reports
// whether the turn may go on already; otherwise the worker must not touch it any more.
func (t *turn) leave(s *Server, items []item, next int) (more bool) {
	t.mu.Lock()
	p := t.park
	var inbox []item
	if p.rest.buf != nil {
		inbox = append(inbox, p.rest)
	}
	inbox = append(append(inbox, items[next:]...), t.inbox...)
	clear(items)
	t.inbox, t.spare, t.bytes = inbox, items[:0], 0
	for _, it := range inbox {
		if it.buf != nil {
			t.bytes += len(*it.buf)
		}
	}
	if p.over {
		t.park = nil
		t.running = len(inbox) > 0
		defer t.mu.Unlock()
		return t.running
	}
	p.left = true
	s.parked.Add(1)
	var gone func()
	if t.ended {
		gone = p.end()
	}
	t.mu.Unlock()
	if gone != nil {
		gone()
	}
	return false
}
