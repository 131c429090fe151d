//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"roost/internal/proctest"
)

const rawMessages = 10_000 // in each direction

// onRoute connects a client of a raw route, which ends with the test.
func (g *gateway) onRoute(t testing.TB, target string, bin bool, header ...string) *raw {
	t.Helper()
	r, err := dialAt(g.address, target, false, header...)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	r.binary = bin
	t.Cleanup(func() { r.conn.Close() })
	return r
}

// startRPC runs the example that serves JSON-RPC.
func startRPC(t testing.TB, urls string) *proctest.Process {
	t.Helper()
	p, _ := startExample(t, "raw-jsonrpc", "--url", urls)
	return p
}

const rpcRoute = "\nbackends: {servers: {rpc: {url: 'nats:rpc'}}}\nraw: {calls: {backend: rpc, path: /rpc, messages: text, auth: none}}\n"

func call(id int, method, params string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id, method, params)
}

// echoed reads answers from the given id on, all of them in order, until the client is closed
// or want have come.
func echoed(r *raw, from, want int) (next int, err error) {
	for next = from; next < from+want; next++ {
		b, err := r.readFrame()
		if err != nil {
			return next, err
		}
		if text := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":["%d"]}`, next, next); string(b) != text {
			return next, fmt.Errorf("%.200s, want %s", b, text)
		}
	}
	return next, nil
}

// talkRPC has a client of the example call and be called: every message comes once, in order, and
// unchanged, both ways; what the backend starts itself comes too, and its goodbye.
func (g *gateway) talkRPC(t *testing.T) {
	t.Helper()
	r := g.onRoute(t, "/rpc", false)
	go func() {
		for i := range rawMessages {
			r.write(call(i, "echo", fmt.Sprintf(`["%d"]`, i)))
		}
	}()
	if next, err := echoed(r, 0, rawMessages); err != nil {
		t.Fatalf("answer %d: %v", next, err)
	}
	r.write(call(7, "count", "500"))
	for i, answered := 0, false; i < 500 || !answered; {
		b, err := r.readFrame()
		switch {
		case err == nil && strings.Contains(string(b), "as you wish") && !answered: // before the first or behind
			answered = true
		case err == nil && string(b) == fmt.Sprintf(`{"jsonrpc":"2.0","method":"counted","params":%d}`, i):
			i++
		default:
			t.Fatalf("%d: %s, %v", i, b, err)
		}
	}
	for sent, want := range map[string]string{`{"jsonrpc":`: "-32700", `{}`: "-32600", string(call(1, "dance", "[]")): "-32601", string(call(1, "add", `"a"`)): "-32602"} {
		r.write([]byte(sent))
		if b, err := r.readFrame(); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %s, %v", sent, b, err)
		}
	}
	r.write(call(1, "leave", "[]"))
	if code, err := r.end(); code != 4500 {
		t.Errorf("%d, %v", code, err)
	}
	m := g.metrics(t)
	if in, out := m[`roost_raw_messages_total{direction="in",route="calls"}`], m[`roost_raw_messages_total{direction="out",route="calls"}`]; in < rawMessages || out < rawMessages {
		t.Errorf("counted %v in, %v out", in, out)
	}
}

// JSON-RPC over raw routes of a cluster's gateways, which share the backend.
func TestRawRouteNATS(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	startRPC(t, n.urls())
	for range 2 {
		start(t, configuration+rpcRoute, "--nats", n.urls(), "--nats-replicas", "3").talkRPC(t)
	}
}

// The same with the backend on the embedded NATS.
func TestRawRouteEmbeddedNATS(t *testing.T) {
	t.Parallel()
	g := start(t, configuration+rpcRoute, "--memory", "--nats-listen", loopback+":0")
	startRPC(t, "nats://"+proctest.Fields(g.Out.String())["nats"])
	g.talkRPC(t)
}

// What a killed backend, and then a NATS that is away, cost a client of a raw route: it is
// closed, and what it got before has no hole. Others go on, and it may come back.
func TestRawRouteKilled(t *testing.T) {
	t.Parallel()
	port := proctest.FreePorts(t, loopback, 1)[0]
	url := "nats://" + loopback + ":" + port
	nats := startNATSAlone(t, "-js", "-sd", t.TempDir(), "-a", loopback, "-p", port)
	backend := startRPC(t, url)
	g := start(t, configuration+rpcRoute, "--nats", url)
	talk := func(r *raw, stop <-chan struct{}) {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				r.write(call(i, "echo", fmt.Sprintf(`["%d"]`, i)))
			}
		}
	}
	for _, end := range []struct {
		why  string
		kill func()
		back func()
	}{
		{"nobody", func() { backend.Kill() }, func() { backend = startRPC(t, url) }},
		{"lost", nats.Kill, nil},
	} {
		r := g.onRoute(t, "/rpc", false)
		stop := make(chan struct{})
		go talk(r, stop)
		next, err := echoed(r, 0, 1000)
		if err != nil {
			t.Fatalf("answer %d: %v", next, err)
		}
		end.kill()
		next, err = echoed(r, next, 1<<30)
		close(stop)
		var c *closed
		if !errors.As(err, &c) || c.code != 1013 {
			t.Fatalf("%s: after answer %d: %v, want a close with 1013", end.why, next, err)
		}
		if got := sum(g.metrics(t), "roost_raw_failed_total", `reason="`+end.why+`"`); got < 1 {
			t.Errorf("%s: %v counted", end.why, got)
		}
		if end.back == nil {
			continue
		}
		end.back()
		eventually(t, func() error { // NATS tells its servers of the new backend
			r := g.onRoute(t, "/rpc", false)
			defer r.conn.Close()
			r.write(call(0, "echo", `["0"]`))
			_, err := echoed(r, 0, 1)
			return err
		})
	}
}

// rawBackend is a backend over HTTP that answers a message with the same one.
type rawBackend struct {
	*httptest.Server
	mu   sync.Mutex
	told map[string][]string // client ids by event
}

func newRawBackend(t testing.TB) *rawBackend {
	b := &rawBackend{told: map[string][]string{}}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

// ServeHTTP implements http.Handler.
func (b *rawBackend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get("Roost-Event") == "raw_message" {
		switch string(body) {
		case "fail":
			w.WriteHeader(http.StatusInternalServerError)
		case "silence":
			w.WriteHeader(http.StatusNoContent)
		case "garbage":
			_, _ = w.Write([]byte{0xff})
		case "who":
			fmt.Fprintf(w, "%s %s %s", r.Header.Get("Roost-User"), r.Header.Get("Roost-Route"), r.Header.Get("Roost-Client"))
		default:
			w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
			_, _ = w.Write(body)
		}
		return
	}
	var e struct {
		Event, Client, Query string
		Headers              map[string]string
	}
	_ = json.Unmarshal(body, &e)
	b.mu.Lock()
	b.told[e.Event] = append(b.told[e.Event], e.Client)
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case e.Event == "raw_authorize" && e.Headers["x-pass"] == "":
		_, _ = io.WriteString(w, `{"error":{"code":101}}`)
	case e.Event == "raw_authorize" && e.Headers["x-pass"] != "open":
		_, _ = io.WriteString(w, `{"error":{"code":403,"message":"not with this pass"}}`)
	case e.Event == "raw_authorize":
		_, _ = io.WriteString(w, `{"result":{"user":"zoë","meta":{"a":1}}}`)
	case e.Event == "raw_connect":
		_, _ = io.WriteString(w, `{"result":{"text":"welcome"}}`)
	default:
		_, _ = io.WriteString(w, `{"result":{}}`)
	}
}

func (b *rawBackend) config() string {
	return configuration + fmt.Sprintf(`
backends: {servers: {app: {url: %q}}}
raw:
  any: {backend: app, auth: backend, headers: [X-Pass], max-message: 70000, no-events: false}
  text: {backend: app, auth: none, path: /text, messages: text, no-events: true}
  token: {backend: app}
`, b.URL)
}

// Messages over HTTP, text and binary of all sizes, come unchanged and in order both ways.
func TestRawRouteHTTP(t *testing.T) {
	t.Parallel()
	b := newRawBackend(t)
	g := start(t, b.config(), "--memory")
	for target, want := range map[string]int{"/connection/raw?route=any": 401, "/connection/raw?route=none": 404, "/connection/raw": 404, "/connection/raw?route=token": 401} {
		var no *refused
		if _, err := dialAt(g.address, target, false); !errors.As(err, &no) || no.status != want {
			t.Errorf("%s: %v, want %d", target, err, want)
		}
	}
	var no *refused
	if _, err := dialAt(g.address, "/connection/raw?route=any", false, "X-Pass: shut"); !errors.As(err, &no) || no.status != 403 {
		t.Errorf("%v, want 403", err)
	}
	g.onRoute(t, "/connection/raw?route=token", false, "Authorization: Bearer "+tokenOf("ann"))

	r := g.onRoute(t, "/connection/raw?route=any", true, "X-Pass: open")
	if m, err := r.readFrame(); err != nil || string(m) != "welcome" {
		t.Fatalf("%s, %v", m, err)
	}
	message := func(i int) []byte {
		size := 4 + i%700
		if i%1000 == 0 {
			size = 70_000
		}
		return binary.BigEndian.AppendUint32(bytes.Repeat([]byte{byte(i)}, size-4), uint32(i))
	}
	go func() {
		for i := range rawMessages {
			r.write(message(i))
		}
	}()
	for i := range rawMessages {
		if m, err := r.readFrame(); err != nil || r.op != 2 || !bytes.Equal(m, message(i)) {
			t.Fatalf("message %d: %d bytes, opcode %d, %v", i, len(m), r.op, err)
		}
	}
	r.binary = false
	r.write([]byte("silence"))
	r.write([]byte("who"))
	who, err := r.readFrame()
	name, client, _ := strings.Cut(string(who), " any ")
	if err != nil || r.op != 1 || name != "zo%C3%AB" || client == "" {
		t.Fatalf("%s, %v", who, err)
	}
	for _, push := range []object{{"client": client, "data": "a"}, {"user": "zoë", "data": "a"}, {"client": client, "b64data": "AP8="}, {"client": client, "b64data": "YQ==", "opcode": "text"}} {
		g.must(t, "send", push, nil)
	}
	for _, want := range []string{`"a"`, `"a"`, "\x00\xff", "a"} {
		if m, err := r.readFrame(); err != nil || string(m) != want {
			t.Errorf("%q, %v, want %q", m, err, want)
		}
	}
	if err := g.api("send", object{"client": client, "b64data": "AP8=", "opcode": "text"}, nil); err == nil {
		t.Error("bytes that are no UTF-8 were sent as text")
	}
	g.must(t, "disconnect", object{"user": "zoë"}, nil)
	if code, err := r.end(); code != 3503 {
		t.Errorf("%d, %v", code, err)
	}
	eventually(t, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if gone := b.told["raw_disconnect"]; len(gone) == 0 || gone[0] != client {
			return fmt.Errorf("told: %v", b.told)
		}
		return nil
	})
}

// What is wrong is answered by a close code, and counted, and harms nobody else.
func TestRawRouteBadInput(t *testing.T) {
	t.Parallel()
	b := newRawBackend(t)
	g := start(t, b.config(), "--memory")
	other := g.onRoute(t, "/text", false)
	for _, test := range []struct {
		what, target, metric, part string
		message                    []byte
		binary                     bool
		code                       uint16
	}{
		{"over-large", "/connection/raw?route=any", "roost_protocol_errors_total", "", make([]byte, 70_001), true, 1009},
		{"no UTF-8", "/text", "roost_protocol_errors_total", "", []byte{0xff}, false, 1007},
		{"binary for text", "/text", "roost_raw_failed_total", `reason="kind"`, []byte("a"), true, 1003},
		{"backend fails", "/text", "roost_raw_failed_total", `reason="backend"`, []byte("fail"), false, 1013},
		{"answer that is no text", "/text", "roost_raw_dropped_total", `reason="utf8"`, []byte("garbage"), false, 1011},
	} {
		before := sum(g.metrics(t), test.metric, test.part)
		r := g.onRoute(t, test.target, test.binary, "X-Pass: open")
		r.write(test.message)
		if code, err := r.end(); code != test.code {
			t.Errorf("%s: %d, %v, want %d", test.what, code, err, test.code)
		}
		if after := sum(g.metrics(t), test.metric, test.part); after <= before {
			t.Errorf("%s: %s %s is %v as before", test.what, test.metric, test.part, after)
		}
	}
	other.write([]byte("still here"))
	if m, err := other.readFrame(); err != nil || string(m) != "still here" {
		t.Errorf("%s, %v", m, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for event, clients := range b.told {
		if event != "raw_authorize" && len(clients) > 1 { // of the one client of a route with events
			t.Errorf("the routes with no-events told %s of %v", event, clients)
		}
	}
}

// A client that does not read what is sent to it is cut, and its memory is bounded.
func TestRawRouteSlow(t *testing.T) {
	t.Parallel()
	b := newRawBackend(t)
	g := start(t, b.config(), "--memory", "--send-buffer", "65536")
	r := g.onRoute(t, "/text", false)
	r.write([]byte("who"))
	who, err := r.readFrame()
	if err != nil {
		t.Fatal(err)
	}
	client := string(who[strings.LastIndexByte(string(who), ' ')+1:])
	piece := strings.Repeat("x", 60_000)
	sent := 0
	for ; sent < 2000 && g.api("send", object{"client": client, "data": piece}, nil) == nil; sent++ {
	}
	if sent == 2000 {
		t.Errorf("%d messages of 60 KB were sent to a client that reads none", sent)
	}
	if got := sum(g.metrics(t), "roost_closed_total", "slow_consumer"); got != 1 {
		t.Errorf("%v slow consumers", got)
	}
}

// The ends of raw clients are told at least once, also of those lost with their gateway.
func TestRawRouteGatewayKilled(t *testing.T) {
	t.Parallel()
	b := newTeller(t)
	g := start(t, b.config()+"raw: {text: {backend: app, no-events: true}}\n", "--data", t.TempDir())
	n := size(t, "EVENT_CLIENTS", 1000) / 5
	var all []*raw
	for i := range n {
		all = append(all, g.onRoute(t, "/connection/raw?route=text", false, "Authorization: Bearer "+tokenOf(fmt.Sprint("user", i))))
	}
	var ids []string
	for i := range n {
		var c struct{ Connections map[string]object }
		g.must(t, "connections", object{"user": fmt.Sprint("user", i)}, &c)
		for id := range c.Connections {
			ids = append(ids, id)
		}
	}
	if len(ids) != n {
		t.Fatalf("%d clients of %d", len(ids), n)
	}
	killed := make(chan struct{})
	b.mu.Lock()
	b.after, b.crash = n/8, func() { g.Kill(); close(killed) }
	b.mu.Unlock()
	for _, r := range all[:n/2] {
		r.conn.Close()
	}
	<-killed
	g.again(t)
	b.wantAll(t, ids)
}
