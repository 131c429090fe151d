package conn

import (
	"sync/atomic"

	"roost/poller"
	"roost/proto/ws"
)

// broadcastSlice is how many slots of a loop a broadcast looks at before other work
// gets its turn.
const broadcastSlice = 1024

// Broadcast sends p to every connection of the route that is open when its loop
// comes to it. It returns at once; done, if not nil, is called by a loop when all
// have been served. Broadcasts started by one goroutine reach each connection in
// their order. Any goroutine.
func (s *Server) Broadcast(rt *Route, p *ws.Prepared, done func()) {
	var left atomic.Int32
	left.Store(int32(len(s.loops)))
	for _, h := range s.loops {
		b := &broadcast{loop: h, route: rt.id, frame: p, done: func() {
			if left.Add(-1) == 0 && done != nil {
				done()
			}
		}}
		h.broadcasts.start(b)
	}
}

// broadcast is one message on its way to the connections of one loop.
type broadcast struct {
	loop  *loop
	route uint8
	frame *ws.Prepared
	from  uint32 // slot to go on with
	done  func()
}

// broadcastQueue holds a loop's broadcasts, so that one is finished before the next
// begins: else they would overtake each other in slices.
type broadcastQueue struct {
	list []*broadcast // loop goroutine only
}

// start queues b; posted functions keep their order.
func (q *broadcastQueue) start(b *broadcast) {
	ok := b.loop.loop.Post(func() {
		q.list = append(q.list, b)
		if len(q.list) == 1 {
			b.loop.broadcasts.step()
		}
	})
	if !ok {
		b.done()
	}
}

// step serves one slice of the first broadcast and asks for another turn.
func (q *broadcastQueue) step() {
	b := q.list[0]
	next, more := b.loop.loop.Each(b.from, broadcastSlice, b.send)
	b.from = next
	if !more {
		q.list[0] = nil
		q.list = q.list[1:]
		b.done()
		if len(q.list) == 0 {
			q.list = nil
			return
		}
	}
	if !b.loop.loop.Post(q.step) { // the loop has stopped
		for _, b := range q.list {
			b.done()
		}
		q.list = nil
	}
}

func (b *broadcast) send(pc *poller.Conn) {
	if c := connOf(pc); c.state == stateOpen && c.route == b.route {
		_ = c.PushPrepared(b.frame)
	}
}
