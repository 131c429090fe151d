package conn

import (
	"slices"
	"testing"

	"roost/proto/ws"
)

// Parked connections hold no worker; their messages and their end keep their order, and
// the rest of the message comes first.
func TestPark(t *testing.T) {
	const crowd = 50
	var j journal
	parked, gone := make(chan *Conn, crowd), make(chan *Conn, crowd)
	s, addr := one(t, false, j.record(hooks{message: func(c *Conn, op ws.Opcode, p []byte) {
		switch string(p) {
		case "park":
			c.Park(op, []byte("rest"), func() { gone <- c })
			parked <- c
		case "brief":
			c.Park(op, []byte("remains"), nil)
			c.Unpark()
		case "panic":
			c.Park(op, nil, nil)
			panic("parked")
		default:
			echo(c, op, p)
		}
	}}), func(o *Options) { o.Workers = 2 })
	var clients []*client
	for range crowd {
		c := connect(t, addr, "/")
		c.raw(text("park") + text("behind"))
		receive(t, parked)
		clients = append(clients, c)
	}
	other := connect(t, addr, "/")
	other.raw(text("brief") + text("hello"))
	other.expect(ws.OpText, "remains")
	other.expect(ws.OpText, "hello")
	for _, c := range clients[1:] {
		_ = c.Close()
	}
	for range crowd - 1 {
		receive(t, gone).Unpark()
	}
	eventually(t, "the others are closed", func() bool { return s.Stats().Open == 2 })
	other.raw(text("panic"))
	other.expectClose(ws.CloseInternal)
	_ = other.Close()
	eventually(t, "panicked ones are closed, too", func() bool {
		return slices.ContainsFunc(j.all(), func(l string) bool { return l == "close panic 1011" })
	})
	clients[0].raw(closing(ws.CloseNormal))
	receive(t, gone).Unpark()
	clients[0].expect(ws.OpText, "rest")
	clients[0].expect(ws.OpText, "behind")
	clients[0].expectClose(ws.CloseNormal)
	eventually(t, "no turn is parked", func() bool { return s.parked.Load() == 0 })
}
