//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"roost/internal/proctest"
)

// drain runs `roost drain` for a gateway until it ends, and returns what it prints.
func (g *gateway) drain(t *testing.T, args ...string) string {
	t.Helper()
	roost, err := roostBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(roost, append(append([]string{"drain", "--internal-address", g.internal}, g.flags...), args...)...)
	cmd.Env = append(os.Environ(), "ROOST_API_KEY="+apiKey)
	p, err := proctest.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	select {
	case <-p.Ended:
	case <-time.After(patience):
		t.Fatalf("roost drain %v does not end:\n%s", args, p.Out.String())
	}
	return p.Out.String() + p.Log.String()
}

// Shed clients come back and have missed nothing; drained ones cannot, until the abort.
func TestDrain(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--memory")
	var clients []*sdk
	for i := range 10 {
		c, _ := g.connected(t, i%2 == 0, "")
		c.subscribe(t, "c", centrifuge.SubscriptionConfig{})
		clients = append(clients, c)
	}
	if out := g.drain(t, "--share", "50%", "--over", "1s"); !strings.Contains(out, "serving: 5 of 5 clients have gone") {
		t.Errorf("%q", out)
	}
	for i := range 20 {
		g.publish(t, "c", i)
	}
	for _, c := range clients {
		eventually(t, func() error {
			if n := len(c.all("publication", "c")); n != 20 {
				return fmt.Errorf("%d publications, want 20", n)
			}
			return nil
		})
	}
	if out := g.drain(t, "--share", "2x"); !strings.Contains(out, `"2x" is no share`) {
		t.Errorf("%q", out)
	}
	if out := g.drain(t, "--over", "0s"); !strings.Contains(out, "drained: 10 of 10 clients have gone") {
		t.Errorf("%q", out)
	}
	if err := g.ready(); err == nil {
		t.Error("a drained gateway is ready")
	}
	eventually(t, func() error { // they try, and are refused
		if n := sum(g.metrics(t), "roost_handshake_errors_total", `"drained"`); n < 10 {
			return fmt.Errorf("%v upgrades were refused", n)
		}
		return nil
	})
	if out := g.drain(t, "--over", "5s"); !strings.Contains(out, "the node is drained already") {
		t.Errorf("%q", out)
	}
	if out := g.drain(t, "--abort"); !strings.Contains(out, "aborted") {
		t.Errorf("%q", out)
	}
	for _, c := range clients {
		g.publish(t, "c", 99)
		eventually(t, func() error {
			if all := c.all("publication", "c"); len(all) <= 20 {
				return fmt.Errorf("nothing after the abort")
			}
			return nil
		})
	}
}

// SIGTERM drains over drain-time, and a second one cuts that short.
func TestDrainAtTerm(t *testing.T) {
	t.Parallel()
	for _, second := range []bool{false, true} {
		t.Run(fmt.Sprint("second signal ", second), func(t *testing.T) {
			t.Parallel()
			over := "1s"
			if second {
				over = "10m"
			}
			g := start(t, configuration, "--memory", "--drain-time", over)
			for range 5 {
				g.connected(t, false, "")
			}
			_ = g.Cmd.Process.Signal(syscall.SIGTERM)
			eventually(t, func() error {
				if g.ready() == nil {
					return fmt.Errorf("it is ready")
				}
				return nil
			})
			if second {
				eventually(t, func() error {
					if !strings.Contains(g.Log.String(), "draining") {
						return fmt.Errorf("no drain")
					}
					return nil
				})
				_ = g.Cmd.Process.Signal(syscall.SIGTERM)
			}
			select {
			case <-g.Ended:
			case <-time.After(patience):
				t.Fatal("it does not end")
			}
			if code := g.Cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if cut := strings.Contains(g.Log.String(), "cut short"); cut != second {
				t.Errorf("cut short: %v", cut)
			}
		})
	}
}
