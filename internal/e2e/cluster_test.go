//go:build linux

package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// startCluster runs three gateways on a cluster of three NATS servers.
func startCluster(t testing.TB) (natsCluster, []*gateway) { t.Helper(); return startClusterWith(t) }

func startClusterWith(t testing.TB, flags ...string) (natsCluster, []*gateway) {
	t.Helper()
	n := startNATS(t)
	var gateways []*gateway
	for range n {
		gateways = append(gateways, start(t, configuration, append([]string{"--nats", n.urls(), "--nats-replicas", "3",
			"--handoff-socket", filepath.Join(t.TempDir(), "handoff.sock")}, flags...)...))
	}
	eventually(t, func() error {
		for i, g := range gateways {
			var info struct{ Nodes []struct{ UID string } }
			if err := g.api("info", object{}, &info); err != nil || len(info.Nodes) != 3 {
				return fmt.Errorf("gateway %d: info %+v, %v", i, info, err)
			}
		}
		return nil
	})
	return n, gateways
}

// What is done on one node works on all.
func TestCluster(t *testing.T) {
	t.Parallel()
	_, gateways := startCluster(t)
	ch := named(t, "")
	var clients []*sdk
	var ids []string
	for i, g := range gateways {
		c, id := g.connected(t, i%2 == 0, fmt.Sprint("user", i))
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		clients, ids = append(clients, c), append(ids, id)
	}
	var want []string
	for round := range 10 {
		for i, c := range clients {
			data := fmt.Sprint(100*round + i)
			if _, err := c.Publish(inTime(t), ch, []byte(data)); err != nil {
				t.Fatal(err)
			}
			if p := gateways[(i+1)%3].publish(t, ch, data); p.Offset != uint64(len(want)+2) {
				t.Fatalf("offset %d, want %d", p.Offset, len(want)+2)
			}
			want = append(want, data, `"`+data+`"`)
		}
	}
	for _, c := range clients {
		c.wantPublications(t, ch, want...)
	}
	live := named(t, "live:")
	for _, c := range clients {
		c.subscribe(t, live, centrifuge.SubscriptionConfig{})
	}
	gateways[0].publish(t, live, "live")
	for _, c := range clients {
		c.wantPublications(t, live, `"live"`)
	}
	t.Run("questions", func(t *testing.T) { clusterQuestions(t, gateways, clients, ids, ch) })
	t.Run("orders", func(t *testing.T) { clusterOrders(t, gateways, clients, ids) })
}

// clusterQuestions are answered with what all nodes know.
func clusterQuestions(t *testing.T, gateways []*gateway, clients []*sdk, ids []string, ch string) {
	for i, g := range gateways {
		p, err := clients[i].Presence(inTime(t), ch)
		if err != nil || len(p.Clients) != 3 || p.Clients[ids[(i+1)%3]].User != fmt.Sprint("user", (i+1)%3) {
			t.Errorf("presence at %d: %v, %v", i, p, err)
		}
		var stats struct {
			Clients int `json:"num_clients"`
			Users   int `json:"num_users"`
		}
		if g.must(t, "presence_stats", object{"channel": ch}, &stats); stats.Clients != 3 || stats.Users != 3 {
			t.Errorf("presence_stats at %d: %+v", i, stats)
		}
		var channels struct {
			Channels map[string]struct {
				Clients int `json:"num_clients"`
			}
		}
		if g.must(t, "channels", object{}, &channels); channels.Channels[ch].Clients != 3 {
			t.Errorf("channels at %d: %+v", i, channels)
		}
		var info struct {
			Nodes []struct {
				UID     string
				Clients int `json:"num_clients"`
			}
		}
		g.must(t, "info", object{}, &info)
		nodes := map[string]bool{}
		for _, n := range info.Nodes {
			nodes[n.UID] = true
			if n.Clients != 1 {
				t.Errorf("info at %d: %+v", i, n)
			}
		}
		if len(nodes) != 3 {
			t.Errorf("info at %d: %+v", i, info)
		}
		var connections struct {
			Connections map[string]struct{ User, Node string }
		}
		g.must(t, "connections", object{}, &connections)
		if len(connections.Connections) != 3 || connections.Connections[ids[(i+2)%3]].User != fmt.Sprint("user", (i+2)%3) {
			t.Errorf("connections at %d: %+v", i, connections)
		}
		var status struct {
			Statuses []struct {
				User   string
				Online bool
			}
		}
		g.must(t, "user_status", object{"users": []string{"user0", "user1", "user2", "user3"}}, &status)
		for k, s := range status.Statuses {
			if s.Online != (k < 3) || s.User != fmt.Sprint("user", k) {
				t.Errorf("user_status at %d: %+v", i, status)
			}
		}
	}
}

// clusterOrders reach clients of other nodes.
func clusterOrders(t *testing.T, gateways []*gateway, clients []*sdk, ids []string) {
	private := named(t, "private:")
	for i, c := range clients {
		g, user := gateways[(i+1)%3], fmt.Sprint("user", i)
		g.must(t, "subscribe", object{"user": user, "channel": private}, nil)
		c.wait(t, "server subscribed", private)
		gateways[(i+2)%3].publish(t, private, i)
		c.wantPublications(t, private, fmt.Sprint(i))
		g.must(t, "unsubscribe", object{"user": user, "channel": private}, nil)
		c.wait(t, "server unsubscribed", private)
	}
	gateways[1].must(t, "disconnect", object{"client": ids[0], "user": "user0", "disconnect": object{"code": 4001, "reason": "again"}}, nil)
	if e := clients[0].wait(t, "connecting", ""); e.code != 4001 {
		t.Errorf("%+v", e)
	}
	clients[0].wait(t, "connected", "")
	gateways[2].must(t, "disconnect", object{"user": "user0"}, nil)
	if e := clients[0].wait(t, "disconnected", ""); e.code != 3503 {
		t.Errorf("%+v", e)
	}
	gateways[0].must(t, "block_user", object{"user": "user1"}, nil)
	clients[1].wait(t, "disconnected", "")
	for i, g := range gateways {
		r := g.rawClient(t, i%2 == 0)
		r.send(connectCommand(1, tokenOf("user1")))
		if code, err := r.end(); err != nil || code != 3500 {
			t.Errorf("a blocked user at %d: %d, %v", i, code, err)
		}
	}
}

// One node is killed: its clients go on at the others, and it leaves no ghosts.
func TestKilledNode(t *testing.T) {
	t.Parallel()
	_, gateways := startCluster(t)
	ch := named(t, "")
	var ids []string
	for i, g := range gateways {
		c, id := g.connected(t, i%2 == 0, fmt.Sprint("user", i))
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		ids = append(ids, id)
	}
	s := newStorm(t, 2000, gateways...)
	s.keys = true
	s.run(size(t, "CLIENTS", 18), size(t, "CHANNELS_EACH", 4), func() {
		s.replace(gateways[2], nil)
		gateways[2].Kill()
		time.Sleep(2 * time.Second) // the bar: no ghost after that
		for _, g := range gateways[:2] {
			var p struct{ Presence map[string]object }
			if err := g.api("presence", object{"channel": ch}, &p); err != nil || len(p.Presence) != 2 || p.Presence[ids[2]] != nil {
				t.Errorf("presence: %+v, %v", p, err)
			}
		}
	})
	s.wantAll()
	if n := s.lost.Load(); n != 0 {
		t.Errorf("%d subscriptions could not be recovered", n)
	}
}

// All of NATS is killed and comes back: no client is disconnected, and nothing that was
// acknowledged is lost.
func TestNATSAway(t *testing.T) {
	t.Parallel()
	n, gateways := startCluster(t)
	away := time.Duration(size(t, "AWAY_SECONDS", 4)) * time.Second
	ch, live := named(t, ""), named(t, "live:")
	var clients []*sdk
	for i, g := range gateways {
		c, _ := g.connected(t, i%2 == 0, fmt.Sprint("user", i))
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		c.subscribe(t, live, centrifuge.SubscriptionConfig{})
		clients = append(clients, c)
	}
	gateways[0].publish(t, ch, "before")
	s := newStorm(t, 1500, gateways...)
	s.keys = true
	s.run(size(t, "CLIENTS", 12), size(t, "CHANNELS_EACH", 4), func() {
		n.kill()
		time.Sleep(away)
		for _, c := range clients {
			if c.State() != centrifuge.StateConnected {
				t.Errorf("a client is %s while NATS is away", c.State())
			}
		}
		n.start(t)
	})
	s.wantAll()
	eventually(t, func() error {
		return gateways[0].api("publish", object{"channel": ch, "data": "after", "idempotency_key": "after"}, nil)
	})
	for _, g := range gateways {
		eventually(t, g.ready)
	}
	// Live channels go on, too, as soon as all nodes are back.
	eventually(t, func() error {
		if err := gateways[1].api("publish", object{"channel": live, "data": "again"}, nil); err != nil {
			return err
		}
		for i, c := range clients {
			if len(c.all("publication", live)) == 0 {
				return fmt.Errorf("client %d sees nothing", i)
			}
		}
		return nil
	})
	for i, c := range clients {
		c.wantPublications(t, ch, `"before"`, `"after"`)
		if n := len(c.all("connecting", "")); n != 1 {
			t.Errorf("client %d connected %d times", i, n)
		}
		if all := c.all("publication", ch); len(all) != 2 {
			t.Errorf("client %d: %+v", i, all)
		}
	}
	if n := s.lost.Load(); n != 0 {
		t.Errorf("%d subscriptions could not be recovered", n)
	}
}
