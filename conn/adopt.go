package conn

import (
	"net"
	"net/netip"

	"roost/poller"
)

// Adopt makes a client's connection, with its request still to come, of fd: a connected
// stream socket, TCP or one end of a socketpair, on the loop that has the fewest.
// remote is what RemoteAddr tells of it; the zero value leaves that to the socket. It
// counts against Poller.MaxConns. fd is the server's from now on: it is closed on an
// error, and if a loop finds later that it cannot take it, which the other end sees as
// the end of the stream. Any goroutine. An error where there is no epoll, see package poller;
// there fd stays open.
func (s *Server) Adopt(fd int, remote netip.AddrPort) error {
	return s.poller.Adopt(poller.Detached{FD: fd}, s.adopted(remote))
}

// Dial returns one end of a socketpair whose other end Adopt has taken: a client within the
// process. It is the caller's to close. Errors: an *os.SyscallError where there are no
// descriptors, and those of Adopt. Any goroutine. Linux only.
func (s *Server) Dial(remote netip.AddrPort) (*net.UnixConn, error) {
	outer, inner, err := socketpair()
	if err != nil {
		return nil, err
	}
	if err := s.Adopt(inner, remote); err != nil {
		_ = outer.Close()
		return nil, err
	}
	return outer, nil
}

// adopted begins with a connection that was not accepted.
func (s *Server) adopted(remote netip.AddrPort) func(*poller.Conn) {
	return func(pc *poller.Conn) {
		h := pc.Loop().Handler().(*loop)
		h.Open(pc)
		h.setRemote(connOf(pc), remote)
		if s.stopping.Load() {
			pc.Cut(ReasonShutdown)
		}
	}
}

func (h *loop) setRemote(c *Conn, remote netip.AddrPort) {
	if remote.IsValid() {
		c.flags |= flagRemote
		h.remotes[c.pc.Handle()] = remote
	}
}

// RemoteAddr returns the peer's address; zero when the connection is closed. From the
// handler of an inline route, or on the loop.
func (c *Conn) RemoteAddr() netip.AddrPort {
	if c.flags&flagRemote != 0 {
		return c.loop().remotes[c.pc.Handle()]
	}
	return c.pc.RemoteAddr()
}
