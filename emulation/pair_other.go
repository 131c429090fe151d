//go:build !linux

package emulation

import (
	"errors"
	"os"
)

// socketpair is for Linux only, as is conn.Server.Adopt.
func socketpair() (*os.File, int, error) {
	return nil, 0, errors.New("emulation: SSE and HTTP streaming need Linux")
}
