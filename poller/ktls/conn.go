package ktls

import (
	"fmt"
	"net"
	"os"
)

// Conn makes a net.Conn, as [Handshaker.Take] wants it, of a descriptor, which is taken over whatever the result.
func Conn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "")
	if f == nil {
		return nil, fmt.Errorf("ktls: %d is no descriptor", fd)
	}
	c, err := net.FileConn(f) // a duplicate
	_ = f.Close()
	if err != nil {
		return nil, fmt.Errorf("ktls: descriptor %d: %w", fd, err)
	}
	return c, nil
}
