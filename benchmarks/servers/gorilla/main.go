// Command gorilla is the peer built on gorilla/websocket: net/http, one goroutine per connection,
// broadcasts by PreparedMessage.
//
// Tuned: the handler returns after the upgrade, so that net/http's own goroutine and buffers go;
// small read buffers; write buffers pooled; messages read into pooled memory.
package main

import (
	"bytes"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"roost/benchmarks/internal/peer"
)

var (
	upgrader = websocket.Upgrader{
		ReadBufferSize:  512,
		WriteBufferSize: 4096,
		WriteBufferPool: &sync.Pool{},
		CheckOrigin:     func(*http.Request) bool { return true },
	}
	buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	members peer.Members[*websocket.Conn]
)

func main() {
	peer.ServeHTTP(
		func(w http.ResponseWriter, r *http.Request) {
			if conn, err := upgrader.Upgrade(w, r, nil); err == nil {
				go readAll(conn, func(kind int, message []byte) error {
					return conn.WriteMessage(kind, message)
				})
			}
		},
		func(w http.ResponseWriter, r *http.Request) {
			conn, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
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

// readAll hands each message to handle until the connection ends, and closes it.
func readAll(conn *websocket.Conn, handle func(kind int, message []byte) error) {
	defer conn.Close()
	for {
		kind, reader, err := conn.NextReader()
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

func broadcast(kind int, message []byte) error {
	prepared, err := websocket.NewPreparedMessage(kind, message)
	if err != nil {
		return err
	}
	members.Each(func(conn *websocket.Conn) {
		// A failed write also fails the reader, which then takes the connection out.
		conn.SetWriteDeadline(time.Now().Add(peer.WriteTimeout))
		if conn.WritePreparedMessage(prepared) != nil {
			conn.Close()
		}
	})
	return nil
}
