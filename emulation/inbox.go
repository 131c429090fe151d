package emulation

import (
	"net"
	"sync"
)

// inbox is the listener of connections that were accepted by somebody else.
type inbox struct {
	conns chan net.Conn
	ended chan struct{}
	end   sync.Once
}

func newInbox() *inbox { return &inbox{conns: make(chan net.Conn), ended: make(chan struct{})} }

// put hands c to Accept; false when the listener is closed.
func (b *inbox) put(c net.Conn) bool {
	select {
	case b.conns <- c:
		return true
	case <-b.ended:
		return false
	}
}

// Accept implements net.Listener.
func (b *inbox) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (b *inbox) Close() error {
	b.end.Do(func() { close(b.ended) })
	return nil
}

// Addr implements net.Listener.
func (b *inbox) Addr() net.Addr { return &net.UnixAddr{Name: "emulation"} }
