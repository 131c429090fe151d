// Command gobwas is the peer built on gobwas/ws, its frames and its zero-copy upgrade, over an
// epoll loop of our own: one loop, level-triggered, one read buffer for all connections.
//
// Tuned: frames are unmasked in the read buffer; a broadcast is compiled once and written to every
// connection; only what a socket did not take is kept.
package main

import (
	"log"
	"net"

	"golang.org/x/sys/unix"

	"roost/benchmarks/internal/peer"
)

const (
	readBuffer = 1 << 20 // bytes; also the limit of one message
	headLimit  = 8 << 10 // bytes of an upgrade request
	batch      = 512     // events taken by one wait
)

// conn is one connection. All of it is owned by the loop.
type conn struct {
	fd       int32
	member   int32 // position in loop.members, or -1
	upgraded bool
	input    []byte // the part of a frame or head that has arrived so far
	unsent   []byte // what the socket did not take
}

type loop struct {
	epoll    int
	listener int
	conns    []*conn // by descriptor
	members  []*conn // of the broadcast route
	buffer   []byte
	request  request
}

func main() {
	address, err := net.ResolveTCPAddr("tcp4", peer.Address())
	if err != nil {
		log.Fatal(err)
	}
	l := &loop{buffer: make([]byte, readBuffer)}
	if err := l.open(address); err != nil {
		log.Fatal(err)
	}
	log.Fatal(l.run())
}

func (l *loop) open(address *net.TCPAddr) (err error) {
	l.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	bound := &unix.SockaddrInet4{Port: address.Port}
	copy(bound.Addr[:], address.IP.To4())
	for _, step := range []func() error{
		func() error { return unix.SetsockoptInt(l.listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) },
		// Accepted sockets inherit it.
		func() error { return unix.SetsockoptInt(l.listener, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) },
		func() error { return unix.Bind(l.listener, bound) },
		func() error { return unix.Listen(l.listener, 65535) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	name, err := unix.Getsockname(l.listener)
	if err != nil {
		return err
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	address.Port = name.(*unix.SockaddrInet4).Port
	peer.Ready(address)
	return l.watch(unix.EPOLL_CTL_ADD, l.listener, unix.EPOLLIN)
}

func (l *loop) watch(operation, fd int, events uint32) error {
	return unix.EpollCtl(l.epoll, operation, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (l *loop) run() error {
	events := make([]unix.EpollEvent, batch)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for i := range max(n, 0) {
			event := &events[i]
			if int(event.Fd) == l.listener {
				l.acceptAll()
				continue
			}
			// In this batch the connection may have been closed and its number given to another:
			// the newcomer then reads EAGAIN, which does no harm.
			if c := l.conns[event.Fd]; c != nil && event.Events&unix.EPOLLOUT != 0 && len(c.unsent) > 0 {
				l.sendUnsent(c)
			}
			if c := l.conns[event.Fd]; c != nil && event.Events&^unix.EPOLLOUT != 0 {
				l.readable(c)
			}
		}
	}
}

func (l *loop) acceptAll() {
	for {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // nobody waits, or no descriptors: level-triggered, so asked again
		}
		for fd >= len(l.conns) {
			l.conns = append(l.conns, nil)
		}
		if l.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) != nil {
			unix.Close(fd)
			continue
		}
		l.conns[fd] = &conn{fd: int32(fd), member: -1}
	}
}

func (l *loop) close(c *conn) {
	if l.conns[c.fd] != c {
		return
	}
	if c.member >= 0 {
		last := len(l.members) - 1
		l.members[c.member] = l.members[last]
		l.members[c.member].member = c.member
		l.members[last] = nil
		l.members = l.members[:last]
	}
	l.conns[c.fd] = nil
	unix.Close(int(c.fd))
}

func (l *loop) readable(c *conn) {
	have := copy(l.buffer, c.input)
	n, err := unix.Read(int(c.fd), l.buffer[have:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if n <= 0 {
		l.close(c)
		return
	}
	data := l.buffer[:have+n]
	for len(data) > 0 {
		used, err := l.take(c, data)
		if err != nil {
			l.close(c)
			return
		}
		if used == 0 {
			break
		}
		data = data[used:]
	}
	if len(data) == 0 {
		c.input = nil // given back: an idle connection holds no buffer
		return
	}
	c.input = append(c.input[:0], data...)
}

// send writes, or keeps what the socket does not take. It returns false when the connection is
// lost, or too far behind; the caller closes it.
func (l *loop) send(c *conn, data []byte) bool {
	if len(c.unsent) == 0 {
		n, err := unix.Write(int(c.fd), data)
		if err != nil && err != unix.EAGAIN {
			return false
		}
		if n == len(data) {
			return true
		}
		data = data[max(n, 0):]
		if l.watch(unix.EPOLL_CTL_MOD, int(c.fd), unix.EPOLLIN|unix.EPOLLOUT) != nil {
			return false
		}
	}
	if len(c.unsent)+len(data) > peer.MaxUnsent {
		return false
	}
	c.unsent = append(c.unsent, data...)
	return true
}

func (l *loop) sendUnsent(c *conn) {
	n, err := unix.Write(int(c.fd), c.unsent)
	if err != nil {
		if err != unix.EAGAIN {
			l.close(c)
		}
		return
	}
	if n < len(c.unsent) {
		c.unsent = c.unsent[:copy(c.unsent, c.unsent[n:])]
		return
	}
	c.unsent = nil
	if l.watch(unix.EPOLL_CTL_MOD, int(c.fd), unix.EPOLLIN) != nil {
		l.close(c)
	}
}
