package poller

import "time"

// What follows is the same for both implementations.

// Loops returns the event loops. Any goroutine.
func (p *Poller) Loops() []*Loop { return p.loops }

// Loop returns the loop that h belongs to, or nil. Any goroutine.
func (p *Poller) Loop(h Handle) *Loop {
	if i := h.loop(); i < len(p.loops) {
		return p.loops[i]
	}
	return nil
}

// Live returns the number of open connections. Any goroutine.
func (p *Poller) Live() int { return int(p.live.Load()) }

// Stats returns the figures of all loops. Any goroutine.
func (p *Poller) Stats() Stats {
	s := Stats{Open: p.live.Load()}
	for _, l := range p.loops {
		s.add(&l.stats)
	}
	return s
}

// tick is the only clock: it makes all loops look at their deadlines.
func (p *Poller) tick() {
	t := time.NewTicker(p.opts.Tick)
	defer t.Stop()
	start := time.Now()
	for {
		select {
		case <-p.stop:
			return
		case <-t.C:
		}
		now := uint32(time.Since(start)/p.opts.Tick) + 1
		for _, l := range p.loops {
			l.ticks.Store(now)
			l.ring()
		}
	}
}

// Index returns the loop's number, from 0. Any goroutine.
func (l *Loop) Index() int { return l.index }

// Handler returns what Options.Handler made for the loop. Any goroutine.
func (l *Loop) Handler() Handler { return l.handler }

// Now returns the current tick. Loop goroutine only.
func (l *Loop) Now() uint32 { return l.now }

// Live returns the number of open connections. Loop goroutine only.
func (l *Loop) Live() int { return l.slots.live }

// Get returns the connection of h if it is still open and belongs to this loop.
// Loop goroutine only.
func (l *Loop) Get(h Handle) *Conn {
	if h.loop() != l.index {
		return nil
	}
	return l.slots.get(h)
}

// Each calls f for open connections, starting with slot from, at most limit
// slots. It returns the slot to go on with and whether there are more. A
// connection opened meanwhile may or may not be seen. Loop goroutine only.
func (l *Loop) Each(from uint32, limit int, f func(*Conn)) (next uint32, more bool) {
	end := min(uint64(l.slots.used), uint64(from)+uint64(limit))
	for i := from; uint64(i) < end; i++ {
		if c := l.slots.at(i).conn; c != nil {
			f(c)
		}
	}
	return uint32(end), end < uint64(l.slots.used)
}

func (l *Loop) setDue(c *Conn, ticks uint32) {
	e := l.slots.at(c.slot)
	if ticks == 0 {
		e.due = 0
		return
	}
	e.due = max(1, l.now+ticks) // 0 means none
}
