//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/internal/proctest"
)

// A new process that hangs is sent away, and the old one goes on; its connections are lost only if
// they were the new one's.
func TestTakeoverHangs(t *testing.T) {
	t.Parallel()
	for step, undisturbed := range map[string]bool{"conns": true, "ready": true, "begin": false} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			m := startMovable(t, "", "--data", filepath.Join(t.TempDir(), "data"))
			next, p := m.succeeded(t, "stop new "+step)
			if next != nil {
				t.Fatal("it has taken over")
			}
			<-p.Ended
			if state := p.Cmd.ProcessState.String(); !strings.Contains(state, "killed") {
				t.Errorf("it ended by itself: %s", state)
			}
			m.complete(t, undisturbed)
		})
	}
}

// An old process that hangs in the middle finds what it has handed over, if that took too long, and
// goes on where it did not.
func TestTakeoverFromOneThatHangs(t *testing.T) {
	t.Parallel()
	for name, pause := range map[string]time.Duration{"a while": time.Second, "too long": 17 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startMovable(t, "stop old carry", "--data", filepath.Join(t.TempDir(), "data"))
			go func() {
				for !stopped(m.Cmd.Process.Pid) {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(pause)
				_ = m.Cmd.Process.Signal(syscall.SIGCONT)
			}()
			next, _ := m.succeeded(t, "")
			if took := next != nil; took != (pause == time.Second) {
				t.Errorf("the new process has taken over: %v", took)
			}
			m.complete(t, true)
		})
	}
}

// stopped tells whether a process is stopped by a signal, or has ended.
func stopped(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, state, _ := bytes.Cut(b, []byte(") "))
	return err != nil || len(state) > 0 && state[0] == 'T'
}

// A new process that finds no room on the disk for what it has to write leaves everything to the old
// one. Whichever serves then stores again when there is room.
func TestTakeoverDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		proctest.Skip(t, "a small file system needs root: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	m := startMovable(t, "", "--data", filepath.Join(dir, "data"))
	m.numbers.end() // or nothing would be stored any more, whoever has the folder: NATS does not try again
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	next, _ := m.succeeded(t, "")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if next != nil {
		t.Error("a full disk was taken over")
	}
	m.numbers.start(m.internal, m.channels, m.numbers.acked[len(m.numbers.acked)-1]+1)
	m.complete(t, true)
}

// fill writes to a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for b := make([]byte, 64<<10); len(b) > 0; {
		n, err := f.Write(b)
		if err == nil {
			continue
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if n == 0 {
			b = b[:len(b)/2]
		}
	}
}
