// Command backend-http answers what clients of roost ask, over HTTP. Rpc "echo" returns its
// data, "time" the time, and "signout" ends the client when its time is over; messages are
// logged. Whoever gives a name may connect, for a while, and is then asked about again.
// room:private-ann is ann's alone, other rooms are open to all, and what is published is
// signed. Put this in roost.yaml:
//
//	backends:
//	  servers:
//	    example:
//	      url: http://127.0.0.1:3000/
//	      headers: {X-Secret: "a secret of both"}
//	  rpc:
//	    - {method: "*", backend: example}
//	  message: example
//	  connect: example
//	  refresh: example
//	channels:
//	  namespaces:
//	    room: {subscribe-backend: example, publish-backend: example, sub-refresh-backend: example}
//
// and start it with
//
//	SECRET="a secret of both" go run ./examples/backend-http
package main

import (
	"crypto/subtle"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const maxRequest = 1 << 20 // bytes

// request is what roost asks. Data that is not JSON, which only clients of the Protobuf
// protocol can send, comes as B64Data instead.
type request struct {
	Event   string          `json:"event"`
	Client  string          `json:"client"`
	User    string          `json:"user"`
	Method  string          `json:"method"`
	Channel string          `json:"channel"`
	Data    json.RawMessage `json:"data,omitempty"`
	B64Data string          `json:"b64data,omitempty"`
}

// answer has one of the two.
type answer struct {
	Result *result `json:"result,omitempty"`
	Error  *fault  `json:"error,omitempty"`
}

type result struct {
	Data     any    `json:"data,omitempty"`
	B64Data  string `json:"b64data,omitempty"`
	User     string `json:"user,omitempty"`      // of connect
	ExpireAt int64  `json:"expire_at,omitempty"` // of connect, subscribe, refresh and sub_refresh; Unix seconds
	Expired  bool   `json:"expired,omitempty"`   // of refresh and sub_refresh
}

type fault struct {
	Code    int    `json:"code"` // 400 to 1999, or one of the protocol
	Message string `json:"message"`
}

var denied = answer{Error: &fault{103, "permission denied"}}

// backend decides on clients.
type backend struct {
	stay time.Duration // how long one is let in

	mu   sync.Mutex
	gone map[string]bool // users that signed out
}

func (b *backend) until() int64 { return time.Now().Add(b.stay).Unix() }

func (b *backend) reply(q request) answer {
	owner, private := strings.CutPrefix(q.Channel, "room:private-")
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case q.Event == "rpc":
		return b.rpc(q)
	case q.Event == "message":
		fmt.Fprintf(os.Stderr, "%s (client %s) says %s%s\n", q.User, q.Client, q.Data, q.B64Data)
		return answer{Result: &result{}}
	case q.Event == "connect":
		var hello struct{ Name string }
		if json.Unmarshal(q.Data, &hello) != nil || hello.Name == "" {
			return denied
		}
		delete(b.gone, hello.Name)
		return answer{Result: &result{User: hello.Name, ExpireAt: b.until()}}
	case b.gone[q.User] && strings.HasSuffix(q.Event, "refresh"): // refresh, sub_refresh
		return answer{Result: &result{Expired: true}}
	case private && owner != q.User: // subscribe, publish
		return denied
	case q.Event == "publish":
		return answer{Result: &result{Data: map[string]any{"from": q.User, "text": q.Data}}}
	}
	return answer{Result: &result{ExpireAt: b.until()}}
}

func (b *backend) rpc(q request) answer {
	switch {
	case q.Method == "echo" && q.B64Data != "":
		return answer{Result: &result{B64Data: q.B64Data}}
	case q.Method == "echo" && q.Data != nil:
		return answer{Result: &result{Data: q.Data}}
	case q.Method == "echo":
		return answer{Result: &result{}}
	case q.Method == "time":
		return answer{Result: &result{Data: map[string]string{"time": time.Now().UTC().Format(time.RFC3339Nano)}}}
	case q.Method == "signout":
		b.gone[q.User] = true
		return answer{Result: &result{}}
	}
	return answer{Error: &fault{404, "there is no method " + q.Method}}
}

// handler answers those who know the secret.
func (b *backend) handler(secret string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Secret")), []byte(secret)) == 0 {
			http.Error(w, "the X-Secret header is not the right one", http.StatusUnauthorized)
			return
		}
		var q request
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(b.reply(q)); err != nil {
			slog.Error("the answer was not sent", "error", err)
		}
	}
}

func main() {
	address := flag.String("address", "127.0.0.1:3000", "where to listen")
	stay := flag.Duration("stay", time.Hour, "how long clients are let in before they are asked about again")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		fail(err)
	}
	fmt.Printf("ready address=%s\n", listener.Addr())
	b := &backend{stay: *stay, gone: make(map[string]bool)}
	server := &http.Server{Handler: b.handler(os.Getenv("SECRET")), ReadHeaderTimeout: 5 * time.Second}
	fail(server.Serve(listener))
}

func fail(err error) {
	slog.Error("the backend ends", "error", err)
	os.Exit(1)
}
