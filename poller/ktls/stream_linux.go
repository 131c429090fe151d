package ktls

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

const controlRoom = 1 << 10 // bytes; an alert takes two

// Stream makes of c, a connection whose records the kernel carries, one that reads to the end of the TLS stream and
// ends it with close_notify, for code that knows nothing of kernel TLS.
func Stream(c net.Conn) net.Conn {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return c
	}
	return &stream{Conn: c, raw: raw}
}

type stream struct {
	net.Conn
	raw  syscall.RawConn
	rest []byte // data that came where a record of another type was expected
	end  error  // what ended the input; its record is read once only
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		if len(s.rest) > 0 {
			n := copy(p, s.rest)
			s.rest = s.rest[n:]
			return n, nil
		}
		if s.end != nil {
			return 0, s.end
		}
		n, err := s.Conn.Read(p)
		if !errors.Is(err, unix.EIO) {
			return n, err
		}
		if err := s.raw.Control(func(fd uintptr) {
			b := make([]byte, controlRoom)
			n, s.end = Control(int(fd), b)
			s.rest = b[:n]
		}); err != nil {
			return 0, err
		}
	}
}

// ReadFrom hides that of TCP, and with it splice(2), which knows records of data only.
func (s *stream) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{s.Conn}, r)
}

// CloseWrite sends close_notify as far as the socket takes it, and ends the output.
func (s *stream) CloseWrite() error {
	_ = s.raw.Control(func(fd uintptr) { _ = Alert(int(fd), CloseNotify) })
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (s *stream) Close() error {
	_ = s.CloseWrite()
	return s.Conn.Close()
}
