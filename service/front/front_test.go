package front

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"roost/broker"
	"roost/gateway"
	"roost/internal/proctest"
	"roost/proto/client"
	"roost/service"
	sharedstate "roost/service/sync"
)

// nobody hears what is published.
type nobody struct{}

func (nobody) Publication(string, *broker.Publication) {}
func (nobody) JoinLeave(string, bool, []byte)          {}
func (nobody) Gap(string)                              {}
func (nobody) Notice(string, []byte)                   {}
func (nobody) Query(string, []byte) ([]byte, error)    { return nil, nil }

// rig is a front on an embedded broker, with the clients that a test says are connected.
type rig struct {
	t    *testing.T
	dir  string
	b    *broker.Broker
	s    *sharedstate.Service
	f    *Front
	here sync.Map // clients
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: t.TempDir()}
	r.start()
	t.Cleanup(func() { r.stop(context.Background()) })
	return r
}

func (r *rig) start() {
	r.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	var err error
	if r.b, err = broker.New(broker.Options{Dir: r.dir, Handler: nobody{}, Logger: quiet}); err != nil {
		r.t.Fatal(err)
	}
	if r.s, err = sharedstate.New(sharedstate.Options{Broker: r.b, Logger: quiet}); err != nil {
		r.t.Fatal(err)
	}
	r.f = New(Options{Name: sharedstate.Namespace, Prepare: sharedstate.Prepare, Subscribe: sharedstate.OpSubscribe, Logger: quiet,
		Wills: WillOperations{Set: sharedstate.OpGone, Try: sharedstate.OpTry, Do: sharedstate.OpBatch}})
	r.f.router = r.s.Router()
	r.f.wills.has = func(client string) bool {
		_, ok := r.here.Load(client)
		return ok
	}
	if err := r.f.wills.open(r.t.Context(), r.b, false); err != nil {
		r.t.Fatal(err)
	}
	r.f.Start()
}

// stop ends the front; with a context that has ended what clients have left is left to the next one.
func (r *rig) stop(ctx context.Context) {
	r.f.Close(ctx)
	if err := errors.Join(r.s.Close(), r.b.Close()); err != nil {
		r.t.Error(err)
	}
}

// ask calls as a client.
func (r *rig) ask(user, op, params string) (string, error) {
	data, err := r.f.rpc(r.t.Context(), gateway.RPCEvent{Peer: gateway.Peer{User: user, Client: "client-" + user}, Method: "sync." + op, Data: []byte(params)})
	return string(data), err
}

func (r *rig) ok(user, op, params string) string {
	r.t.Helper()
	v, err := r.ask(user, op, params)
	if err != nil {
		r.t.Fatalf("%s %s: %v", op, params, err)
	}
	return v
}

func (r *rig) refused(user string, code uint32, op, params string) {
	r.t.Helper()
	_, err := r.ask(user, op, params)
	var e *client.Error
	if !errors.As(err, &e) || e.Code != code {
		r.t.Errorf("%s %s: %v, want an error %d", op, params, err, code)
	}
}

// value is a document's, as a backend sees it.
func (r *rig) value(name string) string {
	r.t.Helper()
	b, err := r.f.Do(r.t.Context(), "get", fmt.Appendf(nil, `{"type":"document","name":%q}`, name))
	if err != nil {
		r.t.Fatal(err)
	}
	var v struct{ Data json.RawMessage }
	if err := json.Unmarshal(b, &v); err != nil {
		r.t.Fatal(err)
	}
	return string(v.Data)
}

func (r *rig) becomes(name, want string) {
	r.t.Helper()
	proctest.Eventually(r.t, func() error {
		if got := r.value(name); got != want {
			return fmt.Errorf("%s is %s, want %s", name, got, want)
		}
		return nil
	})
}

// Clients are who they are, backends may do everything, and neither what gateways do.
func TestCallers(t *testing.T) {
	r := newRig(t)
	r.ok("ann", "open", `{"type":"document","name":"d","restricted":true}`)
	r.refused("bob", sharedstate.CodeNoPermission, "get", `{"type":"document","name":"d"}`)
	if v := r.value("d"); v != "{}" {
		t.Errorf("a backend reads %s", v)
	}
	for _, op := range []string{"subscribe", "try", "nonsense", ""} {
		r.refused("ann", sharedstate.CodeUnknownOp, op, `{"type":"document","name":"d"}`)
	}
	r.refused("ann", sharedstate.CodeInvalid, "get", `no JSON`)
	_, err := r.f.Do(t.Context(), "on_disconnect", []byte(`{"type":"document","name":"d","operations":[{"op":"set","data":1}]}`))
	var e *service.Error
	if !errors.As(err, &e) || e.Code != sharedstate.CodeClientsOnly {
		t.Errorf("on_disconnect of a backend: %v", err)
	}
	data, err := r.f.rpc(t.Context(), gateway.RPCEvent{Peer: gateway.Peer{Transport: gateway.TransportAPI}, Method: "sync.get", Data: []byte(`{"type":"document","name":"d"}`)})
	if err != nil || !strings.Contains(string(data), `"created_by":"ann"`) {
		t.Errorf("rpc of the server API: %s, %v", data, err)
	}
}

func TestSubscribe(t *testing.T) {
	r := newRig(t)
	var a struct{ Channel string }
	if err := json.Unmarshal([]byte(r.ok("ann", "open", `{"type":"document","name":"d","restricted":true}`)), &a); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, channel string
		code          uint32
	}{
		{"ann", a.Channel, 0},
		{"bob", a.Channel, sharedstate.CodeNoPermission},
		{"ann", "sync:nonsense", sharedstate.CodeBadName},
		{"ann", "sync:daaaaaaaaaaaaaaaaaaaaaaaaaa", sharedstate.CodeUnknownObject},
	} {
		_, err := r.f.subscribe(t.Context(), gateway.SubscribeEvent{Peer: gateway.Peer{User: c.user, Client: "x"}, Channel: c.channel})
		var e *client.Error
		if code := uint32(0); errors.As(err, &e) {
			code = e.Code
			if code != c.code {
				t.Errorf("%s of %s: %v", c.channel, c.user, err)
			}
		} else if err != nil || c.code != 0 {
			t.Errorf("%s of %s: %v, want %d", c.channel, c.user, err, c.code)
		}
	}
	if e := clientError(service.Unavailable).(*client.Error); !e.Temporary || e.Code != 100 {
		t.Errorf("a service that is away is told as %+v", e)
	}
}

const wish = `{"type":"document","name":%q,"operations":[{"op":"set","data":%q}]}`

// What a client wants done when it goes is done then: what it said last, for each object, and nothing that it took back.
func TestWills(t *testing.T) {
	r := newRig(t)
	r.here.Store("client-ann", true)
	for _, name := range []string{"a", "b", "c"} {
		r.ok("ann", "open", fmt.Sprintf(`{"type":"document","name":%q}`, name))
		r.ok("ann", "on_disconnect", fmt.Sprintf(wish, name, "first"))
	}
	r.ok("ann", "on_disconnect", fmt.Sprintf(wish, "a", "second"))
	r.ok("ann", "on_disconnect", `{"type":"document","name":"b"}`)
	r.ok("ann", "on_disconnect", `{"type":"document","name":"b"}`) // there is none any more
	r.refused("ann", sharedstate.CodeUnknownObject, "on_disconnect", fmt.Sprintf(wish, "none", "x"))
	r.refused("ann", sharedstate.CodeUnknownOp, "on_disconnect", `{"type":"document","name":"a","operations":[{"op":"nonsense"}]}`)
	r.f.wills.gone("client-bob")
	if a := r.value("a"); a != "{}" {
		t.Errorf("before the client goes: %s", a)
	}
	r.f.wills.gone("client-ann")
	r.f.wills.gone("client-ann") // again: nothing is left
	r.becomes("a", `"second"`)
	r.becomes("c", `"first"`)
	if b := r.value("b"); b != "{}" {
		t.Errorf("what was taken back was done: %s", b)
	}
	proctest.Eventually(t, func() error {
		for key := range r.f.wills.ledger.Entries() {
			return fmt.Errorf("%s is still to be done", key)
		}
		return nil
	})
}

// A client that goes while it says what is to be done then has it done.
func TestWillOfNobody(t *testing.T) {
	r := newRig(t)
	r.ok("ann", "open", `{"type":"document","name":"a"}`)
	r.ok("ann", "on_disconnect", fmt.Sprintf(wish, "a", "gone"))
	r.becomes("a", `"gone"`)
}

func TestTooManyWills(t *testing.T) {
	r := newRig(t)
	r.here.Store("client-ann", true)
	for i := range willsPerClient + 1 {
		r.ok("ann", "open", fmt.Sprintf(`{"type":"document","name":"%d"}`, i))
	}
	for i := range willsPerClient {
		r.ok("ann", "on_disconnect", fmt.Sprintf(wish, fmt.Sprint(i), "x"))
	}
	r.refused("ann", sharedstate.CodeFull, "on_disconnect", fmt.Sprintf(wish, fmt.Sprint(willsPerClient), "x"))
	r.ok("ann", "on_disconnect", fmt.Sprintf(wish, "3", "y")) // in the place of another
	r.ok("ann", "on_disconnect", `{"type":"document","name":"4"}`)
	r.ok("ann", "on_disconnect", fmt.Sprintf(wish, fmt.Sprint(willsPerClient), "x"))
}

// What the clients of a gateway that ended wanted is done by its next run.
func TestWillsLeft(t *testing.T) {
	r := newRig(t)
	r.here.Store("client-ann", true)
	r.ok("ann", "open", `{"type":"document","name":"a"}`)
	r.ok("ann", "on_disconnect", fmt.Sprintf(wish, "a", "left"))
	r.here.Clear()
	r.stop(context.Background()) // nobody has told of the client
	r.start()
	r.becomes("a", `"left"`)
}
