package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"roost/internal/proctest"
)

// pair is two nodes on one server.
func pair(t *testing.T) (a, b *Broker, ra, rb *recorder) {
	t.Helper()
	s := natsServer(t, t.TempDir(), -1)
	a, ra = start(t, Options{URLs: []string{s.ClientURL()}, Node: "a"})
	b, rb = start(t, Options{URLs: []string{s.ClientURL()}, Node: "b"})
	return a, b, ra, rb
}

func TestTwoNodesOrder(t *testing.T) {
	a, b, ra, rb := pair(t)
	a.Follow("ch")
	b.Follow("ch")
	const publishers, each = 4, 100
	var done sync.WaitGroup
	for i := range publishers {
		done.Go(func() {
			for n := range each {
				node := []*Broker{a, b}[(i+n)%2]
				if _, _, err := node.Publish(t.Context(), "ch", Publication{Data: fmt.Appendf(nil, "%d", i)}, PublishOptions{HistorySize: 1000}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	const want = publishers * each
	for name, r := range map[string]*recorder{"a": ra, "b": rb} {
		r.wait(t, "all", func() bool { return len(r.pubs["ch"]) >= want })
		inOrder(t, name, r.of("ch"), want)
		if r.gaps["ch"] != 0 {
			t.Errorf("%s: %d gaps", name, r.gaps["ch"])
		}
	}
	for _, n := range []*Broker{a, b} {
		pubs, _, err := n.History(t.Context(), "ch", HistoryQuery{Limit: -1, Size: 1000})
		if err != nil {
			t.Fatal(err)
		}
		inOrder(t, "history", pubs, want)
	}
}

// Two nodes race for the same key and version: one publication comes of it.
func TestTwoNodesKeys(t *testing.T) {
	a, b, _, _ := pair(t)
	for round := range 20 {
		o := kept
		o.IdempotencyKey = strconv.Itoa(round)
		var mu sync.Mutex
		var done sync.WaitGroup
		stored := map[Position]int{}
		first := 0
		for _, n := range []*Broker{a, b, a, b} {
			done.Go(func() {
				pos, suppressed, err := n.Publish(t.Context(), "ch", Publication{}, o)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				stored[pos]++
				if !suppressed {
					first++
				}
			})
		}
		done.Wait()
		if len(stored) != 1 || first != 1 {
			t.Fatalf("round %d: positions %v, %d not suppressed", round, stored, first)
		}
	}
}

func TestEmptyEpochIsShared(t *testing.T) {
	a, b, _, _ := pair(t)
	_, top := offsets(t, a, "ch", HistoryQuery{Size: 10})
	if pos := publish(t, b, "ch", "x", kept); pos.Epoch != top.Epoch {
		t.Errorf("epoch %s on one node, %s on the other", top.Epoch, pos.Epoch)
	}
	if err := a.RemoveHistory(t.Context(), "ch"); err != nil {
		t.Fatal(err)
	}
	if got, now := offsets(t, b, "ch", HistoryQuery{Size: 10, Limit: -1}); got != "" || now != (Position{1, top.Epoch}) {
		t.Errorf("after removal on the other node: %q at %+v", got, now)
	}
}

// deaf makes a node miss live messages of a channel until the returned function is
// called.
func deaf(t *testing.T, b *Broker, ch string) (hear func()) {
	t.Helper()
	sh := b.shard(ch)
	if err := sh.sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	if err := b.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() {
		sub, err := b.nc.Subscribe(fmt.Sprintf("roost.ch.%d.*", shardOf(ch)), func(m *nats.Msg) { b.message(sh, m) })
		if err == nil {
			err = b.nc.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		sh.subMu.Lock()
		sh.sub = sub
		sh.subMu.Unlock()
	}
}

func TestRepair(t *testing.T) {
	a, b, _, r := pair(t)
	b.Follow("ch")
	publish(t, a, "ch", "1", kept)
	r.wait(t, "the first", func() bool { return len(r.pubs["ch"]) == 1 })
	hear := deaf(t, b, "ch")
	publish(t, a, "ch", "2", kept)
	publish(t, a, "ch", "3", kept)
	hear()
	publish(t, a, "ch", "4", kept)
	r.wait(t, "the fourth", func() bool { return len(r.pubs["ch"]) == 4 })
	inOrder(t, "repaired", r.of("ch"), 4)
	if r.gaps["ch"] != 0 || b.Stats().Repairs != 1 {
		t.Errorf("%d gaps, %d repairs", r.gaps["ch"], b.Stats().Repairs)
	}

	// What is gone from the history cannot be repaired.
	hear = deaf(t, b, "ch")
	publish(t, a, "ch", "5", kept)
	if err := a.RemoveHistory(t.Context(), "ch"); err != nil {
		t.Fatal(err)
	}
	hear()
	publish(t, a, "ch", "6", kept)
	r.wait(t, "the gap", func() bool { return r.gaps["ch"] == 1 && len(r.pubs["ch"]) == 5 })
	if p := r.of("ch")[4]; p.Offset != 6 {
		t.Errorf("offset %d after the gap", p.Offset)
	}
}

// The base for repairs may be a position that was read, before anything came live.
func TestRepairAfterRead(t *testing.T) {
	a, b, _, r := pair(t)
	publish(t, a, "ch", "1", kept)
	b.Follow("ch")
	offsets(t, b, "ch", HistoryQuery{Size: 10})
	hear := deaf(t, b, "ch")
	publish(t, a, "ch", "2", kept)
	hear()
	publish(t, a, "ch", "3", kept)
	r.wait(t, "the third", func() bool { return len(r.pubs["ch"]) == 2 })
	if got := r.of("ch"); got[0].Offset != 2 || got[1].Offset != 3 {
		t.Errorf("offsets %d, %d", got[0].Offset, got[1].Offset)
	}
}

func TestUnfollow(t *testing.T) {
	a, b, _, r := pair(t)
	b.Follow("ch")
	b.Follow("ch")
	b.Unfollow("ch")
	publish(t, a, "ch", "1", kept)
	r.wait(t, "the first", func() bool { return len(r.pubs["ch"]) == 1 })
	b.Unfollow("ch")
	if b.shard("ch").sub != nil {
		t.Error("still subscribed")
	}
	publish(t, a, "ch", "2", kept)
	b.Follow("ch")
	publish(t, a, "ch", "3", kept)
	r.wait(t, "the third", func() bool { return len(r.pubs["ch"]) == 2 })
	if p := r.of("ch")[1]; p.Offset != 3 {
		t.Errorf("offset %d, want 3", p.Offset)
	}
}

func TestSurvey(t *testing.T) {
	a, b, ra, rb := pair(t)
	answer := func(node string) func(string, []byte) ([]byte, error) {
		return func(kind string, data []byte) ([]byte, error) { return []byte(node + kind + string(data)), nil }
	}
	ra.query, rb.query = answer("a"), answer("b")
	for _, n := range []*Broker{a, b} {
		if got := n.Nodes(); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("%s knows %v", n.Node(), got)
		}
		got, err := n.Survey(t.Context(), "k", []byte("d"))
		if err != nil || len(got) != 2 || string(got["a"]) != "akd" || string(got["b"]) != "bkd" {
			t.Errorf("survey %q, error %v", got, err)
		}
		if err := n.Notify("k", []byte(n.Node())); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*recorder{ra, rb} {
		r.wait(t, "both notices", func() bool { return len(r.notices) == 2 })
	}

	rb.query = func(string, []byte) ([]byte, error) { return nil, errors.New("refused") }
	if got, err := a.Survey(t.Context(), "k", nil); err == nil || len(got) != 1 {
		t.Errorf("survey with a refusal: %q, error %v", got, err)
	}
	stuck := make(chan struct{})
	rb.query = func(string, []byte) ([]byte, error) { <-stuck; return nil, nil }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := a.Survey(ctx, "k", nil); !errors.Is(err, context.DeadlineExceeded) || len(got) != 1 {
		t.Errorf("survey of a stuck node: %q, error %v", got, err)
	}
	close(stuck)

	if err := b.Close(); err != nil { // says goodbye
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); len(a.Nodes()) > 1 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if got, err := a.Survey(t.Context(), "k", nil); err != nil || len(got) != 1 {
		t.Errorf("survey after b has left: %q, error %v", got, err)
	}
}

// A node that dies without a word, while it is asked, is given up without the
// context's help.
func TestSurveyOfDeadNode(t *testing.T) {
	a, b, ra, rb := pair(t)
	ra.query = func(string, []byte) ([]byte, error) { return []byte("a"), nil }
	rb.query = func(string, []byte) ([]byte, error) { b.nc.Close(); return nil, nil }
	if got := a.Nodes(); len(got) != 2 {
		t.Fatalf("nodes %v", got)
	}
	got, err := a.Survey(t.Context(), "k", nil)
	if err != nil || len(got) != 1 {
		t.Errorf("survey %q, error %v", got, err)
	}
	if got := a.Nodes(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("nodes %v", got)
	}
}

func TestNATSAway(t *testing.T) {
	dir := t.TempDir()
	s := natsServer(t, dir, -1)
	port := s.Addr().(*net.TCPAddr).Port
	b, r := start(t, Options{URLs: []string{s.ClientURL()}})
	b.Follow("ch")
	b.Follow("quiet")
	first := publish(t, b, "ch", "1", kept)
	offsets(t, b, "quiet", HistoryQuery{Size: 10})
	r.wait(t, "the first", func() bool { return len(r.pubs["ch"]) == 1 })
	s.Shutdown()
	s.WaitForShutdown()
	for end := time.Now().Add(20 * time.Second); b.Ready() == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if err := b.Ready(); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("ready: %v", err)
	}
	for _, o := range []PublishOptions{kept, {}} {
		if _, _, err := b.Publish(t.Context(), "ch", Publication{}, o); !errors.Is(err, ErrUnavailable) {
			t.Errorf("publish: %v", err)
		}
	}
	if _, _, err := b.History(t.Context(), "ch", HistoryQuery{Size: 10, Limit: -1}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("history: %v", err)
	}
	if err := b.Put(t.Context(), "b", "k", []byte("v"), 0); !errors.Is(err, ErrUnavailable) {
		t.Errorf("put: %v", err)
	}
	b.Follow("new") // must not fail for good

	natsServer(t, dir, port)
	r.wait(t, "gaps", func() bool { return r.gaps["ch"] > 0 && r.gaps["quiet"] > 0 && r.gaps["new"] > 0 })
	if pos := publish(t, b, "ch", "2", kept); pos != (Position{2, first.Epoch}) {
		t.Errorf("position %+v", pos)
	}
	publish(t, b, "new", "1", kept)
	r.wait(t, "what came after", func() bool { return len(r.pubs["ch"]) == 2 && len(r.pubs["new"]) == 1 })
	if b.Stats().Reconnects != 1 {
		t.Errorf("%d reconnects", b.Stats().Reconnects)
	}
}

// Three servers with replicas: a publication on one node is seen on all, and the loss
// of one server loses nothing.
func TestThreeServers(t *testing.T) {
	servers, urls := cluster(t)
	var all []*Broker
	var heard []*recorder
	for i := range 3 {
		// Each node prefers its own server, and knows the others.
		b, r := start(t, Options{URLs: []string{urls[i]}, Replicas: 3, Node: strconv.Itoa(i)})
		b.Follow("ch")
		all, heard = append(all, b), append(heard, r)
	}
	n := 0
	send := func(b *Broker) {
		t.Helper()
		n++
		for end := time.Now().Add(20 * time.Second); ; {
			_, _, err := b.Publish(t.Context(), "ch", Publication{}, PublishOptions{HistorySize: 1000})
			if err == nil {
				return
			}
			if !errors.Is(err, ErrUnavailable) || time.Now().After(end) {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	for i := range 30 {
		send(all[i%3])
	}
	servers[2].Shutdown()
	for i := range 10 {
		send(all[i%2])
	}
	for i := range 2 {
		pubs, top, err := all[i].History(t.Context(), "ch", HistoryQuery{Limit: -1, Size: 1000})
		if err != nil || int(top.Offset) < n {
			t.Fatalf("%d publications, top %+v, error %v", len(pubs), top, err)
		}
		inOrder(t, "history", pubs, int(top.Offset))
		heard[i].wait(t, "all", func() bool { return len(heard[i].pubs["ch"]) == int(top.Offset) })
		inOrder(t, "live", heard[i].of("ch"), int(top.Offset))
	}
}

// cluster runs three servers. They must know each other's ports from the start.
func cluster(t *testing.T) (servers []*server.Server, urls []string) {
	t.Helper()
	ports := proctest.FreePorts(t, "127.0.0.1", 3)
	routes := ""
	for _, port := range ports {
		routes += ",nats://127.0.0.1:" + port
	}
	for i, text := range ports {
		port, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		s, err := server.NewServer(&server.Options{
			ServerName: "s" + strconv.Itoa(i), Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}, Routes: server.RoutesFromStr(routes[1:]),
		})
		if err != nil {
			t.Fatal(err)
		}
		go s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	for _, s := range servers {
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("NATS did not start")
		}
		urls = append(urls, s.ClientURL())
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if slices.ContainsFunc(servers, (*server.Server).JetStreamIsLeader) {
			return servers, urls
		}
	}
	t.Fatal("no leader")
	return nil, nil
}
