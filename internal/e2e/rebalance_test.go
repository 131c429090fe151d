//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"roost/internal/proctest"
)

// leastConnections is a load balancer in front of gateways.
type leastConnections struct {
	net.Listener

	mu    sync.Mutex
	back  []string // addresses of gateways
	conns map[string]int
}

func startBalancer(t *testing.T, back ...string) *leastConnections {
	ln, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	b := &leastConnections{Listener: ln, back: back, conns: make(map[string]int)}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go b.relay(c)
		}
	}()
	return b
}

func (b *leastConnections) add(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.back = append(b.back, address)
}

func (b *leastConnections) relay(c net.Conn) {
	defer c.Close()
	b.mu.Lock()
	to := b.back[0]
	for _, a := range b.back {
		if b.conns[a] < b.conns[to] {
			to = a
		}
	}
	b.conns[to]++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.conns[to]--
		b.mu.Unlock()
	}()
	g, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer g.Close()
	go func() {
		_, _ = io.Copy(g, c)
		_ = g.Close()
	}()
	_, _ = io.Copy(c, g)
}

// A new gateway of a cluster gets its share of the clients, who miss nothing. It takes more than a
// minute, since gateways that have just started shed nobody.
func TestRebalance(t *testing.T) {
	t.Parallel()
	port := proctest.FreePorts(t, loopback, 1)[0]
	startNATSAlone(t, "-js", "-sd", t.TempDir(), "-a", loopback, "-p", port)
	flags := []string{"--nats", "nats://" + loopback + ":" + port, "--rebalance", "--rebalance-rate", "20"}
	first, second := start(t, configuration, flags...), start(t, configuration, flags...)
	b := startBalancer(t, first.address, second.address)
	var clients []*sdk
	for i := range 180 {
		c := newSDK(t, "ws://"+b.Addr().String()+"/connection/websocket", i%2 == 0, centrifuge.Config{})
		c.connect(t)
		c.subscribe(t, "c", centrifuge.SubscriptionConfig{})
		clients = append(clients, c)
	}
	third := start(t, configuration, flags...)
	b.add(third.address)
	published := 0
	count := func(g *gateway) int { return int(sum(g.metrics(t), "roost_clients", "")) }
	for end := time.Now().Add(4 * patience); ; time.Sleep(time.Second) {
		first.publish(t, "c", published)
		published++
		a, b, c := count(first), count(second), count(third)
		if min(a, b, c) >= 54 && a+b+c == len(clients) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the gateways have %d, %d and %d clients", a, b, c)
		}
	}
	moved := sum(first.metrics(t), "roost_rebalanced_total", "") + sum(second.metrics(t), "roost_rebalanced_total", "")
	if moved < 40 || moved > 120 {
		t.Errorf("%v clients were shed, 60 had to be", moved)
	}
	for i, c := range clients {
		eventually(t, func() error {
			if n := len(c.all("publication", "c")); n != published {
				return fmt.Errorf("client %d has %d publications of %d", i, n, published)
			}
			return nil
		})
		for k, e := range c.all("publication", "c") {
			if e.offset != uint64(k+1) {
				t.Fatalf("client %d: publication %d has offset %d", i, k+1, e.offset)
			}
		}
	}
}
