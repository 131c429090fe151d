//go:build linux && !portable

package conn

import (
	"net"
	"os"

	"golang.org/x/sys/unix"

	"roost/poller/ktls"
)

// socketpair returns one end as a connection, and the descriptor of the other.
func socketpair() (outer *net.UnixConn, inner int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socketpair", err)
	}
	c, err := ktls.Conn(fds[1])
	if err != nil {
		_ = unix.Close(fds[0])
		return nil, -1, err
	}
	return c.(*net.UnixConn), fds[0], nil
}
