// Command backend-http answers what clients of roost ask, over HTTP: rpc "echo" returns
// its data, rpc "time" the time, and messages are logged. Put this in roost.yaml:
//
//	backends:
//	  servers:
//	    example:
//	      url: http://127.0.0.1:3000/
//	      headers: {X-Secret: "a secret of both"}
//	  rpc:
//	    - {method: "*", backend: example}
//	  message: example
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
	Data    json.RawMessage `json:"data,omitempty"`
	B64Data string          `json:"b64data,omitempty"`
}

// answer has one of the two.
type answer struct {
	Result *result `json:"result,omitempty"`
	Error  *fault  `json:"error,omitempty"`
}

type result struct {
	Data    any    `json:"data,omitempty"`
	B64Data string `json:"b64data,omitempty"`
}

type fault struct {
	Code    int    `json:"code"` // 400 to 1999
	Message string `json:"message"`
}

func reply(q request) answer {
	switch {
	case q.Event == "message":
		fmt.Fprintf(os.Stderr, "%s (client %s) says %s%s\n", q.User, q.Client, q.Data, q.B64Data)
		return answer{Result: &result{}}
	case q.Method == "echo" && q.B64Data != "":
		return answer{Result: &result{B64Data: q.B64Data}}
	case q.Method == "echo" && q.Data != nil:
		return answer{Result: &result{Data: q.Data}}
	case q.Method == "echo":
		return answer{Result: &result{}}
	case q.Method == "time":
		return answer{Result: &result{Data: map[string]string{"time": time.Now().UTC().Format(time.RFC3339Nano)}}}
	}
	return answer{Error: &fault{404, "there is no method " + q.Method}}
}

// handler answers those who know the secret.
func handler(secret string) http.HandlerFunc {
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
		if err := json.NewEncoder(w).Encode(reply(q)); err != nil {
			slog.Error("the answer was not sent", "error", err)
		}
	}
}

func main() {
	address := flag.String("address", "127.0.0.1:3000", "where to listen")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		fail(err)
	}
	fmt.Printf("ready address=%s\n", listener.Addr())
	server := &http.Server{Handler: handler(os.Getenv("SECRET")), ReadHeaderTimeout: 5 * time.Second}
	fail(server.Serve(listener))
}

func fail(err error) {
	slog.Error("the backend ends", "error", err)
	os.Exit(1)
}
