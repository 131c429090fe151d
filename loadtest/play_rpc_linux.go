package loadtest

import (
	"bytes"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/centrifugal/protocol"
)

// rpcs is clients that call a method of the server's backend and expect the data of every call back, byte for byte.
// Without a rate each has InFlight calls under way. In the open loop calls are made when the pacer says, by whoever
// has a free place, and their latency counts from when they were due. Bystanders are the first of the clients: they
// call another method, one at a time and always in an open loop, and are told apart. Owned by the loop.
type rpcs struct {
	clients
	calls          []call // InFlight places for each session
	pacer, besides Pacer  // of load and bystanders; nil in the closed loop
	count, beside  int64  // calls made
	turn, aside    int    // sessions to call next
	flying         int64  // calls under way
	busy           int64  // those of load
	lost           int64  // calls of connections that are gone
}

// call is a place for one call at a time. The n-th call in place k has the command id 2 + n·InFlight + k.
type call struct {
	n   uint32
	due int64 // Unix ns; 0: the place is free
}

func newRPCs(w *worker) *rpcs {
	w.Subscriptions = 0 // ids above 1 are calls
	r := &rpcs{clients: *newClients(w, w.Connections), calls: make([]call, w.Connections*w.InFlight),
		pacer: newPacer(w.Rate, w.Ramp), besides: newPacer(w.BystanderRate, 0), turn: w.Bystanders}
	r.clients.answered = r.answered
	return r
}

func (r *rpcs) begin() {
	r.start = r.w.now
	for s := r.w.Bystanders; r.pacer == nil && s < len(r.sessions); s++ {
		for range r.w.InFlight {
			r.next(s)
		}
	}
}

// done reports whether the load's next call, due at a time since the start, is one too many.
func (r *rpcs) done(due time.Duration) bool {
	if r.w.Messages > 0 {
		return r.count >= r.w.Messages
	}
	return due >= r.w.Duration
}

// next makes a call of the closed loop.
func (r *rpcs) next(s int) {
	switch {
	case r.w.phase != measuring:
	case r.done(time.Duration(r.w.now - r.start)):
		r.w.over(r.count)
	case r.call(s, r.w.InFlight, r.w.Method, r.w.now):
		r.count++
		r.busy++
	}
}

// call makes one if the session has a free place among its first ones.
func (r *rpcs) call(s, places int, method string, due int64) bool {
	c := &r.w.clients[r.sessions[s].slot]
	if !r.sessions[s].open {
		return false
	}
	for k := range r.calls[s*r.w.InFlight:][:places] {
		p := &r.calls[s*r.w.InFlight+k]
		if p.due != 0 {
			continue
		}
		p.due = due
		if r.flying == 0 {
			r.w.progress = r.w.now
		}
		r.flying++
		r.w.stats.Sent++
		seq := p.n*uint32(r.w.InFlight) + uint32(k)
		r.w.payload = r.data(s, seq, due)
		r.send(c, r.wire.command(nil, &protocol.Command{Id: seq + 2, Rpc: &protocol.RPCRequest{Method: method, Data: r.w.payload}}))
		return true
	}
	return false
}

// data is what a call sends, in the worker's buffer.
func (r *rpcs) data(s int, seq uint32, due int64) []byte {
	if r.w.Data == "" {
		return publication{uint32(r.w.Seed), r.id(uint32(s)), seq, due}.append(r.w.payload[:0], r.w.fill, r.w.Size)
	}
	text := strings.ReplaceAll(r.w.Data, "{client}", strconv.Itoa(int(r.id(uint32(s)))))
	text = strings.ReplaceAll(text, "{n}", strconv.Itoa(int(seq)))
	return append(r.w.payload[:0], text...)
}

// answered takes the reply to a call.
func (r *rpcs) answered(c *client, reply *protocol.Reply) {
	w, s := r.w, int(c.session)
	seq := reply.Id - 2
	k := int(seq) % w.InFlight
	p := &r.calls[s*w.InFlight+k]
	w.stats.Received++
	w.progress = w.now
	if p.due == 0 || seq != p.n*uint32(w.InFlight)+uint32(k) {
		w.wrong("an answer nobody is waiting for")
		return
	}
	latency, bystander := w.now-p.due, s < w.Bystanders
	p.n, p.due = p.n+1, 0
	r.flying--
	switch {
	case reply.Error != nil:
		w.stats.code(fmt.Sprintf("%d: %s", reply.Error.Code, reply.Error.Message), 1)
	case w.Verify && w.Data == "" && !r.same(reply.Rpc, uint32(s), seq):
		w.wrong("not the data of the call")
	case bystander:
		w.stats.Beside.record(latency)
	default:
		w.stats.Latency.record(latency)
	}
	if bystander {
		return
	}
	if r.busy--; r.pacer == nil {
		r.next(s)
	}
}

// same reports whether a result holds what the session sent with call seq.
func (r *rpcs) same(result *protocol.RPCResult, s, seq uint32) bool {
	if result == nil {
		return false
	}
	m, whole := parsePublication(bytes.TrimSpace(result.Data), r.w.fill, r.w.Size)
	return whole && m.run == uint32(r.w.Seed) && m.channel == r.id(s) && m.seq == seq
}

func (r *rpcs) gone(c *client, lost bool) {
	r.clients.gone(c, lost)
	for k := range r.w.InFlight {
		if p := &r.calls[int(c.session)*r.w.InFlight+k]; p.due != 0 {
			p.n, p.due = p.n+1, 0
			r.flying--
			r.lost++
			if int(c.session) >= r.w.Bystanders {
				r.busy--
			}
		}
	}
	if lost && r.w.opens == 0 && r.w.phase == measuring {
		r.w.over(r.count)
	}
}

// due calls what the pacers want called by now.
func (r *rpcs) due() (next int64) {
	w := r.w
	if w.phase != measuring {
		return 0
	}
	end := r.start + int64(w.Duration)
	if (w.Messages == 0 || w.Bystanders == w.Connections) && w.now >= end {
		r.drop()
		w.over(r.count)
		return 0
	}
	next = end
	for range sendBatch {
		due := r.start + int64(r.besides.Due(r.beside))
		if w.Bystanders == 0 {
			break
		} else if due > w.now {
			next = min(next, due)
			break
		}
		if !r.inTurn(&r.aside, 0, w.Bystanders, 1, w.BystanderMethod, due) {
			next = min(next, w.now+int64(retryPlace))
			break
		}
		r.beside++
	}
	if r.pacer == nil {
		return next
	}
	for range sendBatch {
		due := r.start + int64(r.pacer.Due(r.count))
		if r.done(time.Duration(due - r.start)) {
			w.over(r.count)
			return 0
		} else if due > w.now {
			return min(next, due)
		}
		if r.busy == int64(w.InFlight)*int64(w.Connections-w.Bystanders) || !r.inTurn(&r.turn, w.Bystanders, w.Connections, w.InFlight, w.Method, due) {
			return min(next, w.now+int64(retryPlace))
		}
		r.count++
		r.busy++
	}
	return w.now // more is due, after a look at the events
}

// retryPlace is when a call that found no place tries again. It stays due, and its latency counts from then.
const retryPlace = time.Millisecond

// inTurn has the next session from first on, below end, that has a place make a call.
func (r *rpcs) inTurn(turn *int, first, end, places int, method string, due int64) bool {
	for range end - first {
		s := *turn
		if *turn++; *turn == end {
			*turn = first
		}
		if !r.w.clients[r.sessions[s].slot].blocked() && r.call(s, places, method, due) {
			if clock()-due > int64(lateAfter) {
				r.w.stats.Late++
			}
			return true
		}
	}
	return false
}

// drop counts the calls that were due and found no place until the end.
func (r *rpcs) drop() {
	late := func(p Pacer, count int64) int64 {
		return int64(sort.Search(math.MaxInt32, func(i int) bool { return p.Due(count+int64(i)) >= r.w.Duration }))
	}
	if r.w.Bystanders > 0 {
		r.w.stats.Late += late(r.besides, r.beside)
	}
	if r.pacer != nil && r.w.Bystanders < r.w.Connections {
		r.w.stats.Late += late(r.pacer, r.count)
	}
}

func (r *rpcs) command(name string, _ int64) {
	if name == doHalt {
		r.w.over(r.count)
	}
}

func (r *rpcs) inFlight() int64 { return r.flying }
func (r *rpcs) missing() int64  { return r.flying + r.lost }

var _ greeter = (*rpcs)(nil)
