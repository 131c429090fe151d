//go:build linux && !portable

package poller

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// read takes what the socket has, up to a budget. A read that does not fill the
// buffer has emptied the socket, but for an end of stream that epoll told of, and but
// for TLS records, of which a read takes only those that are one kind.
func (l *Loop) read(c *Conn) {
	for range readBudget {
		n, errno := l.sys.read(nbFD(&c.nb), l.buf)
		l.count.reads++
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			l.drained(c)
			return
		case errno != 0:
			if !l.failed(c, errno) {
				return
			}
			continue
		case n == 0:
			l.eof(c)
			return
		}
		l.input(c, l.buf[:n])
		if n < len(l.buf) && c.own&(ownHup|ownTLS) == 0 || c.isGone() || c.own&ownPaused != 0 {
			return
		}
	}
	l.later(c)
}

// input hands bytes to the handler, unless the connection is past that.
func (l *Loop) input(c *Conn, b []byte) {
	l.count.bytesIn += uint64(len(b))
	c.lastRead = l.now
	if c.own&(ownLinger|ownEOF) == 0 {
		l.reading = c
		l.handler.Data(c, b)
		l.reading = nil
	}
}

// drained notes that there is no more input, so that the next end of stream is
// told again: the last one was that of a former owner of the descriptor.
func (l *Loop) drained(c *Conn) {
	if c.own&ownHup != 0 && c.own&ownEOF == 0 {
		c.own &^= ownHup
		nbSetClosed(&c.nb, false)
	}
}

func (l *Loop) eof(c *Conn) {
	if c.own&ownEOF != 0 {
		return
	}
	c.own |= ownEOF
	if c.own&ownLinger != 0 {
		l.close(c, ReasonEOF)
		return
	}
	if l.handler.EOF(c) || c.isGone() {
		return
	}
	c.nb.Lock()
	idle := c.out == nil
	c.nb.Unlock()
	if idle && c.own&(ownInBatch|ownTLS) == 0 {
		l.close(c, ReasonEOF)
		return
	}
	c.Finish(ReasonEOF)
}

// close closes a connection. During the connection's own event epoll has nothing
// more of it in the current batch, so the descriptor may be reused at once. At any
// other time the rest of the batch may still hold an event for it, which would hit
// whoever gets the number next, perhaps on another loop: then it is taken out of
// epoll now and the number given back in the next pass, which belongs to a later
// batch.
func (l *Loop) close(c *Conn, r Reason) {
	if !l.retire(c, r) {
		return
	}
	fd := nbFD(&c.nb)
	if l.current == c {
		_ = unix.Close(fd)
		return
	}
	_ = l.engine.forget(fd)
	l.closing = append(l.closing, fd)
	l.ring()
}

// retire ends everything of c but its descriptor. It reports false when that was
// done before.
func (l *Loop) retire(c *Conn, r Reason) bool {
	c.nb.Lock()
	if c.guarded&isClosed != 0 {
		c.nb.Unlock()
		return false
	}
	c.guarded |= isClosed
	c.own |= ownGone
	if c.reason == ReasonNone {
		c.reason = r
	}
	r = c.reason
	q := c.out
	c.out = nil
	c.nb.Unlock()
	if q != nil {
		q.recycle()
	}
	nbSetClosed(&c.nb, true)
	l.poller.table[nbFD(&c.nb)] = nil
	l.slots.remove(c)
	l.poller.live.Add(-1)
	l.load.Add(-1)
	l.count.closed++
	if c.own&ownTLS != 0 {
		l.count.tls--
	}
	l.handler.Closed(c, r)
	return true
}
