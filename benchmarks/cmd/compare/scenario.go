package main

import (
	"context"
	"fmt"
	"strconv"

	"roost/benchmarks/internal/fleet"
)

// column is one measured figure of a scenario. The first of a scenario is the one that is divided
// by the floor's and plotted.
type column struct {
	key, title string
	format     string // of one figure
}

// scenario is one kind of load, with its sizes.
type scenario struct {
	name    string
	title   string
	text    string // what the reader should know, and the bar roost has to reach
	columns []column
	ratio   bool // whether a ratio to the base means anything
	base    base // of the ratio; the floor's first figure by default

	connections int
	messages    int
	size        int // bytes of payload
	stalled     int // of the connections, for stall

	measure func(context.Context, options, *fleet.Process, fleet.Server) (map[string]float64, error)
}

// base is what ratios of a scenario are taken against: a figure of one server.
type base struct {
	server, key, title string
}

// against is the base of the scenario's ratios.
func (s scenario) against() base {
	if s.base == (base{}) {
		return base{fleet.Floor, s.columns[0].key, "floor"}
	}
	return s.base
}

func (s scenario) parameters() string {
	text := fmt.Sprintf("%d connections", s.connections)
	if s.stalled > 0 {
		text += fmt.Sprintf(", of which %d never read", s.stalled)
	}
	if s.messages > 0 {
		text += fmt.Sprintf(", %d messages", s.messages)
	}
	if s.size > 0 {
		text += fmt.Sprintf(" of %d B", s.size)
	}
	return text
}

// chooseScenarios returns the named scenarios in the order named.
func chooseScenarios(names []string, quick bool) ([]scenario, error) {
	makers := map[string]func(quick bool) scenario{
		"idle": idle, "echo": echo, "fanout": fanout, "upgrade": upgrade, "stall": stall,
		"clients": clients, "personal": personal, "connect": connect, "channel-fanout": channelFanout, "raw": raw, "rpc": rpc, "stalled": stalled,
	}
	var chosen []scenario
	for _, name := range names {
		maker := makers[name]
		if maker == nil {
			return nil, fmt.Errorf("no scenario %q: there are idle, echo, fanout, upgrade, stall, clients, personal, connect, channel-fanout, raw, rpc and stalled", name)
		}
		chosen = append(chosen, maker(quick))
	}
	return chosen, nil
}

// pick is the size of the real comparison, or the small one that only shows that things work.
func pick(quick bool, full, small int) int {
	if quick {
		return small
	}
	return full
}

func idle(quick bool) scenario {
	s := scenario{
		name: "idle", title: "Idle connections: memory",
		text: "Memory of the server per open, silent connection: the least-squares slope of its resident set over " +
			"the samples taken while connecting in steps. Kernel: growth of the slab while all are open, both ends of a connection; only roughly, as the machine frees " +
			"the sockets of earlier runs meanwhile. " +
			"Roost's bar: at most 400 B.",
		columns: []column{
			{"user_bytes", "user space, B per connection", "%.0f"},
			{"kernel_bytes", "kernel, both ends, B", "%.0f"},
			{"threads", "threads", "%.0f"},
		},
		connections: pick(quick, 15_000, 2_000),
	}
	settle := "3s"
	if quick {
		settle = "200ms"
	}
	s.measure = func(ctx context.Context, o options, p *fleet.Process, server fleet.Server) (map[string]float64, error) {
		slab := watchSlab()
		report, err := load(ctx, o, p, "idle", server.EchoPath(), "--connections", strconv.Itoa(s.connections),
			"--settle", settle, "--hold", "1s")
		grown := slab()
		if err != nil {
			return nil, err
		}
		return require(map[string]*float64{
			"user_bytes":   report.Server.BytesPerConnection,
			"threads":      report.Server.Threads,
			"kernel_bytes": new(grown / float64(s.connections)),
		})
	}
	return s
}

func echo(quick bool) scenario {
	s := scenario{
		name: "echo", title: "Echo: CPU per message", ratio: true,
		text: "Every connection keeps one message in flight (closed loop); each must come back byte for byte. " +
			"CPU is the server's, user and system. Roost's bar: at most 1.25 × the floor.",
		columns: []column{
			{"cpu_us", "CPU µs per message", "%.2f"},
			{"per_second", "messages/s", "%.0f"},
			{"p99_us", "p99, µs", "%.0f"},
		},
		connections: pick(quick, 1_000, 100), messages: pick(quick, 1_000_000, 20_000), size: 128,
	}
	s.measure = func(ctx context.Context, o options, p *fleet.Process, server fleet.Server) (map[string]float64, error) {
		report, err := load(ctx, o, p, "echo", server.EchoPath(), s.sizes()...)
		if err != nil {
			return nil, err
		}
		return require(map[string]*float64{
			"cpu_us": report.Server.PerMessage, "per_second": report.Messages.PerSecond, "p99_us": report.Latency.P99,
		})
	}
	return s
}

func fanout(quick bool) scenario {
	s := scenario{
		name: "fanout", title: "Fan-out: CPU per delivery", ratio: true,
		text: "One message to all connections; the next when the last has reached everyone. Every receiver checks " +
			"content and order. The floor makes one send() per delivery. Roost's bar: at most 0.8 × the floor.",
		columns: []column{
			{"cpu_us", "CPU µs per delivery", "%.2f"},
			{"per_second", "deliveries/s", "%.0f"},
			{"p99_us", "p99, µs", "%.0f"},
		},
		connections: pick(quick, 10_000, 500), messages: pick(quick, 60, 20), size: 128,
	}
	s.measure = func(ctx context.Context, o options, p *fleet.Process, _ fleet.Server) (map[string]float64, error) {
		report, err := load(ctx, o, p, "fanout", "/broadcast", s.sizes()...)
		if err != nil {
			return nil, err
		}
		return require(map[string]*float64{
			"cpu_us": report.Server.PerDelivery, "per_second": report.Messages.PerSecond, "p99_us": report.Latency.P99,
		})
	}
	return s
}

func upgrade(quick bool) scenario {
	s := scenario{
		name: "upgrade", title: "Upgrade and close: CPU per connection", ratio: true,
		text: "Connect, upgrade, close frame, end; 128 at once. Roost's bar: at most 1.8 × the floor.",
		columns: []column{
			{"cpu_us", "CPU µs per upgrade + close", "%.1f"},
			{"per_second", "upgrades/s", "%.0f"},
			{"p99_us", "p99 to upgraded, µs", "%.0f"},
		},
		connections: pick(quick, 20_000, 1_000),
	}
	s.measure = func(ctx context.Context, o options, p *fleet.Process, server fleet.Server) (map[string]float64, error) {
		report, err := load(ctx, o, p, "storm", server.EchoPath(), "--messages", strconv.Itoa(s.connections),
			"--connect-parallel", "128")
		if err != nil {
			return nil, err
		}
		return require(map[string]*float64{
			"cpu_us":     report.Server.PerUpgrade,
			"per_second": new(float64(s.connections) / report.Elapsed),
			"p99_us":     report.connectP99(),
		})
	}
	return s
}

func (s scenario) sizes() []string {
	return []string{
		"--connections", strconv.Itoa(s.connections), "--messages", strconv.Itoa(s.messages), "--size", strconv.Itoa(s.size),
	}
}
