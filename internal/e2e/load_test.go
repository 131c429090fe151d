//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"roost/loadtest"
)

// roost-load finds nothing wrong when `roost upgrade` replaces a gateway three times under load, and nothing that grows.
func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	const clients, takeovers = 300, 3
	g := start(t, loadConfiguration, "--data", filepath.Join(t.TempDir(), "data"))
	roost, err := roostBinary()
	if err != nil {
		t.Fatal(err)
	}
	command := strings.Join(append([]string{roost, "upgrade", "--address", loopback + ":0", "--internal-address", loopback + ":0"}, g.flags...), " ")
	r, text := load(t, g, clients, takeovers, command)
	u := r.Upgrade
	if u == nil || len(u.Takeovers) != takeovers || len(u.States) != takeovers+1 {
		t.Fatalf("%+v\n%s", u, text)
	}
	for i, x := range u.Takeovers {
		if x.After == x.Before || i > 0 && x.Before != u.Takeovers[i-1].After || x.Pause == nil {
			t.Errorf("takeover %d: %+v", i+1, x)
		}
	}
	if !r.OK() || r.Connections.Opened != clients || r.Messages.Received < r.Messages.Sent {
		t.Errorf("a client noticed:\n%s", text)
	}
	first, last := u.States[1], u.States[takeovers]
	if last.Descriptors > first.Descriptors {
		t.Errorf("%d descriptors after the first takeover, %d after the last", first.Descriptors, last.Descriptors)
	}
}

// A gateway that is killed and started again is told apart from one that is taken over.
func TestRestartUnderLoadIsNoticed(t *testing.T) {
	t.Parallel()
	g := start(t, loadConfiguration, "--data", filepath.Join(t.TempDir(), "data"))
	r, text := load(t, g, 50, 1, fmt.Sprintf("kill -9 %d", g.Cmd.Process.Pid))
	if r.OK() || r.Upgrade == nil || r.Upgrade.Disconnects != 50 {
		t.Errorf("50 disconnects were to be counted:\n%s", text)
	}
}

const loadConfiguration = `
allow-anonymous: true
insecure: true
channels:
  default:
    history-size: 100
    history-ttl: 1h
`

// load runs roost-load upgrade, and ends the gateways that come when the test does.
func load(t *testing.T, g *gateway, clients, times int, command string) (r loadtest.Result, table string) {
	t.Helper()
	tool, err := build("roost-load", "roost/cmd/roost-load")
	if err != nil {
		t.Fatal(err)
	}
	result := filepath.Join(t.TempDir(), "result.json")
	cmd := exec.Command(tool, "upgrade", "--url", "ws://"+g.address+"/connection/websocket", "--connections", fmt.Sprint(clients),
		"--channels", "100", "--rate", "300", "--before", "300ms", "--pause", "300ms", "--after", "300ms", "--timeout", "30s",
		"--times", fmt.Sprint(times), "--command", command, "--json", result, "--plain")
	cmd.Env = append(os.Environ(), "ROOST_API_KEY="+apiKey)
	var out bytes.Buffer
	f, err := os.Create(filepath.Join(t.TempDir(), "log")) // a file: the gateways that come keep it open
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = &out, f
	runErr := cmd.Run() // its code is in what it found
	log, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(result)
	if err != nil || json.Unmarshal(b, &r) != nil {
		t.Fatalf("%v, %v\n%s\n%s", runErr, err, out.String(), log)
	}
	if r.Upgrade != nil && len(r.Upgrade.Takeovers) > 0 {
		if last := r.Upgrade.Takeovers[len(r.Upgrade.Takeovers)-1].After; last != 0 && last != g.Cmd.Process.Pid {
			t.Cleanup(func() { _ = syscall.Kill(last, syscall.SIGKILL) })
		}
	}
	if runErr == nil != r.OK() {
		t.Errorf("ended with %v, and OK is %v", runErr, r.OK())
	}
	return r, out.String() + tail(string(log), 4<<10)
}
