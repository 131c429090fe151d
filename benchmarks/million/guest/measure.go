package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	clientAddress   = "127.0.0.1:8000"
	internalAddress = "127.0.0.1:8001"
	// connectionsMetric is the gateway's gauge of open connections.
	connectionsMetric = "roost_connections"
	// echoConnections is how many clients the echo sample has besides the idle ones.
	echoConnections = 100
	// stallLimit ends the connect phase when the number of connections has not grown for so long.
	stallLimit = 3 * time.Minute
	// answerLimit ends any phase when the gateway has not answered a sample for so long. Emulated, it took 40 s to
	// close 50,000 connections at once and answered none meanwhile.
	answerLimit = 15 * time.Minute
	// slack is kept between the echo sample and the broadcast, for the start and the end of the echo sample.
	slack = 40 * time.Second
	// patience replaces the limits on a handshake, on the silence before a broadcast counts as stuck and on a
	// close: an emulated processor takes longer.
	patience = 2 * time.Minute
	// stopLimit is how long the gateway may take to end after SIGTERM.
	stopLimit = 5 * time.Minute
)

// A measurement runs the phases one after the other, in one goroutine; a second one reads the gateway's log.
type measurement struct {
	options
	out    *recorder
	client *http.Client
	dir    string // for the load generator's JSON

	gateway *exec.Cmd
	logged  chan struct{} // closed when the gateway's log has been read to its end
	load    *exec.Cmd     // holds the idle connections
	spoken  time.Time     // last progress line

	sampled     time.Time // last sample that was answered
	connections int       // what it said
}

// measure runs all phases and writes the records to o.Out. What fails is written there, too, and returned.
func measure(ctx context.Context, o options) error {
	file, err := os.OpenFile(o.Out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	dir, err := os.MkdirTemp("", "million")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m := &measurement{
		options: o,
		out:     &recorder{start: time.Now(), file: file},
		sampled: time.Now(),
		client:  &http.Client{Timeout: 20 * time.Second},
		dir:     dir,
	}
	if err := m.phases(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		m.out.write(record{Kind: "failure", Text: err.Error()})
		return err
	}
	m.out.write(record{Kind: "end"})
	return m.out.failed()
}

func (m *measurement) phases(ctx context.Context) error {
	gatewayArgs := []string{"serve", "--dev", "--address", clientAddress, "--internal-address", internalAddress,
		"--ping-interval", m.PingInterval.String(), "--pong-timeout", (m.PingInterval / 2).String(),
		"--handshake-timeout", patience.String()}
	hold := m.Settle + m.Idle + m.Echo + slack
	loadArgs := []string{"fanout", "--plain", "--url", "ws://" + clientAddress + "/broadcast",
		"--connections", strconv.Itoa(m.Connections), "--messages", "1", "--hold", hold.String(), "--timeout", patience.String()}
	echoArgs := []string{"echo", "--plain", "--url", "ws://" + clientAddress + "/echo",
		"--connections", strconv.Itoa(echoConnections), "--duration", m.Echo.String()}
	description := describeMachine(m.options)
	for _, args := range [][]string{gatewayArgs, loadArgs, echoArgs} {
		name := "roost"
		if args[0] != "serve" {
			name = "roost-load"
		}
		description.Commands = append(description.Commands, name+" "+strings.Join(args, " "))
	}
	m.out.write(record{Kind: "machine", Machine: description})

	m.enter("start")
	if err := m.startGateway(gatewayArgs); err != nil {
		return err
	}
	defer m.stopGateway()

	m.enter("connect")
	loaded, err := m.startLoad(ctx, "broadcast", loadArgs)
	if err != nil {
		return err
	}
	m.load = loaded.cmd
	defer loaded.stop()
	if err := m.untilConnected(ctx, loaded); err != nil {
		return err
	}
	m.enter("settle")
	if err := m.watch(ctx, loaded, m.Settle); err != nil {
		return err
	}
	m.enter("idle")
	if err := m.watch(ctx, loaded, m.Idle); err != nil {
		return err
	}
	m.enter("echo")
	if err := m.echo(ctx, echoArgs); err != nil {
		return err
	}
	// The load generator broadcasts when its hold is over and ends when all have received.
	m.enter("broadcast")
	if err := m.untilEnded(ctx, loaded); err != nil {
		return err
	}
	m.enter("stop")
	_, err = m.take()
	return err
}

func (m *measurement) enter(phase string) {
	m.out.write(record{Kind: "phase", Phase: phase})
	fmt.Fprintf(os.Stderr, "%7.0f s  %s\n", time.Since(m.out.start).Seconds(), phase)
	m.spoken = time.Time{}
}

// startGateway starts roost with the collector's trace on, and returns once it accepts.
func (m *measurement) startGateway(args []string) error {
	cmd := exec.Command("roost", args...)
	cmd.Env = append(os.Environ(), "GODEBUG=gctrace=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	m.gateway, m.logged = cmd, make(chan struct{})
	go m.readLog(stderr)
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "ready ") {
				ready <- true
			}
		}
		close(ready)
	}()
	select {
	case ok := <-ready:
		if ok {
			return nil
		}
		m.stopGateway()
		return errors.New("the gateway ended before it was ready")
	case <-time.After(time.Minute):
		m.stopGateway()
		return errors.New("the gateway was not ready within a minute")
	}
}

// readLog turns the gateway's standard error into records: collector cycles, and its first log lines.
func (m *measurement) readLog(stderr io.Reader) {
	defer close(m.logged)
	left := 400
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if cycle, ok := parseGC(lines.Text()); ok {
			m.out.write(record{Kind: "gc", GC: cycle})
		} else if left > 0 {
			left--
			m.out.write(record{Kind: "log", Text: lines.Text()})
		}
	}
	_, _ = io.Copy(io.Discard, stderr) // a line too long for the scanner must not block the gateway
}

// stopGateway asks the gateway to end. One that does not is made to print its goroutines and is a failure.
func (m *measurement) stopGateway() {
	_ = m.gateway.Process.Signal(syscall.SIGTERM)
	quit := time.AfterFunc(stopLimit, func() { _ = m.gateway.Process.Signal(syscall.SIGQUIT) })
	defer quit.Stop()
	begin := time.Now()
	<-m.logged
	err := m.gateway.Wait()
	text := fmt.Sprintf("the gateway ended %.1f s after SIGTERM: %v", time.Since(begin).Seconds(), m.gateway.ProcessState)
	if err != nil {
		m.out.write(record{Kind: "failure", Text: text})
		return
	}
	m.out.write(record{Kind: "log", Text: text})
}

// A loadRun is one run of roost-load.
type loadRun struct {
	name string
	json string
	cmd  *exec.Cmd
	done chan error // holds what Wait returned, once
}

func (m *measurement) startLoad(ctx context.Context, name string, args []string) (*loadRun, error) {
	l := &loadRun{name: name, json: filepath.Join(m.dir, name+".json"), done: make(chan error, 1)}
	args = append(args, "--pid", strconv.Itoa(m.gateway.Process.Pid), "--json", l.json)
	l.cmd = exec.CommandContext(ctx, "roost-load", args...)
	l.cmd.Cancel = func() error { return l.cmd.Process.Signal(syscall.SIGTERM) }
	l.cmd.WaitDelay = 20 * time.Second
	output := &lastLines{}
	l.cmd.Stdout, l.cmd.Stderr = output, output
	if err := l.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the load: %w", err)
	}
	go func() {
		err := l.cmd.Wait()
		if err != nil {
			err = fmt.Errorf("roost-load %s: %w\n%s", args[0], err, output)
		}
		l.done <- err
	}()
	return l, nil
}

func (l *loadRun) stop() { _ = l.cmd.Process.Signal(syscall.SIGTERM) }

// finish records the run's JSON; err is what ended the run.
func (m *measurement) finish(l *loadRun, err error) error {
	data, readErr := os.ReadFile(l.json)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	m.out.write(record{Kind: "load", Text: l.name, Load: data})
	return err
}

// lastLines keeps the end of what is written to it. Used by one goroutine at a time.
type lastLines struct{ kept []byte }

func (l *lastLines) Write(p []byte) (int, error) {
	l.kept = append(l.kept, p...)
	if len(l.kept) > 4096 {
		l.kept = append([]byte(nil), l.kept[len(l.kept)-2048:]...)
	}
	return len(p), nil
}

func (l *lastLines) String() string { return string(l.kept) }
