package emulation

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// socketpair returns one end as a file that reads and writes with deadlines, and the
// descriptor of the other.
func socketpair() (ours *os.File, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("emulation: socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socketpair"), fds[1], nil
}
