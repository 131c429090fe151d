//go:build linux && !portable

package poller

import (
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	halfClose      = true
	canBlock       = true
	flatGoroutines = true
)

// checkLoop holds what must be true whenever a handler is called between two
// passes: nothing is in the ring, as descriptors can change hands.
func checkLoop(t testing.TB, l *Loop) {
	if r := l.flusher.ring; !l.inPass && r != nil && (r.n != 0 || len(l.flusher.conns) != 0) {
		t.Errorf("%d entries stay in the ring between two passes", r.n)
	}
}

// faults makes every n-th call of a kind fail. After a pretended EAGAIN or short
// result the descriptor is armed anew, as the kernel would tell of it again.
type faults struct {
	p *Poller

	every      int64
	write      syscall.Errno // of write and writev; 0 with short
	short      bool          // write one byte only
	read       syscall.Errno
	readByte   bool          // read one byte only
	result     syscall.Errno // of a ring's entry
	shortEntry bool
	enter      syscall.Errno // of io_uring_enter, nothing done
	halfEnter  bool          // submit one entry only, then fail for good
	enterOnce  int64         // fail for good at this call

	calls atomic.Int64
	hits  atomic.Int64
}

func (f *faults) hit() bool {
	if f.calls.Add(1)%f.every != 0 {
		return false
	}
	f.hits.Add(1)
	return true
}

func (f *faults) rearm(fd int) {
	if f.p == nil {
		return // the ring's own probe
	}
	ev := syscall.EpollEvent{Fd: int32(fd), Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT |
		unix.EPOLLERR | unix.EPOLLHUP | unix.EPOLLRDHUP | unix.EPOLLET}
	for _, l := range f.p.loops {
		_ = syscall.EpollCtl(l.engine.epfd, syscall.EPOLL_CTL_MOD, fd, &ev)
	}
}

func (f *faults) sys() *sys {
	s := realSys()
	s.write = func(fd int, b []byte) (int, syscall.Errno) {
		if (f.write != 0 || f.short) && f.hit() {
			if f.rearm(fd); f.short {
				return rawWrite(fd, b[:1])
			}
			return -1, f.write
		}
		return rawWrite(fd, b)
	}
	s.writev = func(fd int, iov []unix.Iovec) (int, syscall.Errno) {
		if (f.write != 0 || f.short) && f.hit() {
			if f.rearm(fd); f.short {
				return rawWritev(fd, []unix.Iovec{{Base: iov[0].Base, Len: 1}})
			}
			return -1, f.write
		}
		return rawWritev(fd, iov)
	}
	s.read = func(fd int, b []byte) (int, syscall.Errno) {
		if (f.read != 0 || f.readByte) && f.hit() {
			if f.rearm(fd); f.readByte {
				return rawRead(fd, b[:1])
			}
			return -1, f.read
		}
		return rawRead(fd, b)
	}
	if f.result != 0 || f.shortEntry || f.enter != 0 || f.halfEnter || f.enterOnce != 0 {
		s.enter, s.always = f.ringEnter, true
	}
	return s
}

func (f *faults) ringEnter(r *ring, submit, wait int) (int, syscall.Errno) {
	if f.p == nil {
		return ringEnter(r, submit, wait)
	}
	if f.enterOnce != 0 {
		if f.calls.Add(1) != f.enterOnce {
			return ringEnter(r, submit, wait)
		}
		f.hits.Add(1)
		if f.halfEnter {
			_, _ = ringEnter(r, (submit+1)/2, (submit+1)/2)
		}
		return -1, syscall.EBADF
	}
	if f.enter != 0 {
		if f.hit() {
			return -1, f.enter
		}
		return ringEnter(r, max(1, submit/2), 1) // several calls per batch
	}
	changed := map[uint64]bool{}
	for i := range uint32(submit) {
		e := &r.sqes[(*r.sqTail-uint32(submit)+i)&r.sqMask]
		switch {
		case !f.hit():
			continue
		case f.shortEntry && e.opcode == opSend:
			e.len = 1
		default:
			e.opcode = 0 // IORING_OP_NOP
			changed[e.userData] = true
		}
		f.rearm(int(e.fd))
	}
	n, errno := ringEnter(r, submit, wait)
	for h := *r.cqHead; h != atomic.LoadUint32(r.cqTail); h++ {
		if c := &r.cqes[h&r.cqMask]; changed[c.userData] {
			c.res = -int32(f.result)
		}
	}
	return n, errno
}

// met counts the faults of each variant over all tests; TestMain wants some of each.
var met = map[string]int64{}

// eachVariant runs test with and without io_uring and with each fault that a
// correct loop hides from its users.
func eachVariant(t *testing.T, test func(t *testing.T, o Options, prepare func(*Poller))) {
	variants := []struct {
		name  string
		plain bool
		f     faults
	}{
		{"io_uring", false, faults{}},
		{"plain", true, faults{}},
		{"write EAGAIN", true, faults{every: 3, write: syscall.EAGAIN}},
		{"write EINTR", true, faults{every: 2, write: syscall.EINTR}},
		{"write ENOBUFS", true, faults{every: 3, write: syscall.ENOBUFS}},
		{"write 1 byte", true, faults{every: 2, short: true}},
		{"read EAGAIN", true, faults{every: 2, read: syscall.EAGAIN}},
		{"read EINTR", true, faults{every: 2, read: syscall.EINTR}},
		{"read 1 byte", true, faults{every: 2, readByte: true}},
		{"entry EAGAIN", false, faults{every: 3, result: syscall.EAGAIN}},
		{"entry ENOMEM", false, faults{every: 3, result: syscall.ENOMEM}},
		{"entry 1 byte", false, faults{every: 2, shortEntry: true, result: syscall.EAGAIN}},
		{"enter EINTR", false, faults{every: 2, enter: syscall.EINTR}},
		{"ring lost at once", false, faults{enterOnce: 1}},
		{"ring lost half-way", false, faults{enterOnce: 1, halfEnter: true}},
	}
	for i := range variants {
		v := &variants[i]
		t.Run(v.name, func(t *testing.T) {
			o := Options{NoIOUring: v.plain, sys: v.f.sys()}
			test(t, o, func(p *Poller) {
				if !v.plain && !p.IOUring() {
					t.Skip("io_uring is not allowed here")
				}
				v.f.p = p
			})
			met[v.name] += v.f.hits.Load()
		})
	}
}
