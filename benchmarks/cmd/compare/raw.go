package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"roost/benchmarks/internal/client"
	"roost/benchmarks/internal/fleet"
)

// raw measures what a message costs the gateway from the client's frame to its hand-over to NATS,
// beside one that it echoes itself. A NATS server of its own takes them, so that its CPU is not
// the gateway's.
func raw(quick bool) scenario {
	s := scenario{
		name: "raw", title: "Raw route to NATS: CPU per message", ratio: true,
		base: base{"roost", "echo_us", "roost's /echo"},
		text: "Every connection keeps one message in flight: on a raw route until a subscriber of NATS has it, on /echo until it is back, by the same process before. " +
			"CPU is the gateway's, to the hand-over to NATS; the NATS server is a process of its own. Each message must come once and in order. Roost's bar: at most 1.2 × /echo.",
		columns: []column{
			{"cpu_us", "CPU µs per message", "%.2f"},
			{"echo_us", "/echo, CPU µs per message", "%.2f"},
			{"per_second", "messages/s", "%.0f"},
		},
		connections: pick(quick, 1_000, 100), messages: pick(quick, 1_000_000, 20_000), size: 128,
	}
	s.measure = s.runRaw
	return s
}

const rawConfig = "backends: {servers: {bench: {url: 'nats:bench'}}}\nraw: {load: {backend: bench, auth: none, no-events: true}}\n"

func (s scenario) runRaw(ctx context.Context, o options, _ *fleet.Process, server fleet.Server) (figures map[string]float64, err error) {
	folder, config, err := writeConfig(rawConfig)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	broker, err := fleet.StartNATS(o.root, o.binaries, folder)
	if err != nil {
		return nil, err
	}
	defer broker.Stop()
	p, err := fleet.Start(server.OnNATS(broker.Address, config), o.binaries)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	nc, err := nats.Connect("nats://" + broker.Address)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	arrived := make(chan int, s.connections)
	sub, err := nc.Subscribe("bench.raw.load.in.*.*.binary", func(m *nats.Msg) { arrived <- number(m.Data) })
	if err == nil {
		err = errors.Join(sub.SetPendingLimits(-1, -1), nc.Flush())
	}
	if err != nil {
		return nil, err
	}
	echo, _, err := s.inFlight(ctx, p, "/echo", nil)
	if err != nil {
		return nil, fmt.Errorf("/echo: %w", err)
	}
	one, rate, err := s.inFlight(ctx, p, "/connection/raw?route=load", arrived)
	if err != nil {
		return nil, fmt.Errorf("raw route: %w", err)
	}
	return map[string]float64{"cpu_us": one, "echo_us": echo, "per_second": rate}, nil
}

// number of the connection that a message came from, and of the message on it.
func number(payload []byte) int {
	if len(payload) < 8 {
		return -1
	}
	return int(binary.BigEndian.Uint64(payload))
}

// inFlight keeps one message of each connection under way until all have arrived, and returns
// the process's CPU for one, in µs, and how many there were in a second. Without arrived, they
// come back on their connections.
func (s scenario) inFlight(ctx context.Context, p *fleet.Process, path string, arrived chan int) (cpu, rate float64, err error) {
	back := arrived == nil
	if back {
		arrived = make(chan int, s.connections)
	}
	var clients []*client.Client
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	for range s.connections {
		c, err := client.Dial(p.Address, path)
		if err != nil {
			return 0, 0, err
		}
		clients = append(clients, c)
		c.SetDeadline(time.Now().Add(loadLimit))
		if err := c.Settle(); err != nil {
			return 0, 0, err
		}
		if back {
			go func() {
				var buffer []byte
				for {
					if _, buffer, err = c.Receive(buffer); err != nil {
						return // the connection is closed at the end, or no answer comes and the sender says so
					}
					arrived <- number(buffer)
				}
			}()
		}
	}
	before, start := cpuOf(p.PID), time.Now()
	if err := s.exchange(ctx, clients, arrived); err != nil {
		return 0, 0, err
	}
	took, used := time.Since(start), cpuOf(p.PID)-before
	return float64(used.Microseconds()) / float64(s.messages), float64(s.messages) / took.Seconds(), nil
}

// exchange sends the next message of a connection when the one before has arrived.
func (s scenario) exchange(ctx context.Context, clients []*client.Client, arrived <-chan int) error {
	payload := make([]byte, s.size)
	each := s.messages / s.connections
	sent := make([]int, s.connections)
	send := func(i int) error {
		binary.BigEndian.PutUint64(payload, uint64(sent[i]*s.connections+i))
		sent[i]++
		return clients[i].Send(ws.OpBinary, payload)
	}
	for i := range clients {
		if err := send(i); err != nil {
			return err
		}
	}
	for left := s.connections * each; left > 0; left-- {
		select {
		case n := <-arrived:
			i := n % s.connections
			switch {
			case n < 0 || sent[i]-1 != n/s.connections:
				return fmt.Errorf("message %d came, which was not under way", n)
			case sent[i] < each:
				if err := send(i); err != nil {
					return err
				}
			}
		case <-time.After(stallLimit):
			return fmt.Errorf("%d messages did not arrive within %v", left, stallLimit)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// cpuOf is the CPU time of a process so far, user and system (proc(5), stat), to 10 ms.
func cpuOf(pid int) time.Duration {
	data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
