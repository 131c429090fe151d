package ktls

import (
	"encoding/binary"
	"net"
)

const (
	headerSize = 5  // of a record: type, version, length
	helloSize  = 11 // of what stands before the random in a record with a ServerHello
	randomSize = 32
)

// Types of records (RFC 8446, 5.1) and of messages in them.
const (
	recordAlert     = 21
	recordHandshake = 22
	recordData      = 23

	messageServerHello = 2
)

// recordConn gives crypto/tls one record at a time, first its header, then its body. crypto/tls would read on otherwise,
// and data that follows the handshake at once would be lost to the kernel.
type recordConn struct {
	net.Conn
	head         []byte // input from before, which comes first
	header       [headerSize]byte
	have         int // bytes of the header that were read
	body         int // bytes of the body that were not
	free         bool
	serverRandom []byte
}

func (c *recordConn) Read(p []byte) (int, error) {
	if c.free {
		return c.Conn.Read(p)
	}
	if c.have < headerSize {
		n, err := c.read(p[:min(len(p), headerSize-c.have)])
		copy(c.header[c.have:], p[:n])
		if c.have += n; c.have == headerSize {
			c.body = int(binary.BigEndian.Uint16(c.header[3:]))
			c.ended()
		}
		return n, err
	}
	n, err := c.read(p[:min(len(p), c.body)])
	c.body -= n
	c.ended()
	return n, err
}

func (c *recordConn) ended() {
	if c.body == 0 {
		c.have = 0
	}
}

func (c *recordConn) read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}

// whole reports whether all input that left the socket was whole records that crypto/tls has taken.
func (c *recordConn) whole() bool { return c.have == 0 && len(c.head) == 0 }

// Write looks for the server random, which the keys of TLS 1.2 need and crypto/tls does not tell.
func (c *recordConn) Write(p []byte) (int, error) {
	if c.serverRandom == nil && len(p) >= helloSize+randomSize && p[0] == recordHandshake && p[headerSize] == messageServerHello {
		c.serverRandom = append(c.serverRandom, p[helloSize:helloSize+randomSize]...)
	}
	return c.Conn.Write(p)
}
