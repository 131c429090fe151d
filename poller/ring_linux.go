//go:build linux && !portable

package poller

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The part of the io_uring interface that batched sends need
// (linux/include/uapi/linux/io_uring.h).
const (
	opSendmsg = 9
	opSend    = 26
	opRecv    = 27

	setupSubmitAll  = 1 << 7 // one failed entry does not end the batch
	featSingleMmap  = 1 << 0
	enterGetEvents  = 1 << 0
	offSQRing       = 0
	offSQEs         = 0x10000000
	ringSendFlags   = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	sqeSize         = 64
	ringProbeLength = 8
	ringTries       = 1 << 10 // calls per batch until a ring that makes no progress is given up
)

type sqe struct {
	opcode   uint8
	flags    uint8
	ioprio   uint16
	fd       int32
	off      uint64
	addr     uint64
	len      uint32
	msgFlags uint32
	userData uint64
	_        [3]uint64
}

type cqe struct {
	userData uint64
	res      int32
	flags    uint32
}

type sqOffsets struct {
	head, tail, ringMask, ringEntries, flags, dropped, array, resv1 uint32
	userAddr                                                        uint64
}

type cqOffsets struct {
	head, tail, ringMask, ringEntries, overflow, cqes, flags, resv1 uint32
	userAddr                                                        uint64
}

type ringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFd uint32
	resv                                                                   [3]uint32
	sqOff                                                                  sqOffsets
	cqOff                                                                  cqOffsets
}

// ring is one io_uring used for batches of sends: fill, submit, reap all. Between
// two batches nothing is in flight, so neither descriptors nor buffers can be
// reused under the kernel's hands. One goroutine at a time.
type ring struct {
	fd      int
	mem     []byte // both rings
	sqeMem  []byte
	sqes    []sqe
	cqes    []cqe
	sqTail  *uint32
	cqHead  *uint32
	cqTail  *uint32
	sqMask  uint32
	cqMask  uint32
	n       int // entries filled since the last submit
	results []int32
	enter   func(r *ring, submit, wait int) (int, syscall.Errno)
}

// newRing makes a ring of the given number of entries, a power of two, and proves
// with a real send that it works here: containers often forbid it.
func newRing(entries uint32, enter func(*ring, int, int) (int, syscall.Errno)) (*ring, error) {
	var p ringParams
	p.flags = setupSubmitAll
	fd, _, errno := syscall.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("poller: io_uring_setup: %w", errno)
	}
	r := &ring{fd: int(fd), results: make([]int32, entries), enter: enter}
	syscall.CloseOnExec(r.fd)
	if err := r.mmap(&p); err != nil {
		r.close()
		return nil, err
	}
	if err := r.probe(); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *ring) mmap(p *ringParams) error {
	if p.features&featSingleMmap == 0 {
		return errors.New("poller: io_uring of this kernel is too old (no single mmap, before 5.4)")
	}
	size := max(int(p.sqOff.array+p.sqEntries*4), int(p.cqOff.cqes+p.cqEntries*uint32(unsafe.Sizeof(cqe{}))))
	var err error
	r.mem, err = unix.Mmap(r.fd, offSQRing, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("poller: map io_uring: %w", err)
	}
	r.sqeMem, err = unix.Mmap(r.fd, offSQEs, int(p.sqEntries)*sqeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("poller: map io_uring entries: %w", err)
	}
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.mem[off])) }
	r.sqTail, r.cqHead, r.cqTail = at(p.sqOff.tail), at(p.cqOff.head), at(p.cqOff.tail)
	r.sqMask, r.cqMask = *at(p.sqOff.ringMask), *at(p.cqOff.ringMask)
	r.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&r.sqeMem[0])), p.sqEntries)
	r.cqes = unsafe.Slice((*cqe)(unsafe.Pointer(&r.mem[p.cqOff.cqes])), p.cqEntries)
	array := unsafe.Slice(at(p.sqOff.array), p.sqEntries)
	for i := range array {
		array[i] = uint32(i) // entry i is always sent from place i
	}
	return nil
}

func (r *ring) probe() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("poller: probe io_uring: %w", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	want := make([]byte, ringProbeLength)
	r.send(pair[0], want, unix.MSG_WAITALL)
	res, err := r.submit()
	if err != nil {
		return err
	}
	if res[0] != ringProbeLength {
		return fmt.Errorf("poller: io_uring SEND is refused here: %w", syscall.Errno(-res[0]))
	}
	return nil
}

func (r *ring) full() bool { return r.n == len(r.sqes) }

// next clears and returns the next free entry; its result is results[index] after submit.
func (r *ring) next(op uint8, fd int) *sqe {
	e := &r.sqes[(*r.sqTail+uint32(r.n))&r.sqMask]
	*e = sqe{opcode: op, fd: int32(fd), msgFlags: ringSendFlags, userData: uint64(r.n)}
	r.n++
	return e
}

// send adds one send(2). The caller keeps b alive until submit returns.
func (r *ring) send(fd int, b []byte, flags uint32) {
	e := r.next(opSend, fd)
	e.msgFlags |= flags
	e.addr = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	e.len = uint32(len(b))
}

// recv adds one recv(2). The caller keeps b alive until submit returns.
func (r *ring) recv(fd int, b []byte) {
	e := r.next(opRecv, fd)
	e.addr = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	e.len = uint32(len(b))
	e.msgFlags = unix.MSG_DONTWAIT
}

// sendmsg adds one sendmsg(2). The caller keeps h and what it points to alive and
// in place until submit returns.
func (r *ring) sendmsg(fd int, h *unix.Msghdr, flags uint32) {
	e := r.next(opSendmsg, fd)
	e.msgFlags |= flags
	e.addr = uint64(uintptr(unsafe.Pointer(h)))
	e.len = 1
}

// submit sends all that was added and returns a result for each, in order: the
// bytes written or a negative errno. The slice is valid until the next submit.
// After an error the ring is of no use any more and the results say which
// entries were done; those that were not are -ECANCELED.
func (r *ring) submit() ([]int32, error) {
	n := r.n
	r.n = 0
	if n == 0 {
		return nil, nil
	}
	for i := range n {
		r.results[i] = -int32(unix.ECANCELED)
	}
	atomic.StoreUint32(r.sqTail, *r.sqTail+uint32(n))
	left, reaped, tries := n, 0, 0
	for reaped < n {
		done, errno := r.enter(r, left, n-reaped)
		tries++
		switch {
		case errno == 0:
			left -= done
		case (errno == unix.EINTR || errno == unix.EAGAIN || errno == unix.EBUSY) && tries < ringTries:
		default:
			r.reap()
			return r.results[:n], fmt.Errorf("poller: io_uring_enter: %w", errno)
		}
		reaped += r.reap()
	}
	return r.results[:n], nil
}

// ringEnter submits and waits. Its sends never wait, but they are many: the
// scheduler is told.
func ringEnter(r *ring, submit, wait int) (int, syscall.Errno) {
	n, _, errno := syscall.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(submit), uintptr(wait), enterGetEvents, 0, 0)
	return int(n), errno
}

func (r *ring) reap() int {
	head, tail := *r.cqHead, atomic.LoadUint32(r.cqTail)
	n := int(tail - head)
	for ; head != tail; head++ {
		c := &r.cqes[head&r.cqMask]
		r.results[c.userData] = c.res
	}
	atomic.StoreUint32(r.cqHead, head)
	return n
}

func (r *ring) close() {
	if r.sqeMem != nil {
		_ = unix.Munmap(r.sqeMem)
	}
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
	}
	_ = unix.Close(r.fd)
}
