package conn

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"roost/proto/ws"
)

// When a node dies all its clients come to the others at once. Upgrades then take turns: each
// has its place in time, those whose place is too far away are told when to come back.

// StormOptions bound how upgrades may begin. The zero value of a field means its default.
type StormOptions struct {
	// Rate is how many upgrades may begin per second in the long run, Burst how many of them
	// at once. Default: no limit; a tenth of a second's worth.
	Rate, Burst int
	// AddressRate and AddressBurst are the same for one client address, of IPv6 its /64.
	// Behind a proxy all its clients have one. Default: no limit; one second's worth.
	AddressRate, AddressBurst int
	// Backlog is how long an upgrade may wait for its turn; one that would wait longer is
	// answered 503 with a Retry-After. Default: 2 s; HandshakeTimeout at most.
	Backlog time.Duration
	// Handshakes is how many connections may be between their acceptance and the answer to
	// their upgrade; more are answered 503. Default: no limit.
	Handshakes int
}

const (
	maxStormRate = 1_000_000
	// addressesKept bounds the addresses that are remembered, about 100 B each. When there are
	// more at a time, those that are not remembered have the common limit alone.
	addressesKept = 1 << 17
	retrySpread   = 4 // seconds over which those are spread that are sent away
)

// pace lets things begin at a rate: the generic cell rate algorithm (ITU-T I.371), whose whole
// state is the time at which the next one would be right on time.
type pace struct {
	every time.Duration // between two; 0 is no limit
	slack time.Duration // by which one may be early: the burst
}

func newPace(rate, burst, standard int) pace {
	if rate == 0 {
		return pace{}
	}
	if burst == 0 {
		burst = max(1, standard)
	}
	p := pace{every: time.Second / time.Duration(rate)}
	p.slack = p.every * time.Duration(burst-1)
	return p
}

// take returns how long one that comes at now has to wait, and the state after it; at is the
// state before. Times are since the start of the server.
func (p pace) take(at, now time.Duration) (wait, next time.Duration) {
	at = max(at, now)
	return max(0, at-now-p.slack), at + p.every
}

// storm is what is known of the upgrades that have begun.
type storm struct {
	// Static.
	begun   time.Time
	all     pace
	each    pace
	backlog time.Duration
	most    int64 // connections in shaking; 0 is no limit

	shaking atomic.Int64 // connections without an answer to their upgrade
	held    atomic.Int64 // of these, those that wait for their turn

	mu        sync.Mutex
	at        time.Duration
	addresses map[netip.Addr]time.Duration
	sweep     int // size at which addresses is looked through next
}

func newStorm(o *StormOptions) *storm {
	return &storm{
		begun: time.Now(), backlog: o.Backlog, most: int64(o.Handshakes),
		all: newPace(o.Rate, o.Burst, o.Rate/10), each: newPace(o.AddressRate, o.AddressBurst, o.AddressRate),
		addresses: map[netip.Addr]time.Duration{}, sweep: 1024,
	}
}

func (s *storm) limited() bool { return s.all.every > 0 || s.each.every > 0 }

// enter gives an upgrade from an address its turn: it may begin after wait, unless that is more
// than the backlog, and then nothing has been taken. Any goroutine.
func (s *storm) enter(a netip.Addr) (wait time.Duration, ok bool) {
	a = unit(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(s.begun)
	next, own := s.at, s.addresses[a]
	if s.all.every > 0 {
		wait, next = s.all.take(s.at, now)
	}
	if s.each.every > 0 {
		var later time.Duration
		later, own = s.each.take(own, now)
		wait = max(wait, later)
	}
	if wait > s.backlog {
		return wait, false
	}
	s.at = next
	if s.each.every > 0 {
		s.remember(a, own, now)
	}
	return wait, true
}

// remember notes an address's state, which says nothing once its time has come.
func (s *storm) remember(a netip.Addr, at, now time.Duration) {
	if _, known := s.addresses[a]; !known && len(s.addresses) >= s.sweep {
		for other, at := range s.addresses {
			if at <= now {
				delete(s.addresses, other)
			}
		}
		s.sweep = min(addressesKept, max(1024, 2*len(s.addresses)))
		if len(s.addresses) >= addressesKept {
			return
		}
	}
	s.addresses[a] = at
}

// unit is what counts as one address: who has an IPv6 address has all of its /64.
func unit(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// errStorm sends a client away for as long as there is no turn for it, and some more, so that
// those who are sent away together do not come back together.
func errStorm(label, detail string, wait time.Duration) error {
	seconds := int(wait/time.Second) + 1 + rand.N(retrySpread)
	return &ws.HandshakeError{Status: http.StatusServiceUnavailable, Label: label, Detail: detail,
		Header: http.Header{"Retry-After": {strconv.Itoa(seconds)}}}
}

// validate sets the defaults.
func (o *StormOptions) validate(handshake time.Duration) error {
	for _, v := range []struct {
		name  string
		value int
	}{{"Rate", o.Rate}, {"Burst", o.Burst}, {"AddressRate", o.AddressRate}, {"AddressBurst", o.AddressBurst}, {"Handshakes", o.Handshakes}} {
		if v.value < 0 || v.value > maxStormRate {
			return fmt.Errorf("conn: Storm.%s is %d, must be 0 to %d", v.name, v.value, maxStormRate)
		}
	}
	orDefault(&o.Backlog, min(2*time.Second, handshake))
	if o.Backlog < 0 || o.Backlog > handshake {
		return fmt.Errorf("conn: Storm.Backlog is %v, must be at most HandshakeTimeout, %v", o.Backlog, handshake)
	}
	return nil
}

// turn lets an upgrade begin, holds it until its turn, or says why there is none. head is its
// request and what came behind it.
func (h *loop) turn(c *Conn, head []byte) (held bool, err error) {
	s := h.server.storm
	if !s.limited() {
		return false, nil
	}
	wait, ok := s.enter(c.RemoteAddr().Addr())
	switch {
	case !ok:
		return false, errStorm("storm", "too many clients come at once", wait)
	case wait == 0:
		return false, nil
	}
	c.state, c.part = stateHeld, &partial{head: bytes.Clone(head)}
	c.flags |= flagTurn
	s.held.Add(1)
	h.loop.SetDeadline(&c.pc, h.server.opts.Poller.Ticks(wait))
	return true, nil
}

// keepHeld keeps what a client sends before its turn.
func (h *loop) keepHeld(c *Conn, b []byte) {
	c.part.head = append(c.part.head, b...)
	if len(c.part.head) > admitEarly {
		h.refuse(c, nil, ReasonHandshake, errAdmitEarly)
	}
}

// release begins the upgrade of a connection that was held. Its request was found whole before.
func (h *loop) release(c *Conn) {
	head := c.part.head
	h.unhold(c)
	c.state, c.part = stateHandshake, nil
	h.loop.SetDeadline(&c.pc, h.server.ticks.handshake)
	r, n, err := ws.ParseHead(head)
	if err != nil {
		h.refuse(c, nil, ReasonHandshake, err)
		return
	}
	h.begin(c, r, h.server.byPath[r.URL.Path], head[n:])
}

// unhold ends the wait of a connection for its turn, if it waits.
func (h *loop) unhold(c *Conn) {
	if c.flags&flagTurn != 0 {
		c.flags &^= flagTurn
		h.server.storm.held.Add(-1)
	}
}

// shaking counts a connection that is to ask for an upgrade, or sends it away.
func (h *loop) shaking(c *Conn) {
	s := h.server.storm
	c.flags |= flagShaking
	if n := s.shaking.Add(1); s.most == 0 || n <= s.most {
		return
	}
	if c.state == stateTLS { // it would not understand
		h.server.handshakeErrors.Add(labelShaking)
		c.pc.Cut(ReasonHandshake)
		return
	}
	h.refuse(c, nil, ReasonHandshake, errStorm(labelShaking, "too many clients are about to connect", 0))
}

// shaken ends that count.
func (h *loop) shaken(c *Conn) {
	h.unhold(c)
	if c.flags&flagShaking != 0 {
		c.flags &^= flagShaking
		h.server.storm.shaking.Add(-1)
	}
}

const labelShaking = "handshakes"

// drainedTime is about how long clients stay away from a server that lets nobody in: a load
// balancer has noticed by then.
const drainedTime = 2 * time.Second

// Refuse has the server answer upgrades with 503 and a Retry-After, or let clients in again.
// Those that are connected stay. Any goroutine.
func (s *Server) Refuse(on bool) { s.refusing.Store(on) }

// Busy tells whether the client is in the middle of a message, or of an answer to one. Loop
// goroutine only.
func (c *Conn) Busy() bool { return c.part != nil || c.loop().working(c) }
