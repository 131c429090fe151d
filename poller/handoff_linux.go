//go:build linux && !portable

package poller

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Held is a connection as one process hands it to the next.
type Held struct {
	FD     int // stays the old poller's; the new one gets a duplicate
	Handle Handle
	TLS    bool   // the kernel carries its TLS records, see package ktls
	Idle   uint32 // ticks since its last input
	Due    uint32 // ticks to its deadline, 0 = none
	Unsent []byte // queued but not written
}

// Hold describes c for another process. It reports false for a connection that is being
// closed, which stays. Loop goroutine of a sealed loop only.
func (l *Loop) Hold(c *Conn) (h Held, ok bool) {
	c.nb.Lock()
	defer c.nb.Unlock()
	if c.guarded&(isClosed|isFinish|isCut) != 0 || c.own&(ownEOF|ownEnding|ownLinger|ownGone) != 0 {
		return h, false
	}
	h = Held{FD: nbFD(&c.nb), Handle: c.Handle(), TLS: c.own&ownTLS != 0, Idle: l.now - c.lastRead}
	if due := l.slots.at(c.slot).due; due != 0 {
		h.Due = uint32(max(1, int32(due-l.now)))
	}
	if c.out != nil {
		h.Unsent = c.out.bytes()
	}
	c.own |= ownHeld
	return h, true
}

// Unhold takes Hold back: the connection stays. Loop goroutine only.
func (l *Loop) Unhold(c *Conn) { c.own &^= ownHeld }

// Generation returns the highest generation of the loop's handles. Loop goroutine only.
func (l *Loop) Generation() (gen uint32) {
	for i := range l.slots.used {
		gen = max(gen, l.slots.at(i).gen)
	}
	return gen
}

// Release gives up the connections that are held: they are another process's now. Their
// handlers hear nothing of it. Then the loops go on with the others, but accept none until
// Unmute. Not for a loop's goroutine.
func (p *Poller) Release() {
	p.each(func(l *Loop) {
		l.muted = true
		l.Each(0, int(l.slots.used), func(c *Conn) {
			if c.own&ownHeld != 0 {
				l.release(c)
			}
		})
	})
	p.Thaw()
}

// Unmute lets the loops accept connections again. Not for a loop's goroutine.
func (p *Poller) Unmute() {
	p.each(func(l *Loop) {
		l.muted = false
		for _, ln := range l.listeners {
			l.later(&ln.conn)
		}
	})
}

// release takes a connection off its loop without a word to anybody.
func (l *Loop) release(c *Conn) {
	c.nb.Lock()
	c.guarded |= isClosed
	c.own |= ownGone
	c.out = nil
	c.nb.Unlock()
	nbSetClosed(&c.nb, true)
	fd := nbFD(&c.nb)
	l.poller.table[fd] = nil
	l.slots.remove(c)
	l.poller.live.Add(-1)
	l.load.Add(-1)
	if c.own&ownTLS != 0 {
		l.count.tls--
	}
	_ = l.engine.forget(fd) // the other process has the same file, so a close alone would not end its events here
	l.closing = append(l.closing, fd)
	l.ring()
}

// Restore makes c, a fresh connection, the one that another process has held, under the same
// handle. It is not read or written before Begin. opened is called instead of Handler.Open.
// The descriptor is the poller's, whatever the result. Loop goroutine only, before the loop
// has had any other connection.
func (l *Loop) Restore(h Held, c *Conn, opened func(*Conn)) error {
	fail := func(err error) error {
		_ = unix.Close(h.FD)
		return fmt.Errorf("poller: restore connection %x: %w", uint64(h.Handle), err)
	}
	switch {
	case h.Handle.loop() != l.index:
		return fail(fmt.Errorf("it is of loop %d, not %d", h.Handle.loop(), l.index))
	case h.FD >= len(l.poller.table):
		return fail(fmt.Errorf("descriptor %d is beyond the limit of the start, %d", h.FD, len(l.poller.table)))
	case h.Handle.slot() >= maxSlots || !l.slots.put(c, h.Handle):
		return fail(fmt.Errorf("slot %d is taken or too high", h.Handle.slot()))
	}
	if h.TLS {
		c.own |= ownTLS
	}
	l.own(c, h.FD)
	c.lastRead = l.now - h.Idle
	c.own |= ownHeld
	if h.Due != 0 {
		l.setDue(c, h.Due)
	}
	_, _ = c.WriteShared(h.Unsent) // cannot fail: nobody else knows c yet
	opened(c)
	return nil
}

// maxSlots bounds what a record may make the table grow to.
const maxSlots = 1 << 26

// Begin lets connections that were restored go on. gens are the generations of the other
// process's loops, so that no handle is used again. Call it once, on a poller that was
// sealed before anything was restored. Not for a loop's goroutine.
func (p *Poller) Begin(gens []uint32) {
	for i, l := range p.loops {
		if i < len(gens) {
			_ = l.call(func() error { l.slots.settle(gens[i]); return nil })
		}
	}
	p.each(func(l *Loop) {
		l.frozen, l.sealed = false, false
		l.Each(0, int(l.slots.used), func(c *Conn) {
			c.own &^= ownHeld
			if err := l.engine.add(&c.nb); err != nil {
				l.poller.opts.Logger.Error("a connection that was taken over is lost", "error", err)
				l.close(c, ReasonStopped)
			}
		})
		l.ring()
	})
}

// Listening is a listening address of a poller.
type Listening struct {
	Address string // as it was given to Listen
	FDs     []int  // one for each loop; they stay the poller's
}

// Listening returns the addresses the poller listens on. Not for a loop's goroutine.
func (p *Poller) Listening() (all []Listening) {
	p.each(func(l *Loop) {
		for i, ln := range l.listeners {
			if i == len(all) {
				all = append(all, Listening{Address: ln.address})
			}
			all[i].FDs = append(all[i].FDs, nbFD(&ln.conn.nb))
		}
	})
	return all
}

// Inherit has Listen use descriptors that listen already, of another process, instead of
// making its own. They are the poller's from now on.
func (p *Poller) Inherit(in Listening) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inherited == nil {
		p.inherited = make(map[string][]int)
	}
	p.inherited[in.Address] = in.FDs
}

// heritage takes the descriptors for an address, nil if there are none or not one for each
// loop.
func (p *Poller) heritage(address string) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	fds := p.inherited[address]
	delete(p.inherited, address)
	if len(fds) != len(p.loops) {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return nil
	}
	return fds
}

// listenOn is ListenFor on descriptors that listen already.
func (p *Poller) listenOn(address string, fds []int, opened func(*Conn)) (bound netip.AddrPort, err error) {
	sa, err := unix.Getsockname(fds[0])
	if err != nil {
		return bound, fmt.Errorf("poller: inherited listener on %q: %w", address, err)
	}
	bound = addrPort(sa)
	for i, l := range p.loops {
		if err := unix.SetNonblock(fds[i], true); err != nil {
			return bound, fmt.Errorf("poller: inherited listener on %q: %w", address, err)
		}
		err := l.call(func() error {
			err := l.addListener(address, fds[i], opened)
			if err == nil {
				l.later(&l.listeners[len(l.listeners)-1].conn) // for those who wait already
			}
			return err
		})
		if err != nil {
			return bound, err
		}
	}
	return bound, nil
}
