package conn

import (
	"bytes"
	"net"
	"net/http"
	"strings"

	"roost/poller/ktls"
	"roost/proto/ws"
)

var errHand = &ws.HandshakeError{Status: http.StatusNotImplemented, Label: "hand",
	Detail: "the server cannot answer this request here"}

// foreign tells whether a request, whose head may be incomplete, is for Options.Hand.
func (h *loop) foreign(head []byte) bool {
	o := &h.server.opts
	if len(o.HandPaths) == 0 {
		return false
	}
	line, _, whole := bytes.Cut(head, []byte{'\n'})
	_, target, _ := bytes.Cut(line, []byte{' '})
	target, _, blank := bytes.Cut(target, []byte{' '})
	if !whole || !blank {
		return false
	}
	path, _, _ := bytes.Cut(target, []byte{'?'})
	if h.server.byPath[string(path)] != nil {
		return false
	}
	for _, p := range o.HandPaths {
		if strings.HasPrefix(string(path), p) {
			return true
		}
	}
	return false
}

// hand gives the connection and what was read of it to Options.Hand.
func (h *loop) hand(c *Conn, head []byte) {
	remote := c.RemoteAddr()
	d, err := h.loop.Detach(&c.pc)
	if err != nil {
		h.server.opts.Logger.Debug("a connection was not handed over", "error", err)
		h.refuse(c, nil, ReasonHandshake, errHand)
		return
	}
	head = bytes.Clone(head)
	go func() {
		nc, err := ktls.Conn(d.FD)
		if err != nil {
			h.server.opts.Logger.Error("a connection was not handed over", "error", err)
			return
		}
		if d.TLS {
			nc = ktls.Stream(nc)
		}
		h.server.opts.Hand(&handed{Conn: nc, head: head, remote: net.TCPAddrFromAddrPort(remote)})
	}()
}

// handed is a connection that left its loop.
type handed struct {
	net.Conn
	head   []byte // comes first
	remote net.Addr
}

func (c *handed) Read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	if c.head = c.head[n:]; len(c.head) == 0 {
		c.head = nil
	}
	return n, nil
}

func (c *handed) RemoteAddr() net.Addr { return c.remote }

// CloseWrite ends the output, as net/http does before it closes.
func (c *handed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
