// Package client is the small WebSocket client of the tests and of the stall scenario: blocking,
// whole frames, every reply looked at. The load itself is made by roost-load.
package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gobwas/ws"
)

// Client is one connection. One goroutine may write and another read.
type Client struct {
	conn   net.Conn
	reader *bufio.Reader
}

// Dial connects to path at HOST:PORT and upgrades, within ten seconds.
func Dial(address, path string) (*Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, reader, _, err := ws.Dial(ctx, "ws://"+address+path)
	if err != nil {
		return nil, fmt.Errorf("client: dial %s: %w", path, err)
	}
	if reader == nil {
		reader = bufio.NewReaderSize(conn, 4096)
	}
	return &Client{conn: conn, reader: reader}, nil
}

// Close cuts the connection, without a closing handshake.
func (c *Client) Close() error { return c.conn.Close() }

// Raw is the connection below, for tests that send a frame in pieces.
func (c *Client) Raw() net.Conn { return c.conn }

// SetDeadline bounds everything that follows.
func (c *Client) SetDeadline(t time.Time) { _ = c.conn.SetDeadline(t) }

// Send writes one masked, unfragmented frame.
func (c *Client) Send(opcode ws.OpCode, payload []byte) error {
	frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewFrame(opcode, true, payload)))
	if err != nil {
		return err
	}
	_, err = c.conn.Write(frame)
	return err
}

// Receive reads one frame, the payload into buffer where it fits, and answers pings on the way.
func (c *Client) Receive(buffer []byte) (ws.OpCode, []byte, error) {
	for {
		header, err := ws.ReadHeader(c.reader)
		if err != nil {
			return 0, nil, err
		}
		if header.Masked || !header.Fin || header.Rsv != 0 {
			return 0, nil, fmt.Errorf("client: not a whole, unmasked, plain frame: %+v", header)
		}
		if int64(cap(buffer)) < header.Length {
			buffer = make([]byte, header.Length)
		}
		buffer = buffer[:header.Length]
		if _, err := io.ReadFull(c.reader, buffer); err != nil {
			return 0, nil, err
		}
		if header.OpCode != ws.OpPing {
			return header.OpCode, buffer, nil
		}
		if err := c.Send(ws.OpPong, buffer); err != nil {
			return 0, nil, err
		}
	}
}

// Settle waits until the server has answered a ping: from then on it reads this connection, and
// has entered it wherever it keeps its connections.
func (c *Client) Settle() error {
	if err := c.Send(ws.OpPing, []byte("settle")); err != nil {
		return err
	}
	opcode, payload, err := c.Receive(nil)
	if err != nil {
		return err
	}
	if opcode != ws.OpPong || string(payload) != "settle" {
		return errors.New("client: a ping was not answered with its pong")
	}
	return nil
}
