//go:build linux && !portable

package conn

import (
	"errors"
	"net"
	"net/netip"

	"roost/poller"
	"roost/poller/ktls"
)

const recordHandshake = 0x16 // the first byte of TLS (RFC 8446, 5.1)

// ListenTLS is Listen for clients that speak TLS: wss, and https for what Options.HTTP
// and Options.Hand answer. o.Done is the server's, and o.Logger if it is nil. Where the
// kernel carries the records, such a client costs the process what another does; where
// it does not, some 29 KB and two goroutines, up to o.MaxFallback clients. Handshakes
// count neither as goroutines of the pool nor against Poller.MaxConns; they are bounded
// by o. The time to the first byte, and again to the upgrade request after the
// handshake, is HandshakeTimeout. Linux only. Not at the same time as another ListenTLS.
func (s *Server) ListenTLS(address string, o ktls.Options) (netip.AddrPort, error) {
	index, ready := s.tls.secured[address]
	delete(s.tls.secured, address) // a later one of that name, say of port 0, is another address
	if !ready {
		var err error
		if index, err = s.secure(o); err != nil {
			return netip.AddrPort{}, err
		}
	}
	return s.poller.ListenFor(address, func(pc *poller.Conn) {
		c := connOf(pc)
		c.state, c.route = stateTLS, uint8(index)
		c.loop().Open(pc)
	})
}

// Secure makes everything ready for ListenTLS, which then does not look at its options. A server that
// takes over needs that before Restore: clients may have come to the address and have sent nothing yet.
func (s *Server) Secure(address string, o ktls.Options) error {
	index, err := s.secure(o)
	if err != nil {
		return err
	}
	if s.tls.secured == nil {
		s.tls.secured = make(map[string]int)
	}
	s.tls.secured[address] = index
	return nil
}

// secure makes a handshaker and returns its index.
func (s *Server) secure(o ktls.Options) (index int, err error) {
	if len(s.tls.handshakers) >= maxRoutes {
		return 0, errors.New("conn: too many TLS addresses")
	}
	o.Done = s.secured
	if o.Logger == nil {
		o.Logger = s.opts.Logger
	}
	hs, err := ktls.New(o)
	if err != nil {
		return 0, err
	}
	s.tls.mu.Lock()
	defer s.tls.mu.Unlock()
	s.tls.handshakers = append(s.tls.handshakers, hs)
	return len(s.tls.handshakers) - 1, nil
}

// hello gives a connection whose first bytes have come to its handshake.
func (h *loop) hello(c *Conn, b []byte) {
	hs := h.server.tls.handshakers[c.route]
	c.route = 0
	switch {
	case b[0] == recordHandshake:
	case b[0] >= 'A' && b[0] <= 'Z': // a method
		h.refuse(c, nil, ReasonHandshake, errPlain)
		return
	default:
		h.server.handshakeErrors.Add(labelNoTLS)
		c.pc.Cut(ReasonHandshake)
		return
	}
	d, err := h.loop.Detach(&c.pc)
	if err != nil {
		c.pc.Cut(ReasonHandshake)
		h.server.tls.outcomes.Add(outcomeLost)
		return
	}
	nc, err := ktls.Conn(d.FD)
	if err != nil {
		h.server.tls.outcomes.Add(outcomeLost)
		return
	}
	if err := hs.Take(nc, b); err != nil {
		h.server.tls.outcomes.Add(outcomeBusy)
	}
}

// secured takes a session to a loop. On the handshake's goroutine.
func (s *Server) secured(session ktls.Session, err error) {
	outcome := outcomeOf(session, err)
	switch outcome {
	case outcomeKernel:
		err = s.poller.Adopt(poller.Detached{FD: session.FD, TLS: true}, s.adopted(netip.AddrPort{}))
	case outcomeFallback:
		err = s.relay(session.Fallback.(halfConn))
	case outcomeFull:
		if s.tls.full() {
			s.opts.Logger.Error("clients are turned away: crypto/tls carries as many TLS sessions as it may, and the kernel none",
				"sessions", s.Stats().TLS.Fallback)
		}
	}
	if err != nil && (outcome == outcomeKernel || outcome == outcomeFallback) {
		outcome = outcomeLost
	}
	s.tls.outcomes.Add(outcome)
	if err != nil {
		s.opts.Logger.Debug("TLS handshake", "outcome", outcome, "error", err)
	}
}

// halfConn is a connection whose output can be ended by itself.
type halfConn interface {
	net.Conn
	CloseWrite() error
}
