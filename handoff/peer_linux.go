package handoff

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// checkPeer refuses processes of other users. It returns the id of the other process.
func checkPeer(c *net.UnixConn) (pid int, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("handoff: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := rc.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, fmt.Errorf("handoff: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("handoff: who the other process is: %w", credErr)
	}
	if int(cred.Uid) != os.Geteuid() {
		return 0, fmt.Errorf("handoff: process %d belongs to user %d, this one to %d", cred.Pid, cred.Uid, os.Geteuid())
	}
	return int(cred.Pid), nil
}
