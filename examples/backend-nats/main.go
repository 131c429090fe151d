// Command backend-nats is an example of a backend that answers clients' rpc commands as
// NATS requests. Start several of them: each request goes to one.
//
//	go run ./examples/backend-nats --url nats://127.0.0.1:4222
//
// and give the gateway, which uses the same NATS (`nats: [nats://127.0.0.1:4222]`):
//
//	backends:
//	  servers: {shop: {url: "nats:shop"}}
//	  rpc: [{method: "*", backend: shop}]
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
	Method string          `json:"method"`
	User   string          `json:"user"` // as the client's token says; empty for nobody
	Data   json.RawMessage `json:"data"`
}

// answer holds exactly one of the three.
type answer struct {
	Result     *result     `json:"result,omitempty"`
	Error      *failure    `json:"error,omitempty"`
	Disconnect *disconnect `json:"disconnect,omitempty"`
}

type result struct {
	Data any `json:"data,omitempty"`
}

type failure struct {
	Code    int    `json:"code"` // 400 to 1999 are the application's
	Message string `json:"message"`
}

type disconnect struct {
	Code   int    `json:"code"` // 4000 to 4499: come back later; 4500 to 4999: do not
	Reason string `json:"reason"`
}

func handle(r request) answer {
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
	flag.Parse()
	if err := run(*url, *prefix); err != nil {
		fmt.Fprintln(os.Stderr, "backend-nats:", err)
		os.Exit(1)
	}
}

func run(url, prefix string) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Drain()
	// A queue group: each request reaches one of its members.
	if _, err := nc.QueueSubscribe(prefix+".>", "backend", func(m *nats.Msg) { respond(m) }); err != nil {
		return err
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

func respond(m *nats.Msg) {
	var r request
	a := answer{Error: &failure{Code: 400, Message: "not a request"}}
	if json.Unmarshal(m.Data, &r) == nil {
		a = handle(r)
	}
	b, err := json.Marshal(a)
	if err == nil {
		err = m.Respond(b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "backend-nats:", err)
	}
}
