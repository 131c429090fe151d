package gateway

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model is a cluster without sockets: nodes with a number of clients, a load balancer, counts that
// come late or never, and clients that take a while to come back.
type model struct {
	t        *testing.T
	r        *rand.Rand
	policy   string // of the load balancer
	nodes    []*modelNode
	inFlight []int // clients that come back at the look after so many
	next     int   // of round robin
	moved    int
	rate     int // the most that a node may shed in a look
}

type modelNode struct {
	balancer
	clients int
	full    bool
	dead    bool
	said    []int // what it said at the looks before
}

func newModel(t *testing.T, policy string, counts ...int) *model {
	m := &model{t: t, r: rand.New(rand.NewPCG(7, 7)), policy: policy, rate: 500}
	for _, c := range counts {
		m.add(c, rebalanceWarm)
	}
	return m
}

// add adds a node that has been there for so many looks.
func (m *model) add(clients, looks int) *modelNode {
	n := &modelNode{balancer: balancer{rate: m.rate, threshold: 0.2, looks: looks}, clients: clients}
	m.nodes = append(m.nodes, n)
	return n
}

// place lets a client in.
func (m *model) place() {
	open := slices.DeleteFunc(slices.Clone(m.nodes), func(n *modelNode) bool { return n.full || n.dead })
	switch m.policy {
	case "random":
		open[m.r.IntN(len(open))].clients++
	case "round robin":
		m.next++
		open[m.next%len(open)].clients++
	default:
		slices.MinFunc(open, func(a, b *modelNode) int { return a.clients - b.clients }).clients++
	}
}

// step is one look of every node.
func (m *model) step() {
	back := 0
	if len(m.inFlight) > 0 {
		back, m.inFlight = m.inFlight[0], m.inFlight[1:]
	}
	for range back {
		m.place()
	}
	for _, n := range m.nodes {
		n.said = append(n.said, n.clients)
	}
	for _, n := range m.nodes {
		if n.dead || n.full {
			continue
		}
		var others []int
		for _, o := range m.nodes {
			late := 1 + m.r.IntN(2) // what it said now, or a look ago
			if o == n || o.dead || o.full || len(o.said) < late || m.r.IntN(20) == 0 {
				continue // one in twenty is lost
			}
			others = append(others, o.said[len(o.said)-late])
		}
		shed := n.look(n.clients, others)
		if shed < 0 || shed > m.rate || shed > n.clients {
			m.t.Fatalf("a node with %d clients sheds %d, at most %d", n.clients, shed, m.rate)
		}
		n.clients -= shed
		m.moved += shed
		for range shed {
			m.later(m.r.IntN(2))
		}
	}
}

// later has a client come back after so many looks.
func (m *model) later(looks int) {
	for len(m.inFlight) <= looks {
		m.inFlight = append(m.inFlight, 0)
	}
	m.inFlight[looks]++
}

// spread returns by what share of the mean the lowest and highest differ.
func (m *model) spread() (low, high float64) {
	var alive []int
	sum := 0
	for _, n := range m.nodes {
		if !n.dead && !n.full {
			alive = append(alive, n.clients)
			sum += n.clients
		}
	}
	mean := float64(sum) / float64(len(alive))
	return float64(slices.Min(alive)) / mean, float64(slices.Max(alive)) / mean
}

// settle runs until nothing has been moved for a while, at most so many looks.
func (m *model) settle(looks int) (used int) {
	for quiet := 0; used < looks && quiet < 30; used++ {
		before := m.moved
		m.step()
		if quiet++; m.moved != before || len(m.inFlight) > 0 {
			quiet = 0
		}
	}
	return used
}

func same(n, clients int) (all []int) {
	for range n {
		all = append(all, clients)
	}
	return all
}

// Whatever the load balancer does, counts even out, and clients are not moved for nothing: with
// least connections hardly more than it takes; where clients are let in blindly, each is moved
// about once.
func TestRebalance(t *testing.T) {
	const each = 10_000
	for _, c := range []struct {
		name    string
		counts  []int
		need    int // clients that must move
		most    float64
		blindly float64 // times all clients
	}{
		{"one new of 10", append(same(9, each), 0), each * 9 / 10, 1.4, 1.5},
		{"one new of 100", append(same(99, each), 0), each * 99 / 100, 1.4, 1.5},
		{"half of 20 new", append(same(10, each), same(10, 0)...), each * 5, 1.4, 1.5},
		{"two", []int{each, 0}, each / 2, 1.4, 1.5},
	} {
		for _, policy := range []string{"least connections", "random", "round robin"} {
			t.Run(fmt.Sprint(c.name, ", ", policy), func(t *testing.T) {
				m := newModel(t, policy, c.counts...)
				total := 0
				for _, n := range c.counts {
					total += n
				}
				used := m.settle(3000)
				low, high := m.spread()
				t.Logf("%d looks, %d moved, %d needed, %d in all, %.3f to %.3f", used, m.moved, c.need, total, low, high)
				if low < 0.79 || high > 1.21 || used == 3000 {
					t.Errorf("after %d looks the nodes have %.2f to %.2f of the mean", used, low, high)
				}
				bound := c.most * float64(c.need)
				if policy != "least connections" {
					bound = c.blindly * float64(total)
				}
				if float64(m.moved) > bound {
					t.Errorf("%d clients were moved, at most %.0f should be", m.moved, bound)
				}
			})
		}
	}
}

// Nobody is moved where there is no need.
func TestRebalanceRests(t *testing.T) {
	for name, m := range map[string]*model{
		"equal":           newModel(t, "random", same(100, 5000)...),
		"within the band": newModel(t, "random", 900, 1000, 1100, 1050, 950),
		"few clients":     newModel(t, "random", 60, 0, 0),
		"alone":           newModel(t, "random", 5000),
		"just started":    func() *model { m := newModel(t, "random"); m.add(5000, -100); m.add(0, -100); return m }(),
		"draining":        func() *model { m := newModel(t, "random", 5000, 5000, 0); m.nodes[2].full = true; return m }(),
		"dead":            func() *model { m := newModel(t, "random", 5000, 5000, 0); m.nodes[2].dead = true; return m }(),
	} {
		for range 60 {
			m.step()
		}
		if m.moved != 0 {
			t.Errorf("%s: %d clients were moved", name, m.moved)
		}
	}
}

// Counts that go up and down by themselves move nobody, nor does a node that dies and whose
// clients come back to the others, until it is there again, and then they do.
func TestRebalanceChurn(t *testing.T) {
	m := newModel(t, "least connections", same(10, 5000)...)
	churn := func() {
		for range 500 {
			if n := m.nodes[m.r.IntN(10)]; n.clients > 0 && !n.dead {
				n.clients--
				m.later(m.r.IntN(3))
			}
		}
	}
	for range 100 {
		churn()
		m.step()
	}
	if m.moved != 0 {
		t.Fatalf("churn: %d clients were moved", m.moved)
	}
	died := m.nodes[3]
	died.dead = true
	for ; died.clients > 0; died.clients-- {
		m.later(m.r.IntN(3))
	}
	for range 50 {
		churn()
		m.step()
	}
	if m.moved != 0 {
		t.Fatalf("after a death: %d clients were moved", m.moved)
	}
	died.dead, died.balancer = false, balancer{rate: m.rate, threshold: 0.2}
	for range 300 {
		churn()
		m.step()
	}
	if low, high := m.spread(); low < 0.9 || high > 1.1 || m.moved > 5500 {
		t.Errorf("%.2f to %.2f of the mean, %d moved", low, high, m.moved)
	}
}

func TestPeers(t *testing.T) {
	var p peers
	now := time.Now()
	p.heard(load{Node: "a", Clients: 1}, now)
	p.heard(load{Node: "b", Clients: 2}, now.Add(-rebalanceFresh-time.Second))
	p.heard(load{Node: "c", Clients: 3, Full: true}, now)
	p.heard(load{Node: "me", Clients: 4}, now)
	if got := p.counts("me", now); !slices.Equal(got, []int{1}) {
		t.Errorf("%v", got)
	}
	if len(p.seen) != 3 {
		t.Errorf("%d nodes are remembered", len(p.seen))
	}
}
