//go:build linux && !portable

package poller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	backoffFirst  = 5 * time.Millisecond
	backoffLast   = time.Second
	acceptLogGap  = 5 * time.Second
	reserveSource = "/dev/null"
)

// listener is one listening socket on one loop.
type listener struct {
	conn    Conn   // first, registered with the loop's engine
	address string // as it was asked for
	opened  func(*Conn)
	reserve int // a descriptor to spend when there are no others
	backoff time.Duration
	waiting bool // backing off
	logged  time.Time
}

// listen opens a socket on address with SO_REUSEPORT, so that each loop has a
// queue of its own. Options set here are inherited by what it accepts, which saves
// a call per connection.
func (p *Poller) listen(address string) (fd int, bound netip.AddrPort, err error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var soErr error
		err := rc.Control(func(fd uintptr) { soErr = p.setSocketOptions(int(fd)) })
		return errors.Join(err, soErr)
	}}
	lc.SetMultipathTCP(false) // Go's default for listeners; its sockets neither inherit options nor send as cheaply
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return -1, bound, fmt.Errorf("poller: listen on %q: %w", address, err)
	}
	defer ln.Close()
	bound = ln.Addr().(*net.TCPAddr).AddrPort()
	rc, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return -1, bound, err
	}
	var dupErr error
	err = rc.Control(func(s uintptr) {
		fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	})
	return fd, bound, errors.Join(err, dupErr)
}

func (p *Poller) setSocketOptions(fd int) error {
	return errors.Join(
		setOption(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT"),
		setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"),
		p.setBuffers(fd))
}

func (p *Poller) setBuffers(fd int) (err error) {
	if n := p.opts.SendBuffer; n > 0 {
		err = setOption(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, n, "SO_SNDBUF")
	}
	if n := p.opts.ReceiveBuffer; n > 0 {
		err = errors.Join(err, setOption(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, n, "SO_RCVBUF"))
	}
	return err
}

func setOption(fd, level, opt, value int, name string) error {
	if err := unix.SetsockoptInt(fd, level, opt, value); err != nil {
		return fmt.Errorf("poller: set %s: %w", name, err)
	}
	return nil
}

// addListener starts accepting from fd, which it owns from now on. opened replaces
// Handler.Open unless it is nil. Loop goroutine only.
func (l *Loop) addListener(address string, fd int, opened func(*Conn)) error {
	reserve, err := unix.Open(reserveSource, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("poller: open reserve descriptor: %w", err)
	}
	ln := &listener{address: address, reserve: reserve, opened: opened}
	if opened == nil {
		ln.opened = l.handler.Open
	}
	ln.conn.loop, ln.conn.slot = l, slotListener
	nbInit(&ln.conn.nb, fd)
	if err := l.engine.add(&ln.conn.nb); err != nil {
		_ = unix.Close(fd)
		_ = unix.Close(reserve)
		return err
	}
	l.listeners = append(l.listeners, ln)
	return nil
}

// closeListeners stops accepting. Called in a pass.
func (l *Loop) closeListeners() {
	for _, ln := range l.listeners {
		fd := nbFD(&ln.conn.nb)
		ln.conn.own |= ownGone
		_ = l.engine.forget(fd)
		l.poller.table[fd] = nil
		l.closing = append(l.closing, fd, ln.reserve)
	}
	l.listeners = nil
	l.ring()
}

// accept takes connections until there are no more or the budget is used up.
func (l *Loop) accept(ln *listener) {
	if ln.waiting || l.frozen || l.muted || ln.conn.own&ownGone != 0 {
		return
	}
	for range acceptBudget {
		fd, err := l.sys.accept(nbFD(&ln.conn.nb))
		switch err {
		case nil:
			ln.backoff = 0
			l.open(ln, fd)
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.EPERM:
			// this one is gone; there may be others
		default: // EMFILE, ENFILE, ENOBUFS, ENOMEM
			l.acceptFailed(ln, err)
			return
		}
	}
	l.later(&ln.conn)
}

// acceptFailed refuses one waiting client by means of the reserve descriptor, so
// that it is not left hanging, and accepts no more for a while.
func (l *Loop) acceptFailed(ln *listener, err error) {
	l.count.acceptErrors++
	if ln.reserve >= 0 && (err == unix.EMFILE || err == unix.ENFILE) {
		_ = unix.Close(ln.reserve)
		if fd, err := l.sys.accept(nbFD(&ln.conn.nb)); err == nil {
			_ = unix.Close(fd)
			l.count.refused++
		}
		ln.reserve, _ = unix.Open(reserveSource, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	ln.backoff = min(max(2*ln.backoff, backoffFirst), backoffLast)
	if now := time.Now(); now.Sub(ln.logged) > acceptLogGap {
		ln.logged = now
		l.poller.opts.Logger.Error("cannot accept connections, backing off",
			"error", err, "wait", ln.backoff, "connections", l.poller.live.Load(), "loop", l.index)
	}
	ln.waiting = true
	time.AfterFunc(ln.backoff, func() {
		l.Post(func() {
			if ln.reserve < 0 { // someone was faster than us
				ln.reserve, _ = unix.Open(reserveSource, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			}
			ln.waiting = false
			l.accept(ln)
		})
	})
}

// open makes a connection of an accepted descriptor.
func (l *Loop) open(ln *listener, fd int) {
	if limit := l.poller.opts.MaxConns; limit > 0 && l.poller.live.Load() >= int64(limit) {
		l.count.refused++
		_ = unix.Close(fd)
		return
	}
	if err := l.register(l.poller.opts.New(), fd, ln.opened); err != nil {
		l.count.refused++
	}
}

// register makes c the connection of fd on this loop. fd is closed on an error.
func (l *Loop) register(c *Conn, fd int, opened func(*Conn)) error {
	if fd >= len(l.poller.table) { // the limit was raised after the start
		_ = unix.Close(fd)
		return fmt.Errorf("poller: descriptor %d is beyond the limit of the start, %d", fd, len(l.poller.table))
	}
	l.slots.add(c)
	l.own(c, fd)
	opened(c)
	if c.isGone() {
		return ErrClosed
	}
	if err := l.engine.add(&c.nb); err != nil {
		l.retire(c, ReasonStopped)
		_ = unix.Close(fd)
		return err
	}
	return nil
}

// own makes the loop that of a connection which has its slot.
func (l *Loop) own(c *Conn, fd int) {
	c.loop = l
	c.lastRead = l.now
	nbInit(&c.nb, fd)
	l.poller.live.Add(1)
	l.load.Add(1)
	l.count.opened++
	if c.own&ownTLS != 0 {
		l.count.tls++
	}
}
