//go:build !linux || portable

package poller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"
)

// This file and conn_portable.go let roost run where there is no epoll, for
// development: on nbio's public interface, with a goroutine per loop that runs
// the handler and one per connection that writes while something is pending.
// nbio closes at the peer's end of stream, so half-closed clients get no replies.

const acceptPause = 50 * time.Millisecond

type sys struct{}

func init() { logging.SetLevel(logging.LevelError) }

// Poller is a set of event loops.
type Poller struct {
	// Static after New.
	opts        Options
	loops       []*Loop
	engine      *nbio.Engine
	lingerTicks uint32

	live     atomic.Int64
	stop     chan struct{}
	stopOnce sync.Once
	running  sync.WaitGroup // loops and clock
	accepts  sync.WaitGroup

	// Guarded by mu.
	mu        sync.Mutex
	listeners []net.Listener
	next      int   // spreads connections over the loops
	fresh     *Conn // is being added
	stopped   bool
}

// New starts the loops. They have nothing to do until Listen.
func New(opts Options) (*Poller, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	p := &Poller{opts: opts, lingerTicks: opts.Ticks(opts.Linger), stop: make(chan struct{})}
	g := nbio.NewEngine(nbio.Config{
		Name: "roost", NPoller: 1, EpollMod: nbio.EPOLLET, ReadBufferSize: readBufferSize,
	})
	started := make(chan struct{})
	g.OnOpen(func(nc *nbio.Conn) { nc.SetSession(p.fresh) })
	g.OnData(func(nc *nbio.Conn, b []byte) { nc.Session().(*Conn).onData(b) })
	g.OnWrittenSize(func(nc *nbio.Conn, _ []byte, n int) { nc.Session().(*Conn).onWritten(n) })
	g.OnClose(func(nc *nbio.Conn, err error) {
		if c := nc.Session().(*Conn); c != nil {
			c.onClose(err)
			return
		}
		close(started)
	})
	if err := g.Start(); err != nil {
		return nil, fmt.Errorf("poller: start nbio: %w", err)
	}
	if err := addClosed(g); err != nil {
		return nil, fmt.Errorf("poller: start nbio: %w", err)
	}
	<-started
	p.engine = g
	for i := range opts.Loops {
		l := &Loop{poller: p, index: i, now: 1, wake: make(chan struct{}, 1)}
		l.handler = opts.Handler(l)
		p.loops = append(p.loops, l)
		p.running.Go(l.run)
	}
	p.running.Go(p.tick)
	return p, nil
}

// DescriptorLimit is the limit of open files of this process; where it cannot be
// asked for without the system's own calls, 0 and an error.
func DescriptorLimit() (uint64, error) {
	return 0, errors.New("poller: the descriptor limit is " + notSupported)
}

// addClosed gives g a connection that its peer has closed. When OnClose tells of
// it, nbio's poller runs; one that is stopped before it ran would spin for ever.
func addClosed(g *nbio.Engine) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	defer peer.Close()
	nc, err := ln.Accept()
	if err != nil {
		return err
	}
	_, err = g.AddConn(nc)
	return err
}

const notSupported = "not supported on this system"

// IOUring tells whether batched sends started with io_uring: never here.
func (p *Poller) IOUring() bool { return false }

// Listen accepts connections on a TCP address, host:port. It returns the address
// bound, which tells the port where port 0 was asked for.
func (p *Poller) Listen(address string) (netip.AddrPort, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return netip.AddrPort{}, ErrStopped
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("poller: listen on %q: %w", address, err)
	}
	p.listeners = append(p.listeners, ln)
	p.accepts.Go(func() { p.accept(ln) })
	return ln.Addr().(*net.TCPAddr).AddrPort(), nil
}

// accept is not left to nbio, which spins on errors and registers a connection
// only after it has told of it.
func (p *Poller) accept(ln net.Listener) {
	stats := &p.loops[0].stats
	for {
		nc, err := ln.Accept()
		switch limit := p.opts.MaxConns; {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			stats.acceptErrors.Add(1)
			p.opts.Logger.Error("cannot accept connections, backing off", "error", err, "wait", acceptPause)
			select {
			case <-p.stop:
			case <-time.After(acceptPause):
			}
		case limit > 0 && p.live.Load() >= int64(limit):
			stats.refused.Add(1)
			_ = nc.Close()
		default:
			p.add(nc)
		}
	}
}

// add gives a connection to nbio and then to a loop.
func (p *Poller) add(nc net.Conn) {
	c := p.opts.New()
	c.mu.Lock() // nbio's callbacks wait for this
	defer c.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	c.loop = p.loops[p.next%len(p.loops)]
	p.fresh = c
	nb, err := p.engine.AddConn(nc)
	if err != nil {
		c.loop.stats.refused.Add(1)
		return
	}
	c.nb = nb
	_ = nb.SetNoDelay(true)
	if n := p.opts.SendBuffer; n > 0 {
		_ = nb.SetWriteBuffer(n)
	}
	if n := p.opts.ReceiveBuffer; n > 0 {
		_ = nb.SetReadBuffer(n)
	}
	p.live.Add(1)
	c.loop.Post(func() { c.loop.open(c) })
}

// StopAccepting closes the listeners; connections stay.
func (p *Poller) StopAccepting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ln := range p.listeners {
		_ = ln.Close()
	}
}

// Stop stops accepting, waits until every connection has ended or ctx has, cuts
// what is left and ends the loops. It must not be called by a loop's goroutine.
func (p *Poller) Stop(ctx context.Context) error {
	var err error
	p.stopOnce.Do(func() { err = p.shutDown(ctx) })
	return err
}

func (p *Poller) shutDown(ctx context.Context) error {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.StopAccepting()
	p.accepts.Wait()
	var err error
	for wait := time.Millisecond; p.live.Load() > 0 && err == nil; wait = min(2*wait, 50*time.Millisecond) {
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	for _, l := range p.loops {
		l.Post(func() { l.Each(0, int(l.slots.used), func(c *Conn) { c.Cut(ReasonStopped) }) })
	}
	p.engine.Stop() // calls OnClose of all
	close(p.stop)
	p.running.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil // asked not to wait
	}
	return err
}

// Loop is one event loop.
type Loop struct {
	// Static after start.
	poller  *Poller
	index   int
	handler Handler
	wake    chan struct{}

	// Owned by the loop.
	slots slots
	now   uint32
	swept uint32

	// Guarded by mu.
	mu      sync.Mutex
	posted  []func()
	stopped bool

	ticks atomic.Uint32
	stats stats
}

func (l *Loop) run() {
	for stopping := false; ; {
		l.mu.Lock()
		posted := l.posted
		l.posted = nil
		if l.stopped = stopping && len(posted) == 0; l.stopped {
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		for _, f := range posted {
			f()
		}
		if t := l.ticks.Load(); t != 0 && t != l.now {
			l.tick(t)
		}
		if stopping || len(posted) > 0 {
			continue
		}
		select {
		case <-l.wake:
		case <-l.poller.stop:
			stopping = true
		}
	}
}

func (l *Loop) ring() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Post runs f on the loop's goroutine, soon, in the order of the calls. It
// returns false when the loop has stopped. Any goroutine.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.posted = append(l.posted, f)
	l.ring()
	return true
}

func (l *Loop) tick(now uint32) {
	l.now = now
	steps := min(now-l.swept, sweepParts)
	for i := now - steps + 1; i != now+1; i++ {
		l.slots.due(i%sweepParts, sweepParts, now, func(c *Conn) {
			if c.ending() {
				_ = c.nb.Close()
				return
			}
			l.handler.Due(c)
		})
	}
	l.swept = now
}

// SetDeadline makes Handler.Due be called after the given ticks; 0 clears it.
// Loop goroutine only.
func (l *Loop) SetDeadline(c *Conn, ticks uint32) {
	if c.gone || c.ending() {
		return
	}
	l.setDue(c, ticks)
}

func (l *Loop) open(c *Conn) {
	c.lastRead = l.now
	l.slots.add(c)
	l.stats.opened.Add(1)
	l.handler.Open(c)
}

// deliver hands over what was read and then the end.
func (l *Loop) deliver(c *Conn) {
	for !c.gone && !c.paused && len(c.in) > 0 {
		b := c.in[0]
		c.in = c.in[1:]
		c.held -= len(b)
		if c.lastRead = l.now; !c.ending() {
			l.handler.Data(c, b)
		}
	}
	if c.gone || !c.ended || len(c.in) > 0 && !c.ending() {
		return
	}
	if c.why == ReasonEOF && !c.ending() {
		l.handler.EOF(c)
	}
	c.gone = true
	r := c.close(c.why)
	l.slots.remove(c)
	l.poller.live.Add(-1)
	l.stats.closed.Add(1)
	l.handler.Closed(c, r)
}

// endReason says what nbio's error means.
func endReason(err error) Reason {
	if err == nil || errors.Is(err, io.EOF) {
		return ReasonEOF
	}
	return ReasonReadError
}
