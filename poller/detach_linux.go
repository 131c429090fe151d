//go:build linux && !portable

package poller

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Detached is a live connection without a loop, ready to be handed to another
// loop or process.
type Detached struct {
	FD     int    // owned by the receiver, close-on-exec
	Unsent []byte // queued but not written
	TLS    bool   // the kernel carries its TLS records, see package ktls
}

// Detach takes c off its loop without a word to the peer: the returned descriptor
// is a duplicate, and closing the original does not shut the connection down.
// Handler.Closed is called with ReasonDetached. Input the handler has not seen
// stays in the socket. Loop goroutine only, from a posted function, Handler.Data,
// EOF or Due.
func (l *Loop) Detach(c *Conn) (Detached, error) {
	if c.isGone() {
		return Detached{}, ErrClosed
	}
	if c.own&ownInBatch != 0 {
		if l.flusher.settling {
			return Detached{}, errors.New("poller: detach: a write of the connection is being settled")
		}
		l.flusher.submit()
		if c.isGone() {
			return Detached{}, ErrClosed
		}
	}
	fd := nbFD(&c.nb)
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return Detached{}, fmt.Errorf("poller: duplicate descriptor: %w", err)
	}
	// The duplicate would keep the registration alive past the close.
	if err := l.engine.forget(fd); err != nil {
		_ = unix.Close(dup)
		return Detached{}, fmt.Errorf("poller: leave epoll: %w", err)
	}
	d := Detached{FD: dup, TLS: c.own&ownTLS != 0}
	c.nb.Lock()
	if c.out != nil {
		d.Unsent = c.out.bytes()
	}
	c.reason = ReasonDetached
	c.nb.Unlock()
	l.retire(c, ReasonDetached)
	l.closing = append(l.closing, fd)
	l.ring()
	return d, nil
}

// Adopt makes c, a fresh connection, the owner of a detached one: the unsent bytes
// are queued, opened is called instead of Handler.Open, then reading goes on.
// The descriptor is owned by the loop from now on, whatever the result. Loop
// goroutine only.
func (l *Loop) Adopt(d Detached, c *Conn, opened func(*Conn)) error {
	if err := unix.SetNonblock(d.FD, true); err != nil {
		_ = unix.Close(d.FD)
		return fmt.Errorf("poller: adopt descriptor %d: %w", d.FD, err)
	}
	if err := l.take(d, c, opened); err != nil {
		return fmt.Errorf("poller: adopt descriptor %d: %w", d.FD, err)
	}
	return nil
}

// take registers c as d's owner.
func (l *Loop) take(d Detached, c *Conn, opened func(*Conn)) error {
	if d.TLS {
		c.own |= ownTLS
	}
	return l.register(c, d.FD, func(c *Conn) {
		_, _ = c.WriteShared(d.Unsent) // cannot fail: nobody else knows c yet
		opened(c)
	})
}
