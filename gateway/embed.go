package gateway

import (
	"errors"
	"net/netip"
	"slices"

	"roost/conn"
)

// Listen serves clients on a TCP address, host:port, and returns the address bound. It is for
// programs that need nothing between the node and its conn.Server: it makes one of o, whose
// Routes come besides the node's own, and Shutdown ends it. Call it once; Server listens on more
// addresses, by TLS if need be. Programs that make their own conn.Server call Start instead.
func (n *Node) Listen(address string, o conn.Options) (netip.AddrPort, error) {
	if n.closing.Load() {
		return netip.AddrPort{}, errClosing
	}
	if n.server != nil {
		return netip.AddrPort{}, errors.New("gateway: the node has a server already: use Server().Listen for another address")
	}
	if o.Logger == nil {
		o.Logger = n.opts.Logger
	}
	o.Routes = slices.Concat(n.Routes(), o.Routes)
	server, err := conn.New(o)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n.owned = server
	if err := n.Start(server); err != nil {
		return netip.AddrPort{}, err
	}
	return server.Listen(address)
}

// Server returns what Listen made or Start was told; nil before.
func (n *Node) Server() *conn.Server { return n.server }
