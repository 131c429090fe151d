package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roost/benchmarks/internal/fleet"
)

const rpcConfig = "backends: {servers: {bench: {url: 'nats:bench'}}, rpc: [{method: '*', backend: bench}]}\n"

// rpc measures clients' calls to a backend in a process of its own, through a gateway with its own NATS, and
// beside that requests to the same backend through a NATS server without a gateway.
func rpc(quick bool) scenario {
	s := scenario{
		name: "rpc", title: "Calls to a backend on NATS", ratio: true,
		base: base{"roost", "floor_us", "a raw NATS request"},
		text: "Every client keeps one call under way (closed loop); the data of each must come back. The backend is examples/backend-nats, attached to the gateway's embedded NATS; " +
			"CPU is that of gateway and backend. The base, in the same repetition: requests of the same size to the same backend through a NATS server and nothing else, as many under way; CPU of that server and the backend. " +
			"All of it, the load generator included, shares the machine's cores. Roost's bar: at least 10,000 calls/s on two cores.",
		columns: []column{
			{"cpu_us", "CPU µs per call, gateway + backend", "%.1f"},
			{"gateway_us", "gateway", "%.1f"},
			{"backend_us", "backend", "%.1f"},
			{"per_second", "calls/s", "%.0f"},
			{"p99_us", "p99, µs", "%.0f"},
			{"floor_us", "raw request, CPU µs", "%.1f"},
			{"floor_per_second", "raw requests/s", "%.0f"},
		},
		connections: pick(quick, 200, 20), messages: pick(quick, 300_000, 5_000), size: 128,
	}
	s.measure = s.runRPC
	return s
}

// writeConfig is a configuration file of its own folder, which the caller removes.
func writeConfig(text string) (folder, config string, err error) {
	if folder, err = os.MkdirTemp("", "roost-rpc-"); err != nil {
		return "", "", err
	}
	config = filepath.Join(folder, "roost.yaml")
	return folder, config, os.WriteFile(config, []byte(text), 0o600)
}

func (s scenario) runRPC(ctx context.Context, o options, _ *fleet.Process, server fleet.Server) (map[string]float64, error) {
	folder, config, err := writeConfig(rpcConfig)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	p, err := fleet.Start(server.With("--config", config, "--nats-listen", "127.0.0.1:0"), o.binaries)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	backend, err := fleet.StartBackend(o.root, o.binaries, p.NATS, "bench")
	if err != nil {
		return nil, err
	}
	defer backend.Stop()
	arguments := append(s.sizes(), "--method", "echo")
	if _, err := load(ctx, o, p, "rpc", fleet.Clients, append(arguments, "--messages", strconv.Itoa(s.messages/10))...); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	before := cpuOf(backend.PID)
	report, err := load(ctx, o, p, "rpc", fleet.Clients, arguments...)
	if err != nil {
		return nil, err
	}
	answering := s.each(cpuOf(backend.PID) - before)
	backend.Stop()
	p.Stop()
	floor, rate, err := s.rawRequests(ctx, o, folder)
	if err != nil {
		return nil, fmt.Errorf("without a gateway: %w", err)
	}
	figures, err := require(map[string]*float64{"gateway_us": report.Server.PerMessage, "p99_us": report.Latency.P99, "per_second": report.Messages.PerSecond})
	if err == nil {
		figures["backend_us"], figures["cpu_us"] = answering, figures["gateway_us"]+answering
		figures["floor_us"], figures["floor_per_second"] = floor, rate
	}
	return figures, err
}

// each is the CPU of one of the scenario's messages, in µs.
func (s scenario) each(cpu time.Duration) float64 {
	return float64(cpu.Microseconds()) / float64(s.messages)
}

// rawRequests asks the backend through a NATS server alone, as many at a time as there would be clients, and
// returns the CPU of server and backend for one, in µs, and how many there were in a second.
func (s scenario) rawRequests(ctx context.Context, o options, folder string) (cpu, rate float64, err error) {
	broker, err := fleet.StartNATS(o.root, o.binaries, folder)
	if err != nil {
		return 0, 0, err
	}
	defer broker.Stop()
	backend, err := fleet.StartBackend(o.root, o.binaries, broker.Address, "bench")
	if err != nil {
		return 0, 0, err
	}
	defer backend.Stop()
	nc, err := nats.Connect("nats://" + broker.Address)
	if err != nil {
		return 0, 0, err
	}
	defer nc.Close()
	// What a gateway asks for a client's call, with data of the size.
	request := fmt.Appendf(nil, `{"event":"rpc","client":"6f1c2b7e","transport":"websocket","protocol":"json","encoding":"json","method":"echo","data":"%0*d"}`, s.size-2, 0)
	if err := s.ask(ctx, nc, request, s.messages/10); err != nil {
		return 0, 0, err
	}
	before, start := cpuOf(broker.PID)+cpuOf(backend.PID), time.Now()
	if err := s.ask(ctx, nc, request, s.messages); err != nil {
		return 0, 0, err
	}
	took := time.Since(start)
	return s.each(cpuOf(broker.PID) + cpuOf(backend.PID) - before), float64(s.messages) / took.Seconds(), nil
}

// ask makes so many requests in all.
func (s scenario) ask(ctx context.Context, nc *nats.Conn, request []byte, total int) error {
	var left atomic.Int64
	left.Store(int64(total))
	errs := make([]error, s.connections)
	var all sync.WaitGroup
	for i := range s.connections {
		all.Go(func() {
			for left.Add(-1) >= 0 && errs[i] == nil {
				limited, cancel := context.WithTimeout(ctx, stallLimit)
				m, err := nc.RequestWithContext(limited, "bench.echo", request)
				cancel()
				if err == nil && len(m.Data) < s.size {
					err = fmt.Errorf("the backend answered %q", m.Data)
				}
				errs[i] = err
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

const (
	callRate  = 2000 // per second: more than a stalled backend's places take at its timeout of 1 s
	echoRate  = 2000 // messages per second
	fullAfter = 2 * time.Second
)

// stalled measures what clients of /echo notice when the backend of others answers nothing any more.
func stalled(quick bool) scenario {
	s := scenario{
		name: "stalled", title: "Echo beside a backend that stalls",
		text: fmt.Sprintf("%d messages/s to /echo (open loop), first alone, then beside %d calls/s of 200 other clients to a backend that answers, then beside as many to the same backend "+
			"when it takes every call and answers none: all that it may hold is held, 128 under way and 512 waiting, and the rest is refused. The ratios are of the third to the second. "+
			"Roost's bar: at most 1.5.", echoRate, callRate),
		columns: []column{
			{"p50_ratio", "p50, stalled / before", "%.2f"},
			{"p99_ratio", "p99, stalled / before", "%.2f"},
			{"alone_p50_us", "alone, p50 µs", "%.0f"},
			{"alone_p99_us", "p99", "%.0f"},
			{"before_p50_us", "before, p50 µs", "%.0f"},
			{"before_p99_us", "p99", "%.0f"},
			{"stalled_p50_us", "stalled, p50 µs", "%.0f"},
			{"stalled_p99_us", "p99", "%.0f"},
		},
		connections: 100, size: 128,
	}
	length := 20 * time.Second
	if quick {
		length = 2 * time.Second
	}
	s.measure = func(ctx context.Context, o options, _ *fleet.Process, server fleet.Server) (map[string]float64, error) {
		return s.runStalled(ctx, o, server, length)
	}
	return s
}

func (s scenario) runStalled(ctx context.Context, o options, server fleet.Server, length time.Duration) (map[string]float64, error) {
	folder, config, err := writeConfig(rpcConfig)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	p, err := fleet.Start(server.With("--config", config, "--nats-listen", "127.0.0.1:0"), o.binaries)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	nc, err := nats.Connect("nats://" + p.NATS)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	var stall atomic.Bool
	if _, err = nc.Subscribe("bench.>", func(m *nats.Msg) {
		if !stall.Load() {
			_ = m.Respond([]byte(`{"result":{}}`)) // who does not get it says so
		}
	}); err == nil {
		err = nc.Flush()
	}
	if err != nil {
		return nil, err
	}
	figures := map[string]float64{}
	for _, phase := range []string{"alone", "before", "stalled"} {
		stall.Store(phase == "stalled")
		echo, err := s.echoBeside(ctx, o, p, phase, length)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", phase, err)
		}
		if echo.Latency.P50 == nil || echo.Latency.P99 == nil || *echo.Latency.P50 == 0 || *echo.Latency.P99 == 0 {
			return nil, fmt.Errorf("%s: the load generator gave no latency", phase)
		}
		figures[phase+"_p50_us"], figures[phase+"_p99_us"] = *echo.Latency.P50, *echo.Latency.P99
	}
	figures["p50_ratio"] = figures["stalled_p50_us"] / figures["before_p50_us"]
	figures["p99_ratio"] = figures["stalled_p99_us"] / figures["before_p99_us"]
	return figures, nil
}

// echoBeside measures /echo, beside the calls unless it is alone.
func (s scenario) echoBeside(ctx context.Context, o options, p *fleet.Process, phase string, length time.Duration) (*loadReport, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	called := make(chan error, 1)
	if phase == "alone" {
		called <- nil
	} else {
		go func() {
			calls, err := load(ctx, o, p, "rpc", fleet.Clients, "--connections", "200", "--size", strconv.Itoa(s.size), "--rate", strconv.Itoa(callRate),
				"--in-flight", "64", "--no-verify", "--allow-errors", "--duration", (length + 2*fullAfter).String())
			if err == nil {
				err = calls.Calls.were(phase == "stalled")
			}
			called <- err
		}()
		select {
		case <-time.After(fullAfter):
		case err := <-called:
			return nil, errors.Join(errors.New("the calls ended early"), err)
		}
	}
	echo, err := load(ctx, o, p, "echo", "/echo", "--connections", strconv.Itoa(s.connections), "--size", strconv.Itoa(s.size),
		"--rate", strconv.Itoa(echoRate), "--duration", length.String())
	if err != nil {
		return nil, err
	}
	return echo, <-called
}

// were says whether the calls went as they should: all answered, or, when the backend stalled, none, with its
// places full.
func (c *callReport) were(stalled bool) error {
	full := 0
	for _, e := range c.Errors {
		if len(e.Text) > 3 && e.Text[:3] == "111" {
			full += e.Count
		}
	}
	switch {
	case !stalled && (c.Results == 0 || len(c.Errors) > 0):
		return fmt.Errorf("calls that should be answered: %+v", c)
	case stalled && (c.Results > 0 || full == 0):
		return fmt.Errorf("calls to a backend that should be full and silent: %+v", c)
	}
	return nil
}
