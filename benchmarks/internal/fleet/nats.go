package fleet

import (
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"time"
)

// NATS is a NATS server in a process of its own.
type NATS struct {
	Address string // HOST:PORT
	*Process
}

// StartNATS builds the NATS server of the main module's version into the folder binaries, runs it
// with JetStream's data in the folder data, and waits until it listens.
func StartNATS(root, binaries, data string) (*NATS, error) {
	program := filepath.Join(binaries, "nats-server")
	if err := run(exec.Command("go", "build", "-trimpath", "-o", program, "github.com/nats-io/nats-server/v2"), filepath.Dir(root)); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	l.Close()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	p := &Process{command: exec.Command(program, "-js", "-sd", data, "-a", host, "-p", port), log: &tail{}, ended: make(chan struct{})}
	p.command.Stderr = p.log
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	p.PID = p.command.Process.Pid
	go func() {
		_ = p.command.Wait()
		close(p.ended)
	}()
	for end := time.Now().Add(startLimit); time.Now().Before(end) && p.Running(); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return &NATS{address, p}, nil
		}
	}
	p.Stop()
	return nil, errors.New("fleet: the NATS server did not get ready: " + p.Log())
}
