// Command backend-nats is an example of a backend that answers as NATS requests what
// clients ask: rpc, and whether they may connect, subscribe and publish, and for how long.
// Start several of them: each request goes to one.
//
//	go run ./examples/backend-nats --url nats://127.0.0.1:4222
//
// and give the gateway, which uses the same NATS (`nats: [nats://127.0.0.1:4222]`):
//
//	backends:
//	  servers: {shop: {url: "nats:shop"}}
//	  rpc: [{method: "*", backend: shop}]
//	  connect: shop
//	  refresh: shop
//	channels:
//	  namespaces:
//	    room: {subscribe-backend: shop, publish-backend: shop, sub-refresh-backend: shop}
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// request is what the gateway asks, as far as this backend looks at it.
type request struct {
	Event   string          `json:"event"`
	Method  string          `json:"method"`
	Channel string          `json:"channel"`
	User    string          `json:"user"` // as the client's token or connect said; empty for nobody
	Data    json.RawMessage `json:"data"`
}

// answer holds exactly one of the three.
type answer struct {
	Result     *result     `json:"result,omitempty"`
	Error      *failure    `json:"error,omitempty"`
	Disconnect *disconnect `json:"disconnect,omitempty"`
}

type result struct {
	Data     any    `json:"data,omitempty"`
	User     string `json:"user,omitempty"`      // of connect
	ExpireAt int64  `json:"expire_at,omitempty"` // of connect, subscribe, refresh and sub_refresh; Unix seconds
	Expired  bool   `json:"expired,omitempty"`   // of refresh and sub_refresh
}

type failure struct {
	Code    int    `json:"code"` // 400 to 1999 are the application's
	Message string `json:"message"`
}

type disconnect struct {
	Code   int    `json:"code"` // 4000 to 4499: come back later; 4500 to 4999: do not
	Reason string `json:"reason"`
}

var denied = answer{Error: &failure{Code: 103, Message: "permission denied"}}

// backend decides on clients. It keeps nothing, so that any of several can answer: who is
// called a guest may stay once.
type backend struct{ stay time.Duration }

func (b backend) handle(r request) answer {
	until := time.Now().Add(b.stay).Unix()
	owner, private := strings.CutPrefix(r.Channel, "room:private-")
	switch {
	case r.Event == "rpc":
		return b.rpc(r)
	case r.Event == "connect":
		var hello struct{ Name string }
		if json.Unmarshal(r.Data, &hello) != nil || hello.Name == "" {
			return denied
		}
		return answer{Result: &result{User: hello.Name, ExpireAt: until}}
	case private && owner != r.User:
		return denied
	case r.Event == "publish":
		return answer{Result: &result{Data: map[string]any{"from": r.User, "text": r.Data}}}
	case r.Event == "refresh" && strings.HasPrefix(r.User, "guest"), r.Event == "sub_refresh" && strings.HasPrefix(r.Channel, "room:guest"):
		return answer{Result: &result{Expired: true}}
	case r.Event == "message":
		return answer{Result: &result{}}
	}
	return answer{Result: &result{ExpireAt: until}}
}

func (b backend) rpc(r request) answer {
	switch r.Method {
	case "echo":
		return answer{Result: &result{Data: r.Data}}
	case "time":
		return answer{Result: &result{Data: map[string]string{"time": time.Now().UTC().Format(time.RFC3339), "user": r.User}}}
	case "leave":
		return answer{Disconnect: &disconnect{Code: 4500, Reason: "as you wish"}}
	}
	return answer{Error: &failure{Code: 404, Message: "there is no method " + r.Method}}
}

func main() {
	url := flag.String("url", nats.DefaultURL, "NATS servers, comma-separated")
	prefix := flag.String("prefix", "shop", "what stands behind nats: in the gateway's configuration")
	stay := flag.Duration("stay", time.Hour, "how long clients are let in before they are asked about again")
	flag.Parse()
	if err := run(*url, *prefix, backend{stay: *stay}); err != nil {
		fmt.Fprintln(os.Stderr, "backend-nats:", err)
		os.Exit(1)
	}
}

func run(url, prefix string, b backend) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Drain()
	// A queue group: each request reaches one of its members. An rpc comes on PREFIX.METHOD,
	// all else on PREFIX.
	for _, subject := range []string{prefix, prefix + ".>"} {
		if _, err := nc.QueueSubscribe(subject, "backend", b.respond); err != nil {
			return err
		}
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	fmt.Println("ready", strings.Join(nc.Servers(), ","))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	return nil
}

func (b backend) respond(m *nats.Msg) {
	var r request
	a := answer{Error: &failure{Code: 400, Message: "not a request"}}
	if json.Unmarshal(m.Data, &r) == nil {
		a = b.handle(r)
	}
	body, err := json.Marshal(a)
	if err == nil {
		err = m.Respond(body)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "backend-nats:", err)
	}
}
