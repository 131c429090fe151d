package loadtest

import "math"

// idle holds connections and answers pings. Owned by the loop.
type idle struct{ w *worker }

func (i *idle) begin()                  {}
func (i *idle) opened(*client)          {}
func (i *idle) message(*client, []byte) { i.w.stats.Received++ } // nothing was asked; what comes is the server's affair
func (i *idle) gone(*client, bool)      {}
func (i *idle) due() int64              { return 0 }
func (i *idle) inFlight() int64         { return 0 }
func (i *idle) missing() int64          { return 0 }

func (i *idle) command(name string, _ int64) {
	if name == doHalt {
		i.w.over(0)
	}
}

// storm connects, upgrades and closes, with as many at once as there are slots. Owned by the loop.
type storm struct {
	w     *worker
	start int64 // Unix ns
	ended int64 // connections that went all the way, or failed
}

func (s *storm) begin() {
	s.start = s.w.now
	s.w.wanted, s.w.paceStart = s.w.Messages, s.w.now
	if s.w.Messages == 0 {
		s.w.wanted = math.MaxInt32 // until the time is over; ids have 32 bits
	}
}

func (s *storm) opened(c *client) {
	s.w.progress = s.w.now
	if s.w.Abort {
		s.w.cut(c)
		return
	}
	s.w.beginClose(c)
}

func (s *storm) message(*client, []byte) { s.w.stats.Received++ }
func (s *storm) gone(*client, bool)      { s.cycled() }

// cycled counts a connection that is over.
func (s *storm) cycled() { s.ended++ }

func (s *storm) due() int64 {
	w := s.w
	if w.phase != measuring {
		return 0
	}
	end := int64(0)
	if w.Messages == 0 {
		if end = s.start + int64(w.Duration); w.now >= end {
			w.wanted = w.started
		}
	}
	if w.started >= w.wanted {
		w.over(w.started)
		return 0
	}
	return end
}

func (s *storm) command(name string, _ int64) {
	if name == doHalt {
		s.w.wanted = s.w.started
		s.w.over(s.w.started)
	}
}

func (s *storm) inFlight() int64 { return s.w.started - s.ended }
func (s *storm) missing() int64  { return 0 }

var _, _, _, _ play = (*idle)(nil), (*storm)(nil), (*fanout)(nil), (*echo)(nil)
