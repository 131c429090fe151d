//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roost/gateway"
	"roost/internal/proctest"
)

// drainable is the server API of a gateway that has a drain going on: half of ten clients have gone.
type drainable struct {
	*httptest.Server
	mu    sync.Mutex
	state string
	asked []string      // operations
	hang  chan struct{} // closed when the operation drain was asked, which is not answered; nil answers it
}

func startDrainable(t *testing.T, state string) *drainable {
	d := &drainable{state: state}
	d.Server = httptest.NewServer(d)
	t.Cleanup(d.Close)
	return d
}

// ServeHTTP implements http.Handler.
func (d *drainable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-API-Key") != "k" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":{"code":101,"message":"unauthorized"}}`)
		return
	}
	operation := strings.TrimPrefix(r.URL.Path, "/api/")
	d.mu.Lock()
	hang := d.hang
	d.mu.Unlock()
	if operation == "drain" && hang != nil {
		_, _ = io.ReadAll(r.Body) // or the end of the client is not noticed
		close(hang)
		<-r.Context().Done()
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, operation)
	result := gateway.DrainResult{State: d.state, Total: 10, Done: 5}
	_ = json.NewEncoder(w).Encode(map[string]any{"result": result})
}

func (d *drainable) set(state string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = state
}

// times returns how often an operation was asked for.
func (d *drainable) times(operation string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, each := range d.asked {
		if each == operation {
			n++
		}
	}
	return n
}

// startDrain starts `roost drain` for a gateway.
func startDrain(t *testing.T, url string, flags ...string) *proctest.Process {
	t.Helper()
	cmd := exec.Command(roost, append([]string{"drain", "--url", url}, flags...)...)
	cmd.Env = append(os.Environ(), "ROOST_API_KEY=k")
	p, err := proctest.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// ended waits for the end, and returns the exit code.
func ended(t *testing.T, p *proctest.Process) int {
	t.Helper()
	select {
	case <-p.Ended:
	case <-time.After(patience):
		t.Fatalf("it does not end: %s%s", p.Out.String(), p.Log.String())
	}
	return p.Cmd.ProcessState.ExitCode()
}

func TestDrainSays(t *testing.T) {
	going, serving := startDrainable(t, gateway.DrainDraining), startDrainable(t, gateway.DrainServing)
	secure := httptest.NewUnstartedServer(going)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	defer secure.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	nobody := "http://127.0.0.1:" + proctest.FreePorts(t, "127.0.0.1", 1)[0]
	for name, c := range map[string]struct {
		url   string
		flags []string
		code  int
		says  string
	}{
		"status":           {going.URL, []string{"--status"}, 0, "draining: 5 of 10 clients have gone\n"},
		"abort":            {going.URL, []string{"--abort"}, 0, "aborted: 5 of 10 clients have gone\n"},
		"nothing to abort": {serving.URL, []string{"--abort"}, 0, "nothing to abort: no drain goes on, and clients are let in\n"},
		"all":              {serving.URL + "/", []string{"--plain"}, 0, "serving: 5 of 10\nserving: 5 of 10 clients have gone\n"},
		"wrong key":        {going.URL, []string{"--status", "--api-key", "wrong"}, 1, going.URL + " does not know this --api-key"},
		"nobody there":     {nobody, []string{"--status"}, 1, "no answer from " + nobody + ": "},
		"somebody else":    {other.URL, []string{"--status"}, 1, other.URL + ` gives no answer of the server API: 404 Not Found "404 page not found`},
		"not trusted":      {secure.URL, []string{"--status"}, 1, "certificate signed by unknown authority"},
		"no scheme":        {"gw1:8001", nil, 2, `"gw1:8001" is no address of a gateway: give http://HOST:PORT or https://HOST:PORT`},
		"a path":           {going.URL + "/api", nil, 2, "and nothing behind it"},
		"too long":         {going.URL, []string{"--over", "25h"}, 1, "--over is 25h0m0s, must be 0s to 24h0m0s"},
	} {
		p := startDrain(t, c.url, c.flags...)
		code := ended(t, p)
		said := p.Log.String()
		if c.code == 0 {
			said = p.Out.String()
		}
		if code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%s: exit code %d, want %d; %q, want %q", name, code, c.code, said, c.says)
		}
	}
}

// Whoever interrupts the command, or has it ended, learns that the drain goes on.
func TestDrainInterrupted(t *testing.T) {
	for name, signal := range map[string]os.Signal{"SIGINT": os.Interrupt, "SIGTERM": syscall.SIGTERM} {
		g := startDrainable(t, gateway.DrainDraining)
		p := startDrain(t, g.URL)
		eventually(t, func() error {
			if g.times("drain_status") < 2 {
				return fmt.Errorf("it does not follow: %s", p.Log.String())
			}
			return nil
		})
		_ = p.Cmd.Process.Signal(signal)
		if code := ended(t, p); code != interruptExit || p.Log.String() != "roost: drain: it goes on without this command; roost drain --abort ends it\n" {
			t.Errorf("%s: exit code %d, %q", name, code, p.Log.String())
		}
		if g.times("drain_abort") > 0 {
			t.Errorf("%s ends the drain", name)
		}
	}
}

func TestDrainInterruptedEarly(t *testing.T) {
	g := startDrainable(t, gateway.DrainDraining)
	hang := make(chan struct{})
	g.mu.Lock()
	g.hang = hang
	g.mu.Unlock()
	p := startDrain(t, g.URL)
	select {
	case <-hang:
	case <-time.After(patience):
		t.Fatal("nothing is asked")
	}
	_ = p.Cmd.Process.Signal(os.Interrupt)
	if code := ended(t, p); code != interruptExit || !strings.Contains(p.Log.String(), "interrupted before the gateway answered; roost drain --status tells") {
		t.Errorf("exit code %d, %q", code, p.Log.String())
	}
}

// terminal returns both ends of one.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		proctest.Skip(t, "no terminal can be had: "+err.Error())
	}
	t.Cleanup(func() { _ = ours.Close() })
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100})
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close() })
	return ours, theirs
}

func TestDrainBar(t *testing.T) {
	ours, theirs := terminal(t)
	g := startDrainable(t, gateway.DrainShedding)
	cmd := exec.Command(roost, "drain", "--url", g.URL, "--api-key", "k")
	cmd.Stdout, cmd.Stderr = theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var shown proctest.Output
	go func() { _, _ = io.Copy(&shown, ours) }()
	shows := func(want string) {
		t.Helper()
		eventually(t, func() error {
			if !strings.Contains(shown.String(), want) {
				return fmt.Errorf("%q shows no %q", shown.String(), want)
			}
			return nil
		})
	}
	shows("disconnected 5 of 10 [")
	shows("50 %")
	g.set(gateway.DrainServing)
	shows("serving: 5 of 10 clients have gone")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
