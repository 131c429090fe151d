package poller

import "sync/atomic"

// counters are a loop's own figures, published once per pass.
type counters struct {
	opened, adopted, closed, refused, acceptErrors uint64
	reads, bytesIn, sends, bytesOut, enters        uint64
	blocked                                        uint64
	tls                                            int64 // connections now
}

type stats struct {
	opened, adopted, closed, refused, acceptErrors atomic.Uint64
	reads, bytesIn, sends, bytesOut, enters        atomic.Uint64
	blocked                                        atomic.Uint64
	tls                                            atomic.Int64
}

func (c *counters) publish(s *stats) {
	s.opened.Store(c.opened)
	s.adopted.Store(c.adopted)
	s.closed.Store(c.closed)
	s.refused.Store(c.refused)
	s.acceptErrors.Store(c.acceptErrors)
	s.reads.Store(c.reads)
	s.bytesIn.Store(c.bytesIn)
	s.sends.Store(c.sends)
	s.bytesOut.Store(c.bytesOut)
	s.enters.Store(c.enters)
	s.blocked.Store(c.blocked)
	s.tls.Store(c.tls)
}

// Stats are totals since the start, summed over the loops; at most one tick old.
type Stats struct {
	Open         int64  // connections now
	TLS          int64  // of these with records carried by the kernel
	Opened       uint64 // connections accepted or adopted
	Adopted      uint64 // of these by Poller.Adopt
	Closed       uint64
	Refused      uint64 // accepted and closed at once for want of room
	AcceptErrors uint64 // accept(2) failures that led to a pause
	Reads        uint64 // read(2) calls
	BytesIn      uint64
	Sends        uint64 // send(2), writev(2) and io_uring sends
	BytesOut     uint64
	Enters       uint64 // io_uring_enter(2) calls
	Blocked      uint64 // times a socket took no more
}

func (s *Stats) add(l *stats) {
	s.Opened += l.opened.Load()
	s.Adopted += l.adopted.Load()
	s.TLS += l.tls.Load()
	s.Closed += l.closed.Load()
	s.Refused += l.refused.Load()
	s.AcceptErrors += l.acceptErrors.Load()
	s.Reads += l.reads.Load()
	s.BytesIn += l.bytesIn.Load()
	s.Sends += l.sends.Load()
	s.BytesOut += l.bytesOut.Load()
	s.Enters += l.enters.Load()
	s.Blocked += l.blocked.Load()
}
