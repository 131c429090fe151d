//go:build linux

package handoff

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/internal/proctest"
)

// strangerEnv has the test binary be a process of another user: what it does, and the socket.
const strangerEnv = "ROOST_STRANGER"

// TestStrangerPlay is no test but that process.
func TestStrangerPlay(t *testing.T) {
	what, path, ok := strings.Cut(os.Getenv(strangerEnv), " ")
	if !ok {
		return
	}
	if what == "offers" {
		s, err := Listen(path, &oldFake{}, slog.New(slog.DiscardHandler))
		if err == nil {
			err = os.Chmod(path, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := &link{conn: c}
	if err := l.sendJSON(kindHello, Hello{Version: Version}); err != nil && !orphaned(err) {
		t.Fatal(err)
	}
	if m, err := l.receive(); !orphaned(err) {
		t.Errorf("it got %s, %v", m.kind, err)
	}
}

// stranger starts it, in a folder that it may use.
func stranger(t *testing.T, what string) (p *proctest.Process, path string, stdin io.Closer) {
	t.Helper()
	if os.Geteuid() != 0 {
		proctest.Skip(t, "a process of another user needs root")
	}
	dir, err := os.MkdirTemp("", "roost-stranger-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(dir, "test"), binary, 0o755), os.Chmod(dir, 0o777))
	}
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	cmd := exec.Command(filepath.Join(dir, "test"), "-test.run=^TestStrangerPlay$")
	cmd.Env = append(os.Environ(), strangerEnv+"="+what+" "+path)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if what == "asks" {
		old := &oldFake{}
		s, err := Listen(path, old, slog.New(slog.DiscardHandler))
		if err == nil {
			err = os.Chmod(path, 0o666) // it is 0600, which alone keeps it out
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			s.Close()
			if len(old.calls) > 0 {
				t.Errorf("the old process did %q for a stranger", old.calls)
			}
		})
	}
	if p, err = proctest.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p, path, in
}

// A process of another user is given nothing, though it may reach the socket.
func TestStrangerAsks(t *testing.T) {
	p, _, _ := stranger(t, "asks")
	select {
	case <-p.Ended:
	case <-time.After(30 * time.Second):
		t.Fatal("it hangs")
	}
	if code := p.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ended with %d:\n%s\n%s", code, p.Out.String(), p.Log.String())
	}
}

// Nothing is taken from a process of another user that sits on the socket.
func TestStrangerOffers(t *testing.T) {
	_, path, _ := stranger(t, "offers")
	next := &newFake{}
	proctest.Eventually(t, func() error {
		err := Take(path, Hello{Program: "new"}, next)
		if err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
			return errors.Join(errors.New("want a refusal"), err)
		}
		return nil
	})
	if len(next.calls) > 0 {
		t.Errorf("the new process did %q", next.calls)
	}
}
