package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roost/broker"
	"roost/internal/proctest"
)

// upgrade asks for a path and returns the status, and the client where it is 101.
func (n *testNode) upgrade(path string, header ...string) (int, *raw) {
	n.t.Helper()
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	lines := append([]string{"GET " + path + " HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, header...)
	fmt.Fprint(c, strings.Join(lines, "\r\n")+"\r\n\r\n")
	r := &raw{t: n.t, conn: c, in: bufio.NewReader(c)}
	resp, err := http.ReadResponse(r.in, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, r
}

const rawMessages = 2000

// Messages reach the handlers in order, and their answers the client; connect comes
// first and disconnect last.
func TestRawHandlers(t *testing.T) {
	var mu sync.Mutex
	var told []string
	tell := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, what)
	}
	n := start(t, func(o *Options) {
		o.Raw = RawRoutes{"echo": {Backend: "b", Auth: "none", Path: "/own", Messages: "text"}, "token": {Backend: "b"}}
		o.Handlers.RawConnect = func(_ context.Context, r RawRequest) (RawData, error) {
			tell("connect " + r.Route + " " + r.Path)
			return RawData{Data: []byte("hello")}, nil
		}
		o.Handlers.RawMessage = func(_ context.Context, m RawMessage) (RawData, error) { return m.RawData, nil }
		o.Handlers.RawDisconnect = func(_ context.Context, d RawDisconnect) error {
			tell(fmt.Sprint("disconnect ", d.Code))
			return nil
		}
	})
	for path, want := range map[string]int{"/connection/raw": 404, "/connection/raw?route=other": 404, "/connection/raw?route=token": 401, "/own": 101} {
		if status, _ := n.upgrade(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	_, r := n.upgrade("/connection/raw?route=echo")
	go func() {
		for i := range rawMessages {
			r.write(fmt.Sprint("m", i))
		}
	}()
	for i := -1; i < rawMessages; i++ {
		want := fmt.Sprint("m", i)
		if i < 0 {
			want = "hello"
		}
		if b, end := r.read(); end != nil || string(b) != want {
			t.Fatalf("%q, %+v, want %q", b, end, want)
		}
	}
	_ = r.conn.Close()
	proctest.Eventually(t, func() error {
		mu.Lock()
		defer mu.Unlock()
		if all := strings.Join(told, ", "); !strings.Contains(all, "connect echo /connection/raw") || !strings.Contains(all, "disconnect 1006") {
			return fmt.Errorf("told: %s", all)
		}
		return nil
	})
}

// What raw_authorize may say of how long a client may stay.
func TestRawAuthorizeExpiry(t *testing.T) {
	var at atomic.Int64
	n := start(t, func(o *Options) {
		o.Raw = RawRoutes{"own": {Backend: "b", Auth: rawAuthBackend}}
		o.Handlers.RawAuthorize = func(context.Context, RawRequest) (RawIdentity, error) {
			return RawIdentity{User: "u", ExpireAt: at.Load()}, nil
		}
		o.Handlers.RawMessage = func(_ context.Context, m RawMessage) (RawData, error) { return m.RawData, nil }
	})
	for _, c := range []struct {
		at   int64
		want int
	}{{0, 101}, {time.Now().Unix() + 600, 101}, {1, 503}, {1 << 32, 503}} {
		at.Store(c.at)
		if got, _ := n.upgrade("/connection/raw?route=own"); got != c.want {
			t.Errorf("expire_at %d: %d, want %d", c.at, got, c.want)
		}
	}
	if got := n.Stats().Unusable["raw_authorize"]; got != 2 {
		t.Errorf("%d answers were counted as unusable, want 2", got)
	}
}

// The same over NATS: answers to the reply subject are what the client gets, in order;
// where nobody listens, it is closed with 1013.
func TestRawNATS(t *testing.T) {
	n := start(t, func(o *Options) {
		o.Raw = RawRoutes{"chat": {Backend: "b", Auth: "none", Subject: "app"}, "away": {Backend: "b", Auth: "none", Subject: "nobody"}}
	})
	back, err := n.broker.Wire(1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	node := string(broker.AppendToken(nil, n.broker.Node()))
	if err := back.Subscribe("app.raw.chat.in.*.*.text", func(subject string, data []byte, _ bool) {
		id := strings.Split(subject, ".")[4]
		err := back.Put(sink{t}, []byte("app.raw.chat.out."+node+"."+id+".text"), nil, bytes.ToUpper(data), false)
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	events := make(chan string, 16)
	for _, kind := range []string{"connect", "disconnect"} {
		if err := back.Subscribe("app.raw.chat.in.*.*."+kind, func(_ string, data []byte, _ bool) { events <- kind + string(data) }); err != nil {
			t.Fatal(err)
		}
	}
	_, r := n.upgrade("/connection/raw?route=chat")
	if e := <-events; !strings.HasPrefix(e, "connect{") || !strings.Contains(e, `"reply":"app.raw.chat.out.`) {
		t.Errorf("%s", e)
	}
	go func() {
		for i := range rawMessages {
			r.write(fmt.Sprint("m", i))
		}
	}()
	for i := range rawMessages {
		if b, end := r.read(); end != nil || string(b) != fmt.Sprint("M", i) {
			t.Fatalf("%q, %+v, want M%d", b, end, i)
		}
	}
	_ = r.conn.Close()
	if e := <-events; !strings.HasPrefix(e, "disconnect{") {
		t.Errorf("%s", e)
	}
	_, alone := n.upgrade("/connection/raw?route=away")
	alone.write("is anybody there")
	alone.ends(1013)
}

// sink is a sender that loses nothing.
type sink struct{ t *testing.T }

func (sink) Hold()            {}
func (sink) Resume()          {}
func (s sink) Lost(err error) { s.t.Error(err) }
func (sink) Broken() bool     { return false }

// An idle client of a raw route holds no more than one of the client protocol: nothing beside
// its session.
func TestRawIdle(t *testing.T) {
	n := start(t, func(o *Options) {
		o.Raw = RawRoutes{"nats": {Backend: "b", Auth: "none", Subject: "app"}, "http": {Backend: "b", Auth: "none"}}
		o.Handlers.RawMessage = func(_ context.Context, m RawMessage) (RawData, error) { return m.RawData, nil }
	})
	back, err := n.broker.Wire(1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if err := back.Subscribe("app.>", func(string, []byte, bool) {}); err != nil {
		t.Fatal(err)
	}
	for _, route := range []string{"nats", "http"} {
		_, r := n.upgrade("/connection/raw?route=" + route)
		r.write("hello")
		if route == "http" {
			if b, end := r.read(); end != nil || string(b) != "hello" {
				t.Fatalf("%q, %+v", b, end)
			}
		}
	}
	proctest.Eventually(t, func() error {
		seen, extras := 0, 0
		n.each(func(s *session) {
			seen++
			s.Mu.Lock()
			defer s.Mu.Unlock()
			if s.extra != nil {
				extras++
			}
		})
		if seen != 2 || extras != 0 {
			return fmt.Errorf("%d clients, of which %d have extra memory", seen, extras)
		}
		return nil
	})
}
