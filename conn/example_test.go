package conn_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"roost/conn"
	"roost/proto/ws"
)

// echo answers each message; it never blocks.
type echo struct{}

func (echo) Open(*conn.Conn)                              {}
func (echo) Message(c *conn.Conn, op ws.Opcode, p []byte) { _ = c.Reply(op, p) }
func (echo) Close(*conn.Conn, conn.Reason, ws.CloseCode)  {}

// greeter runs in the pool, so it may ask a database or wait for a lock.
type greeter struct{}

func (greeter) Open(c *conn.Conn) {
	_ = c.Send(ws.OpText, fmt.Appendf(nil, "hello %v", c.Session()))
}
func (greeter) Message(c *conn.Conn, _ ws.Opcode, p []byte) {
	_ = c.Reply(ws.OpText, fmt.Appendf(nil, "%v said %q", c.Session(), p))
}
func (greeter) Close(c *conn.Conn, r conn.Reason, code ws.CloseCode) {
	fmt.Println("gone:", c.Session(), conn.Label(r), code)
}

// authorize lets in who has a name; it becomes the connection's session.
func authorize(r *http.Request) (session any, err error) {
	name := r.URL.Query().Get("name")
	if name == "" {
		return nil, errors.New("who are you?") // the client gets a 403
	}
	return name, nil
}

func Example() {
	server, err := conn.New(conn.Options{Routes: []*conn.Route{
		{Path: "/echo", Handler: echo{}, Inline: true},
		{Path: "/greet", Handler: greeter{}, Authorize: authorize},
	}})
	if err != nil {
		panic(err)
	}
	address, err := server.Listen("127.0.0.1:0")
	if err != nil {
		panic(err)
	}

	client := dial(address.String(), "/greet?name=ann")
	client.send(ws.OpText, "good morning")
	fmt.Println(client.receive())
	fmt.Println(client.receive())
	client.send(ws.OpClose, "\x03\xe8") // 1000
	_ = client.Close()

	_ = server.Shutdown(context.Background())
	// Output:
	// hello ann
	// ann said "good morning"
	// gone: ann peer_closed 1000
}

// client is the least there can be of one.
type client struct {
	net.Conn
	in *bufio.Reader
}

func dial(address, path string) client {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, address)
	c := client{nc, bufio.NewReader(nc)}
	if _, err := http.ReadResponse(c.in, nil); err != nil {
		panic(err)
	}
	return c
}

func (c client) send(op ws.Opcode, payload string) {
	_, _ = c.Write(ws.AppendMaskedFrame(nil, op, [4]byte{1, 2, 3, 4}, []byte(payload)))
}

// receive reads a short frame.
func (c client) receive() string {
	var head [2]byte
	_, _ = io.ReadFull(c.in, head[:])
	payload := make([]byte, head[1])
	_, _ = io.ReadFull(c.in, payload)
	return string(payload)
}
