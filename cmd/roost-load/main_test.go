//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"roost/proto/ws"
)

// asTool in the environment makes the test binary be roost-load.
const asTool = "ROOST_LOAD_TEST_AS_TOOL"

func TestMain(m *testing.M) {
	if os.Getenv(asTool) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func tool(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asTool+"=1")
	return cmd
}

// runTool returns the exit code and all output.
func runTool(t *testing.T, args ...string) (int, string) {
	t.Helper()
	out, err := tool(t, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode(), string(out)
	}
	return 0, string(out)
}

// echoServer counts the messages it returns.
func echoServer(t *testing.T) (url string, echoed *atomic.Int64) {
	echoed = new(atomic.Int64)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := ws.CheckUpgrade(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.Write(ws.AppendUpgradeResponse(nil, &u, "", false))
		var d ws.Decoder
		buf := make([]byte, 4096)
		for {
			n, err := rw.Read(buf)
			if err != nil {
				return
			}
			for b := buf[:n]; len(b) > 0; {
				e, used, ok, err := d.Next(&ws.Limits{MaxFrame: 4096, MaxMessage: 4096}, false, b)
				if err != nil {
					return
				}
				b = b[used:]
				if ok && e.Op == ws.OpClose {
					conn.Write(ws.AppendClose(nil, e.Code, ""))
					return
				}
				if ok {
					echoed.Add(1)
					conn.Write(ws.AppendFrame(nil, e.Op, e.Payload))
				}
			}
		}
	}))
	t.Cleanup(h.Close)
	return "ws" + strings.TrimPrefix(h.URL, "http"), echoed
}

func TestReportsAndExitCode(t *testing.T) {
	url, _ := echoServer(t)
	dir := t.TempDir()
	code, out := runTool(t, "echo", "--url", url, "--connections", "4", "--messages", "50", "--plain",
		"--json", filepath.Join(dir, "r.json"), "--html", filepath.Join(dir, "r.html"))
	if code != 0 || !strings.Contains(out, "50 sent, 50 received of 50 expected") {
		t.Fatalf("code %d: %s", code, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "r.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Schema   int
		Scenario string
		Messages struct{ Received int64 }
	}
	if err := json.Unmarshal(b, &r); err != nil || r.Schema != 1 || r.Scenario != "echo" || r.Messages.Received != 50 {
		t.Errorf("%+v, %v", r, err)
	}
	if page, err := os.ReadFile(filepath.Join(dir, "r.html")); err != nil || !bytes.Contains(page, []byte("</html>")) {
		t.Errorf("no page: %v", err)
	}
}

func TestScenarioFileRuns(t *testing.T) {
	url, echoed := echoServer(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "s.yaml")
	text := "- scenario: echo\n  connections: 3\n  messages: 30\n- scenario: storm\n  messages: 20\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := runTool(t, "run", file, "--url", url, "--json", filepath.Join(dir, "r.json"))
	if code != 0 || echoed.Load() != 30 {
		t.Fatalf("code %d, %d echoed: %s", code, echoed.Load(), out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "r.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Steps []struct{ Scenario string } }
	if err := json.Unmarshal(b, &r); err != nil || len(r.Steps) != 2 || r.Steps[1].Scenario != "storm" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestBadArgumentsSayWhatIsRight(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(bad, []byte("- scenario: echo\n  sizes: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		text string
	}{
		{"", 2, "expected one of"},
		{"echo --bogus", 2, "--bogus"},
		{"run " + bad, 2, "step 1: unknown flag --sizes"},
		{"run /nowhere.yaml", 2, "/nowhere.yaml"},
		{"echo", 1, "--url is missing"},
		{"echo --url ws://127.0.0.1:1/ --connections 2 --plain", 1, "connection refused; start the server there"},
		{"child", 1, "for roost-load's own children"},
	} {
		code, out := runTool(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out, c.text) {
			t.Errorf("%q: code %d: %s", c.args, code, out)
		}
	}
}

func TestInterruptPrintsAndExits130(t *testing.T) {
	for _, processes := range []string{"1", "2"} {
		url, echoed := echoServer(t)
		cmd := tool(t, "echo", "--url", url, "--connections", "4", "--duration", "1h", "--processes", processes)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		// A terminal interrupts the whole group, children included.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for echoed.Load() < 100 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(out.String(), "interrupted") || strings.Contains(out.String(), "error ") {
			t.Errorf("%s processes: code %d: %s", processes, code, out.String())
		}
	}
}
