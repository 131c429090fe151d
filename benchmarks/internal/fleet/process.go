package fleet

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit = 10 * time.Second
	stopLimit  = 10 * time.Second
	logKept    = 4 << 10 // bytes of a server's standard error shown when it fails
)

// Process is a running server.
type Process struct {
	Address string // HOST:PORT
	API     string // URL of a gateway's server API; empty for others
	APIKey  string
	NATS    string // HOST:PORT of a gateway's NATS; empty where it does not listen
	PID     int

	command *exec.Cmd
	log     *tail
	ended   chan struct{} // closed when the process has ended
}

// Start runs a built server of the folder binaries on a free port and waits until it is ready.
func Start(server Server, binaries string) (*Process, error) {
	arguments := append(append([]string{}, server.arguments...), "--address", "127.0.0.1:0")
	program := server.program
	if !filepath.IsAbs(program) {
		program = filepath.Join(binaries, program)
	}
	command := exec.Command(program, arguments...)
	p := &Process{command: command, log: &tail{}, ended: make(chan struct{})}
	command.Env = append(os.Environ(), "ROOST_API_KEY="+apiKey)
	command.Stderr = p.log
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("fleet: start %s: %w", server.Name, err)
	}
	p.PID = command.Process.Pid
	ready := make(chan string, 1)
	internal, nats := "", ""
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if address, ok := parseReady(lines.Text(), "address="); ok {
				internal, _ = parseReady(lines.Text(), "internal=")
				nats, _ = parseReady(lines.Text(), "nats=")
				ready <- address
				break
			}
		}
		_, _ = io.Copy(io.Discard, stdout)
		_ = command.Wait()
	}()
	select {
	case p.Address = <-ready:
		p.NATS = nats
		if internal != "" {
			p.API, p.APIKey = "http://"+internal+"/api", apiKey
		}
		return p, nil
	case <-p.ended:
	case <-time.After(startLimit):
	}
	p.Stop()
	return nil, fmt.Errorf("fleet: %s did not get ready: %s", server.Name, p.Log())
}

// parseReady finds the value of key in a line like "ready address=127.0.0.1:8000 internal=...".
func parseReady(line, key string) (string, bool) {
	fields := strings.Fields(line)
	if len(fields) == 0 || fields[0] != "ready" {
		return "", false
	}
	for _, field := range fields[1:] {
		if address, ok := strings.CutPrefix(field, key); ok {
			return address, true
		}
	}
	return "", false
}

// Running says whether the process is still there.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Log is the end of what the server wrote to its standard error.
func (p *Process) Log() string { return p.log.String() }

// Stop ends the process by SIGTERM, or by SIGKILL when that does not help, and waits for its end.
func (p *Process) Stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopLimit):
		_ = p.command.Process.Kill()
		<-p.ended
	}
}

// tail keeps the last logKept bytes written to it.
type tail struct {
	mu   sync.Mutex
	data []byte // guarded by mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if excess := len(t.data) - logKept; excess > 0 {
		t.data = append(t.data[:0], t.data[excess:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.data))
}
