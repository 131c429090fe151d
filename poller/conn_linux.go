//go:build linux && !portable

package poller

import (
	"net/netip"
	"unsafe"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

// Conn is one socket. It is made by Options.New and may be embedded as the first
// field of a larger connection type.
type Conn struct {
	nb nbio.Conn // first: nbio's callbacks are cast back. Its mutex guards "guarded" below.

	// Static after open.
	loop *Loop
	slot uint32
	gen  uint32

	// Owned by the loop.
	lastRead uint32 // tick
	own      ownFlags

	// Guarded by nb's lock.
	guarded guardedFlags
	reason  Reason // why it was finished or cut
	out     *outq  // nil when nothing is pending
}

// Slots that no client has mark the loop's own descriptors.
const (
	slotBell     = ^uint32(0)
	slotListener = ^uint32(0) - 1
	slotsMax     = ^uint32(0) - 2
)

type ownFlags uint16

const (
	ownPaused  ownFlags = 1 << iota // the handler wants no input
	ownBlocked                      // the socket took no more; EPOLLOUT will tell
	ownEOF                          // the peer sends no more
	ownHup                          // epoll told of an end: read until it is there
	ownAgain                        // stands in loop.again
	ownEnding                       // Finish was seen; the deadline is ours
	ownLinger                       // our side is shut down; input is thrown away
	ownInBatch                      // has an entry in the ring that is not submitted
	ownGone                         // closed
	ownTLS                          // the kernel carries its TLS records, see record_linux.go
	ownHeld                         // another process is to have it, see handoff_linux.go
)

type guardedFlags uint8

const (
	isClosed guardedFlags = 1 << iota
	isDirty               // stands in loop.dirty
	isFinish              // no more writes; close when all is written
	isCut                 // close now
	isResume              // reading is to go on
)

func connOf(nc *nbio.Conn) *Conn { return (*Conn)(unsafe.Pointer(nc)) }

// Loop returns the loop the connection belongs to. Any goroutine.
func (c *Conn) Loop() *Loop { return c.loop }

// Handle returns the name by which Loop.Get finds the connection. Any goroutine.
func (c *Conn) Handle() Handle { return makeHandle(c.loop.index, c.gen, c.slot) }

// LastRead returns the tick of the last input. Loop goroutine only.
func (c *Conn) LastRead() uint32 { return c.lastRead }

// SetSession keeps v with the connection. It takes no extra memory: the field is
// nbio's. Not synchronized: set it in Open or before others know the connection.
func (c *Conn) SetSession(v any) { c.nb.SetSession(v) }

// Session returns what SetSession kept.
func (c *Conn) Session() any { return c.nb.Session() }

// RemoteAddr asks the kernel for the peer's address; zero when the connection is
// closed. Loop goroutine only, as the descriptor is the loop's.
func (c *Conn) RemoteAddr() netip.AddrPort {
	if c.isGone() {
		return netip.AddrPort{}
	}
	sa, err := unix.Getpeername(nbFD(&c.nb))
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

// addrPort is zero for what is no TCP address.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// Write queues a copy of head followed by p. It returns the bytes now pending.
// Any goroutine.
func (c *Conn) Write(head, p []byte) (pending int, err error) {
	if len(head)+len(p) == 0 {
		return c.Pending(), nil
	}
	c.nb.Lock()
	if c.guarded&(isClosed|isFinish|isCut) != 0 {
		c.nb.Unlock()
		return 0, ErrClosed
	}
	q := c.queue()
	q.copyIn(head, p)
	return c.queued(q.pending), nil
}

// WriteShared queues p itself: many connections may share it, and nobody may
// change it any more. It returns the bytes now pending. Any goroutine.
func (c *Conn) WriteShared(p []byte) (pending int, err error) {
	if len(p) == 0 {
		return c.Pending(), nil
	}
	c.nb.Lock()
	if c.guarded&(isClosed|isFinish|isCut) != 0 {
		c.nb.Unlock()
		return 0, ErrClosed
	}
	q := c.queue()
	q.share(p)
	return c.queued(q.pending), nil
}

// queue returns the outbound queue; under the lock.
func (c *Conn) queue() *outq {
	if c.out == nil {
		c.out = outqPool.Get().(*outq)
	}
	return c.out
}

// queued ends a change under the lock and lets the loop know.
func (c *Conn) queued(pending int) int {
	first := c.guarded&isDirty == 0
	c.guarded |= isDirty
	c.nb.Unlock()
	if first {
		c.loop.markDirty(c)
	}
	return pending
}

// Pending returns the bytes that wait to be written. Any goroutine.
func (c *Conn) Pending() int {
	c.nb.Lock()
	defer c.nb.Unlock()
	if c.out == nil {
		return 0
	}
	return c.out.pending
}

// Finish closes the connection in order: what is pending is written, then our
// side is shut down, input is thrown away until the peer closes too or
// Options.Linger has passed. The first reason stays. Any goroutine.
func (c *Conn) Finish(r Reason) { c.end(isFinish, r) }

// Cut closes the connection at once, whatever is pending. Any goroutine.
func (c *Conn) Cut(r Reason) { c.end(isCut, r) }

// Resume lets reading go on after Pause. Any goroutine.
func (c *Conn) Resume() { c.end(isResume, ReasonNone) }

func (c *Conn) end(flag guardedFlags, r Reason) {
	c.nb.Lock()
	if c.guarded&isClosed != 0 {
		c.nb.Unlock()
		return
	}
	if c.reason == ReasonNone {
		c.reason = r
	}
	c.guarded |= flag
	c.queued(0)
}

// Pause stops reading; the kernel's buffer then pushes back on the peer. Loop
// goroutine only.
func (c *Conn) Pause() { c.own |= ownPaused }

// Paused tells whether reading is stopped: the loop has not got to a Resume since
// the last Pause. Loop goroutine only.
func (c *Conn) Paused() bool { return c.own&ownPaused != 0 }

// isGone tells whether the loop has closed the connection. Loop goroutine only.
func (c *Conn) isGone() bool { return c.own&ownGone != 0 }
