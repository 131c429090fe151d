package poller

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"
)

// Limits of the loop's work, so that nothing starves what waits behind it.
const (
	readBufferSize = 64 << 10 // bytes, one buffer per loop
	readBudget     = 8        // buffers read from one connection per event
	acceptBudget   = 128      // connections accepted per event
	flushBudget    = 1024     // connections flushed between two looks at epoll
	sendBatch      = 128      // sends per io_uring enter
	ringWorthwhile = 4        // fewer pending sends than this go out one by one
	maxIovecs      = 1024     // buffers per writev (IOV_MAX)
	maxWritev      = 64 << 10 // bytes per writev
	sweepParts     = 10       // a deadline is looked at every sweepParts ticks
)

// Handler is what a loop calls; every method runs on the loop's goroutine and
// must not block. There is one Handler per loop, so it may keep scratch space
// without a lock.
type Handler interface {
	// Open is called once, before the first Data. It may set a deadline.
	Open(c *Conn)
	// Data hands over what was read. The bytes are valid, and may be changed,
	// until it returns.
	Data(c *Conn, b []byte)
	// EOF tells that the peer will send no more. If it returns true the
	// connection stays open for writing until Finish or Cut is called;
	// otherwise it is closed once what is pending has been written.
	EOF(c *Conn) (wait bool)
	// Blocked tells that the socket takes no more for now, with the bytes pending.
	Blocked(c *Conn, pending int)
	// Due tells that the connection's deadline has passed. The deadline is
	// cleared before the call.
	Due(c *Conn)
	// Closed is called once, last, with the reason given to Finish or Cut or
	// one of the reasons of this package.
	Closed(c *Conn, r Reason)
}

// Options of a Poller. The zero value of a field means its default.
type Options struct {
	// Loops is the number of event loops. Default: half of GOMAXPROCS, at least 1:
	// a loop's work is the kernel's, and fewer, busier loops batch more of it; see
	// docs/adr/0003-loops.md.
	Loops int
	// Handler makes the handler of a loop. Required.
	Handler func(l *Loop) Handler
	// New allocates a connection. Its result must be embedded as the first field
	// of the caller's own connection type, if it has one. Default: new(Conn).
	New func() *Conn
	// SendBuffer and ReceiveBuffer set SO_SNDBUF and SO_RCVBUF in bytes (the
	// kernel doubles them). 0 leaves the kernel's own sizing, which may grow to
	// 4 MiB for a client that does not read.
	SendBuffer, ReceiveBuffer int
	// NoIOUring turns batched sends through io_uring off.
	NoIOUring bool
	// Tick is the unit of deadlines. Default: 100 ms. A deadline is noticed up to
	// ten ticks late.
	Tick time.Duration
	// Linger is how long a connection that was finished from this side waits for
	// the peer's end of stream. Default: 2 s.
	Linger time.Duration
	// MaxConns bounds the connections of this poller; more are accepted and
	// closed at once. 0: the descriptor limit alone.
	MaxConns int
	// Logger gets what an operator must know. Default: slog.Default().
	Logger *slog.Logger

	sys *sys // replaced by tests that inject faults
}

func (o *Options) validate() error {
	if o.Handler == nil {
		return errors.New("poller: Options.Handler is missing")
	}
	if o.Loops < 0 || o.Loops > maxLoops {
		return fmt.Errorf("poller: Options.Loops is %d, must be 0 (one for two cores) to %d", o.Loops, maxLoops)
	}
	if o.SendBuffer < 0 || o.ReceiveBuffer < 0 {
		return errors.New("poller: socket buffer sizes must not be negative")
	}
	if o.Tick < 0 || o.Linger < 0 || o.MaxConns < 0 {
		return errors.New("poller: Tick, Linger and MaxConns must not be negative")
	}
	if o.Loops == 0 {
		o.Loops = min(max(1, runtime.GOMAXPROCS(0)/2), maxLoops)
	}
	if o.New == nil {
		o.New = func() *Conn { return new(Conn) }
	}
	if o.Tick == 0 {
		o.Tick = 100 * time.Millisecond
	}
	if o.Linger == 0 {
		o.Linger = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// Ticks converts a duration to ticks of o.Tick, which must be set; rounded up, at
// least 1.
func (o *Options) Ticks(d time.Duration) uint32 {
	return uint32(max(1, (d+o.Tick-1)/o.Tick))
}
