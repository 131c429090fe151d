//go:build linux && !portable

package poller

import (
	"fmt"
	"reflect"
	"sync"
	"syscall"
	"unsafe"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"
)

// This file is the only one that knows the inside of nbio. The core engine keeps
// the epoll instance, the loop goroutine and the table from descriptor to
// connection; what roost does itself are accept, read, write and close, for the
// reasons that docs/adr/0001 measures. nbio exports no way to build a Conn around
// a descriptor or to hear of an end of stream without closing, so eight
// unexported fields are set here, at offsets that are looked up by name and
// checked by type when the program starts.

var (
	offConnFD        = offset[nbio.Conn]("fd", "int")
	offConnTyp       = offset[nbio.Conn]("typ", "int8")
	offConnClosed    = offset[nbio.Conn]("closed", "bool")
	offConnConnected = offset[nbio.Conn]("onConnected", "func(*nbio.Conn, error)")
	offConnPoller    = offset[nbio.Conn]("p", "*nbio.poller")
	offPollerEpfd    = offsetOf(fieldOf(reflect.TypeFor[nbio.Conn](), "p").Type.Elem(), "epfd", "int")
	offEngineOnOpen  = offset[nbio.Engine]("onOpen", "func(*nbio.Conn)")
	offEngineOnClose = offset[nbio.Engine]("onClose", "func(*nbio.Conn, error)")
	offEngineConns   = offset[nbio.Engine]("connsUnix", "[]*nbio.Conn")
)

// foreignType is a connection type that nbio does not know: its close then keeps
// the books and leaves the descriptor alone.
const foreignType = int8(101)

// startMu guards nbio.MaxOpenFiles, a global.
var startMu sync.Mutex

func init() { logging.SetLevel(logging.LevelError) }

func fieldOf(t reflect.Type, name string) reflect.StructField {
	f, ok := t.FieldByName(name)
	if !ok {
		panic(fmt.Sprintf("poller: this nbio has no field %s in %s; the pinned version is in go.mod", name, t))
	}
	return f
}

func offsetOf(t reflect.Type, name, typ string) uintptr {
	f := fieldOf(t, name)
	got := f.Type.String()
	if f.Type.Kind() == reflect.Int8 {
		got = "int8"
	}
	if got != typ {
		panic(fmt.Sprintf("poller: field %s of %s is %s, want %s; the pinned nbio is in go.mod", name, t, got, typ))
	}
	return f.Offset
}

func offset[T any](name, typ string) uintptr { return offsetOf(reflect.TypeFor[T](), name, typ) }

func connField[T any](nc *nbio.Conn, off uintptr) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(nc), off))
}

func engineField[T any](g *nbio.Engine, off uintptr) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(g), off))
}

// nbInit makes nc a connection of descriptor fd, before nbAdd.
func nbInit(nc *nbio.Conn, fd int) {
	*connField[int](nc, offConnFD) = fd
	*connField[int8](nc, offConnTyp) = foreignType
}

func nbFD(nc *nbio.Conn) int { return *connField[int](nc, offConnFD) }

// nbSetClosed stops (true) or restarts (false) nbio's end-of-stream callback.
func nbSetClosed(nc *nbio.Conn, closed bool) { *connField[bool](nc, offConnClosed) = closed }

// nbOnWritable makes the next EPOLLOUT call f, once. Loop goroutine only.
func nbOnWritable(nc *nbio.Conn, f func(*nbio.Conn, error)) {
	*connField[func(*nbio.Conn, error)](nc, offConnConnected) = f
}

// engine is one nbio engine with one poller goroutine.
type engine struct {
	nb   *nbio.Engine
	epfd int // known after the first add
}

type engineHooks struct {
	read func(*nbio.Conn)        // EPOLLIN
	end  func(*nbio.Conn, error) // EPOLLRDHUP, EPOLLHUP or EPOLLERR, after read
}

// startEngine starts an engine whose descriptor table is the shared one: a
// descriptor belongs to one loop only, so 8 bytes each serve all loops.
func startEngine(name string, table []*nbio.Conn, h engineHooks) (*engine, error) {
	startMu.Lock()
	defer startMu.Unlock()
	nbio.MaxOpenFiles = 1 // its own table is replaced below
	g := nbio.NewEngine(nbio.Config{
		Name:           name,
		NPoller:        1,
		EpollMod:       nbio.EPOLLET,
		ReadBufferSize: 1, // reads go to the loop's own buffer
	})
	g.OnRead(h.read)
	*engineField[func(*nbio.Conn)](g, offEngineOnOpen) = func(*nbio.Conn) {}
	*engineField[func(*nbio.Conn, error)](g, offEngineOnClose) = h.end
	if err := g.Start(); err != nil {
		return nil, fmt.Errorf("poller: start event loop: %w", err)
	}
	*engineField[[]*nbio.Conn](g, offEngineConns) = table
	return &engine{nb: g}, nil
}

// add registers nc, edge-triggered for reading and writing.
func (e *engine) add(nc *nbio.Conn) error {
	nbSetClosed(nc, true) // a failure is ours to handle, not the end of a stream
	if _, err := e.nb.AddConn(nc); err != nil {
		return err
	}
	nbSetClosed(nc, false)
	if e.epfd == 0 {
		p := *connField[unsafe.Pointer](nc, offConnPoller)
		e.epfd = *(*int)(unsafe.Add(p, offPollerEpfd))
	}
	return nil
}

// forget takes fd out of epoll, so that no event for it can come any more.
func (e *engine) forget(fd int) error {
	return syscall.EpollCtl(e.epfd, syscall.EPOLL_CTL_DEL, fd, nil)
}

// stop ends the loop goroutine and waits for it. The table must be empty.
func (e *engine) stop() { e.nb.Stop() }
