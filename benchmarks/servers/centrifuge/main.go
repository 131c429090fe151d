// Command centrifuge is the peer of the gateway: centrifugal/centrifuge, the library that Centrifugo is built on,
// with its memory broker. Clients connect at /connection/websocket, anonymous; POST /api/publish publishes.
//
// As the gateway with --dev: history of 100 publications for 300 s, recovery and presence. Tuned: pooled write
// buffers, small read buffers, no compression, no log.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"

	"roost/benchmarks/internal/peer"
)

const (
	historySize = 100
	historyTTL  = 300 * time.Second
)

func main() {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{EnableRecovery: true, EmitPresence: true}}, nil)
		})
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		ReadBufferSize: 512, UseWriteBufferPool: true,
	}))
	http.HandleFunc("POST /api/publish", func(w http.ResponseWriter, r *http.Request) { publish(node, w, r) })
	listener, err := net.Listen("tcp", peer.Address())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("ready address=%s internal=%[1]s\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

func publish(node *centrifuge.Node, w http.ResponseWriter, r *http.Request) {
	var request struct {
		Channel string
		Data    json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	result, err := node.Publish(request.Channel, request.Data, centrifuge.WithHistory(historySize, historyTTL))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, `{"result":{"offset":%d,"epoch":%q}}`, result.Offset, result.Epoch)
}
