// Package proctest runs programs for tests: it builds them, keeps what they print, and
// ends them by their own id.
package proctest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Patience is how long a test waits for what must come; it says nothing about how soon
// it should.
const Patience = 30 * time.Second

// Skip skips a test that this machine cannot run. In CI, which skips nothing, the test fails.
func Skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Eventually waits until holds returns nil.
func Eventually(t testing.TB, holds func() error) {
	t.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(Patience); ; time.Sleep(pause) {
		pause = min(2*pause, 20*time.Millisecond)
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", Patience, err)
		}
	}
}

// Build builds the program of a package as scripts/build.sh does, and returns its path.
func Build(dir, name, pkg string, flags ...string) (path string, err error) {
	path = filepath.Join(dir, name)
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, pkg)...)
	cgo := "CGO_ENABLED=0"
	if slices.Contains(flags, "-race") {
		cgo = "CGO_ENABLED=1" // it needs that
	}
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// Ports that FreePorts returns: below those that systems give to port 0 and to clients, so that nobody gets one of
// these before the program that it is for.
const firstPort, ports = 10_000, 20_000

var nextPort = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(rand.Uint32N(ports)) // tests of other packages run beside these
	return n
}()

// FreePorts returns ports of an address that nobody has when it returns, for programs
// which must know each other's before they start. Others take port 0.
func FreePorts(t testing.TB, host string, n int) (free []string) {
	t.Helper()
	for tries := 0; len(free) < n; tries++ {
		port := strconv.Itoa(firstPort + int(nextPort.Add(1)%ports))
		l, err := net.Listen("tcp", net.JoinHostPort(host, port))
		switch {
		case err == nil:
			_ = l.Close()
			free = append(free, port)
		case tries > ports:
			t.Fatal(err)
		}
	}
	return free
}

// Output is what a process prints, while it runs.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String returns all of it so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Process is one that was started.
type Process struct {
	Cmd      *exec.Cmd
	Out, Log Output        // standard output and standard error
	Ended    chan struct{} // closed when it has; Cmd.ProcessState tells how
}

// Start starts cmd, whose output must not be set.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Cmd: cmd, Ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.Out, &p.Log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // ProcessState tells
		close(p.Ended)
	}()
	return p, nil
}

// Kill ends the process at once, as a crash would, and waits for it.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.Ended
}

// Fields reads the name=value pairs of a line, such as the ready line of roost serve.
func Fields(line string) map[string]string {
	all := make(map[string]string)
	for _, field := range strings.Fields(line) {
		if name, value, ok := strings.Cut(field, "="); ok {
			all[name] = value
		}
	}
	return all
}
