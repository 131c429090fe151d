//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
)

// teller is a backend of events that can be killed: it forgets connections and requests
// under way, but not what it has answered.
type teller struct {
	mu      sync.Mutex
	address string
	server  *http.Server
	got     map[string]int // events by client
	dups    int
	after   int    // calls until crash is called, 0: never
	crash   func() // on a goroutine of its own
}

func newTeller(t testing.TB) *teller {
	b := &teller{address: loopback + ":0", got: map[string]int{}}
	b.start(t)
	t.Cleanup(b.kill)
	return b
}

func (b *teller) start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", b.address)
	if err != nil {
		t.Error(err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.address = l.Addr().String()
	b.server = &http.Server{Handler: b}
	go func(s *http.Server) { _ = s.Serve(l) }(b.server)
}

func (b *teller) kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.server.Close()
}

func (b *teller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var e struct{ Event, ID, Client, User string }
	err := json.NewDecoder(r.Body).Decode(&e)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || e.Event != "disconnect" || e.ID != e.Client || e.User == "" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if b.got[e.Client]++; b.got[e.Client] > 1 {
		b.dups++
	}
	if b.after > 0 {
		if b.after--; b.after == 0 {
			go b.crash()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"result":{}}`))
}

func (b *teller) config() string {
	return configuration + fmt.Sprintf("\nbackends: {servers: {app: {url: 'http://%s/'}}, disconnect: app, events: {grace: 5s}}\n", b.address)
}

// wantAll waits until the end of every client was told.
func (b *teller) wantAll(t testing.TB, ids []string) {
	t.Helper()
	eventually(t, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		missing := 0
		for _, id := range ids {
			if b.got[id] == 0 {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d events are missing", missing, len(ids))
		}
		return nil
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Logf("%d clients, %d of their events came more than once", len(ids), b.dups)
}

// rawUsers connects clients with users, without an SDK that would come back.
func rawUsers(t testing.TB, g *gateway, n int) (all []*raw, ids []string) {
	t.Helper()
	for i := range n {
		r := g.rawClient(t, false)
		r.send(connectCommand(1, tokenOf(fmt.Sprint("user", i))))
		reply, err := r.next()
		if err != nil || reply.Connect == nil {
			t.Fatalf("client %d: %v, %v", i, reply, err)
		}
		all, ids = append(all, r), append(ids, reply.Connect.Client)
	}
	return all, ids
}

// A thousand clients go while their backend is killed and started again.
func TestEventsBackendKilled(t *testing.T) {
	t.Parallel()
	b := newTeller(t)
	n := size(t, "EVENT_CLIENTS", 1000)
	b.after, b.crash = n/4, func() { b.kill(); b.start(t) }
	g := start(t, b.config(), "--data", t.TempDir())
	all, ids := rawUsers(t, g, n)
	for _, r := range all {
		r.conn.Close()
	}
	b.wantAll(t, ids)
}

// A thousand clients are lost with their gateway, which is killed while half of them go
// and the backend is killed too.
func TestEventsGatewayKilled(t *testing.T) {
	t.Parallel()
	b := newTeller(t)
	n := size(t, "EVENT_CLIENTS", 1000)
	g := start(t, b.config(), "--data", t.TempDir())
	all, ids := rawUsers(t, g, n)
	killed := make(chan struct{})
	b.mu.Lock()
	b.after, b.crash = n/8, func() { g.Kill(); b.kill(); b.start(t); close(killed) }
	b.mu.Unlock()
	for _, r := range all[:n/2] {
		r.conn.Close()
	}
	<-killed
	g.again(t)
	b.wantAll(t, ids)
}

// One node of two is killed for good: the other tells of its clients.
func TestEventsNodeKilled(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	b := newTeller(t)
	n := size(t, "EVENT_CLIENTS", 1000) / 5
	var gateways []*gateway
	for range 2 {
		gateways = append(gateways, start(t, b.config(), "--nats", nats.urls(), "--nats-replicas", "3"))
	}
	_, lost := rawUsers(t, gateways[0], n)
	_, stay := rawUsers(t, gateways[1], 10)
	gateways[0].Kill()
	b.wantAll(t, lost)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range stay {
		if b.got[id] > 0 {
			t.Errorf("client %s is said to have gone", id)
		}
	}
}
