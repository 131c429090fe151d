// Command raw-jsonrpc is an example of a backend of a raw route: it serves JSON-RPC 2.0
// (https://www.jsonrpc.org/specification) to clients that connect by WebSocket to the gateway
// and know nothing of roost.
//
//	go run ./examples/raw-jsonrpc --url nats://127.0.0.1:4222
//
// and give the gateway, which uses the same NATS (`nats: [nats://127.0.0.1:4222]`):
//
//	backends: {servers: {rpc: {url: "nats:rpc"}}}
//	raw: {calls: {backend: rpc, path: /rpc, messages: text, auth: none}}
//
// A client sends {"jsonrpc":"2.0","id":1,"method":"add","params":[1,2]} to /rpc.
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

type request struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"` // none: a notification, which is not answered
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *failure        `json:"error,omitempty"`
}

type failure struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Codes of the specification, section 5.1.
var (
	errParse   = &failure{-32700, "Parse error"}
	errRequest = &failure{-32600, "Invalid Request"}
	errMethod  = &failure{-32601, "Method not found"}
	errParams  = &failure{-32602, "Invalid params"}
)

// server is what the clients share.
type server struct{ nc *nats.Conn }

// call runs a method for the client whose messages are sent to reply, the beginning of its
// subject.
func (s *server) call(reply string, r *request) (any, *failure) {
	switch r.Method {
	case "echo":
		return r.Params, nil
	case "add":
		var n []float64
		if json.Unmarshal(r.Params, &n) != nil {
			return nil, errParams
		}
		sum := 0.0
		for _, v := range n {
			sum += v
		}
		return sum, nil
	case "count": // as notifications of the server, at their own pace
		var n int
		if json.Unmarshal(r.Params, &n) != nil || n < 0 || n > 10_000 {
			return nil, errParams
		}
		go s.count(reply, n)
		return "as you wish", nil
	case "leave":
		return nil, s.send(reply+".close", map[string]any{"code": 4500, "reason": "as you wish"})
	}
	return nil, errMethod
}

func (s *server) count(reply string, n int) {
	for i := range n {
		params, _ := json.Marshal(i)
		if s.send(reply+".text", &request{Version: "2.0", Method: "counted", Params: params}) != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *server) send(subject string, v any) *failure {
	b, err := json.Marshal(v)
	if err == nil {
		err = s.nc.Publish(subject, b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "raw-jsonrpc:", err)
		return &failure{-32603, "Internal error"}
	}
	return nil
}

// message answers one message of a client. Its subject ends with .KIND, like that of the
// reply.
func (s *server) message(m *nats.Msg) {
	reply := m.Reply[:strings.LastIndexByte(m.Reply, '.')]
	var r request
	a := response{Version: "2.0", ID: json.RawMessage("null")}
	switch {
	case json.Unmarshal(m.Data, &r) != nil:
		a.Error = errParse
	case r.Version != "2.0" || r.Method == "":
		a.Error = errRequest
	default:
		a.Result, a.Error = s.call(reply, &r)
		if r.ID == nil {
			return
		}
		a.ID = r.ID
	}
	s.send(m.Reply, &a)
}

func main() {
	url := flag.String("url", nats.DefaultURL, "NATS servers, comma-separated")
	prefix := flag.String("prefix", "rpc", "what stands behind nats: in the gateway's configuration")
	route := flag.String("route", "calls", "name of the raw route")
	flag.Parse()
	if err := run(*url, *prefix+".raw."+*route); err != nil {
		fmt.Fprintln(os.Stderr, "raw-jsonrpc:", err)
		os.Exit(1)
	}
}

func run(url, prefix string) error {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Drain()
	s := &server{nc}
	// No method here keeps a state, so any process may answer any message.
	if _, err := nc.QueueSubscribe(prefix+".in.*.*.text", "backend", s.message); err != nil {
		return err
	}
	for _, event := range []string{"connect", "disconnect"} {
		if _, err := nc.QueueSubscribe(prefix+".in.*.*."+event, "backend", func(m *nats.Msg) { fmt.Printf("%s %s\n", event, m.Data) }); err != nil {
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
