//go:build linux

package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Version of the messages and of all that is in them. A process understands its own alone:
// one that meets another goes on serving.
const Version = 1

// Hello is what a new process says of itself.
type Hello struct {
	Version int `json:"version"` // of the messages
	// Program is the version of the program, for the log.
	Program     string `json:"program"`
	PID         int    `json:"pid"`
	Descriptors uint64 `json:"descriptors"` // that it may have open
	// Place is what both must have in common: the data folder, or the NATS cluster and its prefix.
	Place string `json:"place"`
}

// Offer is what the old process has.
type Offer struct {
	Program     string   `json:"program"`
	PID         int      `json:"pid"`
	Loops       int      `json:"loops"`
	Connections int      `json:"connections"`
	Heap        uint64   `json:"heap"`  // in use, in bytes
	Paths       []string `json:"paths"` // of the routes, as records name them
}

// Listener is a listening socket by which the new process goes on: one descriptor for each
// loop, or one alone.
type Listener struct {
	Name string
	FDs  []int
}

// End closes what is handed over.
type End struct {
	Connections int      `json:"connections"`
	Generations []uint32 `json:"generations"` // of the loops
	Seen        []byte   `json:"seen"`        // what has been delivered, as the store needs it
}

// Old is a process that can be taken over from. Its methods are called one after the other by
// one goroutine, but for those that say otherwise.
type Old interface {
	// Offer says what there is; its error refuses the new process, which is told.
	Offer(Hello) (Offer, error)
	// Early tells, part by part, what the new process has to do while this one still serves; if it
	// tells nothing there is nothing. If it does, Store and Suspend are not called, and Early is called
	// once more after Freeze, for what is new. Settle returns when what came before the new process did
	// all that has been dealt with.
	Early(emit func(part []byte) error) error
	Settle()
	// Dismiss tells the clients that cannot be handed over to come back. Everything is served
	// meanwhile.
	Dismiss()
	// Listeners are those that are handed over; they stay open here.
	Listeners() ([]Listener, error)
	// Freeze has clients start nothing new, and Seal brings everything to rest. After an error, and in
	// every other case that is not the end, Resume follows.
	Freeze() error
	Seal() error
	// Store is what the new process needs to open the store, which is given up by Suspend.
	// Suspend is called by a goroutine of its own.
	Store() []byte
	Suspend() error
	// Will tells what is known besides the connections, part by part. emit does not keep them.
	Will(emit func(part []byte) error) error
	// Carry describes all connections. emit may be called by several goroutines at a time.
	Carry(emit func(records []byte, fds []int) error) (End, error)
	// Resume goes on with everything.
	Resume(why error)
	// Release gives up all that Carry described: it is the new process's.
	Release()
	// Survive goes on without that, since the new process has died.
	Survive(why error)
}

// New is a process that takes over. Descriptors that its methods get are theirs, other things
// until they return. They are called one after the other by one goroutine, but for Open.
type New interface {
	// Prepare makes everything that needs nothing of the old process.
	Prepare(Offer) error
	// Early gets what Old.Early tells. Open is not called then. Settle returns when all of that has
	// taken effect.
	Early(part []byte) error
	Settle()
	Listener(Listener) error
	// Open opens the store, on a goroutine of its own.
	Open(store []byte) error
	Inherit(part []byte) error
	Restore(records []byte, fds []int) error
	// Begin starts everything.
	Begin(End) error
}

// Times after which a side gives up.
const (
	helloTime   = 5 * time.Second
	prepareTime = 2 * time.Minute // for the new process: it reads keys and certificates, and may ask for them
	// MoveTime bounds how long everything is at rest: then the old process goes on.
	MoveTime = 15 * time.Second
	upTime   = 15 * time.Second // for the new process to begin
)

var (
	// ErrRefused is what a new process hears that may not take over.
	ErrRefused = errors.New("handoff: refused")
	// ErrAborted is what a new process hears when the old one has decided to go on.
	ErrAborted = errors.New("handoff: the old process goes on")
	// ErrNobody means that no process listens on the socket.
	ErrNobody = errors.New("handoff: nobody is there to take over from")
)

// Fault is called with the name of each step, "old " or "new " before it, just before it is
// taken. Tests end the process there.
var Fault = func(step string) {}

// expect receives a message of a kind, or the reason why it does not come.
func (l *link) expect(want kind) (m message, err error) {
	m, err = l.receive()
	switch {
	case errors.Is(err, io.EOF):
		return m, fmt.Errorf("handoff: the other process ended before %s: %w", want, err)
	case err != nil:
		return m, err
	case m.kind == want:
		return m, nil
	}
	closeAll(m.fds)
	switch m.kind {
	case kindRefuse:
		return m, fmt.Errorf("%w: %s", ErrRefused, m.body)
	case kindAbort:
		return m, fmt.Errorf("%w: %s", ErrAborted, m.body)
	}
	return m, fmt.Errorf("handoff: got %s, want %s", m.kind, want)
}

func (l *link) sendJSON(k kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return l.send(k, b)
}
