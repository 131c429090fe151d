//go:build linux

package conn

import (
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"roost/internal/proctest"
	"roost/proto/ws"
)

// TestConnSize pins the one object that a connection at rest is. 256 is a size class
// of the allocator: the next one is 288, 32 MB more for a million connections.
func TestConnSize(t *testing.T) {
	if n := unsafe.Sizeof(Conn{}); n != 256 {
		t.Errorf("a Conn has %d bytes, want 256", n)
	}
}

// rawFD is a client that costs no memory of this process but its number.
type rawFD int

func (fd rawFD) Read(p []byte) (n int, err error) {
	for {
		n, err = unix.Read(int(fd), p)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// rawCrowd connects n upgraded clients.
func rawCrowd(t testing.TB, addr string, n int) []rawFD {
	t.Helper()
	ap := netip.MustParseAddrPort(addr)
	to := &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	req, answer := []byte(upgradeRequest("/")), make([]byte, 129) // of the 101 without extensions
	fds := make([]rawFD, 0, n)
	t.Cleanup(func() { closeCrowd(fds) })
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, rawFD(fd))
		if err := unix.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60})
		if _, err := unix.Write(fd, req); err != nil {
			t.Fatal(err)
		}
	}
	for _, fd := range fds {
		for got := 0; got < len(answer); {
			k, err := fd.Read(answer[got:])
			if k <= 0 {
				t.Fatalf("after %d bytes: %v", got, err)
			}
			got += k
		}
		if string(answer[len(answer)-4:]) != "\r\n\r\n" {
			t.Fatalf("the upgrade is answered by %q", answer)
		}
	}
	return fds
}

func closeCrowd(fds []rawFD) {
	for i, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(int(fd))
			fds[i] = -1
		}
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestIdleCost measures the heap of idle, upgraded connections.
func TestIdleCost(t *testing.T) {
	const n, most = 5000, 400 // bytes each
	bothWays(t, func(t *testing.T, inline bool) {
		s, addr := one(t, inline, &hooks{message: echo}, idleLong)
		rawCrowd(t, addr, 100) // what is grown once: pools, buffers, tables
		noTurns(t, s)
		before := proctest.LiveHeap()
		rawCrowd(t, addr, n)
		noTurns(t, s)
		got := (proctest.LiveHeap() - before) / n
		t.Logf("%d bytes of heap per idle connection", got)
		if got > most {
			t.Errorf("%d bytes of heap per idle connection, want up to %d", got, most)
		}
		runtime.KeepAlive(s)
	})
}

// idleLong has no ping within the test.
func idleLong(o *Options) { o.PingInterval = time.Hour }

// noTurns waits until nothing is kept of what connections needed to be busy.
func noTurns(t *testing.T, s *Server) {
	t.Helper()
	for _, h := range s.loops {
		eventually(t, "no turns", func() bool {
			left := make(chan int, 1)
			h.loop.Post(func() { left <- len(h.turns) })
			return receive(t, left) == 0
		})
	}
}

// TestNoGoroutines: connections have none of their own.
func TestNoGoroutines(t *testing.T) {
	const n, slack = 2000, 8
	_, addr := one(t, true, &hooks{message: echo}, idleLong)
	before := runtime.NumGoroutine()
	rawCrowd(t, addr, n)
	if got := runtime.NumGoroutine(); got > before+slack {
		t.Errorf("%d goroutines with %d connections, %d without", got, n, before)
	}
}

// TestNoLeaks: 2,000 connections that came, spoke and went leave nothing behind.
func TestNoLeaks(t *testing.T) {
	const n, rounds = 1000, 2
	const slackGoroutines, slackBytes = 16, 512 << 10
	bothWays(t, func(t *testing.T, inline bool) {
		s, addr := one(t, inline, &hooks{message: echo}, idleLong, func(o *Options) { o.Workers = 4 })
		visit := func() {
			fds := rawCrowd(t, addr, n)
			for i, fd := range fds {
				_, _ = unix.Write(int(fd), masked(ws.OpText, []byte("hello")))
				if i%2 == 0 { // a whole answer; the others go with it unread, a few half-way
					_, _ = readFrame(fd)
				} else if i%5 == 0 {
					_, _ = unix.Write(int(fd), []byte{0x81, 0xfe, 0x10})
				}
			}
			closeCrowd(fds)
			eventually(t, "all gone", func() bool {
				st := s.Stats()
				return st.Poller.Open == 0 && st.Open == 0 && st.WorkersBusy == 0
			})
			noTurns(t, s)
			onEveryLoop(t, s) // descriptors are closed in the pass after
			onEveryLoop(t, s)
		}
		visit()
		fds, goroutines, bytes := openFDs(t), runtime.NumGoroutine(), proctest.LiveHeap()
		for range rounds {
			visit()
		}
		if got := openFDs(t); got > fds {
			t.Errorf("%d descriptors are open, %d were before", got, fds)
		}
		if got := runtime.NumGoroutine(); got > goroutines+slackGoroutines {
			t.Errorf("%d goroutines, %d were before", got, goroutines)
		}
		if got := proctest.LiveHeap(); got > bytes+slackBytes {
			t.Errorf("%d bytes of heap, %d were before", got, bytes)
		}
		st := s.Stats()
		var closed uint64
		for _, k := range st.Closed {
			closed += k
		}
		if st.Upgrades != n*(rounds+1) || closed != st.Upgrades || st.Poller.Opened != st.Poller.Closed {
			t.Errorf("%d upgrades, %d closed, %d sockets opened, %d closed", st.Upgrades, closed, st.Poller.Opened, st.Poller.Closed)
		}
	})
}
