//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/protocol"

	"roost/proto/ws"
)

// raw is a client that sends frames as they are.
type raw struct {
	conn   net.Conn
	in     *bufio.Reader
	binary bool
	op     ws.Opcode         // of the message read last
	waits  []*protocol.Reply // read, but not returned yet
}

// closed is the close frame that ended a connection.
type closed struct {
	code   uint16
	reason string
}

func (c *closed) Error() string { return fmt.Sprintf("closed with %d %q", c.code, c.reason) }

// refused is an answer to an upgrade other than 101.
type refused struct{ status, retryAfter int }

func (r *refused) Error() string { return fmt.Sprintf("upgrade refused with %d", r.status) }

var maskingKey = [4]byte{0x12, 0x34, 0x56, 0x78}

// dial opens a WebSocket; header lines come without CRLF.
func dial(address string, binary bool, header ...string) (*raw, error) {
	return dialAt(address, "/connection/websocket", binary, header...)
}

// dialAt is dial with a path and query.
func dialAt(address, target string, binary bool, header ...string) (*raw, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	lines := append([]string{"GET " + target + " HTTP/1.1", "Host: " + address, "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, header...)
	if binary {
		lines = append(lines, "Sec-WebSocket-Protocol: centrifuge-protobuf")
	}
	_, _ = io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n") // reading says why it failed
	r := &raw{conn: conn, in: bufio.NewReader(conn), binary: binary}
	res, err := http.ReadResponse(r.in, nil)
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		after, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		err = &refused{res.StatusCode, after}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return r, nil
}

// rawClient is one that ends with the test.
func (g *gateway) rawClient(t testing.TB, binary bool) *raw {
	t.Helper()
	r, err := dial(g.address, binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.conn.Close() })
	return r
}

// write sends one message; errors show when the answer is read.
func (r *raw) write(payload []byte) {
	op := ws.OpText
	if r.binary {
		op = ws.OpBinary
	}
	_, _ = r.conn.Write(ws.AppendMaskedFrame(nil, op, maskingKey, payload))
}

// frame puts commands into one message, as the client's encoding has it.
func frame(binaryEncoding bool, cmds ...*protocol.Command) []byte {
	var out []byte
	for i, c := range cmds {
		if !binaryEncoding {
			b, err := protocol.NewJSONCommandEncoder().Encode(c)
			if err != nil {
				panic(err) // tests encode what can be encoded
			}
			if i > 0 {
				out = append(out, '\n')
			}
			out = append(out, bytes.TrimRight(b, "\n")...)
			continue
		}
		b, err := c.MarshalCF()
		if err != nil {
			panic(err)
		}
		out = append(binary.AppendUvarint(out, uint64(len(b))), b...)
	}
	return out
}

func (r *raw) send(cmds ...*protocol.Command) { r.write(frame(r.binary, cmds...)) }

// readFrame reads a WebSocket frame; a close frame is an error of its own.
func (r *raw) readFrame() ([]byte, error) {
	var head [10]byte
	if _, err := io.ReadFull(r.in, head[:2]); err != nil {
		return nil, err
	}
	size := uint64(head[1])
	if wide := map[uint64]int{126: 2, 127: 8}[size]; wide > 0 {
		clear(head[2:])
		if _, err := io.ReadFull(r.in, head[10-wide:]); err != nil {
			return nil, err
		}
		size = binary.BigEndian.Uint64(head[2:])
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(r.in, payload); err != nil {
		return nil, err
	}
	switch ws.Opcode(head[0] & 0x0f) {
	case ws.OpClose:
		if len(payload) < 2 {
			return nil, &closed{code: 1005}
		}
		return nil, &closed{binary.BigEndian.Uint16(payload), string(payload[2:])}
	case ws.OpText, ws.OpBinary:
		r.op = ws.Opcode(head[0] & 0x0f)
		return payload, nil
	}
	return r.readFrame() // a ping or pong of the transport
}

// next returns the next reply or push. It answers pings.
func (r *raw) next() (*protocol.Reply, error) {
	for len(r.waits) == 0 {
		b, err := r.readFrame()
		if err != nil {
			return nil, err
		}
		all, err := replies(r.binary, b)
		if err != nil {
			return nil, err
		}
		for _, reply := range all {
			if reply.Id == 0 && reply.Push == nil {
				r.send(&protocol.Command{})
				continue
			}
			r.waits = append(r.waits, reply)
		}
	}
	reply := r.waits[0]
	r.waits = r.waits[1:]
	return reply, nil
}

func replies(binaryEncoding bool, b []byte) (all []*protocol.Reply, err error) {
	if !binaryEncoding {
		for line := range bytes.SplitSeq(b, []byte("\n")) {
			reply, err := protocol.NewJSONReplyDecoder(slices.Clone(line)).Decode()
			if err != nil && (err != io.EOF || reply == nil) {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			all = append(all, reply)
		}
		return all, nil
	}
	for len(b) > 0 {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, fmt.Errorf("a reply of %d bytes in %d", size, len(b))
		}
		reply := new(protocol.Reply)
		if err := reply.UnmarshalCF(b[n : n+int(size)]); err != nil {
			return nil, err
		}
		all = append(all, reply)
		b = b[n+int(size):]
	}
	return all, nil
}

// call sends a command and waits for its reply; pushes before it are dropped.
func (r *raw) call(cmd *protocol.Command) (*protocol.Reply, error) {
	r.send(cmd)
	for {
		reply, err := r.next()
		if err != nil || reply.Id == cmd.Id {
			return reply, err
		}
	}
}

// connect is the first command.
func (r *raw) connect(token string) (*protocol.ConnectResult, error) {
	reply, err := r.call(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{Token: token}})
	if err != nil {
		return nil, err
	}
	if e := reply.Error; e != nil {
		return nil, &apiError{e.Code, e.Message}
	}
	return reply.Connect, nil
}

// end reads until the connection ends and returns the code of the close frame.
func (r *raw) end() (uint16, error) {
	for {
		_, err := r.readFrame()
		var c *closed
		if errors.As(err, &c) {
			return c.code, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func connectCommand(id uint32, token string) *protocol.Command {
	return &protocol.Command{Id: id, Connect: &protocol.ConnectRequest{Token: token}}
}
