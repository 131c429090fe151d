//go:build linux && !portable

package poller

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

// Loop is one event loop.
type Loop struct {
	// Static after start.
	poller  *Poller
	index   int
	handler Handler
	engine  *engine
	sys     *sys
	bell    Conn // the eventfd: rung to make the loop look at inbox

	// Owned by the loop.
	slots     slots
	buf       []byte // read buffer
	now       uint32 // tick
	current   *Conn  // whose own event is handled
	reading   *Conn  // whose input is with the handler
	inPass    bool
	swept     uint32 // tick up to which deadlines were looked at
	frozen    bool   // nothing is accepted, read or due, see Poller.Freeze
	sealed    bool   // nor written or closed
	muted     bool   // nothing is accepted, see Poller.Release
	again     []*Conn
	spare     []*Conn // the other half of again
	listeners []*listener
	closing   []int // descriptors to close in the next pass, see close
	flusher   flusher
	receiver  receiver
	count     counters

	// Guarded by mu: the one door for other goroutines.
	mu      sync.Mutex
	rung    bool    // the bell has been rung and not answered
	dirty   []*Conn // connections with something to write, end or resume
	posted  []func()
	stopped bool

	ticks atomic.Uint32 // the poller's clock
	load  atomic.Int64  // connections that are open or on their way here
	stats stats
}

func newLoop(p *Poller, index int) (*Loop, error) {
	l := &Loop{poller: p, index: index, sys: p.opts.sys, buf: make([]byte, readBufferSize)}
	l.now = 1
	l.ticks.Store(1)
	l.flusher.init(l)
	l.receiver.init(l)
	l.handler = p.opts.Handler(l)
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("poller: eventfd: %w", err)
	}
	l.bell.loop, l.bell.slot = l, slotBell
	nbInit(&l.bell.nb, fd)
	l.engine, err = startEngine("roost", p.table, engineHooks{read: l.onRead, end: l.onEnd})
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return l, l.engine.add(&l.bell.nb)
}

// Post runs f on the loop's goroutine, soon, in the order of the calls. It
// returns false when the loop has stopped. Any goroutine.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return false
	}
	l.posted = append(l.posted, f)
	l.ringUnlock()
	return true
}

func (l *Loop) markDirty(c *Conn) {
	l.mu.Lock()
	l.dirty = append(l.dirty, c)
	l.ringUnlock()
}

// ring makes sure that a pass follows.
func (l *Loop) ring() {
	l.mu.Lock()
	l.ringUnlock()
}

func (l *Loop) ringUnlock() {
	ring := !l.rung
	l.rung = true
	l.mu.Unlock()
	if ring {
		one := uint64(1)
		_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(nbFD(&l.bell.nb)), uintptr(unsafe.Pointer(&one)), 8)
	}
}

// onRead is nbio's callback for EPOLLIN.
func (l *Loop) onRead(nc *nbio.Conn) {
	c := connOf(nc)
	switch {
	case c.slot == slotBell:
		l.pass()
	case c.slot == slotListener:
		l.accept((*listener)(unsafe.Pointer(c)))
	case c.loop == l && c.own&ownPaused == 0 && !l.frozen && l.receiver.ready(c):
		l.current = c
		l.read(c)
		l.current = nil
	}
}

// onEnd is nbio's callback for the end of a stream or an error, after onRead. A
// short read does not show an end that was there already, so read on to it.
func (l *Loop) onEnd(nc *nbio.Conn, _ error) {
	c := connOf(nc)
	if c.slot > slotsMax || c.loop != l || c.isGone() {
		return
	}
	l.poller.table[nbFD(nc)] = nc // nbio has taken it out
	c.own |= ownHup
	if c.own&ownPaused == 0 && !l.frozen {
		l.current = c
		l.read(c)
		l.current = nil
	}
}

// pass does what waits: called once for each ring of the bell, between two
// batches of events. While it reads, rung stays set: what is queued meanwhile is
// taken with the rest.
func (l *Loop) pass() {
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()

	l.inPass = true
	for _, fd := range l.closing {
		_ = unix.Close(fd)
	}
	l.closing = l.closing[:0]
	for _, f := range posted {
		f()
	}
	l.flusher.submit() // what they have pushed
	more := l.readAgain()
	l.mu.Lock()
	l.rung = l.stopped
	var dirty []*Conn
	if !l.sealed {
		dirty = l.flusher.take(&l.dirty)
	}
	if len(l.posted) > 0 || more {
		l.ringUnlock()
	} else {
		l.mu.Unlock()
	}
	if !l.sealed {
		l.flusher.run(dirty)
	}
	if t := l.ticks.Load(); t != l.now {
		l.tick(t)
	}
	l.flusher.submit() // nothing may stay in the ring when descriptors can change hands
	l.inPass = false
	l.count.publish(&l.stats)
}

// readAgain reads where input waits. It reports whether there is more to do. The
// batch goes first: the handler, called for the others, may put sends into the ring.
func (l *Loop) readAgain() (more bool) {
	list := l.again
	l.again, l.spare = l.spare[:0], nil
	if l.frozen {
		l.skip(list)
		list = list[:0]
	}
	batch := l.worthwhile(len(list))
	plain := list[:0]
	for _, c := range list {
		c.own &^= ownAgain
		if batch && l.flusher.ring != nil && c.slot <= slotsMax && c.own&(ownGone|ownPaused|ownHup) == 0 {
			l.receiver.add(c)
		} else {
			plain = append(plain, c)
		}
	}
	l.receiver.run()
	for _, c := range plain {
		switch {
		case c.slot == slotListener:
			l.accept((*listener)(unsafe.Pointer(c)))
		case !c.isGone() && c.own&ownPaused == 0:
			l.read(c)
		}
	}
	l.receiver.judge(len(list))
	clear(list)
	l.spare = list[:0]
	return len(l.again) > 0 || len(l.closing) > 0
}

func (l *Loop) later(c *Conn) {
	if c.own&ownAgain == 0 {
		c.own |= ownAgain
		l.again = append(l.again, c)
		l.ring()
	}
}

// tick looks at a share of the deadlines for each tick that has passed, so that
// all of them are seen every sweepParts ticks and work is spread evenly.
func (l *Loop) tick(now uint32) {
	l.now = now
	if l.frozen {
		return
	}
	steps := min(now-l.swept, sweepParts)
	for i := now - steps + 1; i != now+1; i++ {
		l.slots.due(i%sweepParts, sweepParts, now, l.due)
	}
	l.swept = now
}

func (l *Loop) due(c *Conn) {
	if c.own&ownEnding != 0 {
		l.close(c, ReasonNone)
		return
	}
	l.handler.Due(c)
}

// SetDeadline makes Handler.Due be called after the given ticks; 0 clears it.
// Loop goroutine only.
func (l *Loop) SetDeadline(c *Conn, ticks uint32) {
	if c.own&(ownGone|ownEnding) != 0 {
		return
	}
	l.setDue(c, ticks)
}
