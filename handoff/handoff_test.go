//go:build linux

package handoff

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fake is either process: it notes what it is asked.
type fake struct {
	mu    sync.Mutex
	calls []string

	refuse, fail string // names of calls that return an error
	fds          []int  // that the new process got
}

func (f *fake) call(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, name)
	if name == f.fail || name == f.refuse {
		return errors.New(name + " fails")
	}
	return nil
}

func (f *fake) has(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.calls, name)
}

type oldFake struct {
	fake
	early bool
	file  *os.File
}

func (o *oldFake) Offer(Hello) (Offer, error) {
	return Offer{Program: "old", Connections: 2}, o.call("offer")
}
func (o *oldFake) Early(emit func([]byte) error) error {
	if o.early {
		return errors.Join(o.call("early"), emit([]byte("channels")))
	}
	return nil
}
func (o *oldFake) Dismiss() { _ = o.call("dismiss") }
func (o *oldFake) Listeners() ([]Listener, error) {
	return []Listener{{"a", []int{int(o.file.Fd())}}}, o.call("listeners")
}
func (o *oldFake) Settle()        { _ = o.call("settle") }
func (o *oldFake) Freeze() error  { return o.call("freeze") }
func (o *oldFake) Seal() error    { return o.call("seal") }
func (o *oldFake) Store() []byte  { return []byte("store") }
func (o *oldFake) Suspend() error { return o.call("suspend") }
func (o *oldFake) Will(emit func([]byte) error) error {
	return errors.Join(o.call("will"), emit(bytes.Repeat([]byte("w"), 3*pieceSize)), emit([]byte("end")))
}
func (o *oldFake) Carry(emit func([]byte, []int) error) (End, error) {
	return End{Connections: 2}, errors.Join(o.call("carry"), emit([]byte("one"), []int{int(o.file.Fd()), int(o.file.Fd())}))
}
func (o *oldFake) Resume(error)  { _ = o.call("resume") }
func (o *oldFake) Release()      { _ = o.call("release") }
func (o *oldFake) Survive(error) { _ = o.call("survive") }

type newFake struct {
	fake
	will []byte
}

func (n *newFake) Prepare(o Offer) error {
	if o.Program != "old" {
		return errors.New("no offer")
	}
	return n.call("prepare")
}
func (n *newFake) Early([]byte) error { return n.call("early") }
func (n *newFake) Settle()            { _ = n.call("settle") }
func (n *newFake) Listener(l Listener) error {
	n.fds = append(n.fds, l.FDs...)
	return n.call("listener")
}
func (n *newFake) Open(store []byte) error {
	if string(store) != "store" {
		return fmt.Errorf("the store is %q", store)
	}
	return n.call("open")
}
func (n *newFake) Inherit(part []byte) error {
	n.will = append(n.will, part...)
	return n.call("inherit")
}
func (n *newFake) Restore(_ []byte, fds []int) error {
	n.fds = append(n.fds, fds...)
	return n.call("restore")
}
func (n *newFake) Begin(e End) error {
	if e.Connections != 2 {
		return errors.New("no end")
	}
	return n.call("begin")
}

func socket(t *testing.T, old *oldFake) (*Socket, string) {
	t.Helper()
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	old.file = f
	path := filepath.Join(t.TempDir(), "s")
	s, err := Listen(path, old, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, path
}

func TestTake(t *testing.T) {
	for _, early := range []bool{false, true} {
		old, n := &oldFake{early: early}, new(newFake)
		s, path := socket(t, old)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the socket: %v, %v", info.Mode(), err)
		}
		if err := Take(path, Hello{}, n); err != nil {
			t.Fatal(err)
		}
		<-s.Given()
		if len(n.will) != 3*pieceSize+3 || len(n.fds) != 3 {
			t.Errorf("%d B of the will, %d descriptors", len(n.will), len(n.fds))
		}
		for _, fd := range n.fds {
			var st syscall.Stat_t
			if err := syscall.Fstat(fd, &st); err != nil || fd == int(old.file.Fd()) {
				t.Errorf("descriptor %d: %v", fd, err)
			}
			_ = syscall.Close(fd)
		}
		if !old.has("release") || old.has("resume") || old.has("suspend") == early || n.has("open") == early || n.has("settle") != early {
			t.Errorf("old %v, new %v", old.calls, n.calls)
		}
	}
}

// Whatever fails before the new process has everything, the old one goes on, and can be taken over
// from afterwards.
func TestFailures(t *testing.T) {
	for _, step := range []string{"freeze", "seal", "listeners", "suspend", "will", "carry"} {
		old, n := &oldFake{fake: fake{fail: step}}, new(newFake)
		_, path := socket(t, old)
		if err := Take(path, Hello{}, n); !errors.Is(err, ErrAborted) || !strings.Contains(err.Error(), step+" fails") {
			t.Errorf("%s: %v", step, err)
		}
		after(t, "old "+step, old, n, path)
	}
	for _, step := range []string{"prepare", "listener", "open", "inherit", "restore"} {
		old, n := new(oldFake), &newFake{fake: fake{fail: step}}
		_, path := socket(t, old)
		if err := Take(path, Hello{}, n); err == nil || !strings.Contains(err.Error(), step+" fails") {
			t.Errorf("%s: %v", step, err)
		}
		after(t, "new "+step, old, n, path)
	}
}

func after(t *testing.T, what string, old *oldFake, n *newFake, path string) {
	t.Helper()
	closeAll(n.fds)
	old.mu.Lock()
	old.fail = ""
	old.mu.Unlock()
	next := new(newFake)
	defer func() { closeAll(next.fds) }()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // it may still be at the last one
		err := Take(path, Hello{}, next)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s: afterwards: %v", what, err)
		}
	}
	if old.has("freeze") && what != "new prepare" && !old.has("resume") || n.has("begin") {
		t.Errorf("%s: old %v, new %v", what, old.calls, n.calls)
	}
}

// A new process whose start fails in the end, and which then dies, leaves the old one to serve.
func TestBeginFails(t *testing.T) {
	old, n := new(oldFake), &newFake{fake: fake{fail: "begin"}}
	s, path := socket(t, old)
	if err := Take(path, Hello{}, n); err == nil {
		t.Fatal("it has begun")
	}
	closeAll(n.fds)
	for end := time.Now().Add(20 * time.Second); !old.has("survive"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v", old.calls)
		}
	}
	select {
	case <-s.Given():
		t.Error("it counts as given")
	default:
	}
}

func TestRefused(t *testing.T) {
	old := &oldFake{fake: fake{refuse: "offer"}}
	_, path := socket(t, old)
	if err := Take(path, Hello{}, new(newFake)); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "offer fails") {
		t.Errorf("%v", err)
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := &link{conn: c}
	if err := l.sendJSON(kindHello, Hello{Version: Version + 1, Program: "9.9"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.expect(kindOffer); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("%v", err)
	}
	if old.has("freeze") {
		t.Error("something has moved")
	}
	if err := Take(filepath.Join(t.TempDir(), "none"), Hello{}, new(newFake)); !errors.Is(err, ErrNobody) {
		t.Errorf("%v", err)
	}
}

// A socket of somebody who is there is not replaced, one of a process that has died is.
func TestSocketInUse(t *testing.T) {
	_, path := socket(t, new(oldFake))
	if _, err := Listen(path, new(oldFake), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("two processes listen")
	}
	dead := filepath.Join(t.TempDir(), "dead")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	s, err := Listen(dead, new(oldFake), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// What comes over the socket is bounded and never makes the receiver fail otherwise than by an
// error.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{byte(kindHello), 0, 0, 0, 0, 2, '{', '}'})
	f.Add([]byte{byte(kindConns), 1, 0, 0, 0, 0})
	f.Add([]byte{byte(kindWill), 0, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Skip(err)
		}
		var ends [2]*net.UnixConn
		for i, fd := range fds {
			file := os.NewFile(uintptr(fd), "")
			c, err := net.FileConn(file)
			_ = file.Close()
			if err != nil {
				t.Fatal(err)
			}
			ends[i] = c.(*net.UnixConn)
			defer c.Close()
		}
		go func() {
			_, _ = ends[0].Write(b)
			_ = ends[0].CloseWrite()
		}()
		l := &link{conn: ends[1]}
		for {
			m, err := l.receive()
			if err != nil {
				if len(m.fds) > 0 {
					t.Error("descriptors with an error")
				}
				return
			}
			if len(m.body) > len(b) || len(m.fds) > 0 {
				t.Errorf("%d B and %d descriptors", len(m.body), len(m.fds))
			}
		}
	})
}

// A new process that has taken everything and ended its side before the old one could say go counts:
// an error of the old one's sending decides nothing.
func TestGoCannotBeSent(t *testing.T) {
	old := new(oldFake)
	s, path := socket(t, old)
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := &link{conn: c}
	if err := l.sendJSON(kindHello, Hello{Version: Version}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.expect(kindOffer); err != nil {
		t.Fatal(err)
	}
	if err := l.send(kindPrepared, nil); err != nil {
		t.Fatal(err)
	}
	for m := (message{}); m.kind != kindEnd; {
		if m, err = l.receive(); err != nil {
			t.Fatal(err)
		}
		closeAll(m.fds)
	}
	var all []byte
	for _, k := range []kind{kindReady, kindTook, kindUp} {
		all = append(all, byte(k), 0, 0, 0, 0, 0)
	}
	if _, err := c.Write(all); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	select {
	case <-s.Given():
	case <-time.After(20 * time.Second):
		t.Fatalf("not given: %q", old.calls)
	}
	if old.has("resume") || old.has("survive") || !old.has("release") {
		t.Errorf("the old process did %q", old.calls)
	}
}
