// Command coder is the peer built on coder/websocket: net/http, one goroutine per connection. The
// library has no prepared messages: a broadcast is one Write for each connection, with a timeout by
// context, as its documentation has it.
//
// Tuned: the handler returns after the upgrade, so that net/http's own goroutine goes; messages
// read into pooled memory; no compression.
package main

import (
	"bytes"
	"context"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"roost/benchmarks/internal/peer"
)

// readLimit is the longest message taken, in bytes; the library's default is 32 KiB.
const readLimit = 1 << 20

var (
	buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	members peer.Members[*websocket.Conn]
)

func main() {
	peer.ServeHTTP(
		func(w http.ResponseWriter, r *http.Request) {
			if conn := accept(w, r); conn != nil {
				go readAll(conn, func(kind websocket.MessageType, message []byte) error {
					return conn.Write(context.Background(), kind, message)
				})
			}
		},
		func(w http.ResponseWriter, r *http.Request) {
			conn := accept(w, r)
			if conn == nil {
				return
			}
			members.Add(conn)
			go func() {
				defer members.Remove(conn)
				readAll(conn, broadcast)
			}()
		},
	)
}

func accept(w http.ResponseWriter, r *http.Request) *websocket.Conn {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true,
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return nil
	}
	conn.SetReadLimit(readLimit)
	return conn
}

// readAll hands each message to handle until the connection ends, and closes it.
func readAll(conn *websocket.Conn, handle func(kind websocket.MessageType, message []byte) error) {
	defer conn.CloseNow()
	for {
		kind, reader, err := conn.Reader(context.Background())
		if err != nil {
			return
		}
		buffer := buffers.Get().(*bytes.Buffer)
		buffer.Reset()
		_, err = buffer.ReadFrom(reader)
		if err == nil {
			err = handle(kind, buffer.Bytes())
		}
		buffers.Put(buffer)
		if err != nil {
			return
		}
	}
}

func broadcast(kind websocket.MessageType, message []byte) error {
	members.Each(func(conn *websocket.Conn) {
		ctx, cancel := context.WithTimeout(context.Background(), peer.WriteTimeout)
		defer cancel()
		// A write that times out closes the connection; its reader then takes it out.
		_ = conn.Write(ctx, kind, message)
	})
	return nil
}
