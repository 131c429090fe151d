package conn

import (
	"sync/atomic"
	"time"
)

// queuedTime bounds Queued where a loop does not answer.
const queuedTime = time.Second

// Queued returns the bytes that wait for clients, and how many clients that is. It
// looks at every connection, a slice at a time between the loops' other work: some 15
// ms of CPU for a million, so ask it as seldom as a scrape. Any goroutine but a loop's.
func (s *Server) Queued() (bytes, conns int64) {
	var b, n atomic.Int64
	done := make(chan struct{}, len(s.loops))
	for _, h := range s.loops {
		s.eachSlice(h, func(c *Conn) {
			if p := c.pc.Pending(); p > 0 {
				b.Add(int64(p))
				n.Add(1)
			}
		}, func() { done <- struct{}{} })
	}
	late := time.After(queuedTime)
	for range s.loops {
		select {
		case <-done:
		case <-late:
			return b.Load(), n.Load()
		}
	}
	return b.Load(), n.Load()
}
