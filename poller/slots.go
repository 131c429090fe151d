package poller

// Handle names a connection without keeping it alive: it is no pointer for the
// garbage collector to follow, and it refuses a slot that has been reused.
type Handle uint64

const (
	maxLoops  = 1 << 8
	chunkSize = 1 << 12
	dueBlock  = 1 << 6 // neighbouring slots that are looked at together
)

// makeHandle packs loop (8 bits), generation (24 bits) and slot (32 bits).
func makeHandle(loop int, gen, slot uint32) Handle {
	return Handle(uint64(loop)<<56 | uint64(gen&0xffffff)<<32 | uint64(slot))
}

func (h Handle) loop() int    { return int(h >> 56) }
func (h Handle) gen() uint32  { return uint32(h>>32) & 0xffffff }
func (h Handle) slot() uint32 { return uint32(h) }

// Slot is the connection's place in its loop's table: dense from 0, and reused once
// the connection has been closed.
func (h Handle) Slot() uint32 { return h.slot() }

type slot struct {
	conn *Conn
	due  uint32 // tick of the deadline, 0 = none
	gen  uint32
}

// slots is the dense table of a loop's connections: deadlines are found by
// walking it, so no connection needs a timer. It grows by chunks, never copies,
// and reuses the lowest-cost slot, the one freed last. Loop goroutine only.
type slots struct {
	chunks []*[chunkSize]slot
	used   uint32 // slots ever handed out
	free   []uint32
	live   int
	base   uint32 // generation before the first one of a slot, see settle
}

func (s *slots) at(i uint32) *slot { return &s.chunks[i/chunkSize][i%chunkSize] }

func (s *slots) add(c *Conn) {
	var i uint32
	if n := len(s.free); n > 0 {
		i = s.free[n-1]
		s.free = s.free[:n-1]
	} else {
		i = s.used
		s.used++
		if int(i/chunkSize) == len(s.chunks) {
			s.chunks = append(s.chunks, new([chunkSize]slot))
		}
		s.at(i).gen = s.base
	}
	e := s.at(i)
	e.conn, e.due = c, 0
	e.gen = (e.gen + 1) & 0xffffff
	c.slot, c.gen = i, e.gen
	s.live++
}

// put gives c the slot and generation of h, which another process had for it. It reports false
// if the slot is taken. settle must follow.
func (s *slots) put(c *Conn, h Handle) bool {
	i := h.slot()
	for int(i/chunkSize) >= len(s.chunks) {
		s.chunks = append(s.chunks, new([chunkSize]slot))
	}
	e := s.at(i)
	if e.conn != nil {
		return false
	}
	s.used = max(s.used, i+1)
	e.conn, e.due, e.gen = c, 0, h.gen()
	c.slot, c.gen = i, e.gen
	s.live++
	return true
}

// settle finds the slots that are free after puts. Their next generations come after gen.
func (s *slots) settle(gen uint32) {
	for i := s.used; i > 0; i-- { // the lowest is used first
		if e := s.at(i - 1); e.conn == nil {
			e.gen = gen
			s.free = append(s.free, i-1)
		}
	}
	s.base = gen
}

func (s *slots) remove(c *Conn) {
	e := s.at(c.slot)
	e.conn, e.due = nil, 0
	s.free = append(s.free, c.slot)
	s.live--
}

// get returns the connection of h, or nil if it is gone.
func (s *slots) get(h Handle) *Conn {
	i := h.slot()
	if i >= s.used {
		return nil
	}
	if e := s.at(i); e.gen == h.gen() {
		return e.conn
	}
	return nil
}

// due calls f for each connection in part (of parts) whose deadline is not after
// now, and clears that deadline first. A slot is always in the same part, however
// the table grows.
func (s *slots) due(part, parts, now uint32, f func(*Conn)) {
	for from := part * dueBlock; from < s.used; from += parts * dueBlock {
		for i := from; i < min(from+dueBlock, s.used); i++ {
			e := s.at(i)
			if e.due != 0 && int32(now-e.due) >= 0 && e.conn != nil {
				e.due = 0
				f(e.conn)
			}
		}
	}
}
