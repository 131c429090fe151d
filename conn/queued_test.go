package conn

import (
	"testing"

	"roost/proto/ws"
)

// What a client does not read is seen as waiting, and as gone with the client.
func TestQueued(t *testing.T) {
	const size = 8 << 20
	h := &hooks{message: func(c *Conn, op ws.Opcode, _ []byte) { _ = c.Send(op, make([]byte, size)) }}
	s, addr := one(t, true, h, func(o *Options) {
		o.HardLimit, o.SoftLimit, o.Poller.SendBuffer = 64<<20, 64<<20, 64<<10
	})
	connect(t, addr, "/") // is served, and takes nothing of what waits for others
	if bytes, conns := s.Queued(); bytes != 0 || conns != 0 {
		t.Errorf("%d bytes wait for %d clients before anything was sent", bytes, conns)
	}
	slow := connect(t, addr, "/")
	slow.raw(text("x"))
	eventually(t, "output waits", func() bool {
		bytes, conns := s.Queued()
		return conns == 1 && bytes > 0 && bytes < size
	})
	_ = slow.Close()
	eventually(t, "nothing waits", func() bool {
		bytes, conns := s.Queued()
		return bytes == 0 && conns == 0
	})
}
