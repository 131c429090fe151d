package gateway

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"roost/proto/client"
	"roost/proto/ws"
)

const (
	laneMessages = 64        // of a client that wait; then it is not read
	laneBytes    = 256 << 10 // likewise
	lanesLimit   = 64 << 20  // bytes of all clients of a route; then clients are closed
)

// rawCalls is the carrier of a route whose backend is asked by Handlers: one call for
// one client at a time, so that its messages stay in order, and at most
// RawRoute.Concurrency for all, each by a goroutine that goes when there is no more to do.
type rawCalls struct {
	rt    *rawRoute
	bytes atomic.Int64 // in lanes
	work  sync.WaitGroup

	mu      sync.Mutex
	busy    int
	waiting []*session // with something in the lane, first come first served
}

// lane is what a client has sent and its backend not been asked. A client has one for as
// long as that.
type lane struct {
	jobs    []rawJob
	bytes   int
	paused  bool // the client is not read
	running bool // it is being served, or waits for that
}

// rawJob is one event. Exactly one is set; for a message, data is never nil.
type rawJob struct {
	request *RawRequest
	data    []byte
	op      ws.Opcode
	end     *RawDisconnect
}

func newRawCalls(rt *rawRoute) *rawCalls { return &rawCalls{rt: rt} }

func (x *rawCalls) opened(s *session, r *RawRequest) { x.put(s, rawJob{request: r}) }

func (x *rawCalls) closed(s *session, d *RawDisconnect) { x.put(s, rawJob{end: d}) }

func (x *rawCalls) message(s *session, op ws.Opcode, payload []byte) {
	if x.bytes.Add(int64(len(payload))) > lanesLimit {
		x.bytes.Add(-int64(len(payload)))
		s.set(markBroken)
		x.rt.fail(s, rawFull, errRawFull)
		return
	}
	x.put(s, rawJob{data: append(make([]byte, 0, len(payload)), payload...), op: op})
}

// put queues an event.
func (x *rawCalls) put(s *session, j rawJob) {
	start := false
	s.change(func(e *extra) {
		if e.raw == nil {
			e.raw = &rawExtra{lane: new(lane)}
		}
		ln := e.raw.lane
		ln.jobs = append(ln.jobs, j)
		ln.bytes += len(j.data)
		if !ln.paused && (len(ln.jobs) >= laneMessages || ln.bytes >= laneBytes) {
			ln.paused = true
			s.Conn.Pause()
		}
		start = !ln.running
		ln.running = true
	})
	if !start {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.busy == x.rt.Concurrency {
		x.waiting = append(x.waiting, s)
		return
	}
	x.busy++
	x.work.Go(func() { x.run(s) })
}

// run serves clients, one event each, until nobody waits.
func (x *rawCalls) run(s *session) {
	for s != nil {
		x.ask(s, x.take(s))
		more := x.more(s)
		x.mu.Lock()
		if more {
			x.waiting = append(x.waiting, s)
		}
		s = nil
		if len(x.waiting) > 0 {
			s = x.waiting[0]
			x.waiting[0] = nil
			x.waiting = x.waiting[1:]
		} else {
			x.busy--
		}
		x.mu.Unlock()
	}
}

// take returns the next event of a client that waits.
func (x *rawCalls) take(s *session) (j rawJob) {
	resume := false
	s.change(func(e *extra) {
		ln := e.raw.lane
		j = ln.jobs[0]
		ln.jobs[0] = rawJob{}
		ln.jobs = ln.jobs[1:]
		ln.bytes -= len(j.data)
		if ln.paused && len(ln.jobs) <= laneMessages/2 && ln.bytes <= laneBytes/2 {
			ln.paused, resume = false, true
		}
	})
	x.bytes.Add(-int64(len(j.data)))
	if resume {
		s.Conn.Resume()
	}
	return j
}

// more says whether a client has more, and gives its lane up if not.
func (x *rawCalls) more(s *session) (more bool) {
	s.change(func(e *extra) {
		if more = len(e.raw.lane.jobs) > 0; !more {
			e.raw = nil
		}
	})
	if !more {
		s.tidy()
	}
	return more
}

// ask has the handlers told of one event.
func (x *rawCalls) ask(s *session, j rawJob) {
	n, h := x.rt.node, &x.rt.node.opts.Handlers
	ctx, cancel := context.WithTimeout(n.life, n.opts.CallTimeout)
	defer cancel()
	var answer RawData
	var err error
	switch {
	case j.end != nil:
		if h.RawDisconnect != nil {
			err = h.RawDisconnect(ctx, *j.end)
		}
		if err != nil {
			n.reason(err) // for the log: nobody is left to hear it
		}
		return
	case s.is(markBroken): // what it sent has a hole
		return
	case j.request != nil:
		if h.RawConnect != nil {
			answer, err = h.RawConnect(ctx, *j.request)
		}
	default:
		m := RawMessage{RawPeer: x.rt.peer(), RawData: RawData{Data: j.data, Binary: j.op == ws.OpBinary}}
		m.Peer = n.peer(s)
		answer, err = h.RawMessage(ctx, m)
	}
	x.answered(s, answer, err)
}

// answered sends what the handlers said to a client, or closes it.
func (x *rawCalls) answered(s *session, answer RawData, err error) {
	var end *client.Disconnect
	var no *client.Error
	switch {
	case errors.As(err, &end):
		s.set(markBroken)
		x.rt.node.disconnect(s, *end)
	case errors.As(err, &no) && !no.Temporary && no.Code != client.ErrNotAvailable.Code:
		s.set(markBroken)
		x.rt.fail(s, rawBackend, client.Disconnect{Code: uint32(ws.CloseInternal), Reason: clip(no.Message)})
	case err != nil:
		s.set(markBroken)
		x.rt.node.reason(err) // for the log
		x.rt.fail(s, rawBackend, errRawAway)
	case answer.Data == nil:
	default:
		if errors.Is(x.rt.send(s, x.rt.opcode(answer.Binary), answer.Data), errRawUTF8) {
			s.set(markBroken)
			x.rt.fail(s, rawBackend, client.Disconnect{Code: uint32(ws.CloseInternal), Reason: "the backend's answer is not UTF-8"})
		}
	}
}

// clip cuts a text to what a close frame has room for.
func clip(text string) string {
	return string(bytes.ToValidUTF8([]byte(text[:min(len(text), maxReason)]), nil))
}
