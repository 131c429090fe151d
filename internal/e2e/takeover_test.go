//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
	"github.com/centrifugal/protocol"
)

// succeed starts a gateway that takes over from g, which ends.
func (g *gateway) succeed(t testing.TB) *gateway {
	t.Helper()
	next, err := launchAt(loopback+":0", loopback+":0", append(append([]string{}, g.flags...), "--takeover"))
	if err != nil {
		t.Fatalf("%v\nthe old one's log:\n%s", err, tail(g.Log.String(), 4<<10))
	}
	next.flags = g.flags
	next.endWith(t)
	if next.address != g.address || next.internal != g.internal {
		t.Fatalf("it is at %s and %s, the old one was at %s and %s", next.address, next.internal, g.address, g.internal)
	}
	select {
	case <-g.Ended:
	case <-time.After(patience):
		t.Fatal("the old gateway has not ended")
	}
	if code := g.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the old gateway ended with %d:\n%s", code, tail(g.Log.String(), 4<<10))
	}
	return next
}

// traffic publishes numbers to a channel, by a client, if there is one, and by the server API in
// turns, until stopped; every publication must succeed.
type traffic struct {
	channel string
	sent    atomic.Int64
	stop    chan struct{}
	done    sync.WaitGroup
}

func startTraffic(t testing.TB, g *gateway, c *sdk, channel string) *traffic {
	x := &traffic{channel: channel, stop: make(chan struct{})}
	x.done.Go(func() {
		for i := int64(1); ; i++ {
			select {
			case <-x.stop:
				return
			default:
			}
			var err error
			if c == nil || i%2 == 0 {
				err = g.api("publish", object{"channel": channel, "data": i}, nil)
			} else {
				_, err = c.Publish(context.Background(), channel, []byte(fmt.Sprint(i)))
			}
			if err != nil {
				t.Errorf("publication %d in %s: %v", i, channel, err)
				return
			}
			x.sent.Store(i)
		}
	})
	return x
}

// end stops it, and waits until c has seen all, once and in order.
func (x *traffic) end(t testing.TB, c *sdk) {
	close(x.stop)
	x.done.Wait()
	sent := int(x.sent.Load())
	eventually(t, func() error {
		if n := len(c.all("publication", x.channel)); n < sent {
			return fmt.Errorf("%s: %d of %d publications", x.channel, n, sent)
		}
		return nil
	})
	for i, e := range c.all("publication", x.channel) {
		if e.data != fmt.Sprint(i+1) {
			t.Fatalf("%s: publication %d is %s", x.channel, i+1, e.data)
		}
	}
}

// undisturbed tells whether a client has noticed anything.
func (s *sdk) undisturbed(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.kind == "disconnected" || e.kind == "error" || strings.HasPrefix(e.kind, "unsub") || e.kind == "subscribing" && e.code != 0 || e.kind == "connecting" && e.code != 0 {
			t.Errorf("a client noticed the takeover: %+v", e)
		}
	}
}

// Clients of both encodings notice nothing of five takeovers under traffic: no publication is
// missing, doubled or out of order, with and without history, and everything they are goes on.
func TestTakeover(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--data", filepath.Join(t.TempDir(), "data"))
	var clients []*sdk
	var ids []string
	var all []*traffic
	for i := range 8 {
		c, id := g.connected(t, i%2 == 0, fmt.Sprint("user", i))
		clients, ids = append(clients, c), append(ids, id)
		for _, prefix := range []string{"", "live:"} {
			channel := fmt.Sprintf("%sof%d", prefix, i)
			c.subscribe(t, channel, centrifuge.SubscriptionConfig{})
			all = append(all, startTraffic(t, g, c, channel))
		}
	}
	for range 5 {
		time.Sleep(200 * time.Millisecond)
		g = g.succeed(t)
	}
	for i, x := range all {
		x.end(t, clients[i/2])
		if n := x.sent.Load(); n < 20 {
			t.Errorf("%s: only %d publications were under way", x.channel, n)
		}
	}
	for i, c := range clients {
		c.undisturbed(t)
		var found struct {
			Connections map[string]json.RawMessage `json:"connections"`
		}
		g.must(t, "connections", object{"user": fmt.Sprint("user", i)}, &found)
		if len(found.Connections) != 1 || found.Connections[ids[i]] == nil {
			t.Errorf("client %s of user%d is now %s", ids[i], i, found.Connections)
		}
	}
	late, _ := g.connected(t, false, "late")
	late.subscribe(t, "of0", centrifuge.SubscriptionConfig{})
	if n := sum(g.metrics(t), "roost_clients", ""); n != 9 {
		t.Errorf("%v clients are counted, want 9", n)
	}
}

// The same for a node of a cluster: its clients notice nothing, nor do those of another node.
func TestTakeoverInCluster(t *testing.T) {
	t.Parallel()
	_, gateways := startCluster(t)
	g, other := gateways[0], gateways[1]
	var all []*traffic
	var clients []*sdk
	for i := range 6 {
		c, _ := g.connected(t, i%2 == 0, fmt.Sprint("user", i))
		from, by := g, c
		if i >= 3 {
			from, by = other, nil
		}
		for _, prefix := range []string{"", "live:"} {
			channel := fmt.Sprintf("%sof%d", prefix, i)
			c.subscribe(t, channel, centrifuge.SubscriptionConfig{})
			clients = append(clients, c)
			all = append(all, startTraffic(t, from, by, channel))
		}
	}
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		g = g.succeed(t)
	}
	for i, x := range all {
		x.end(t, clients[i])
	}
	for _, c := range clients {
		c.undisturbed(t)
	}
	var info struct{ Nodes []struct{ UID string } }
	if other.must(t, "info", object{}, &info); len(info.Nodes) != 3 {
		t.Errorf("the cluster has %d nodes: %+v", len(info.Nodes), info)
	}
}

// The backend is told of the end of a client that could not be handed over, since a call for it was
// under way, and of no other's.
func TestTakeoverLeavesBehind(t *testing.T) {
	t.Parallel()
	hung := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		hung <- struct{}{}
		<-r.Context().Done()
	}))
	defer slow.Close()
	b := newTeller(t)
	conf := configuration + fmt.Sprintf("\nbackends: {servers: {app: {url: 'http://%s/'}, slow: {url: '%s/', timeout: 20s}}, rpc: [{method: '*', backend: slow}], disconnect: app, events: {grace: 5s}}\n",
		b.address, slow.URL)
	g := start(t, conf, "--data", filepath.Join(t.TempDir(), "data"))
	all, ids := rawUsers(t, g, 20)
	for _, r := range all[:3] {
		r.send(&protocol.Command{Id: 2, Rpc: &protocol.RPCRequest{Method: "m", Data: []byte("1")}})
		<-hung
	}
	g.succeed(t)
	b.wantAll(t, ids[:3])
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids[3:] {
		if b.got[id] > 0 {
			t.Errorf("client %s is said to have gone", id)
		}
	}
}
