package conn

import (
	"sync/atomic"

	"roost/poller"
)

// counters are the figures of one loop.
type counters struct {
	open                 atomic.Int64
	upgrades, messagesIn atomic.Uint64
	messagesOut, pings   atomic.Uint64
	closed               [reasonCount]atomic.Uint64
}

// Stats are totals since the start.
type Stats struct {
	Poller          poller.Stats
	Open            int64 // upgraded connections now
	Upgrades        uint64
	MessagesIn      uint64            // whole messages received
	MessagesOut     uint64            // messages queued
	Pings           uint64            // sent
	Closed          map[string]uint64 // connections by reason, see Label
	ProtocolErrors  map[string]uint64 // by ws.ProtocolError.Label
	HandshakeErrors map[string]uint64 // by ws.HandshakeError.Label
	WorkersBusy     int
	Waiting         int // connections that wait for a worker
	Handshakes      int // connections now that have no answer to their upgrade yet
	Held            int // of these, those that wait for their turn, see StormOptions
	TLS             TLSStats
}

// Stats returns the figures of all loops. Any goroutine.
func (s *Server) Stats() Stats {
	st := Stats{
		Poller:          s.poller.Stats(),
		Closed:          make(map[string]uint64, reasonCount),
		ProtocolErrors:  s.protocolErrors.All(),
		HandshakeErrors: s.handshakeErrors.All(),
	}
	st.Handshakes, st.Held = int(s.storm.shaking.Load()), int(s.storm.held.Load())
	st.TLS = s.tls.stats()
	st.TLS.Kernel = st.Poller.TLS
	s.waiting.mu.Lock()
	st.WorkersBusy, st.Waiting = s.waiting.busy, len(s.waiting.turns)
	s.waiting.mu.Unlock()
	for _, r := range Reasons() {
		st.Closed[Label(r)] = 0
	}
	for _, h := range s.loops {
		st.Open += h.stats.open.Load()
		st.Upgrades += h.stats.upgrades.Load()
		st.MessagesIn += h.stats.messagesIn.Load()
		st.MessagesOut += h.stats.messagesOut.Load()
		st.Pings += h.stats.pings.Load()
		for r := range h.stats.closed {
			if n := h.stats.closed[r].Load(); n > 0 {
				st.Closed[Label(Reason(r))] += n
			}
		}
	}
	return st
}
