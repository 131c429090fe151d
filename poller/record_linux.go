//go:build linux && !portable

package poller

import (
	"errors"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"roost/poller/ktls"
)

// Where the kernel carries a connection's TLS records, some things are left to us: records
// that are no data, the answer to those that are broken, and close_notify.

// sendFlags are the flags of sends through the ring besides those that all have. The
// kernel's TLS refuses the one that keeps a send from ending half done.
func (c *Conn) sendFlags() uint32 {
	if c.own&ownTLS != 0 {
		return 0
	}
	return unix.MSG_WAITALL
}

// failed deals with a read that failed. It reports whether reading goes on.
func (l *Loop) failed(c *Conn, errno syscall.Errno) (more bool) {
	if c.own&ownTLS == 0 {
		l.close(c, ReasonReadError)
		return false
	}
	if errno != syscall.EIO {
		l.broken(c, errno)
		return false
	}
	n, err := l.sys.control(nbFD(&c.nb), l.buf)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		l.eof(c)
		return false
	case err != nil:
		l.broken(c, err)
		return false
	case n > 0:
		l.input(c, l.buf[:n])
	}
	return !c.isGone() && c.own&ownPaused == 0
}

// broken ends a session that cannot go on, and tells the peer why if it does not know.
func (l *Loop) broken(c *Conn, err error) {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ETIMEDOUT) {
		l.close(c, ReasonReadError)
		return
	}
	if alert, ok := ktls.Answer(err); ok {
		_ = l.sys.alert(nbFD(&c.nb), alert)
	}
	l.close(c, ReasonRecord)
}

// notify sends close_notify, before our side is shut down. It reports false where the
// socket is full: EPOLLOUT, or the end of the time to linger, then brings c back.
func (l *Loop) notify(c *Conn) bool {
	if err := l.sys.alert(nbFD(&c.nb), ktls.CloseNotify); !errors.Is(err, unix.EAGAIN) {
		return true // what else went wrong shows at the shutdown
	}
	c.own |= ownBlocked | ownEnding
	l.setDue(c, l.poller.lingerTicks)
	nbOnWritable(&c.nb, l.onWritable)
	return false
}
