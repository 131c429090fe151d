package emulation

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// back gives a request that is not for this package to the gateway's loops, and its
// connection with it: proxies send requests of all kinds over the connections that they
// keep, so an upgrade may come after a POST.
func (s *Server) back(w http.ResponseWriter, r *http.Request) {
	ours := slices.ContainsFunc(Paths, func(p string) bool { return strings.HasPrefix(r.RequestURI, p) })
	if ours || r.ContentLength != 0 { // the loops would give it back
		answer(w, refusal(http.StatusNotFound, "not_found", "there is nothing at this path"))
		return
	}
	remote, _ := netip.ParseAddrPort(r.RemoteAddr) // the zero value is no address
	pair, err := s.dial(remote)
	if err != nil {
		s.refuse(w, refusal(http.StatusServiceUnavailable, "no_room", "no room for a connection"))
		return
	}
	defer pair.Close()
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // HTTP/2, which nobody speaks here
	}
	s.connections.Add(1) // net/http counts it out as it lets go of it
	defer s.connections.Add(-1)
	defer nc.Close()
	_ = nc.SetDeadline(time.Time{})
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Host)
	_ = r.Header.Write(&head) // a Buffer takes everything
	head.WriteString("\r\n")
	go func() {
		_, _ = io.Copy(pair, io.MultiReader(&head, buffered))
		_ = pair.Close()
	}()
	_, _ = io.Copy(nc, pair)
}
