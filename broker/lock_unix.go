//go:build unix

package broker

import (
	"os"
	"syscall"
)

// lockFile takes the lock that the process holds on its data, or fails at once.
func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
