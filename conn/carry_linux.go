//go:build linux && !portable

package conn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"roost/internal/pack"
	"roost/poller"
	"roost/proto/ws"
)

// A server's connections are carried to that of another process: the old one comes to rest
// (Freeze, Seal), describes them (Carry), and gives them up when the new one surely has them
// (Release), or goes on with them if it does not (Thaw). The new one makes them (Await,
// Restore) and starts when they are its own (Begin).

const (
	carryBytes = 48 << 10 // about, of records handed out at a time
	carrySlice = 1024     // slots looked at between two posted functions
	restPoll   = 500 * time.Microsecond
)

var carryFDs = 200 // descriptors likewise: SCM_RIGHTS takes 253

// Freeze stops accepting and reading, until Thaw. Not for a loop's goroutine.
func (s *Server) Freeze() { s.poller.Freeze() }

// Rest waits until the worker pool has nothing to do, or ctx has ended, whose error it returns.
// Connections that are parked are not waited for, and not carried.
func (s *Server) Rest(ctx context.Context) error {
	for !s.resting() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(restPoll):
		}
	}
	return nil
}

func (s *Server) resting() bool {
	s.admissions.mu.Lock()
	admitting := s.admissions.busy + len(s.admissions.queue)
	s.admissions.mu.Unlock()
	s.waiting.mu.Lock()
	defer s.waiting.mu.Unlock()
	return admitting+s.waiting.busy+len(s.waiting.turns) == 0
}

// Seal stops writing on a frozen server: what is sent is queued.
func (s *Server) Seal() { s.poller.Seal() }

// Thaw lets a frozen or sealed server go on with all its connections.
func (s *Server) Thaw() { s.poller.Thaw() }

// Paths returns those of the routes in their order, which records name them by.
func (s *Server) Paths() []string {
	all := make([]string, len(s.routes))
	for i, rt := range s.routes {
		all[i] = rt.Path
	}
	return all
}

// Carried is what Carry says.
type Carried struct {
	Conns       int
	Generations []uint32 // for Begin, by loop
}

// Carry describes the connections of a sealed server that can be carried: emit gets records
// and the descriptors that belong to them, on the loops' goroutines, several at a time, and
// may block. The descriptors stay the server's. The error is one of emit's. Not for a loop's
// goroutine.
func (s *Server) Carry(emit func(records []byte, fds []int) error) (done Carried, err error) {
	var all sync.WaitGroup
	batches := make([]*batch, len(s.loops))
	for i, h := range s.loops {
		b := &batch{loop: h, emit: emit}
		batches[i] = b
		all.Add(1)
		if !h.loop.Post(func() { b.slice(all.Done) }) {
			b.err = poller.ErrStopped
			all.Done()
		}
	}
	all.Wait()
	for _, b := range batches {
		done.Conns += b.conns
		done.Generations = append(done.Generations, b.generation)
		err = errors.Join(err, b.err)
	}
	return done, err
}

// batch gathers records of one loop.
type batch struct {
	loop    *loop
	emit    func([]byte, []int) error
	from    uint32
	records []byte
	fds     []int

	conns      int
	generation uint32
	err        error
}

// slice describes some of the connections, and asks for another turn.
func (b *batch) slice(done func()) {
	next, more := b.loop.loop.Each(b.from, carrySlice, b.one)
	b.from = next
	if more && b.err == nil && b.loop.loop.Post(func() { b.slice(done) }) {
		return
	}
	b.flush()
	b.generation = b.loop.loop.Generation()
	done()
}

func (b *batch) one(pc *poller.Conn) {
	if b.err != nil {
		return
	}
	if fd, ok := b.loop.carry(b, connOf(pc)); ok {
		b.conns++
		b.fds = append(b.fds, fd)
	}
	if len(b.fds) >= carryFDs || len(b.records) >= carryBytes {
		b.flush()
	}
}

func (b *batch) flush() {
	if len(b.fds) > 0 && b.err == nil {
		b.err = b.emit(b.records, b.fds)
	}
	b.records, b.fds = b.records[:0], b.fds[:0]
}

// carry appends the record of a connection, unless it has to stay.
func (h *loop) carry(b *batch, c *Conn) (fd int, ok bool) {
	switch {
	case c.state != stateOpen && c.state != stateHandshake && c.state != stateTLS && c.state != stateHeld:
		return 0, false // it is on its way out, or a worker decides on it
	case c.flags&flagRemote != 0 || h.working(c):
		return 0, false // its other end is a goroutine of this process
	}
	held, ok := h.loop.Hold(&c.pc)
	if !ok {
		return 0, false
	}
	var session []byte
	if c.state == stateOpen {
		if session, ok = h.leave(c); !ok {
			h.loop.Unhold(&c.pc)
			return 0, false
		}
	}
	b.records = h.appendRecord(b.records, c, &held, session)
	return held.FD, true
}

// leave asks the handler for the session.
func (h *loop) leave(c *Conn) (state []byte, ok bool) {
	m, moves := h.server.routes[c.route].Handler.(Mover)
	if !moves {
		return nil, c.Session() == nil
	}
	defer func() {
		if v := recover(); v != nil {
			h.server.logPanic(c, v)
			state, ok = nil, false
		}
	}()
	h.resp, ok = m.Leave(h.resp[:0], c)
	return h.resp, ok
}

func (h *loop) appendRecord(dst []byte, c *Conn, held *poller.Held, session []byte) []byte {
	dst = pack.AppendUint(dst, uint64(held.Handle))
	dst = pack.AppendBool(dst, held.TLS)
	dst = pack.AppendUint(dst, uint64(held.Idle))
	dst = pack.AppendUint(dst, uint64(held.Due))
	dst = pack.AppendBytes(dst, held.Unsent)
	state := c.state
	if state == stateHeld {
		state = stateHandshake // its turn comes anew
	}
	dst = append(dst, byte(state), byte(c.flags&(flagPinged|flagHeld)), c.route, c.window)
	dst = pack.AppendInt(dst, int64(int32(c.clock-h.now())))
	beat := uint32(0)
	if state == stateOpen {
		beat = h.nextBeat(c)
	}
	dst = pack.AppendUint(dst, h.left(beat))
	dst = pack.AppendUint(dst, h.left(h.soft[c.pc.Handle()]))
	var head []byte
	var dec *ws.Decoder
	if c.part != nil {
		head, dec = c.part.head, c.part.dec
	}
	dst = pack.AppendBytes(dst, head)
	dst = pack.AppendBool(dst, dec != nil)
	if dec != nil {
		dst = dec.AppendState(dst)
	}
	return pack.AppendBytes(dst, session)
}

// left returns the ticks to a tick, 0 for none.
func (h *loop) left(tick uint32) uint64 {
	if tick == 0 {
		return 0
	}
	return uint64(h.until(tick))
}

// Release gives up what was carried, and tells the other clients to come back: 1012. It
// accepts no more until Survive. Not for a loop's goroutine.
func (s *Server) Release() {
	s.poller.Release()
	for _, h := range s.loops {
		s.eachSlice(h, func(c *Conn) {
			if c.state == stateOpen {
				c.closing(ws.CloseServiceRestart)
				c.fail(ReasonRestart, restartText)
			} else if c.state != stateClosing {
				c.pc.Cut(ReasonRestart)
			}
		}, nil)
	}
}

// Survive accepts clients again after Release. Not for a loop's goroutine.
func (s *Server) Survive() { s.poller.Unmute() }

// Dismiss tells the clients that cannot be carried, since their other end is in this process,
// to come back (1012). The others are served meanwhile. Any goroutine.
func (s *Server) Dismiss() {
	for _, h := range s.loops {
		s.eachSlice(h, func(c *Conn) {
			if c.flags&flagRemote != 0 && c.state == stateOpen {
				c.closing(ws.CloseServiceRestart)
				c.fail(ReasonRestart, restartText)
			}
		}, nil)
	}
}

// Tied returns how many connections have their other end in this process. Not for a loop's
// goroutine.
func (s *Server) Tied() int {
	var n atomic.Int64
	done := make(chan struct{}, len(s.loops))
	for _, h := range s.loops {
		if !h.loop.Post(func() { n.Add(int64(len(h.remotes))); done <- struct{}{} }) {
			done <- struct{}{}
		}
	}
	for range s.loops {
		<-done
	}
	return int(n.Load())
}

const restartText = "the server is restarting"

// Await keeps a new server from doing anything until Begin.
func (s *Server) Await() {
	s.poller.Freeze()
	s.poller.Seal()
}

// Expect tells the routes of the other server, see Paths. It returns those that this server
// does not have.
func (s *Server) Expect(paths []string) (missing []string) {
	s.arriving.routes = nil
	for _, p := range paths {
		rt := s.byPath[p]
		s.arriving.routes = append(s.arriving.routes, rt)
		if rt == nil {
			missing = append(missing, p)
		}
	}
	return missing
}

// Restore makes the connections of what Carry has emitted: fds are the server's from now on,
// records are not kept. It returns when all have been made. Any goroutine but a loop's, between Await and Begin.
func (s *Server) Restore(records []byte, fds []int) error {
	r := pack.NewReader(records)
	l := s.poller.Loop(poller.Handle(pack.NewReader(records).Uint()))
	var err error
	done := make(chan struct{})
	if l == nil || !l.Post(func() {
		defer close(done)
		h := l.Handler().(*loop)
		for err == nil && r.Len() > 0 && len(fds) > 0 {
			fd := fds[0]
			fds = fds[1:]
			err = h.restore(r, fd)
		}
		if err == nil && r.Len()+len(fds) > 0 {
			err = fmt.Errorf("conn: records and descriptors do not match: %d B and %d descriptors are left", r.Len(), len(fds))
		}
	}) {
		err = errors.New("conn: a record names a loop that there is not")
		close(done)
	}
	<-done
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return err
}

// restore makes one connection.
func (h *loop) restore(r *pack.Reader, fd int) error {
	held := poller.Held{FD: fd, Handle: poller.Handle(r.Uint()), TLS: r.Bool(), Idle: uint32(r.Uint()), Due: uint32(r.Uint()), Unsent: bytes.Clone(r.Bytes())}
	st, fl, route, window := state(r.Byte()), flags(r.Byte()), r.Byte(), r.Byte()
	clock, beat, soft := r.Int(), r.Uint(), r.Uint()
	head := bytes.Clone(r.Bytes())
	var dec *ws.Decoder
	err := r.Err()
	if r.Bool() && err == nil {
		dec = decoders.Get().(*ws.Decoder)
		err = dec.LoadState(r)
	}
	session := r.Bytes()
	if err = errors.Join(err, r.Err()); err == nil && st != stateOpen && st != stateHandshake && st != stateTLS {
		err = fmt.Errorf("conn: a record has state %d", st)
	}
	var rt *Route
	if err == nil && st == stateOpen {
		if int(route) < len(h.server.arriving.routes) {
			rt = h.server.arriving.routes[route]
		}
		if rt == nil {
			err = fmt.Errorf("conn: a record has route %d, which this server has not", route)
		}
	}
	if err == nil && st == stateTLS && int(route) >= len(h.server.tls.handshakers) {
		err = fmt.Errorf("conn: a record is of TLS address %d, which this server has not", route)
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	return h.loop.Restore(held, &new(Conn).pc, func(pc *poller.Conn) {
		c := connOf(pc)
		c.state, c.flags, c.window = st, fl, window
		if st != stateOpen {
			c.route = route // of a TLS address, see stateTLS
			h.arriveEarly(c, head)
			return
		}
		c.route = rt.id
		c.clock = h.now() + uint32(clock)
		if dec != nil {
			c.part = &partial{dec: dec}
		}
		if rt.Beat != nil {
			h.beats.set(c, h.after(max(1, uint32(beat))))
		}
		if soft != 0 {
			h.soft[pc.Handle()] = h.after(uint32(soft))
		}
		h.stats.open.Add(1)
		h.arrive(rt, c, session)
	})
}

// arriveEarly restores a connection that is not upgraded.
func (h *loop) arriveEarly(c *Conn, head []byte) {
	c.flags |= flagShaking
	h.server.storm.shaking.Add(1)
	if len(head) > 0 {
		h.arrived = append(h.arrived, func() {
			if c.state == stateHandshake {
				h.handshake(c, head)
			}
		})
	}
}

// arrive has the handler make the session.
func (h *loop) arrive(rt *Route, c *Conn, state []byte) {
	m, moves := rt.Handler.(Mover)
	if !moves {
		return
	}
	err := errors.New("panic")
	func() {
		defer func() {
			if v := recover(); v != nil {
				h.server.logPanic(c, v)
			}
		}()
		err = m.Arrive(c, state)
	}()
	if err != nil {
		h.server.opts.Logger.Error("a connection that was taken over is closed", "route", rt.Path, "error", err)
		c.closing(ws.CloseServiceRestart)
		c.fail(ReasonRestart, restartText)
	}
}

// Begin starts a server with what it has restored. Not for a loop's goroutine.
func (s *Server) Begin(generations []uint32) {
	s.poller.Begin(generations)
	for _, h := range s.loops {
		h.loop.Post(func() {
			for _, f := range h.arrived {
				f()
			}
			h.arrived = nil
		})
	}
}
