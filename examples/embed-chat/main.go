// Command embed-chat is a chat in one program: the gateway is a library in it, decides by its own
// rules who comes in and what is said, and shares the address with the program's pages.
//
//	go run ./examples/embed-chat
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"time"

	"roost/broker"
	"roost/conn"
	"roost/gateway"
	"roost/proto/client"
)

//go:embed index.html
var page []byte

// connect lets in whoever tells a name and the password, which a real program would look up.
func connect(_ context.Context, e gateway.ConnectEvent) (r gateway.ConnectReply, err error) {
	var who struct{ Name, Password string }
	if json.Unmarshal(e.Data, &who) != nil || who.Name == "" || who.Password != "sesame" {
		return r, &client.Disconnect{Code: 4501, Reason: "wrong name or password"}
	}
	return gateway.ConnectReply{User: who.Name, Channels: []string{"room:lobby"}}, nil
}

// publish passes on what is said, with the name of who says it.
func publish(_ context.Context, e gateway.PublishEvent) (r gateway.PublishReply, err error) {
	var text string
	if json.Unmarshal(e.Data, &text) != nil || text == "" {
		return r, &client.Error{Code: 400, Message: "say something, as a JSON string"}
	}
	r.Data, err = json.Marshal(map[string]string{"from": e.User, "text": text})
	return r, err
}

func main() {
	var node *gateway.Node
	node, err := gateway.New(gateway.Options{
		Broker: broker.Options{Memory: true}, // or Dir, to keep what was said, or the URLs of a NATS cluster
		Channels: gateway.Channels{Namespaces: map[string]gateway.Namespace{
			"room": {Presence: true, HistorySize: 50, HistoryTTL: time.Hour, ForceRecovery: true},
		}},
		Handlers: gateway.Handlers{
			Connect: connect, Publish: publish,
			RPC: func(ctx context.Context, _ gateway.RPCEvent) ([]byte, error) { // who is in the lobby
				p, _ := node.Presence(ctx, &gateway.PresenceRequest{Channel: "room:lobby"})
				return json.Marshal(p)
			},
			Disconnect: func(_ context.Context, e gateway.DisconnectEvent) error {
				slog.Info("gone", "user", e.User, "code", e.Code)
				return nil
			},
		},
	})
	if err != nil {
		panic(err)
	}
	pages := conn.NewListener() // all requests that are no WebSocket
	go http.Serve(pages, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(page) }))
	address, err := node.Listen("127.0.0.1:"+os.Getenv("PORT"), conn.Options{Hand: pages.Hand, HandPaths: []string{"/"}})
	if err != nil {
		panic(err)
	}
	fmt.Println("ready http://" + address.String())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
	node.Shutdown(context.Background())
}
