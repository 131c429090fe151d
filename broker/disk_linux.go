package broker

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncDisk has the system write out all that it holds back of the file system a file is in.
func syncDisk(f *os.File) error { return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd()))) }

// diskRoom is how many bytes may be written to the file system of a folder.
func diskRoom(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}
