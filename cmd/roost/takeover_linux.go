//go:build linux && !portable

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"roost/broker"
	"roost/handoff"
	"roost/internal/config"
	"roost/poller"
)

const (
	// dismissTime is how long clients that cannot be handed over have to go.
	dismissTime = time.Second
	// restTime is how long what is under way has to end, while nothing more is read.
	restTime = time.Second
	// holdTime is how long what clients have sent, and publications, may be under way then:
	// after that this process goes on.
	holdTime = 5 * time.Second
	// spareDescriptors are those a process needs besides connections, at least.
	spareDescriptors = 256
	internalListener = "internal " // and the address, as it is configured
	clientsListener  = "clients "
	secureListener   = "TLS clients "
)

// predecessor is this process, as one that takes over sees it.
type predecessor struct {
	*process
	config *config.Config
	log    *slog.Logger
	frozen time.Time
	gc     int // what the garbage collector is set to
}

var _ handoff.Old = (*predecessor)(nil)

// place is what two processes must have in common.
func place(c *config.Config) string {
	b := c.Broker()
	switch {
	case b.Memory:
		return "memory"
	case len(b.URLs) > 0:
		return "NATS cluster, prefix " + b.Prefix
	}
	return "folder " + b.Dir
}

// Offer implements handoff.Old.
func (o *predecessor) Offer(h handoff.Hello) (handoff.Offer, error) {
	live := o.server.Poller().Live()
	switch {
	case !o.up.Load():
		return handoff.Offer{}, errors.New("this process is starting or stopping")
	case o.node.Draining():
		return handoff.Offer{}, errors.New("this process is being drained: roost drain --abort ends that")
	case h.Place != place(o.config):
		return handoff.Offer{}, fmt.Errorf("it keeps its data elsewhere: %s, and this process: %s", h.Place, place(o.config))
	case o.config.Broker().Memory && o.node.KeepsRecords():
		return handoff.Offer{}, errors.New("the history of channels, or events for backends, are in memory and would be lost: use --data")
	case h.Descriptors < uint64(live)+spareDescriptors:
		return handoff.Offer{}, fmt.Errorf("there are %d connections, and it may have %d descriptors", live, h.Descriptors)
	}
	return handoff.Offer{Program: version, PID: os.Getpid(), Loops: len(o.server.Poller().Loops()), Connections: live, Heap: heapInUse(), Paths: o.server.Paths()}, nil
}

// Early implements handoff.Old.
func (o *predecessor) Early(emit func([]byte) error) error { return o.node.Early(emit) }

// Settle implements handoff.Old.
func (o *predecessor) Settle() { o.node.Broker().Settle() }

// Dismiss implements handoff.Old.
func (o *predecessor) Dismiss() {
	o.server.Dismiss()
	for end := time.Now().Add(dismissTime); o.server.Tied() > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}

// Listeners implements handoff.Old.
func (o *predecessor) Listeners() (all []handoff.Listener, err error) {
	plain, _ := o.config.Addresses()
	for _, ln := range o.server.Poller().Listening() {
		kind := secureListener
		if ln.Address == plain {
			kind = clientsListener
		}
		all = append(all, handoff.Listener{Name: kind + ln.Address, FDs: ln.FDs})
	}
	fd, err := o.internal.descriptor()
	if err != nil {
		return nil, err
	}
	return append(all, handoff.Listener{Name: internalListener + o.config.InternalAddress, FDs: []int{fd}}), nil
}

// Freeze implements handoff.Old. What does not come to rest in time stays behind.
func (o *predecessor) Freeze() error {
	o.frozen = time.Now()
	o.gc = debug.SetGCPercent(-1) // not while everybody waits
	ctx, cancel := context.WithTimeout(context.Background(), restTime)
	defer cancel()
	o.internal.gate.hold(ctx)
	handoff.Fault("old held")
	o.server.Freeze()
	if err := o.node.Rest(ctx); err != nil {
		o.log.Warn("something is under way still: the clients it is for are told to come back", "parked", o.server.Parked(), "error", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), holdTime)
	defer cancel()
	if err := o.server.Rest(ctx); err != nil {
		return fmt.Errorf("too much is under way: %w", err)
	}
	return nil
}

// Seal implements handoff.Old.
func (o *predecessor) Seal() error {
	ctx, cancel := context.WithTimeout(context.Background(), holdTime)
	defer cancel()
	o.node.Cut()
	if err := o.node.Hold(ctx); err != nil {
		return err
	}
	o.server.Seal()
	return o.node.Hold(ctx) // what was posted before the loops came to rest
}

// Store implements handoff.Old.
func (o *predecessor) Store() []byte { return o.node.Broker().Will().Append(nil) }

// Suspend implements handoff.Old.
func (o *predecessor) Suspend() error {
	err := o.node.Broker().Suspend()
	handoff.Fault("old suspended")
	return err
}

// Will implements handoff.Old.
func (o *predecessor) Will(emit func([]byte) error) error { return o.node.Will(emit) }

// Carry implements handoff.Old.
func (o *predecessor) Carry(emit func([]byte, []int) error) (handoff.End, error) {
	c, err := o.server.Carry(emit)
	return handoff.End{Connections: c.Conns, Generations: c.Generations, Seen: o.node.Seen()}, err
}

// Resume implements handoff.Old.
func (o *predecessor) Resume(why error) {
	debug.SetGCPercent(o.gc)
	if err := o.node.Broker().Resume(); err != nil {
		o.log.Error("the data folder cannot be opened again", "error", err)
	}
	o.node.Stay()
	o.server.Thaw()
	o.internal.gate.open()
	o.log.Error("nobody took over: this process goes on", "rest", time.Since(o.frozen), "error", why)
}

// Release implements handoff.Old.
func (o *predecessor) Release() {
	o.up.Store(false)
	debug.SetGCPercent(o.gc)
	o.server.Release()
	handoff.Fault("old released")
	_ = o.internal.listener.Close() // it goes on in the other process
	o.internal.gate.pass(o.internal.url())
}

// Survive implements handoff.Old.
func (o *predecessor) Survive(why error) {
	if err := o.node.Broker().Resume(); err != nil {
		o.log.Error("the data folder cannot be opened again", "error", err)
	}
	o.node.Stay()
	o.server.Survive()
	if err := o.internal.again(); err != nil {
		o.log.Error("the internal address is lost", "error", err)
	}
	o.internal.gate.open()
	o.up.Store(true)
	o.log.Error("the process that took over has died, and its connections with it: this process serves those who come back", "error", why)
}

// successor is this process, as one that takes over.
type successor struct {
	*serveCmd
	*process
	log *slog.Logger
}

var _ handoff.New = (*successor)(nil)

// Prepare implements handoff.New.
func (n *successor) Prepare(o handoff.Offer) error {
	n.log.Info("taking over", "pid", o.PID, "version", o.Program, "connections", o.Connections)
	if n.Loops != 0 && n.Loops != o.Loops {
		n.log.Warn("--loops has no effect: a process that takes over has as many as the old one", "loops", o.Loops)
	}
	n.Loops = o.Loops
	if err := n.prepare(n.process, n.log); err != nil {
		return err
	}
	if _, secure := n.Addresses(); secure != "" {
		if err := n.server.Secure(secure, n.tlsOptions(&n.Config, n.log)); err != nil {
			return err
		}
	}
	makeRoom(max(roomAnyway+o.Connections*roomPerConn, int(min(o.Heap, maxRoom))))
	n.server.Await()
	if missing := n.server.Expect(o.Paths); len(missing) > 0 {
		return fmt.Errorf("the old process has routes that this configuration has not: %q", missing)
	}
	return nil
}

const (
	roomPerConn = 2 << 10  // bytes of heap, with what becomes garbage on the way
	roomAnyway  = 16 << 20 // for the store
	maxRoom     = 512 << 20
	roomPiece   = 256 << 10
)

// heapInUse is what this process's heap takes, in bytes.
func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// makeRoom has the kernel give so much memory, and stops the garbage collector: both would make
// clients wait later.
func makeRoom(bytes int) {
	var all [][]byte
	for left := bytes; left > 0; left -= roomPiece {
		begin := time.Now()
		b := make([]byte, roomPiece)
		if unix.Madvise(b, unix.MADV_POPULATE_WRITE) != nil { // Linux before 5.14; page by page it takes 16 times as long
			for i := 0; i < len(b); i += os.Getpagesize() {
				b[i] = 1
			}
		}
		all = append(all, b)
		time.Sleep(time.Since(begin)) // the old process needs the processor, too
	}
	runtime.KeepAlive(all)
	runtime.GC() // frees it, and the runtime keeps it for a while
	debug.SetGCPercent(-1)
}

// Listener implements handoff.New.
func (n *successor) Listener(ln handoff.Listener) error {
	plain, secure := n.Addresses()
	switch ln.Name {
	case clientsListener + plain:
		n.server.Poller().Inherit(poller.Listening{Address: plain, FDs: ln.FDs})
		return nil
	case secureListener + secure:
		n.server.Poller().Inherit(poller.Listening{Address: secure, FDs: ln.FDs})
		return nil
	case internalListener + n.InternalAddress:
		if len(ln.FDs) != 1 {
			break
		}
		f := os.NewFile(uintptr(ln.FDs[0]), ln.Name)
		defer f.Close()
		l, err := net.FileListener(f)
		n.inherited = l
		return err
	}
	return fmt.Errorf("the old process listens for %s, and this configuration names no such address: addresses, and whether they speak TLS, change by a restart", ln.Name)
}

// Early implements handoff.New.
func (n *successor) Early(part []byte) error {
	step("early")
	return n.node.HearEarly(part)
}

// Settle implements handoff.New.
func (n *successor) Settle() { n.node.Broker().Settle() }

// Open implements handoff.New.
func (n *successor) Open(store []byte) error {
	step("open")
	heir, err := broker.ParseHeir(store)
	if err != nil {
		return err
	}
	err = n.node.Open(&heir)
	step("opened")
	return err
}

// Inherit implements handoff.New.
func (n *successor) Inherit(will []byte) error {
	err := n.node.Inherit(will)
	step("inherited")
	return err
}

// Restore implements handoff.New.
func (n *successor) Restore(records []byte, fds []int) error {
	err := n.server.Restore(records, fds)
	step("restored")
	return err
}

// Begin implements handoff.New.
func (n *successor) Begin(end handoff.End) error {
	step("start")
	gc := collectorSetting()
	defer debug.SetGCPercent(gc)
	if err := n.node.Know(end.Seen); err != nil {
		return err
	}
	n.starts = func() {
		n.server.Begin(end.Generations)
		if err := n.node.Enter(); err != nil {
			n.log.Error("this node is not heard of by the others", "error", err)
		}
	}
	return n.begin(n.process, n.log)
}

// collectorSetting is what the garbage collector was set to by the environment.
func collectorSetting() int {
	switch v := os.Getenv("GOGC"); v {
	case "off":
		return -1
	default:
		if n, err := strconv.Atoi(v); err == nil {
			return n
		}
		return 100
	}
}

// step is one of beginning, at which tests of takeovers end the process.
func step(name string) { handoff.Fault("new " + name) }

// takeOver takes the place of the process that serves this configuration. found is false where
// there is none.
func (s *serveCmd) takeOver(log *slog.Logger) (p *process, found bool, err error) {
	path := s.HandoffSocket()
	if path == "" {
		return nil, false, errors.New("--takeover needs --data, or --handoff-socket to name where the old process can be found")
	}
	limit, err := poller.DescriptorLimit()
	if err != nil {
		return nil, false, err
	}
	p = &process{}
	start := time.Now()
	err = handoff.Take(path, handoff.Hello{Program: version, PID: os.Getpid(), Descriptors: limit, Place: place(&s.Config)}, &successor{s, p, log})
	if errors.Is(err, handoff.ErrNobody) {
		log.Info("nobody is there to take over from", "socket", path)
		return nil, false, nil
	}
	if err == nil {
		log.Info("took over", "connections", p.server.Poller().Live(), "took", time.Since(start))
	}
	return p, true, err
}

// descriptor is the internal address's listening one.
func (s *internalServer) descriptor() (int, error) {
	rc, err := s.listener.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("internal address: %w", err)
	}
	fd := -1
	err = rc.Control(func(d uintptr) { fd = int(d) })
	if _, ferr := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		err = ferr
	}
	return fd, err
}
