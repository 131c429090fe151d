package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"roost/broker"
	"roost/conn"
	"roost/gateway"
	"roost/proto/client"
)

// A gateway in a program of one's own: SDKs connect to ws://ADDRESS/connection/websocket.
func Example() {
	node, err := gateway.New(gateway.Options{
		Broker: broker.Options{Memory: true},
		Logger: slog.New(slog.DiscardHandler),
		Channels: gateway.Channels{Namespaces: map[string]gateway.Namespace{
			"news": {HistorySize: 100, HistoryTTL: 3600e9, AllowSubscribeForClient: true},
		}},
		Handlers: gateway.Handlers{
			Connect: func(_ context.Context, e gateway.ConnectEvent) (gateway.ConnectReply, error) {
				var secret string
				if json.Unmarshal(e.Data, &secret) != nil || secret != "sesame" {
					return gateway.ConnectReply{}, &client.Disconnect{Code: 4500, Reason: "wrong secret"}
				}
				return gateway.ConnectReply{User: "ann"}, nil
			},
			RPC: func(_ context.Context, e gateway.RPCEvent) ([]byte, error) {
				if e.Method != "add" {
					return nil, client.ErrMethodNotFound
				}
				return []byte(`{"by":"` + e.User + `"}`), nil
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := node.Listen("127.0.0.1:0", conn.Options{}); err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	published, err := node.Publish(ctx, &gateway.PublishRequest{Channel: "news:today", Data: []byte(`"hello"`)})
	fmt.Println(published.Offset, err)
	fmt.Println(node.Shutdown(ctx))
	// Output:
	// 1 <nil>
	// <nil>
}
