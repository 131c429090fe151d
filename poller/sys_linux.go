//go:build linux && !portable

package poller

import (
	"crypto/tls"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"roost/poller/ktls"
)

// sys holds the system calls that can fail in ways a test must be able to
// produce: EAGAIN, short writes, EMFILE, ECONNRESET.
type sys struct {
	accept func(fd int) (int, error)
	read   func(fd int, b []byte) (int, syscall.Errno)
	write  func(fd int, b []byte) (int, syscall.Errno)
	writev func(fd int, iov []unix.Iovec) (int, syscall.Errno)
	enter  func(r *ring, submit, wait int) (int, syscall.Errno)
	// control and alert deal with TLS records that are no data.
	control func(fd int, b []byte) (int, error)
	alert   func(fd int, a tls.AlertError) error
	// always makes every read and write part of a batch, however few they are.
	always bool
}

func realSys() *sys {
	return &sys{accept: accept4, read: rawRead, write: rawWrite, writev: rawWritev, enter: ringEnter,
		control: ktls.Control, alert: ktls.Alert}
}

func accept4(fd int) (int, error) {
	// The peer's address is not asked for: getpeername gives it to those who want it.
	n, _, errno := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(fd), 0, 0, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// The calls are raw: the sockets never block, and telling the scheduler costs
// about a tenth of the call.

func rawRead(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

func rawWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

func rawWritev(fd int, iov []unix.Iovec) (int, syscall.Errno) {
	var h unix.Msghdr
	h.Iov = unsafe.SliceData(iov)
	h.SetIovlen(len(iov))
	n, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return int(n), errno
}
