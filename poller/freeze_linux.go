//go:build linux && !portable

package poller

// Before connections are handed to another process they come to rest in two steps. Frozen
// loops take nothing in: what clients send waits in the kernel, and what is under way above
// can end. Sealed ones put nothing out either: then a connection is what the kernel and its
// Conn hold, and does not change any more.

// Freeze ends accepting, reading and deadlines on all loops until Thaw. What is written goes
// out, and posted functions run. When it returns no handler is in Data, EOF or Due. Not for a
// loop's goroutine.
func (p *Poller) Freeze() { p.each(func(l *Loop) { l.frozen = true }) }

// Seal ends writing and closing on frozen loops: both are queued. When it returns nothing is
// under way to the kernel. Not for a loop's goroutine.
func (p *Poller) Seal() { p.each(func(l *Loop) { l.sealed = true }) }

// Thaw undoes Freeze and Seal. Connections that were held and not released are the poller's
// again. Not for a loop's goroutine.
func (p *Poller) Thaw() {
	p.each(func(l *Loop) {
		l.frozen, l.sealed = false, false
		l.Each(0, int(l.slots.used), func(c *Conn) {
			c.own &^= ownHeld
			if c.own&ownPaused == 0 {
				l.later(c) // its event may have been missed
			}
		})
		for _, ln := range l.listeners {
			l.later(&ln.conn)
		}
		l.ring()
	})
}

// each runs f on one loop after the other, and waits for the end of the passes it ran in.
func (p *Poller) each(f func(*Loop)) {
	for _, l := range p.loops {
		_ = l.call(func() error { f(l); return nil })
		_ = l.call(func() error { return nil })
	}
}

// skip takes back that connections were to be read.
func (l *Loop) skip(list []*Conn) {
	for _, c := range list {
		c.own &^= ownAgain
	}
	clear(list)
}
