package main

import (
	"context"
	"strconv"

	"roost/benchmarks/internal/fleet"
)

// The scenarios of gateways, which speak the client protocol.

func clients(quick bool) scenario {
	s := slopeOfClients(quick, "1")
	s.name, s.title = "clients", "Connected and subscribed clients: memory"
	s.text = "Memory of the server per client that is connected (without a token) and subscribed to one channel, which all share: the least-squares slope of its resident set " +
		"over the samples taken while connecting in steps. CPU: per connect and subscribe. Roost's bar: at most 700 B."
	return s
}

func personal(quick bool) scenario {
	s := slopeOfClients(quick, "0")
	s.name, s.title = "personal", "Clients with a channel of their own: memory"
	s.text = "As before, but each client is subscribed to a channel of its own. Roost's bar: at most 900 B."
	return s
}

func slopeOfClients(quick bool, channels string) scenario {
	s := scenario{
		columns: []column{
			{"user_bytes", "B per client", "%.0f"},
			{"cpu_us", "CPU µs per connect + subscribe", "%.1f"},
			{"threads", "threads", "%.0f"},
		},
		connections: pick(quick, 15_000, 2_000),
	}
	settle := "6s" // idle: longer than the gateway keeps what connecting needed
	if quick {
		settle = "200ms"
	}
	s.measure = func(ctx context.Context, o options, p *fleet.Process, _ fleet.Server) (map[string]float64, error) {
		report, err := load(ctx, o, p, "clients", fleet.Clients, "--connections", strconv.Itoa(s.connections),
			"--channels", channels, "--settle", settle, "--hold", "1s")
		if err != nil {
			return nil, err
		}
		return require(map[string]*float64{
			"user_bytes": report.Server.BytesPerConnection, "cpu_us": report.Server.PerClient, "threads": report.Server.Threads,
		})
	}
	return s
}

// ofBase measures, where the server is roost, what the scenario's figures are related to.
func (s *scenario) ofBase(ctx context.Context, o options, p *fleet.Process, server fleet.Server, mode, path string, arguments []string,
	figure func(*loadReport) *float64) (map[string]*float64, error) {
	figures := map[string]*float64{}
	if !server.IsRoost() {
		return figures, nil
	}
	r, err := load(ctx, o, p, mode, path, arguments...)
	if err != nil {
		return nil, err
	}
	figures[s.base.key] = figure(r)
	return figures, nil
}

func connect(quick bool) scenario {
	s := scenario{
		name: "connect", title: "Connect, subscribe and close: CPU per client", ratio: true,
		base: base{"roost", "upgrade_us", "roost's bare upgrade"},
		text: "Connect, upgrade, connect command, subscribe to one channel, close; 128 at once. The base is roost's upgrade and close on /echo, without the protocol, by the same process before. " +
			"Roost's bar: at most 3 × that.",
		columns: []column{
			{"cpu_us", "CPU µs per client", "%.1f"},
			{"per_second", "clients/s", "%.0f"},
			{"p99_us", "p99 to subscribed, µs", "%.0f"},
		},
		connections: pick(quick, 20_000, 1_000),
	}
	s.measure = func(ctx context.Context, o options, p *fleet.Process, server fleet.Server) (map[string]float64, error) {
		arguments := []string{"--messages", strconv.Itoa(s.connections), "--connect-parallel", "128"}
		figures, err := s.ofBase(ctx, o, p, server, "storm", server.EchoPath(), arguments, func(r *loadReport) *float64 { return r.Server.PerUpgrade })
		if err != nil {
			return nil, err
		}
		report, err := load(ctx, o, p, "join", fleet.Clients, arguments...)
		if err != nil {
			return nil, err
		}
		figures["cpu_us"], figures["p99_us"] = report.Server.PerClient, report.connectP99()
		figures["per_second"] = new(float64(s.connections) / report.Elapsed)
		return require(figures)
	}
	return s
}

func channelFanout(quick bool) scenario {
	s := scenario{
		name: "channel-fanout", title: "Publish to subscribers: CPU per delivery", ratio: true,
		base: base{"roost", "broadcast_us", "roost's bare broadcast"},
		text: "A publication by POST /api/publish reaches all clients of one channel, with history; the next when all have it. Every subscriber checks content, offset and order. " +
			"The base is roost's broadcast of messages of that size on /broadcast, without the protocol, by the same process before. Roost's bar: at most 1.3 × that.",
		columns: []column{
			{"cpu_us", "CPU µs per delivery", "%.2f"},
			{"per_second", "deliveries/s", "%.0f"},
			{"p99_us", "p99, µs", "%.0f"},
		},
		connections: pick(quick, 10_000, 500), messages: pick(quick, 60, 20), size: 128,
	}
	s.measure = func(ctx context.Context, o options, p *fleet.Process, server fleet.Server) (map[string]float64, error) {
		figures, err := s.ofBase(ctx, o, p, server, "fanout", "/broadcast", s.sizes(), func(r *loadReport) *float64 { return r.Server.PerDelivery })
		if err != nil {
			return nil, err
		}
		report, err := load(ctx, o, p, "publish", fleet.Clients, append(s.sizes(), "--api", p.API, "--api-key", p.APIKey)...)
		if err != nil {
			return nil, err
		}
		figures["cpu_us"], figures["p99_us"] = report.Server.PerDelivery, report.Latency.P99
		figures["per_second"] = report.Messages.PerSecond
		return require(figures)
	}
	return s
}
