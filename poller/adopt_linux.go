//go:build linux && !portable

package poller

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Adopt makes a connection of d, whose descriptor is a connected stream socket (TCP,
// or one end of a socketpair), on the loop that has the fewest. It counts against
// Options.MaxConns and gets the socket options that its kind of socket has. opened is
// called on the loop instead of Handler.Open, before anything is read. The descriptor
// is the poller's from now on: it is closed on an error, and also if the loop cannot
// take it later, which the other end sees as the end of the stream. Any goroutine.
func (p *Poller) Adopt(d Detached, opened func(*Conn)) error {
	l := slices.MinFunc(p.loops, func(a, b *Loop) int { return cmp.Compare(a.load.Load(), b.load.Load()) })
	if err := p.prepare(d.FD); err != nil {
		_ = unix.Close(d.FD)
		return err
	}
	l.load.Add(1) // or all of a burst would go to one loop
	posted := l.Post(func() {
		l.load.Add(-1)
		l.count.adopted++
		if err := l.take(d, p.opts.New(), opened); err != nil {
			l.count.refused++
		}
	})
	if !posted {
		l.load.Add(-1)
		_ = unix.Close(d.FD)
		return ErrStopped
	}
	return nil
}

func (p *Poller) prepare(fd int) error {
	if limit := p.opts.MaxConns; limit > 0 && p.live.Load() >= int64(limit) {
		return ErrFull
	}
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
		return fmt.Errorf("poller: adopt descriptor %d: it is no stream socket (%v)", fd, err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("poller: adopt descriptor %d: %w", fd, err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // refused by what is no TCP
	return p.setBuffers(fd)
}
