//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"roost/broker"
)

// call does an operation of sync as the client; it must succeed.
func (s *sdk) call(t testing.TB, op string, params, result any) {
	t.Helper()
	text, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.RPC(inTime(t), "sync."+op, text)
	if err == nil && result != nil {
		err = json.Unmarshal(r.Data, result)
	}
	if err != nil {
		t.Fatalf("%s %s: %v", op, text, err)
	}
}

// denied does an operation that must be refused with a code.
func (s *sdk) denied(t testing.TB, code uint32, op string, params any) {
	t.Helper()
	text, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.RPC(inTime(t), "sync."+op, text)
	wantError(t, err, code)
}

// Clients of both encodings share state, and hear of each other's changes.
func TestSyncClients(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--services", "sync", "--memory")
	ann, _ := g.connected(t, false, "ann")
	bob, _ := g.connected(t, true, "bob")
	var opened struct{ Channel string }
	doc := object{"type": "document", "name": "d"}
	ann.call(t, "open", object{"type": "document", "name": "d", "restricted": true, "data": object{"n": 1}}, &opened)
	bob.denied(t, 1403, "get", doc)
	sub := bob.subscription(t, opened.Channel, centrifuge.SubscriptionConfig{})
	if err := sub.Subscribe(); err != nil {
		t.Fatal(err)
	}
	if e := bob.wait(t, "unsubscribed", opened.Channel); e.code != 1403 {
		t.Errorf("who may not read: %+v", e)
	}
	ann.call(t, "grant", object{"type": "document", "name": "d", "identity": "bob", "read": true}, nil)
	if err := sub.Subscribe(); err != nil {
		t.Fatal(err)
	}
	bob.wait(t, "subscribed", opened.Channel)
	ann.call(t, "set", object{"type": "document", "name": "d", "data": object{"n": 2}}, nil)
	if e := bob.wait(t, "publication", opened.Channel); !strings.Contains(e.data, `"data":{"n":2},"previous":{"n":1}`) || !strings.Contains(e.data, `"actor":"ann"`) {
		t.Errorf("event: %s", e.data)
	}
	bob.denied(t, 1403, "set", object{"type": "document", "name": "d", "data": 1})
	ann.call(t, "revoke", object{"type": "document", "name": "d", "identity": "bob"}, nil)
	if e := bob.wait(t, "unsubscribed", opened.Channel); e.code != 1403 {
		t.Errorf("who may not read any more: %+v", e)
	}
	_, err := ann.Publish(inTime(t), opened.Channel, []byte(`{"type":"updated"}`))
	wantError(t, err, 107)
	if err := g.api("publish", object{"channel": opened.Channel, "data": 1}, nil); err == nil || !strings.Contains(err.Error(), "belongs to a service") {
		t.Errorf("a publication by the API: %v", err)
	}
	if err := g.api("history_remove", object{"channel": opened.Channel}, nil); err == nil || !strings.Contains(err.Error(), "belongs to a service") {
		t.Errorf("the removal of a log: %v", err)
	}
	ann.denied(t, 1414, "subscribe", doc)
	ann.denied(t, 1414, "nonsense", doc)
	ann.denied(t, 1400, "get", 7)
}

// Backends ask on NATS, whichever instance answers, and are trusted.
func TestSyncOverNATS(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	g := start(t, configuration, "--services", "sync", "--remote-services", "--nats", n.urls(), "--nats-replicas", "3")
	startSync(t, n.urls())
	b, err := broker.New(broker.Options{URLs: []string{n.urls()}, Guest: true, Handler: struct{ broker.Handler }{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	ask := func(op, params string) (answer struct {
		Result map[string]any
		Error  *apiError
	}) {
		t.Helper()
		data, err := b.Ask(inTime(t), "roost.sync."+op, []byte(params))
		if err == nil {
			err = json.Unmarshal(data, &answer)
		}
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		return answer
	}
	ann, _ := g.connected(t, false, "ann")
	ann.call(t, "open", object{"type": "document", "name": "d", "restricted": true}, nil)
	if a := ask("set", `{"type":"document","name":"d","data":{"n":1},"if_revision":1}`); a.Result["revision"] != 2.0 {
		t.Errorf("set: %+v", a)
	}
	if a := ask("set", `{"type":"document","name":"d","data":{"n":1},"if_revision":1}`); a.Error == nil || a.Error.Code != 1408 {
		t.Errorf("at an old revision: %+v", a)
	}
	if a := ask("set", `nonsense`); a.Error == nil || a.Error.Code != 1400 {
		t.Errorf("no JSON: %+v", a)
	}
	if a := ask("explode", `{}`); a.Error == nil || a.Error.Code != 1414 {
		t.Errorf("no operation: %+v", a)
	}
	var got struct{ Data map[string]any }
	ann.call(t, "get", object{"type": "document", "name": "d"}, &got)
	if got.Data["n"] != 1.0 {
		t.Errorf("data %v", got.Data)
	}
}

// items of the map "here".
func here(t testing.TB, g *gateway) string {
	var page struct {
		Items []struct {
			Key  string
			Data any
		}
	}
	g.must(t, "sync/query", object{"type": "map", "name": "here"}, &page)
	text := ""
	for _, i := range page.Items {
		text += fmt.Sprint(i.Key, "=", i.Data, " ")
	}
	return text
}

func wantHere(t testing.TB, g *gateway, want string) {
	t.Helper()
	eventually(t, func() error {
		if got := here(t, g); got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// leaves has a client set its key, and have it taken away when it goes.
func (s *sdk) leaves(t testing.TB, key string) {
	t.Helper()
	s.call(t, "map.set", object{"type": "map", "name": "here", "key": key, "data": "in"}, nil)
	s.call(t, "on_disconnect", object{"type": "map", "name": "here", "operations": []object{
		{"op": "map.set", "key": key, "data": "out"}, {"op": "map.set", "key": "last", "data": key}}}, nil)
}

// What a client wants done when it goes is done, also when its gateway is killed; not when another process
// takes over.
func TestSyncOnDisconnect(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--services", "sync", "--data", t.TempDir())
	g.must(t, "sync/open", object{"type": "map", "name": "here"}, nil)
	ann, _ := g.connected(t, false, "ann")
	bob, _ := g.connected(t, true, "bob")
	cid, _ := g.connected(t, true, "cid")
	for key, c := range map[string]*sdk{"ann": ann, "bob": bob, "cid": cid} {
		c.leaves(t, key)
	}
	cid.call(t, "on_disconnect", object{"type": "map", "name": "here"}, nil)
	cid.denied(t, 1414, "on_disconnect", object{"type": "map", "name": "here", "operations": []object{{"op": "map.nonsense", "key": "nobody"}}})
	if err := g.api("sync/on_disconnect", object{"type": "map", "name": "here"}, nil); err == nil {
		t.Error("a backend has no connection to lose")
	}
	ann.Close()
	cid.Close()
	wantHere(t, g, "ann=out bob=in cid=in last=ann ")
	next := g.succeed(t)
	time.Sleep(300 * time.Millisecond)
	wantHere(t, next, "ann=out bob=in cid=in last=ann ")
	next.Kill()
	bob.Close()
	wantHere(t, next.again(t), "ann=out bob=out cid=in last=bob ")
}

// A process that takes over goes on where the old one was, while clients write.
func TestSyncTakeover(t *testing.T) {
	t.Parallel()
	runTakeovers(t, start(t, configuration, "--services", "sync", "--data", t.TempDir()))
}

// So does one in a cluster.
func TestSyncTakeoverInCluster(t *testing.T) {
	t.Parallel()
	_, gateways := startClusterWith(t, "--services", "sync")
	runTakeovers(t, gateways[0])
}
