package loadtest

import "time"

// sendBatch is how many due messages are sent before events are looked at again.
const sendBatch = 64

// echo sends and expects every message back. In the closed loop each connection has one message in flight; in the
// open loop they are sent when the pacer says, by the connections in turn. Soak is an open loop in which
// connections are replaced as well. Owned by the loop.
type echo struct {
	w       *worker
	pacer   Pacer
	start   int64 // Unix ns
	count   int64 // messages sent or dropped
	turn    int   // slot of the connection to send next
	flying  int64 // messages in flight
	lost    int64 // those of connections that are gone
	churned int64 // connections replaced
}

func (e *echo) begin() {
	e.start = e.w.now
	if e.pacer != nil {
		return
	}
	for i := range e.w.clients {
		if c := &e.w.clients[i]; c.state == stateOpen {
			e.reply(c)
		}
	}
}

func (e *echo) opened(c *client) {
	if e.pacer == nil && e.w.phase == measuring {
		e.reply(c)
	}
}

// done reports whether the next message, due at a time since the start, is one too many.
func (e *echo) done(due time.Duration) bool {
	if e.w.Messages > 0 && e.w.Scenario == Echo {
		return e.count >= e.w.Messages
	}
	return due >= e.w.Duration
}

// reply sends c's next message in the closed loop.
func (e *echo) reply(c *client) {
	if e.w.phase != measuring {
		return
	}
	if e.done(time.Duration(e.w.now - e.start)) {
		e.w.over(e.count)
		return
	}
	e.send(c, e.w.now)
}

func (e *echo) send(c *client, due int64) {
	if e.flying == 0 {
		e.w.progress = e.w.now
	}
	e.count++
	e.flying++
	e.w.sendMessage(c, due)
}

func (e *echo) message(c *client, p []byte) {
	w := e.w
	w.stats.Received++
	if c.next == c.sent {
		w.wrong("a message nobody is waiting for")
		return
	}
	m, whole := parsePayload(p, w.fill, w.Size)
	switch {
	case !whole:
		w.wrong("not the bytes that were sent")
	case m.id != c.id:
		w.wrong("another connection's message")
	case m.seq < c.next || m.seq >= c.sent:
		w.wrong("a message out of order or for a second time")
		return
	default:
		gap := int64(m.seq - c.next)
		w.stats.Missing += gap
		e.flying -= gap
		if gap > 0 {
			w.stats.fail("messages skipped by the server", gap)
		}
		c.next = m.seq
		w.stats.Latency.record(w.now - m.due)
	}
	c.next++
	e.flying--
	if e.pacer == nil && c.state == stateOpen {
		e.reply(c)
	}
}

func (e *echo) gone(c *client, lost bool) {
	out := int64(c.sent - c.next)
	e.flying -= out
	e.lost += out
	if lost && e.w.opens == 0 && e.w.phase == measuring {
		e.w.over(e.count)
	}
}

// due sends what the pacer wants sent by now.
func (e *echo) due() int64 {
	w := e.w
	if w.phase != measuring {
		return 0
	}
	if e.pacer == nil {
		end := e.start + int64(w.Duration)
		if w.Messages > 0 {
			return 0
		}
		if w.now >= end {
			w.over(e.count)
			return 0
		}
		return end
	}
	if w.Scenario == Soak {
		e.churn()
	}
	for range sendBatch {
		wait := e.pacer.Due(e.count)
		if e.done(wait) {
			w.over(e.count)
			return 0
		}
		due := e.start + int64(wait)
		if due > w.now {
			return due
		}
		e.sendNext(due)
	}
	return w.now // more is due, after a look at the events
}

// sendNext sends by the next connection in turn, or counts the message as dropped when that one cannot.
func (e *echo) sendNext(due int64) {
	w := e.w
	for range w.clients {
		c := &w.clients[e.turn]
		e.turn = (e.turn + 1) % len(w.clients)
		if c.state != stateOpen {
			continue
		}
		if c.blocked() {
			break
		}
		if clock()-due > int64(lateAfter) {
			w.stats.Late++
		}
		e.send(c, due)
		return
	}
	e.count++
	w.stats.Late++
}

// churn replaces connections that wait for nothing, at the rate asked for.
func (e *echo) churn() {
	w := e.w
	rate := w.Churn
	if rate == 0 {
		rate = float64(w.Connections) / 60
	}
	for goal := int64(rate * time.Duration(w.now-e.start).Seconds()); e.churned < goal; e.churned++ {
		for try := range w.clients {
			c := &w.clients[(e.turn+len(w.clients)/2+try)%len(w.clients)]
			if c.state == stateOpen && c.sent == c.next {
				w.wanted++
				w.beginClose(c)
				break
			}
		}
	}
}

func (e *echo) command(name string, _ int64) {
	if name == doHalt {
		e.w.over(e.count)
	}
}

func (e *echo) inFlight() int64 { return e.flying }
func (e *echo) missing() int64  { return e.flying + e.lost }

// wrong counts a message that is not as it should be.
func (w *worker) wrong(text string) {
	w.stats.Wrong++
	w.stats.fail("wrong: "+text, 1)
}
