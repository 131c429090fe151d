//go:build !linux || portable

package conn

import (
	"errors"
	"net/netip"

	"roost/poller/ktls"
)

// ListenTLS is for Linux only.
func (s *Server) ListenTLS(string, ktls.Options) (netip.AddrPort, error) {
	return netip.AddrPort{}, errors.New("conn: TLS is not supported on this system; put a proxy in front")
}

// Secure is for Linux only.
func (s *Server) Secure(string, ktls.Options) error {
	return errors.New("conn: TLS is not supported on this system; put a proxy in front")
}

func (h *loop) hello(*Conn, []byte) {}
