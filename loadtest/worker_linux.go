package loadtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"roost/proto/ws"
)

const (
	readBuffer = 256 << 10 // bytes per loop
	eventBatch = 256       // events taken from epoll at once
	wakeSlot   = -1        // slot of the eventfd in epoll's data

	sweepEvery  = 250 * time.Millisecond
	maxReply    = 64 << 20 // bytes of a frame of the client protocol
	reservedFDs = 64       // descriptors left to the runtime, pipes and files
)

// play is what a scenario does with its connections. All methods are called on the loop.
type play interface {
	begin()                       // the measured phase begins
	opened(c *client)             // c has upgraded
	message(c *client, p []byte)  // a data message; p is valid until message returns
	gone(c *client, lost bool)    // an upgraded connection has ended; lost: unasked
	due() (next int64)            // sends what is due; Unix ns when to be called again, 0 for no wish
	command(name string, n int64) // doRound, doHalt, doFinish
	inFlight() int64              // what is still awaited
	missing() int64               // messages that never came, told at the very end
}

// worker is one event loop with its clients.
type worker struct {
	// Static after newWorker.
	assignment
	squeeze *target         // upgrade: of clients that offer permessage-deflate
	next    *target         // reconnect: the node to go to; nil: the same
	from    []unix.Sockaddr // source addresses in rotation; none: the kernel's choice
	limits  ws.Limits
	fill    []byte
	prefix  []byte // of channels' names
	events  chan<- event
	ended   <-chan struct{}
	ep      int
	wake    int // eventfd

	// Owned by the loop.
	target     *target
	to         unix.Sockaddr // its
	clients    []client
	free       []uint32 // slots, last in first out
	play       play
	now        int64 // Unix ns, as of the last event
	stats      *stats
	nextStats  int64
	nextSweep  int64
	progress   int64 // when a message last arrived, or was sent with none in flight
	phase      phase
	started    int64 // connects tried
	wanted     int64 // connects to be tried
	connecting int   // connects in flight
	opens      int   // connections open
	everOpen   bool
	announce   bool // evConnected is owed
	pace       Pacer
	paceStart  int64
	paceCount  int64
	closes     int     // closing handshakes under way
	toClose    int     // at the end: clients from here on have not been closed yet
	limbo      []limbo // clients that are to leave their state before the timeout, oldest first
	random     uint64
	decoder    *ws.Decoder // idle; a connection with half a frame takes it along
	buf        []byte
	payload    []byte
	deflated   []byte
	frame      []byte

	// Guarded by mu.
	mu    sync.Mutex
	inbox []command
}

// phase is where a worker's measured phase stands.
type phase uint8

const (
	waiting   phase = iota
	measuring       // the play sends
	halted          // no more sends; evOver is out
	draining        // doFinish came: the last answers are awaited
	finished
	closing // all connections are being closed
)

// limbo is a client in a state it must leave in time.
type limbo struct {
	slot, id uint32
	since    int64
}

// connectionsPerProcess says how many sockets a process may hold.
func connectionsPerProcess() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	if l.Max <= 2*reservedFDs {
		return 0, fmt.Errorf("too few descriptors: this user's limit (ulimit -Hn) is %d; it must be above %d", l.Max, 2*reservedFDs)
	}
	return int(min(l.Max, maxConnections) - reservedFDs), nil
}

// startWorkers starts a.Threads event loops that share a's work.
func startWorkers(a assignment, events chan<- event, ended <-chan struct{}) ([]node, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err == nil && l.Cur < l.Max {
		l.Cur = l.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &l) // raising to the hard limit is always allowed
	}
	var nodes []node
	var workers []*worker
	for _, part := range a.split(a.Threads) {
		w, err := newWorker(part, events, ended)
		if err != nil {
			for _, w := range workers {
				w.release()
			}
			return nil, err
		}
		workers, nodes = append(workers, w), append(nodes, w)
	}
	for _, w := range workers {
		go w.run()
	}
	return nodes, nil
}

func newWorker(a assignment, events chan<- event, ended <-chan struct{}) (*worker, error) {
	t, err := newTarget(&a.Options)
	if err != nil {
		return nil, err
	}
	offer := a.Options
	offer.Deflate = true
	squeeze, err := newTarget(&offer)
	if err != nil {
		return nil, err
	}
	size := max(a.Size, a.Large)
	w := &worker{
		assignment: a, target: t, squeeze: squeeze, events: events, ended: ended,
		limits:  ws.Limits{MaxFrame: int64(a.Size) + 64<<10, MaxMessage: int64(a.Size) + 64<<10},
		fill:    filler(size),
		prefix:  []byte(a.Channel),
		stats:   newStats(),
		decoder: &ws.Decoder{Client: true},
		buf:     make([]byte, readBuffer),
		random:  mix(a.Seed + uint64(a.IDBase)),
		pace:    newPacer(a.ConnectRate, 0),
	}
	if a.Next != "" {
		if w.next, err = targetOf(&a.Options, "--next", a.Next); err != nil {
			return nil, err
		}
	}
	if a.speaks() { // a reply may hold many publications
		w.limits = ws.Limits{MaxFrame: maxReply, MaxMessage: maxReply}
	}
	if err := w.addresses(); err != nil {
		return nil, err
	}
	slots := heldAtOnce(&a.Options)
	if a.Scenario == Fanout && !a.Sender {
		slots--
	}
	w.clients, w.free = make([]client, slots), make([]uint32, slots)
	for i := range w.free {
		w.free[i] = uint32(slots - 1 - i)
	}
	w.play = newPlay(w)
	if w.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(w.ep)
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := unix.EpollCtl(w.ep, unix.EPOLL_CTL_ADD, w.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeSlot}); err != nil {
		w.release()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return w, nil
}

func newPlay(w *worker) play {
	switch w.Scenario {
	case Clients, Publish, Reconnect:
		return newClients(w, w.Connections)
	case Upgrade:
		return newUpgrades(w)
	case RPC:
		return newRPCs(w)
	case Join:
		return newJoins(w)
	case Fanout:
		return &fanout{w: w, pacer: newPacer(w.Rate, w.Ramp)}
	case Storm:
		return &storm{w: w}
	case Idle:
		return &idle{w: w}
	}
	return &echo{w: w, pacer: newPacer(w.Rate, w.Ramp)}
}

// draw returns the next random number.
func (w *worker) draw() uint64 {
	w.random += 0x9E3779B97F4A7C15
	return mix(w.random)
}

func (w *worker) release() {
	for i := range w.clients {
		if w.clients[i].state != stateFree {
			unix.Close(int(w.clients[i].fd))
		}
	}
	unix.Close(w.wake)
	unix.Close(w.ep)
}

// do hands a command to the loop. Any goroutine.
func (w *worker) do(c command) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inbox = append(w.inbox, c)
	if w.wake >= 0 {
		_, _ = unix.Write(w.wake, binary.NativeEndian.AppendUint64(nil, 1)) // full means it is awake already
	}
}

// run is the loop. It ends when all connections have been closed on command, or the fleet has ended.
func (w *worker) run() {
	defer w.hangUp()
	events := make([]unix.EpollEvent, eventBatch)
	next := int64(0)
	for {
		n, err := w.poll(events, next)
		if err != nil {
			w.emit(evDied, 0, err.Error())
			return
		}
		w.now = clock()
		for i := range events[:n] {
			if e := &events[i]; e.Fd == wakeSlot {
				w.obey()
			} else {
				w.ready(&w.clients[e.Fd], e.Events)
			}
		}
		next = w.connectDue()
		if due := w.play.due(); due != 0 {
			next = earlier(next, due)
		}
		if w.now >= w.nextSweep {
			if w.sweep() {
				return
			}
		}
		w.endPhase()
		next = earlier(next, w.nextSweep)
	}
}

// hangUp tells that the loop is gone and gives its descriptors back.
func (w *worker) hangUp() {
	w.mu.Lock()
	w.release()
	w.wake = -1
	w.mu.Unlock()
	w.emit(evClosed, 0, "")
}

// earlier is the earlier of two times, of which a may be 0 for none.
func earlier(a, b int64) int64 {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// poll waits for events until the time next, in Unix ns.
func (w *worker) poll(events []unix.EpollEvent, next int64) (int, error) {
	wait := unix.NsecToTimespec(max(0, next-clock()))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(w.ep), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(unsafe.Pointer(&wait)), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, nil
	case unix.ENOSYS: // before Linux 5.11, or forbidden: whole ms must do
		n, err := unix.EpollWait(w.ep, events, int((unix.TimespecToNsec(wait)+999_999)/1_000_000))
		if errors.Is(err, unix.EINTR) {
			return 0, nil
		}
		return max(n, 0), os.NewSyscallError("epoll_wait", err)
	}
	return 0, os.NewSyscallError("epoll_pwait2", errno)
}

// obey carries out what is in the inbox.
func (w *worker) obey() {
	var drain [8]byte
	_, _ = unix.Read(w.wake, drain[:]) // level-triggered: an error only means another turn
	w.mu.Lock()
	commands := w.inbox
	w.inbox = nil
	w.mu.Unlock()
	for _, c := range commands {
		switch c.Do {
		case doConnect:
			w.connect(c.N)
		case doBegin:
			w.phase, w.progress = measuring, w.now
			w.play.begin()
		case doHalt:
			if w.phase <= measuring {
				w.wanted = w.started // connects in flight come to their end
				w.play.command(doHalt, 0)
			}
		case doFinish:
			if w.phase < draining {
				w.phase, w.progress = draining, w.now
				w.play.command(doFinish, c.N)
			}
		case doRound, doCut, doMark:
			w.play.command(c.Do, c.N)
		case doClose:
			w.closeAll()
		}
	}
}

// over says that the play has sent its last message, sent of them; 0 when another node knows.
func (w *worker) over(sent int64) {
	if w.phase < halted {
		w.phase = halted
		w.emit(evOver, sent, "")
	}
}

// endPhase ends a phase when the last answers are in, or not to be had.
func (w *worker) endPhase() {
	stalled := w.now-w.progress > int64(w.Timeout)
	switch {
	case w.phase == measuring && w.Rate == 0 && stalled && w.play.inFlight() > 0:
		w.stats.fail(fmt.Sprintf("stopped early: nothing arrived for %v (--timeout)", w.Timeout), 1)
		w.over(0)
	case w.phase == draining && (stalled || w.play.inFlight() == 0):
		w.finish()
	case w.phase == closing:
		w.closeMore()
	}
}

// finish ends the measured phase and settles what never came.
func (w *worker) finish() {
	w.phase = finished
	if count := w.play.missing(); count > 0 {
		w.stats.Missing += count
		w.stats.fail(fmt.Sprintf("messages that had not arrived when nothing came for %v, or whose connection was lost", w.Timeout), count)
	}
	w.emit(evFinished, 0, "")
}

// sweep is the slow part of the loop's round: statistics, timeouts, the end. It reports whether the loop is done.
func (w *worker) sweep() bool {
	w.nextSweep = w.now + int64(sweepEvery)
	w.expire()
	if w.now >= w.nextStats {
		w.nextStats = w.now + int64(statsInterval)
		w.emit(evStats, 0, "")
	}
	if w.phase == closing && len(w.free) == len(w.clients) {
		return true
	}
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// emit sends an event with what was counted since the last one.
func (w *worker) emit(kind string, n int64, text string) {
	s := w.stats
	w.stats = &stats{Errors: map[string]int64{}}
	s.Latency, w.stats.Latency = s.Latency.handOver()
	s.Connect, w.stats.Connect = s.Connect.handOver()
	s.Back, w.stats.Back = s.Back.handOver()
	s.Beside, w.stats.Beside = s.Beside.handOver()
	s.Pause, w.stats.Pause = s.Pause.handOver()
	s.Calm, w.stats.Calm = s.Calm.handOver()
	emit(w.events, w.ended, event{Kind: kind, N: n, Stats: s, Text: text})
}
