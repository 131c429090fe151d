package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// take records a sample, now and then tells the reader where things stand, and returns the number of connections
// the gateway sees. While an emulated gateway tears down or serves everybody at once it may answer late: that is a
// record, too, and fatal only when it lasts for answerLimit.
func (m *measurement) take() (connections int, err error) {
	metrics, err := readMetrics(m.client, "http://"+internalAddress+"/metrics")
	if err != nil {
		if time.Since(m.sampled) > answerLimit {
			return 0, fmt.Errorf("sample the gateway: %w", err)
		}
		m.out.write(record{Kind: "miss", Text: err.Error()})
		return m.connections, nil
	}
	s := &sample{Gateway: readProcess(m.gateway.Process.Pid), Memory: readMemory(), Metrics: metrics}
	if m.load != nil {
		s.Load = readProcess(m.load.Process.Pid)
	}
	m.out.write(record{Kind: "sample", Sample: s})
	gauge, ok := metrics[connectionsMetric]
	if !ok {
		return 0, fmt.Errorf("the gateway has no metric %s", connectionsMetric)
	}
	m.sampled, m.connections = time.Now(), int(gauge)
	if time.Since(m.spoken) >= 15*time.Second {
		m.spoken = time.Now()
		fmt.Fprintf(os.Stderr, "%7.0f s  %d connections, gateway %d MiB, load %d MiB, kernel %d MiB, %d MiB available\n",
			time.Since(m.out.start).Seconds(), m.connections, s.Gateway.RSS>>20, s.Load.RSS>>20, s.Memory.Kernel>>20,
			s.Memory.Available>>20)
	}
	return m.connections, m.out.failed()
}

// untilConnected samples until all idle connections are open.
func (m *measurement) untilConnected(ctx context.Context, l *loadRun) error {
	best, grown := 0, time.Now()
	tick := time.NewTicker(m.Interval)
	defer tick.Stop()
	for {
		connections, err := m.take()
		if err != nil {
			return err
		}
		if connections >= m.Connections {
			return nil
		}
		if connections > best {
			best, grown = connections, time.Now()
		}
		if time.Since(grown) > stallLimit {
			return fmt.Errorf("stuck at %d of %d connections for %v", best, m.Connections, stallLimit)
		}
		select {
		case <-tick.C:
		case err := <-l.done:
			return errors.Join(fmt.Errorf("the load ended while it connected, at %d", connections), m.finish(l, err))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch samples for so long and fails if a connection is lost meanwhile.
func (m *measurement) watch(ctx context.Context, l *loadRun, length time.Duration) error {
	end := time.After(length)
	tick := time.NewTicker(m.Interval)
	defer tick.Stop()
	for {
		connections, err := m.take()
		if err != nil {
			return err
		}
		if connections < m.Connections {
			return fmt.Errorf("%d of %d connections were lost", m.Connections-connections, m.Connections)
		}
		select {
		case <-tick.C:
		case <-end:
			_, err := m.take() // so that the window ends with a sample
			return err
		case err := <-l.done:
			return errors.Join(errors.New("the load ended while it should have been idle"), m.finish(l, err))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// untilEnded samples until the load generator has ended, and records its JSON.
func (m *measurement) untilEnded(ctx context.Context, l *loadRun) error {
	tick := time.NewTicker(m.Interval)
	defer tick.Stop()
	for {
		if _, err := m.take(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case err := <-l.done:
			return m.finish(l, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// echo runs the echo sample next to the idle connections.
func (m *measurement) echo(ctx context.Context, args []string) error {
	l, err := m.startLoad(ctx, "echo", args)
	if err != nil {
		return err
	}
	defer l.stop()
	return m.untilEnded(ctx, l)
}
