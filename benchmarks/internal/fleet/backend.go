package fleet

import (
	"bufio"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// StartBackend builds the main module's example of a backend on NATS into the folder binaries, runs it for a
// NATS server at HOST:PORT, with the subjects below prefix, and waits until it answers.
func StartBackend(root, binaries, address, prefix string) (*Process, error) {
	program := filepath.Join(binaries, "backend-nats")
	if err := run(exec.Command("go", "build", "-trimpath", "-o", program, "./examples/backend-nats"), filepath.Dir(root)); err != nil {
		return nil, err
	}
	p := &Process{command: exec.Command(program, "--url", "nats://"+address, "--prefix", prefix), log: &tail{}, ended: make(chan struct{})}
	p.command.Stderr = p.log
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	p.PID = p.command.Process.Pid
	ready := make(chan bool, 1)
	go func() {
		defer close(p.ended)
		line, _ := bufio.NewReader(stdout).ReadString('\n') // an end without a line is seen by ended
		if strings.HasPrefix(line, "ready ") {
			ready <- true
		}
		_, _ = io.Copy(io.Discard, stdout)
		_ = p.command.Wait()
	}()
	select {
	case <-ready:
		return p, nil
	case <-p.ended:
	case <-time.After(startLimit):
	}
	p.Stop()
	return nil, errors.New("fleet: the backend did not get ready: " + p.Log())
}
