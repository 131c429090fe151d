package broker

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncDisk has the system write out all that it holds back of the file system a file is in.
func syncDisk(f *os.File) error { return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd()))) }
