package conn

import (
	"net"
	"sync"
)

// Listener accepts the connections that Options.Hand takes over, so that an http.Server can
// answer all that is no WebSocket on the same address:
//
//	pages := conn.NewListener()
//	go http.Serve(pages, mux)
//	server, err := conn.New(conn.Options{Routes: routes, Hand: pages.Hand, HandPaths: []string{"/"}})
//
// Its methods may be called by any goroutine.
type Listener struct {
	conns chan net.Conn
	ended chan struct{}
	end   sync.Once
}

// NewListener returns an open listener.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), ended: make(chan struct{})}
}

// Hand gives nc to Accept, and closes it when the listener is closed. It blocks until then.
func (l *Listener) Hand(nc net.Conn) {
	if !l.Offer(nc) {
		_ = nc.Close()
	}
}

// Offer is Hand that leaves nc to the caller when the listener is closed, and reports false.
func (l *Listener) Offer(nc net.Conn) bool {
	select {
	case l.conns <- nc:
		return true
	case <-l.ended:
		return false
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.end.Do(func() { close(l.ended) })
	return nil
}

// Addr implements net.Listener: there is none of its own.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: "handed", Net: "unix"} }
