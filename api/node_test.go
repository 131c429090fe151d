package api

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"roost/auth"
	"roost/broker"
	"roost/conn"
	"roost/gateway"
	"roost/poller"
)

// node is a gateway with a broker in memory, a history in all channels, and no clients.
func node(t *testing.T) *gateway.Node {
	t.Helper()
	v, err := auth.New(auth.Options{HMACSecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	n, err := gateway.New(gateway.Options{Name: "here", Auth: v, Broker: broker.Options{Memory: true},
		Channels: gateway.Channels{Default: gateway.Open(), Namespaces: map[string]gateway.Namespace{"bare": {}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Shutdown(context.Background()) })
	s, err := conn.New(conn.Options{Poller: poller.Options{Loops: 1}, Routes: []*conn.Route{n.Route()}})
	if err != nil {
		t.Fatal(err)
	}
	n.Start(s)
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	return n
}

// volatile is what differs from run to run.
var volatile = regexp.MustCompile(`"(epoch|uid|time|uptime)":("[^"]*"|\d+)`)

func TestNode(t *testing.T) {
	o, _ := options(node(t))
	h := New(o)
	for _, tt := range []struct{ method, body, want string }{
		{"publish", `{"channel":"news","data":{"text":"<hello>"},"tags":{"lang":"en"}}`, `{"result":{"offset":1,"epoch":_}}`},
		{"publish", `{"channel":"news","b64data":"AAE="}`, `{"result":{"offset":2,"epoch":_}}`},
		{"publish", `{"channel":"news","data":1,"idempotency_key":"k"}`, `{"result":{"offset":3,"epoch":_}}`},
		{"publish", `{"channel":"news","data":1,"idempotency_key":"k"}`, `{"result":{"offset":3,"epoch":_}}`},
		{"publish", `{"channel":"news","data":1,"skip_history":true}`, `{"result":{}}`},
		{"publish", `{"channel":"bare:a","data":1}`, `{"result":{}}`},
		{"publish", `{"channel":"news"}`, `{"error":{"code":107,"message":"bad request: either data or b64data must be given"}}`},
		{"publish", `{"channel":"nowhere:a","data":1}`, `{"error":{"code":102,"message":"unknown channel"}}`},
		{"broadcast", `{"channels":["a","nowhere:b"],"data":1}`, `{"result":{"responses":[{"result":{"offset":1,"epoch":_}},{"error":{"code":102,"message":"unknown channel"}}]}}`},
		{"history", `{"channel":"news"}`, `{"result":{"publications":[],"offset":3,"epoch":_}}`},
		{"history", `{"channel":"news","limit":-1}`, `{"result":{"publications":[{"data":{"text":"<hello>"},"offset":1,"tags":{"lang":"en"},"time":_},{"b64data":"AAE=","offset":2,"time":_},{"data":1,"offset":3,"time":_}],"offset":3,"epoch":_}}`},
		{"history", `{"channel":"news","limit":1,"reverse":true}`, `{"result":{"publications":[{"data":1,"offset":3,"time":_}],"offset":3,"epoch":_}}`},
		{"history", `{"channel":"news","limit":1,"since":{"offset":1,"epoch":"x"}}`, `{"error":{"code":112,"message":"unrecoverable position"}}`},
		{"history_remove", `{"channel":"news"}`, `{"result":{}}`},
		{"history", `{"channel":"news","limit":-1}`, `{"result":{"publications":[],"offset":3,"epoch":_}}`},
		{"history", `{"channel":"bare:a"}`, `{"error":{"code":108,"message":"not available"}}`},
		{"presence", `{"channel":"news"}`, `{"result":{"presence":{}}}`},
		{"presence_stats", `{"channel":"news"}`, `{"result":{"num_clients":0,"num_users":0}}`},
		{"channels", `{"pattern":"n*"}`, `{"result":{"channels":{}}}`},
		{"info", `{}`, `{"result":{"nodes":[{"uid":_,"name":"here","version":"","num_clients":0,"num_users":0,"num_subs":0,"num_channels":0,"uptime":_}]}}`},
		{"rpc", `{"method":"m"}`, `{"error":{"code":104,"message":"method not found"}}`},
		{"subscribe", `{"user":"alice","channel":"news"}`, `{"result":{}}`},
		{"unsubscribe", `{"user":"alice","channel":"news"}`, `{"result":{}}`},
		{"disconnect", `{"user":"alice"}`, `{"result":{}}`},
		{"disconnect", `{"user":"alice","disconnect":{"code":1}}`, `{"error":{"code":107,"message":"bad request: disconnect has code 1 and a reason of 0 bytes, allowed are 3000 to 4999 and 123"}}`},
		{"refresh", `{"user":"alice","expire_at":4000000000}`, `{"result":{}}`},
		{"connections", `{}`, `{"result":{"connections":{}}}`},
		{"user_status", `{"users":["alice"]}`, `{"result":{"statuses":[{"user":"alice","online":false}]}}`},
		{"send", `{"user":"alice","data":1}`, `{"result":{"num_clients":0}}`},
		{"send", `{"client":"c1","data":1}`, `{"error":{"code":108,"message":"not available: no such client is connected"}}`},
		{"send", `{"client":"c1","user":"alice","data":1}`, `{"error":{"code":107,"message":"bad request: exactly one of user, client and session must be given"}}`},
		{"send", `{"session":"s1","data":1}`, `{"error":{"code":108,"message":"not available: no such client is connected"}}`},
		{"send", `{"client":"c1"}`, `{"error":{"code":107,"message":"bad request: either data or b64data must be given"}}`},
		{"block_user", `{"user":"alice"}`, `{"result":{}}`},
		{"unblock_user", `{"user":"alice"}`, `{"result":{}}`},
		{"revoke_token", `{"uid":"id"}`, `{"result":{}}`},
		{"invalidate_user_tokens", `{"user":"alice"}`, `{"result":{}}`},
		{"batch", `{"parallel":true,"commands":[{"publish":{"channel":"bare:a","data":1}},{"history":{"channel":"bare:a"}}]}`, `{"replies":[{"publish":{}},{"error":{"code":108,"message":"not available"}}]}`},
	} {
		w := ask(h, "POST", "/api/"+tt.method, tt.body)
		got := volatile.ReplaceAllString(w.Body.String(), `"$1":_`)
		if w.Code != http.StatusOK || got != tt.want {
			t.Errorf("%s %s: %d\ngot  %s\nwant %s", tt.method, tt.body, w.Code, got, tt.want)
		}
	}
}

// example is a request and its answer in docs/api.md.
var example = regexp.MustCompile(`\$API(?:/(\w+))? -d '(.*)'\n    (\{.*)`)

// TestDocumented holds docs/api.md to the types, and its requests to what a node answers.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	o, _ := options(node(t))
	h := New(o)
	missing := maps.Clone(h.(*handler).operations)
	for _, e := range example.FindAllStringSubmatch(string(page), -1) {
		method, request, answer := e[1], e[2], e[3]
		w := ask(h, "POST", "/api/"+method, request)
		if kind := answer[:6]; w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), kind) {
			t.Errorf("%s %s: %d %s", method, request, w.Code, w.Body)
		}
		var into, out any = new(BatchRequest), new(struct{ Replies []map[string]json.RawMessage })
		if op := missing[method]; op != nil {
			into = reflect.New(op.request).Interface()
			out = reflect.New(reflect.StructOf([]reflect.StructField{
				{Name: "Result", Type: op.result, Tag: `json:"result"`},
				{Name: "Error", Type: reflect.TypeFor[gateway.OperationError](), Tag: `json:"error"`},
			})).Interface()
			delete(missing, method)
		} else if method == "" {
			into, out = new(Command), new(Reply)
		} else if method != batch {
			t.Errorf("no method %q, or shown twice", method)
			continue
		}
		strictly(t, request, into)
		strictly(t, answer, out)
	}
	if len(missing) > 0 {
		t.Errorf("not documented: %v", slices.Collect(maps.Keys(missing)))
	}
}

// strictly wants all members of an example to exist.
func strictly(t *testing.T, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Errorf("%s: %v", text, err)
	}
}
