// Command nbio is the peer built on nbio's own websocket (nbhttp and nbhttp/websocket): event loops,
// no goroutine per connection. It has no prepared messages: a broadcast is encoded once here and
// written to the connections under the library's own.
//
// Tuned: one poller per core, handlers run by the poller itself instead of a pool, payloads given
// back to the library's pool, no keep-alive timers, no limit on the number of connections.
package main

import (
	"encoding/binary"
	"log"
	"net"
	"net/http"
	"runtime"
	"sync"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"

	"roost/benchmarks/internal/peer"
)

var members peer.Members[*websocket.Conn]

func main() {
	address := peer.Address()
	logging.SetLevel(logging.LevelNone)
	mux := http.NewServeMux()
	mux.HandleFunc(peer.Echo, upgradeWith(echoUpgrader()))
	mux.HandleFunc(peer.Broadcast, upgradeWith(broadcastUpgrader()))
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network:                      "tcp",
		Addrs:                        []string{address},
		NPoller:                      runtime.NumCPU(),
		MaxLoad:                      1 << 24,
		MaxWriteBufferSize:           peer.MaxUnsent,
		MaxWebsocketFramePayloadSize: peer.MaxUnsent, // whole frames, like the others
		ReleaseWebsocketPayload:      true,
		ServerExecutor:               func(f func()) { f() },
		Handler:                      mux,
		Listen: func(network, address string) (net.Listener, error) {
			listener, err := net.Listen(network, address)
			if err == nil {
				peer.Ready(listener.Addr())
			}
			return listener, err
		},
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	select {}
}

func newUpgrader() *websocket.Upgrader {
	upgrader := websocket.NewUpgrader()
	upgrader.KeepaliveTime = 0
	upgrader.ReleasePayload = true
	upgrader.CheckOrigin = func(*http.Request) bool { return true }
	return upgrader
}

func upgradeWith(upgrader *websocket.Upgrader) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { _, _ = upgrader.Upgrade(w, r, nil) }
}

func echoUpgrader() *websocket.Upgrader {
	upgrader := newUpgrader()
	upgrader.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, message []byte) {
		_ = c.WriteMessage(kind, message)
	})
	return upgrader
}

func broadcastUpgrader() *websocket.Upgrader {
	var mu sync.Mutex
	var frame []byte // guarded by mu: the frame of the broadcast under way; writes copy what they keep
	upgrader := newUpgrader()
	upgrader.OnOpen(members.Add)
	upgrader.OnClose(func(c *websocket.Conn, _ error) { members.Remove(c) })
	upgrader.OnMessage(func(_ *websocket.Conn, kind websocket.MessageType, message []byte) {
		mu.Lock()
		defer mu.Unlock()
		frame = appendFrame(frame[:0], byte(kind), message)
		members.Each(func(c *websocket.Conn) { _, _ = c.UnderlayerConn().Write(frame) })
	})
	return upgrader
}

// appendFrame appends an unmasked, unfragmented frame (RFC 6455 section 5.2).
func appendFrame(to []byte, opcode byte, payload []byte) []byte {
	to = append(to, 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		to = append(to, byte(n))
	case n <= 0xffff:
		to = binary.BigEndian.AppendUint16(append(to, 126), uint16(n))
	default:
		to = binary.BigEndian.AppendUint64(append(to, 127), uint64(n))
	}
	return append(to, payload...)
}
