//go:build linux && !portable

package poller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

// tableMax bounds the descriptor table where the limit is absurdly high (8 B each,
// touched only where used).
const tableMax = 1 << 24

// Poller is a set of event loops.
type Poller struct {
	// Static after New.
	opts        Options
	loops       []*Loop
	table       []*nbio.Conn // by descriptor, shared by the loops' engines
	lingerTicks uint32
	uring       bool

	inherited map[string][]int // listening descriptors by address, guarded by mu
	mu        sync.Mutex

	live     atomic.Int64
	ringGone sync.Once
	stop     chan struct{}
	stopOnce sync.Once
	ticker   sync.WaitGroup
}

// New starts the loops. They have nothing to do until Listen.
func New(opts Options) (*Poller, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.sys == nil {
		opts.sys = realSys()
	}
	limit, err := DescriptorLimit()
	if err != nil {
		return nil, err
	}
	p := &Poller{
		opts:        opts,
		table:       make([]*nbio.Conn, min(limit, tableMax)),
		lingerTicks: opts.Ticks(opts.Linger),
		stop:        make(chan struct{}),
	}
	for i := range opts.Loops {
		l, err := newLoop(p, i)
		if err != nil {
			p.Stop(context.Background())
			return nil, err
		}
		p.loops = append(p.loops, l)
	}
	p.startRings()
	p.ticker.Go(p.tick)
	return p, nil
}

// DescriptorLimit returns the soft limit of open files of this process.
func DescriptorLimit() (uint64, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("poller: read descriptor limit: %w", err)
	}
	return lim.Cur, nil
}

func (p *Poller) startRings() {
	if p.opts.NoIOUring {
		return
	}
	rings := make([]*ring, 0, len(p.loops))
	for range p.loops {
		r, err := newRing(sendBatch, p.opts.sys.enter)
		if err != nil {
			for _, r := range rings {
				r.close()
			}
			p.opts.Logger.Warn("io_uring is not available, falling back to plain writes", "error", err)
			return
		}
		rings = append(rings, r)
	}
	p.uring = true
	for i, l := range p.loops {
		l.Post(func() { l.flusher.useRing(rings[i]) })
	}
}

// ringLost is called by each loop whose ring failed while in use.
func (p *Poller) ringLost(err error) {
	p.ringGone.Do(func() {
		p.opts.Logger.Error("io_uring failed, going on with plain writes", "error", err)
	})
}

// IOUring tells whether batched sends started with io_uring.
func (p *Poller) IOUring() bool { return p.uring }

// Listen accepts connections on a TCP address, host:port, on all loops. It
// returns the address bound, which tells the port where port 0 was asked for.
func (p *Poller) Listen(address string) (netip.AddrPort, error) {
	return p.ListenFor(address, nil)
}

// ListenFor is Listen with a function that is called instead of Handler.Open for the
// connections accepted on this address. Linux only.
func (p *Poller) ListenFor(address string, opened func(*Conn)) (netip.AddrPort, error) {
	if fds := p.heritage(address); fds != nil {
		return p.listenOn(address, fds, opened)
	}
	// SO_REUSEPORT would let a second process share the port without a word.
	probe, err := net.Listen("tcp", address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("poller: listen on %q: %w", address, err)
	}
	_ = probe.Close()
	var bound netip.AddrPort
	at := address
	for _, l := range p.loops {
		fd, b, err := p.listen(at)
		if err != nil {
			return bound, err
		}
		bound, at = b, b.String()
		if err := l.call(func() error { return l.addListener(address, fd, opened) }); err != nil {
			return bound, err
		}
	}
	return bound, nil
}

// call runs f on the loop and waits for its result.
func (l *Loop) call(f func() error) error {
	done := make(chan error, 1)
	if !l.Post(func() { done <- f() }) {
		return ErrStopped
	}
	return <-done
}

// StopAccepting closes the listeners; connections stay.
func (p *Poller) StopAccepting() {
	for _, l := range p.loops {
		_ = l.call(func() error { l.closeListeners(); return nil })
	}
}

// Stop stops accepting, waits until every connection has ended or ctx has, cuts
// what is left and ends the loops. To end connections in order, call Conn.Finish
// on them first. It must not be called by a loop's goroutine.
func (p *Poller) Stop(ctx context.Context) error {
	var err error
	p.stopOnce.Do(func() { err = p.shutDown(ctx) })
	return err
}

func (p *Poller) shutDown(ctx context.Context) error {
	p.StopAccepting()
	var err error
	for wait := time.Millisecond; p.live.Load() > 0 && err == nil; wait = min(2*wait, 50*time.Millisecond) {
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	close(p.stop)
	p.ticker.Wait()
	for _, l := range p.loops {
		for !l.silence() { // each try is a pass, which closes descriptors
		}
	}
	for _, l := range p.loops {
		l.end()
	}
	if errors.Is(err, context.Canceled) {
		err = nil // asked not to wait
	}
	return err
}

// silence cuts all connections and, if nothing is left to do, refuses further
// work. Until a pass is through with posted functions the bell counts as rung, so
// nobody is about to write to it; and nobody will be from then on. It leaves the
// shared table, as each engine closes whatever it finds there when it stops.
func (l *Loop) silence() (done bool) {
	_ = l.call(func() error {
		l.Each(0, int(l.slots.used), func(c *Conn) { l.close(c, ReasonStopped) })
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.closing)+len(l.posted)+len(l.dirty) > 0 {
			return nil
		}
		l.stopped, done = true, true
		l.poller.table[nbFD(&l.bell.nb)] = nil
		return nil
	})
	return done
}

// end stops the loop's goroutine and frees what it had.
func (l *Loop) end() {
	l.engine.stop()
	_ = unix.Close(nbFD(&l.bell.nb))
	if r := l.flusher.ring; r != nil {
		r.close()
	}
}
