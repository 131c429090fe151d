package broker

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes the lock that the process holds on its data, or fails at once.
func lockFile(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped))
}

// syncDisk does nothing: there is no such call for all files of a file system.
func syncDisk(*os.File) error { return nil }
