package conn

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/ants/v2"

	"roost/internal/tally"
	"roost/poller"
	"roost/proto/ws"
)

// Server accepts WebSocket connections and runs the handlers of its routes.
type Server struct {
	// Static after New.
	opts   Options
	ticks  ticks
	routes []*Route
	byPath map[string]*Route
	poller *poller.Poller
	pool   *ants.PoolWithFuncGeneric[*turn]
	loops  []*loop

	protocolErrors  tally.Of[string]
	handshakeErrors tally.Of[string]

	waiting struct {
		mu    sync.Mutex
		busy  int     // turns that a worker has, at most Options.Workers
		turns []*turn // found no free worker, first come first served
	}
	admissions admissions
	parked     atomic.Int64 // turns that have left their worker and will ask for another

	stopping atomic.Bool
	refusing atomic.Bool // see Refuse
	tls      security
	storm    *storm
	arriving arrivals
}

// arrivals are what a server knows of the one that it takes over from.
type arrivals struct {
	routes []*Route // by the index that records have; nil for one that there is no more
}

// ticks are the options' times in the poller's unit.
type ticks struct {
	handshake, ping, pong, soft uint32
	overload                    uint32
	check                       uint32 // how often a connection is looked at without pings
	held                        uint32 // until a connection that was not read is looked at again
	most                        uint32 // between two looks, for the rate limiter's clock
	rate                        uint32 // units of the rate limiter's clock in a tick
}

// New starts a server that does not listen yet.
func New(opts Options) (*Server, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		opts:   opts,
		byPath: make(map[string]*Route, len(opts.Routes)),
		storm:  newStorm(&opts.Storm),
	}
	for i, r := range opts.Routes {
		r.attach(s, i)
		s.routes = append(s.routes, r)
		s.byPath[r.Path] = r
	}
	s.ticks = opts.ticks()
	var err error
	s.pool, err = ants.NewPoolWithFuncGeneric(opts.Workers, s.work, ants.WithNonblocking(true))
	if err != nil {
		return nil, fmt.Errorf("conn: start worker pool: %w", err)
	}
	opts.Poller.Logger = opts.Logger
	opts.Poller.New = func() *poller.Conn { return &new(Conn).pc }
	opts.Poller.Handler = func(l *poller.Loop) poller.Handler {
		h := &loop{server: s, loop: l, dec: new(ws.Decoder), soft: make(map[poller.Handle]uint32),
			remotes: make(map[poller.Handle]netip.AddrPort), stats: new(counters)}
		s.loops = append(s.loops, h)
		return h
	}
	s.poller, err = poller.New(opts.Poller)
	if err != nil {
		s.pool.Release()
		return nil, err
	}
	return s, nil
}

func (o *Options) ticks() ticks {
	in := func(d time.Duration) uint32 {
		if d <= 0 {
			return 0
		}
		return o.Poller.Ticks(d)
	}
	t := ticks{handshake: in(o.HandshakeTimeout), ping: in(o.PingInterval), pong: in(o.PongTimeout), soft: in(o.SoftTime)}
	t.overload = in(o.OverloadTime)
	t.check = in(25 * time.Second)
	t.held = in(time.Second)
	t.most = in(time.Hour)
	t.rate = uint32(rateUnits * o.Poller.Tick / time.Second)
	return t
}

// Listen accepts clients on a TCP address, host:port. It returns the address
// bound. It may be called several times.
func (s *Server) Listen(address string) (netip.AddrPort, error) { return s.poller.Listen(address) }

// Poller returns the event loops below the server.
func (s *Server) Poller() *poller.Poller { return s.poller }

// shutdownSlice is how many connections a loop closes before it looks at its events.
const shutdownSlice = 4096

const shutdownText = "the server is shutting down"

// Shutdown stops accepting, tells every client that the server goes away (1001) and
// waits until they have gone or ctx has ended; then it cuts those left. A client whose
// messages are with the pool is told after the answers, or when half of ctx's time
// has passed. The error is that of ctx if any had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Store(true)
	s.poller.StopAccepting()
	s.tls.stop()
	for _, h := range s.loops {
		s.eachSlice(h, h.goAway, nil)
	}
	if end, limited := ctx.Deadline(); limited {
		half := time.AfterFunc(time.Until(end)/2, func() {
			for _, h := range s.loops {
				s.eachSlice(h, func(c *Conn) { c.fail(ReasonShutdown, shutdownText) }, nil)
			}
		})
		defer half.Stop()
	}
	err := s.poller.Stop(ctx)
	s.tls.wait(ctx)
	for (s.parked.Load() > 0 || s.Stats().WorkersBusy > 0) && ctx.Err() == nil { // handlers still hear of the end
		time.Sleep(time.Millisecond)
	}
	s.pool.Release()
	return err
}

// goAway ends a connection for shutdown, after the answers to what it has sent.
func (h *loop) goAway(c *Conn) {
	switch {
	case c.state == stateHandshake || c.state == stateTLS:
		c.pc.Cut(ReasonShutdown)
	case c.state == stateAdmit:
		h.refuse(c, c.part.admit.request, ReasonShutdown, errAdmitShutdown)
	case c.state == stateHeld:
		h.refuse(c, nil, ReasonShutdown, errAdmitShutdown)
	case !h.working(c):
		c.fail(ReasonShutdown, shutdownText)
	case c.state == stateOpen:
		c.closing(ws.CloseGoingAway)
		h.enqueue(c, item{kind: itemEnd, reason: ReasonShutdown, code: ws.CloseGoingAway, text: shutdownText})
	}
}

// eachSlice calls f on h's loop for each connection, a slice at a time, then done.
func (s *Server) eachSlice(h *loop, f func(*Conn), done func()) {
	var from uint32
	var step func()
	step = func() {
		next, more := h.loop.Each(from, shutdownSlice, func(pc *poller.Conn) { f(connOf(pc)) })
		from = next
		if more && h.loop.Post(step) {
			return
		}
		if done != nil {
			done()
		}
	}
	if !h.loop.Post(step) && done != nil {
		done()
	}
}

func (s *Server) logPanic(c *Conn, v any) {
	args := []any{"panic", v, "stack", string(debug.Stack())}
	if c != nil {
		args = append(args, "route", s.routes[c.route].Path)
	}
	s.opts.Logger.Error("a handler panicked", args...)
}
