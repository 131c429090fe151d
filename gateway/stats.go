package gateway

import (
	"sync/atomic"

	"roost/auth"
	"roost/broker"
	"roost/internal/tally"
)

type revocationList = auth.Revocations

// Stats are totals since the start, but for those that say now.
type Stats struct {
	Transports    int64 // connections of the route now, connected as clients or not yet
	Clients       int64 // now
	Users         int64 // now, with an identity
	Channels      int64 // with subscribers here, now
	Subscriptions int64 // now
	Connects      uint64
	Publications  uint64                // published by clients and the API of this node
	Received      uint64                // publications with subscribers here
	Deliveries    uint64                // frames to subscribers
	Pushes        uint64                // other pushes, to one client
	Pings         uint64                // of the protocol
	Gaps          uint64                // channels whose subscribers had to start over
	Commands      map[string]uint64     // by kind
	Errors        map[uint32]uint64     // replies by error code
	Disconnects   map[uint32]uint64     // by the server, by code
	Closes        map[uint32]uint64     // all, by the code of the close
	Tokens        map[string]uint64     // refused, by why
	Unusable      map[string]uint64     // answers of handlers that could not be followed, by event
	Events        map[string]EventStats // by event, of those that have a handler
	Broker        broker.Stats
	Raw           RawStats

	Rebalanced uint64 // clients shed towards other nodes
	Drained    uint64 // clients disconnected by drains, those included
	DrainLeft  int64  // clients that the drain which goes on is yet to disconnect
	LetsIn     bool   // not while all clients are drained, and after that

	Refreshes map[string]RefreshStats // by event: refresh, sub_refresh

	Emulated map[string]int64 // of Clients, those of each transport but WebSocket
}

type counts struct {
	transports, clients, connects               atomic.Int64
	publications, received, pushes, pings, gaps atomic.Uint64
	rebalanced                                  atomic.Uint64
	commands                                    tally.Of[string]
	errors, disconnects, closes                 tally.Of[uint32]
	tokens, unusable                            tally.Of[string]
}

// Stats returns the node's figures. Any goroutine.
func (n *Node) Stats() Stats {
	c := &n.counts
	queues := make(map[string]EventStats)
	n.notices.each(func(q *notice) { queues[q.kind] = q.stats() })
	left, refuses := n.drain.look()
	return Stats{
		Drained: n.drain.gone.Load(), DrainLeft: left, LetsIn: !refuses,
		Events: queues, Rebalanced: c.rebalanced.Load(),
		Transports: c.transports.Load(), Clients: c.clients.Load(), Users: n.hub.Users.Load(),
		Channels: n.hub.Channels.Load(), Subscriptions: n.hub.Subscriptions.Load(),
		Connects: uint64(c.connects.Load()), Publications: c.publications.Load(), Received: c.received.Load(),
		Deliveries: n.hub.Deliveries.Load(), Pushes: c.pushes.Load(), Pings: c.pings.Load(), Gaps: c.gaps.Load(),
		Commands: c.commands.All(), Errors: c.errors.All(), Disconnects: c.disconnects.All(), Closes: c.closes.All(),
		Tokens: c.tokens.All(), Unusable: c.unusable.All(), Broker: n.broker.Stats(), Raw: n.rawStats(), Emulated: n.sessions.byTransport(), Refreshes: n.refreshes.stats(),
	}
}
