//go:build unix && !linux

package broker

import (
	"os"
	"syscall"
)

// syncDisk has the system write out all that it holds back.
func syncDisk(*os.File) error {
	syscall.Sync()
	return nil
}
