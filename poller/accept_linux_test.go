//go:build linux && !portable

package poller

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAcceptErrors(t *testing.T) {
	for _, c := range []struct {
		errno   syscall.Errno
		refused uint64 // by means of the reserve descriptor
		pauses  uint64 // or further tries
	}{
		{syscall.EMFILE, 3, 3},
		{syscall.ENFILE, 3, 3},
		{syscall.ENOBUFS, 0, 3},
		{syscall.ENOMEM, 0, 3},
		{syscall.EINTR, 0, 0},
		{syscall.ECONNABORTED, 0, 0},
	} {
		t.Run(c.errno.Error(), func(t *testing.T) {
			var calls atomic.Int64
			s := realSys()
			s.accept = func(fd int) (int, error) {
				if ready, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); ready == 0 {
					return accept4(fd) // nobody is there, so this is none of the tries
				}
				// The first three tries fail; in between the reserve gets its one.
				n := calls.Add(1)
				if n <= 6 && n%2 == 1 && c.refused > 0 || n <= 3 && c.refused == 0 {
					return -1, c.errno
				}
				return accept4(fd)
			}
			var log strings.Builder
			p := launch(t, Options{Loops: 1, sys: s, Logger: slog.New(slog.NewTextHandler(&log, nil))}, hooks{data: echo})
			addr := listen(t, p)
			refused := uint64(0)
			for i := 0; i < 4; {
				nc := dial(t, addr)
				_, _ = nc.Write([]byte("x"))
				if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
					if refused++; !gone(err) || refused > c.refused {
						t.Fatalf("client %d sees %v", i, err)
					}
					continue
				}
				i++
			}
			onLoop(t, p.loops[0], func() {
				if ln := p.loops[0].listeners[0]; ln.backoff != 0 || ln.waiting || !isOpen(ln.reserve) {
					t.Errorf("not recovered: %+v", ln)
				}
			})
			onLoop(t, p.loops[0], func() {}) // publishes
			if st := p.Stats(); st.Refused != c.refused || st.AcceptErrors != c.pauses || refused != c.refused {
				t.Errorf("%+v, clients refused %d", st, refused)
			}
			stopNow(p)
			if n := strings.Count(log.String(), "cannot accept"); n != min(1, int(c.pauses)) {
				t.Errorf("logged %d times: %s", n, log.String())
			}
		})
	}
}

func TestReserveIsRegained(t *testing.T) {
	var failed atomic.Bool
	s := realSys()
	s.accept = func(fd int) (int, error) {
		if failed.CompareAndSwap(false, true) {
			return -1, syscall.ENOBUFS
		}
		return accept4(fd)
	}
	p := launch(t, Options{Loops: 1, sys: s}, hooks{data: echo})
	addr, l := listen(t, p), p.loops[0]
	onLoop(t, l, func() { // as if someone had taken it while it was spent
		_ = unix.Close(l.listeners[0].reserve)
		l.listeners[0].reserve = -1
	})
	nc := dial(t, addr)
	_, _ = nc.Write([]byte("x"))
	expectBytes(t, nc, []byte("x"))
	onLoop(t, l, func() {
		if ln := l.listeners[0]; ln.reserve < 0 || !isOpen(ln.reserve) {
			t.Error("the reserve descriptor is gone for ever")
		}
	})
}

func TestStopAccepting(t *testing.T) {
	p := launch(t, Options{}, hooks{data: echo})
	before := descriptors(t)
	addr := listen(t, p)
	nc := dial(t, addr)
	_, _ = nc.Write([]byte("a"))
	expectBytes(t, nc, []byte("a"))
	p.StopAccepting()
	eventually(t, "listeners closed", func() bool { return descriptors(t) == before+2 })
	if late, err := net.Dial("tcp", addr); err == nil {
		_ = late.Close()
		t.Fatal("the port still listens")
	}
	_, _ = nc.Write([]byte("b"))
	expectBytes(t, nc, []byte("b"))
}

// TestRunOutOfDescriptors runs this binary again with a low limit.
func TestRunOutOfDescriptors(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// starvedChild is the server of TestRunOutOfDescriptors and its clients: raw
// sockets made before the limit falls below what the server would need.
func starvedChild() int {
	if err := starve(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func starve() error {
	h := &hooks{data: echo}
	p, err := New(Options{Loops: 2, Logger: slog.New(slog.DiscardHandler),
		Handler: func(l *Loop) Handler { return &testHandler{l: l, h: h} }})
	if err != nil {
		return err
	}
	defer stopNow(p)
	addr, err := p.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	const clients = 40
	var fds []int
	for range clients {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)})
		fds = append(fds, fd)
	}
	limit := unix.Rlimit{Cur: uint64(slices.Max(fds)) + 1 + 10, Max: 4096} // room for ten
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	served, refused := []int{}, 0
	for _, fd := range fds {
		if err := unix.Connect(fd, to); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		ok, err := ping(fd)
		if err != nil {
			return err
		}
		if ok {
			served = append(served, fd)
			continue
		}
		refused++
		_ = unix.Close(fd) // makes room for the next one
	}
	if refused == 0 || len(served) < 10 || p.Stats().AcceptErrors == 0 {
		return fmt.Errorf("%d served, %d refused, %+v", len(served), refused, p.Stats())
	}
	for _, fd := range served {
		if ok, err := ping(fd); !ok || err != nil {
			return fmt.Errorf("a client that was served before: %v, %v", ok, err)
		}
	}
	return nil
}

// ping sends a byte and tells whether it came back.
func ping(fd int) (bool, error) {
	_, _ = unix.SendmsgN(fd, []byte("x"), nil, nil, unix.MSG_NOSIGNAL)
	n, err := unix.Read(fd, make([]byte, 1))
	for err == unix.EINTR {
		n, err = unix.Read(fd, make([]byte, 1))
	}
	switch {
	case n == 1:
		return true, nil
	case err == nil || errors.Is(err, unix.ECONNRESET):
		return false, nil
	}
	return false, fmt.Errorf("neither served nor refused: %w", err)
}
