//go:build !linux || portable

package poller

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/lesismal/nbio"
)

const (
	pausedMax    = 16 << 20 // bytes kept for a paused connection until it is cut
	blockedAbove = 64 << 10 // bytes pending from which on a connection counts as blocked
)

// Conn is one socket. It is made by Options.New and may be embedded as the first
// field of a larger connection type.
type Conn struct {
	// Static after Poller.add, during which mu is held.
	nb   *nbio.Conn // nil if nbio refused it
	loop *Loop

	// Static after open.
	slot uint32
	gen  uint32

	// Owned by the loop.
	lastRead uint32
	in       [][]byte // read while paused
	held     int      // bytes in it
	paused   bool
	ended    bool   // nbio has closed it
	why      Reason // as far as nbio knows
	gone     bool   // Closed was called

	session any // see SetSession

	// Guarded by mu.
	mu       sync.Mutex
	queue    [][]byte
	pending  int  // bytes queued and not yet written, nbio's share included
	writing  bool // a goroutine empties the queue
	blocked  bool // Blocked was called since pending was 0
	finished bool
	closed   bool
	reason   Reason
}

// Loop returns the loop the connection belongs to. Any goroutine.
func (c *Conn) Loop() *Loop { return c.loop }

// Handle returns the name by which Loop.Get finds the connection. Any goroutine.
func (c *Conn) Handle() Handle { return makeHandle(c.loop.index, c.gen, c.slot) }

// LastRead returns the tick of the last input. Loop goroutine only.
func (c *Conn) LastRead() uint32 { return c.lastRead }

// SetSession keeps v with the connection. Not synchronized: set it in Open or
// before others know the connection.
func (c *Conn) SetSession(v any) { c.session = v }

// Session returns what SetSession kept.
func (c *Conn) Session() any { return c.session }

// RemoteAddr returns the peer's address; zero when the connection is closed. Loop
// goroutine only.
func (c *Conn) RemoteAddr() netip.AddrPort {
	if a, ok := c.nb.RemoteAddr().(*net.TCPAddr); ok && !c.gone {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// Write queues a copy of head followed by p. It returns the bytes now pending.
// Any goroutine.
func (c *Conn) Write(head, p []byte) (pending int, err error) {
	return c.WriteShared(append(bytes.Clone(head), p...))
}

// WriteShared queues p itself: many connections may share it, and nobody may
// change it any more. It returns the bytes now pending. Any goroutine.
func (c *Conn) WriteShared(p []byte) (pending int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p) == 0 {
		return c.pending, nil
	}
	if c.closed || c.finished {
		return 0, ErrClosed
	}
	c.queue = append(c.queue, p)
	c.pending += len(p)
	if !c.writing {
		c.writing = true
		go c.write()
	}
	if c.pending > blockedAbove && !c.blocked {
		c.blocked = true
		c.loop.stats.blocked.Add(1)
		c.loop.Post(func() {
			if !c.gone {
				c.loop.handler.Blocked(c, c.Pending())
			}
		})
	}
	return c.pending, nil
}

// write empties the queue into nbio. Its own goroutine, as nbio's write waits for
// the peer on some systems.
func (c *Conn) write() {
	for {
		c.mu.Lock()
		q := c.queue
		c.queue = nil
		c.writing = len(q) > 0
		c.mu.Unlock()
		if len(q) == 0 {
			return
		}
		for _, p := range q {
			_, _ = c.nb.Write(p) // OnClose tells of an error
			c.loop.stats.sends.Add(1)
		}
	}
}

// home waits until the connection is added and returns its loop, nil if that failed.
func (c *Conn) home() *Loop {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nb == nil {
		return nil
	}
	return c.loop
}

// onWritten is nbio's count of bytes that left; under its lock.
func (c *Conn) onWritten(n int) {
	c.loop.stats.bytesOut.Add(uint64(n))
	c.mu.Lock()
	c.pending -= n
	empty := c.pending == 0
	if empty {
		c.blocked = false
	}
	finished := c.finished
	c.mu.Unlock()
	if empty && finished {
		c.loop.Post(func() { _ = c.nb.Close() })
	}
}

// onData is nbio's callback. It waits for the loop, which lets the kernel push back.
func (c *Conn) onData(b []byte) {
	l, done := c.home(), make(chan struct{})
	l.stats.reads.Add(1)
	l.stats.bytesIn.Add(uint64(len(b)))
	posted := l.Post(func() {
		defer close(done)
		if c.held+len(b) > pausedMax {
			c.Cut(ReasonReadError)
			return
		}
		c.in = append(c.in, b)
		c.held += len(b)
		l.deliver(c)
		if n := len(c.in); n > 0 { // paused: b is nbio's again after this
			c.in[n-1] = bytes.Clone(b)
		}
	})
	if posted {
		<-done
	}
}

func (c *Conn) onClose(err error) {
	if l := c.home(); l != nil {
		l.Post(func() {
			c.ended, c.why = true, endReason(err)
			l.deliver(c)
		})
	}
}

// Pending returns the bytes that wait to be written. Any goroutine.
func (c *Conn) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending
}

// Finish closes the connection when what is pending is written, or after
// Options.Linger. The first reason stays. Any goroutine.
func (c *Conn) Finish(r Reason) {
	c.mu.Lock()
	first := !c.finished && !c.closed
	if first {
		c.finished = true
		c.setReason(r)
	}
	c.mu.Unlock()
	if !first {
		return
	}
	c.loop.Post(func() {
		if c.gone {
			return
		}
		c.loop.setDue(c, c.loop.poller.lingerTicks)
		if c.Pending() == 0 {
			_ = c.nb.Close()
		}
	})
}

// Cut closes the connection at once, whatever is pending. Any goroutine.
func (c *Conn) Cut(r Reason) {
	c.close(r)
	_ = c.nb.Close()
}

// close refuses further writes and returns the reason that was given first.
func (c *Conn) close(r Reason) Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setReason(r)
	c.closed, c.queue, c.pending = true, nil, 0
	return c.reason
}

func (c *Conn) setReason(r Reason) {
	if c.reason == ReasonNone {
		c.reason = r
	}
}

// ending tells whether the handler wants no more of the connection.
func (c *Conn) ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed || c.finished
}

// Pause stops input; nbio reads on, up to a bound. Loop goroutine only.
func (c *Conn) Pause() { c.paused = true }

// Paused tells whether reading is stopped: the loop has not got to a Resume since
// the last Pause. Loop goroutine only.
func (c *Conn) Paused() bool { return c.paused }

// Resume lets input go on after Pause. Any goroutine.
func (c *Conn) Resume() {
	c.loop.Post(func() {
		c.paused = false
		c.loop.deliver(c)
	})
}

// Write is Conn.Write for the loop's goroutine.
func (l *Loop) Write(c *Conn, head, p []byte, _ bool) (pending int, err error) {
	return c.Write(head, p)
}

// Push is Conn.WriteShared for the loop's goroutine.
func (l *Loop) Push(c *Conn, p []byte) (pending int, err error) { return c.WriteShared(p) }

// FinishNow is Conn.Finish for the loop's goroutine.
func (l *Loop) FinishNow(c *Conn, r Reason) { c.Finish(r) }

// Detached is a live connection without a loop, ready to be handed to another
// loop or process.
type Detached struct {
	FD     int
	Unsent []byte
	TLS    bool
}

// Detach is for Linux only.
func (l *Loop) Detach(*Conn) (Detached, error) {
	return Detached{}, errors.New("poller: detach is " + notSupported)
}

// Adopt is for Linux only; the descriptor stays the caller's.
func (p *Poller) Adopt(Detached, func(*Conn)) error {
	return errors.New("poller: adopt is " + notSupported)
}

// Adopt is for Linux only.
func (l *Loop) Adopt(Detached, *Conn, func(*Conn)) error {
	return errors.New("poller: adopt is " + notSupported)
}
