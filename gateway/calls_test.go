package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roost/auth"
	"roost/proto/client"
)

func TestRPC(t *testing.T) {
	n := start(t, func(o *Options) {
		o.Handlers.RPC = func(_ context.Context, e RPCEvent) ([]byte, error) {
			switch e.Method {
			case "who":
				return json.Marshal(e.Peer)
			case "own":
				return nil, &client.Error{Code: 400, Message: "no such thing"}
			case "out":
				return nil, &client.Disconnect{Code: 4501, Reason: "enough"}
			case "fault":
				return nil, errors.New("a secret of the backend")
			case "text":
				return []byte("not JSON"), nil
			case "large":
				return []byte(`"` + strings.Repeat("x", 1<<20) + `"`), nil
			case "nothing":
				return nil, nil
			}
			return e.Data, nil
		}
	})
	token, err := auth.SignConnect(secret, auth.Connect{User: "ann", Meta: []byte(`{"tenant":7}`)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a := n.dial("")
	id := a.ok(`{"connect":{"token":"` + token + `"}}`).Connect.Client
	if got := string(a.ok(`{"rpc":{"method":"echo","data":{"x":[1,2]}}}`).RPC.Data); got != `{"x":[1,2]}` {
		t.Errorf("echo: %s", got)
	}
	want := fmt.Sprintf(`{"client":%q,"transport":"websocket","protocol":"json","encoding":"json","user":"ann","meta":{"tenant":7}}`, id)
	if got := string(a.ok(`{"rpc":{"method":"who"}}`).RPC.Data); got != want {
		t.Errorf("who: %s, want %s", got, want)
	}
	if got := a.ok(`{"rpc":{"method":"nothing"}}`).RPC; got == nil || got.Data != nil {
		t.Errorf("nothing: %+v", got)
	}
	a.fails(`{"rpc":{"method":"own"}}`, 400)
	a.fails(`{"rpc":{"method":"fault"}}`, 100)
	a.fails(`{"rpc":{"method":"text"}}`, 100)
	a.fails(`{"rpc":{"method":"large"}}`, 100)
	res, err := n.RPC(t.Context(), &RPCRequest{Method: "who"})
	if err != nil || string(res.Data) != `{"client":"","transport":"api","protocol":"json","encoding":"json"}` {
		t.Errorf("by API: %s, %v", res.Data, err)
	}
	b := n.connected("")
	b.write(`{"id":9,"rpc":{"method":"out"}}`)
	b.ends(4501)
	a.ok(`{"rpc":{"method":"echo","data":1}}`)
}

// Calls that do not come back hold up neither the client's other commands nor, once it
// has as many as it may, the calls of others; and they end with their time.
func TestStuckCalls(t *testing.T) {
	var under atomic.Int64
	n := start(t, func(o *Options) {
		o.MaxCalls, o.CallTimeout = callsPerClient+1, 2*time.Second
		o.Handlers.RPC = func(ctx context.Context, e RPCEvent) ([]byte, error) {
			if e.Method == "fast" {
				return []byte("1"), nil
			}
			under.Add(1)
			defer under.Add(-1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	a, b := n.connected("ann"), n.connected("bob")
	for i := range callsPerClient {
		a.write(fmt.Sprintf(`{"id":%d,"rpc":{"method":"slow"}}`, 1000+i))
	}
	for under.Load() < callsPerClient {
		time.Sleep(time.Millisecond)
	}
	a.fails(`{"rpc":{"method":"fast"}}`, 111)
	a.ok(`{"subscribe":{"channel":"c"}}`)
	b.ok(`{"rpc":{"method":"fast"}}`)
	b.write(`{"id":2000,"rpc":{"method":"slow"}}`)
	for under.Load() < callsPerClient+1 {
		time.Sleep(time.Millisecond)
	}
	n.connected("eve").fails(`{"rpc":{"method":"fast"}}`, 111) // the node's limit
	for left := callsPerClient; left > 0; {
		if m := a.next(); m.ID >= 1000 {
			if m.Error == nil || m.Error.Code != 100 {
				t.Fatalf("%+v", m)
			}
			left--
		}
	}
	if m := b.next(); m.ID != 2000 || m.Error == nil || m.Error.Code != 100 {
		t.Errorf("%+v", m)
	}
	b.ok(`{"rpc":{"method":"fast"}}`)
	// Nothing is left of it in the sessions.
	for {
		left := 0
		n.each(func(s *session) {
			s.Mu.Lock()
			defer s.Mu.Unlock()
			if s.extra != nil {
				left++
			}
		})
		if left == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestSend(t *testing.T) {
	got := make(chan MessageEvent, 1)
	n := start(t, func(o *Options) {
		o.Handlers.Message = func(_ context.Context, e MessageEvent) error {
			switch string(e.Data) {
			case `"out"`:
				return &client.Disconnect{Code: 4001, Reason: "again"}
			case `"fault"`:
				return errors.New("failed")
			}
			got <- e
			return nil
		}
	})
	a := n.connected("ann")
	a.write(`{"send":{"data":"fault"}}`) // which the client does not hear of
	a.write(`{"send":{"data":{"x":1}}}`)
	if e := <-got; string(e.Data) != `{"x":1}` || e.User != "ann" {
		t.Errorf("%+v", e)
	}
	a.write(`{"send":{"data":"out"}}`)
	a.ends(4001)
}

// A client that leaves, and a node that ends, do not wait for calls.
func TestEndDuringCall(t *testing.T) {
	var under atomic.Int64
	n := start(t, func(o *Options) {
		o.CallTimeout = time.Hour
		o.Handlers.RPC = func(ctx context.Context, _ RPCEvent) ([]byte, error) {
			under.Add(1)
			defer under.Add(-1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	a, b := n.connected("ann"), n.connected("bob")
	a.write(`{"id":2,"rpc":{"method":"m"}}`)
	b.write(`{"id":2,"rpc":{"method":"m"}}`)
	for under.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	_ = a.conn.Close()
	for n.Stats().Clients > 1 {
		time.Sleep(time.Millisecond)
	}
	n.Dismiss()
	if err := errors.Join(n.server.Shutdown(t.Context()), n.Node.Shutdown(t.Context())); err != nil {
		t.Error(err)
	}
	for under.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
}
