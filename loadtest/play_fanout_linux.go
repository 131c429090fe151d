package loadtest

import "time"

// fanout has one connection send and all others check that every message arrives, whole and in order. Whether the
// sender gets its own is the server's choice. In the closed loop a message is sent when all have the one before:
// each node tells when its own have it, and the fleet then has the next one sent. Owned by the loop.
type fanout struct {
	w      *worker
	pacer  Pacer
	start  int64   // Unix ns
	count  int64   // messages sent or dropped
	sender *client // nil on nodes that do not have it, and when it is gone
	behind int64   // receivers that do not have message current
	// current is the message awaited: in the closed loop the latest, while draining the last one.
	current int64
}

func (f *fanout) opened(c *client) {
	if c.id == senderID {
		f.sender = c
	}
}

func (f *fanout) begin() {
	f.start = f.w.now
	f.round(0)
	if f.pacer == nil {
		f.sendRound()
	}
}

// round makes message n the one awaited.
func (f *fanout) round(n int64) {
	f.current, f.behind, f.w.progress = n, 0, f.w.now
	for i := range f.w.clients {
		if c := &f.w.clients[i]; c.state == stateOpen && c.id != senderID && int64(c.next) <= n {
			f.behind++
		}
	}
	if f.behind == 0 && !f.w.Solo {
		f.complete() // no receivers here, or they have it already
	}
}

// sendRound sends the message awaited, if the sender is here.
func (f *fanout) sendRound() {
	w := f.w
	switch {
	case !w.Sender || w.phase != measuring:
	case f.sender == nil:
		w.stats.fail("the sending connection is not open", 1)
		w.over(f.count)
	case f.done(time.Duration(w.now - f.start)):
		w.over(f.count)
	default:
		f.send(w.now)
	}
}

func (f *fanout) done(due time.Duration) bool {
	if f.w.Messages > 0 {
		return f.count >= f.w.Messages
	}
	return due >= f.w.Duration
}

func (f *fanout) send(due int64) {
	f.count++
	f.w.sendMessage(f.sender, due)
}

func (f *fanout) message(c *client, p []byte) {
	w := f.w
	m, whole := parsePayload(p, w.fill, w.Size)
	if c.id == senderID {
		if !whole || m.id != senderID {
			w.wrong("not the bytes that were sent (to the sender)")
		}
		return
	}
	w.stats.Received++
	before := int64(c.next)
	switch {
	case !whole:
		w.wrong("not the bytes that were sent")
		c.next++ // it stands in for the one expected
	case m.id != senderID:
		w.wrong("a message that the sender did not send")
		return
	case m.seq < c.next:
		w.wrong("a message out of order or for a second time")
		return
	default:
		if gap := int64(m.seq - c.next); gap > 0 {
			w.stats.Missing += gap
			w.stats.fail("messages skipped by the server", gap)
		}
		c.next = m.seq + 1
		w.stats.Latency.record(w.now - m.due)
	}
	if before <= f.current && int64(c.next) > f.current {
		f.reached()
	}
}

// reached counts a receiver that waits no more for the current message.
func (f *fanout) reached() {
	if f.behind--; f.behind == 0 {
		f.complete()
	}
}

// complete goes on to the next message, alone or by way of the fleet.
func (f *fanout) complete() {
	switch w := f.w; {
	case f.pacer != nil || w.phase != measuring:
	case w.Solo:
		f.round(f.current + 1)
		f.sendRound()
	default:
		emit(w.events, w.ended, event{Kind: evRound, N: f.current})
	}
}

func (f *fanout) gone(c *client, lost bool) {
	if c.id == senderID {
		f.sender = nil
		if lost && f.w.phase == measuring {
			f.w.over(f.count)
		}
		return
	}
	if lost && int64(c.next) <= f.current {
		f.reached()
	}
	if f.w.opens <= 1 && f.w.phase == measuring && f.w.Solo {
		f.w.over(f.count) // only the sender is left
	}
}

func (f *fanout) due() int64 {
	w := f.w
	if w.phase != measuring || !w.Sender || f.pacer == nil {
		return 0
	}
	for range sendBatch {
		wait := f.pacer.Due(f.count)
		if f.done(wait) || f.sender == nil {
			w.over(f.count)
			return 0
		}
		due := f.start + int64(wait)
		if due > w.now {
			return due
		}
		if late := clock()-due > int64(lateAfter); late || f.sender.blocked() {
			w.stats.Late++
		}
		f.send(due)
	}
	return w.now
}

func (f *fanout) command(name string, n int64) {
	switch name {
	case doHalt:
		if f.w.Sender {
			f.w.over(f.count)
		} else {
			f.w.phase = halted
		}
	case doRound:
		f.round(n)
		f.sendRound()
	case doFinish:
		f.round(n - 1)
	}
}

func (f *fanout) inFlight() int64 { return f.behind }

// missing counts what receivers that were there at the start still lack of the current message and those before.
func (f *fanout) missing() (n int64) {
	for i := range f.w.clients {
		if c := &f.w.clients[i]; c.joined && c.id != senderID {
			n += max(0, f.current+1-int64(c.next))
		}
	}
	return n
}
