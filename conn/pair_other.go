//go:build !linux || portable

package conn

import (
	"errors"
	"net"
)

func socketpair() (*net.UnixConn, int, error) {
	return nil, -1, errors.New("conn: clients within the process need Linux")
}
