// Command gws is the peer built on lxzan/gws: its own accept loop, one goroutine per connection,
// broadcasts by its Broadcaster, which queues for each connection without a bound.
//
// Tuned: small read buffers, no UTF-8 check, messages handled by the reading goroutine, one session
// storage for all (nothing is stored).
package main

import (
	"bufio"
	"log"
	"net"
	"net/http"

	"github.com/lxzan/gws"

	"roost/benchmarks/internal/peer"
)

var members peer.Members[*gws.Conn]

type echo struct{ gws.BuiltinEventHandler }

func (echo) OnPing(conn *gws.Conn, payload []byte) { _ = conn.WritePong(payload) }

func (echo) OnMessage(conn *gws.Conn, message *gws.Message) {
	_ = conn.WriteMessage(message.Opcode, message.Bytes())
	_ = message.Close()
}

type broadcast struct{ gws.BuiltinEventHandler }

func (broadcast) OnOpen(conn *gws.Conn)                 { members.Add(conn) }
func (broadcast) OnClose(conn *gws.Conn, _ error)       { members.Remove(conn) }
func (broadcast) OnPing(conn *gws.Conn, payload []byte) { _ = conn.WritePong(payload) }

func (broadcast) OnMessage(_ *gws.Conn, message *gws.Message) {
	defer message.Close()
	b := gws.NewBroadcaster(message.Opcode, message.Bytes())
	members.Each(func(conn *gws.Conn) { _ = b.Broadcast(conn) })
	_ = b.Close()
}

func main() {
	storage := gws.NewConcurrentMap[string, any]()
	option := gws.ServerOption{
		ReadBufferSize: 512,
		NewSession:     func() gws.SessionStorage { return storage },
	}
	// One option for all three, so that they take read buffers from, and return them to, one pool.
	routes := map[string]*gws.Upgrader{
		peer.Echo:      gws.NewUpgrader(echo{}, &option),
		peer.Broadcast: gws.NewUpgrader(broadcast{}, &option),
	}
	server := gws.NewServer(nil, &option)
	server.OnError = func(net.Conn, error) {}
	server.OnRequest = func(netConn net.Conn, reader *bufio.Reader, r *http.Request) {
		upgrader := routes[r.URL.Path]
		if upgrader == nil {
			_ = netConn.Close()
			return
		}
		if conn, err := upgrader.UpgradeFromConn(netConn, reader, r); err == nil {
			go conn.ReadLoop() // on a stack of its own: the one that parsed the request has grown
		}
	}
	log.Fatal(server.RunListener(peer.Listen()))
}
