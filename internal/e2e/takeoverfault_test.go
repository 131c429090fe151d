//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/internal/proctest"
)

// faultyBinary is a gateway with the race detector that kills itself at a step of a takeover.
var faultyBinary = sync.OnceValues(func() (string, error) {
	return proctest.Build(workDir, "roost-faults", "roost/cmd/roost", "-race", "-tags=faults")
})

// Steps at which one of the two processes is killed, and what that may do to the clients of
// the old one: where it says so, they come back, otherwise they must notice nothing. #n is the
// n-th time.
var (
	oldSteps = []string{ // the crash of a gateway: whoever starts it again serves those who come back
		"hello", "offer", "prepared", "early", "dismiss", "freeze", "held", "seal", "listeners", "listener", "listener#2", "suspend", "suspended",
		"store", "will", "carry", "conns", "conns#2", "conns#3", "end",
	}
	oldLate  = []string{"ready", "go", "release", "released", "up"} // the new one has everything
	newSteps = []string{                                            // the old one goes on
		"hello", "prepare", "prepared", "listener", "listener#2", "store", "open", "opened", "will", "inherited", "conns", "conns#2", "conns#3",
		"restored", "restored#2", "restored#3", "end", "ready", "go", "took",
	}
	newLate = []string{"begin", "start", "reading", "internal", "listening", "up"} // likewise, but the connections are lost
)

// TestTakeoverFaults kills either process at each step. Whoever is left serves, or the one
// that is started then; no publication that was acknowledged is lost, none comes twice, and
// all come in their order.
func TestTakeoverFaults(t *testing.T) {
	t.Parallel()
	if _, err := faultyBinary(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who         string
		steps       []string
		undisturbed bool
	}{{"old", oldSteps, false}, {"old", oldLate, true}, {"new", newSteps, true}, {"new", newLate, false}} {
		for _, step := range c.steps {
			t.Run(c.who+" "+step, func(t *testing.T) {
				t.Parallel()
				faultAt(t, c.who, step, c.undisturbed, "--data", filepath.Join(t.TempDir(), "data"))
			})
		}
	}
}

// The same for a node of a cluster, at the steps that are others there.
func TestTakeoverFaultsInCluster(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	for _, c := range []struct {
		who         string
		steps       []string
		undisturbed bool
	}{
		{"old", []string{"early", "early#2", "seal", "carry", "end"}, false}, {"old", []string{"go"}, true},
		{"new", []string{"early", "early#2", "follow", "conns", "took"}, true}, {"new", []string{"begin", "reading"}, false},
	} {
		for _, step := range c.steps {
			t.Run(c.who+" "+step, func(t *testing.T) {
				t.Parallel()
				prefix := strings.NewReplacer(" ", "-", "#", "-").Replace(c.who + "-" + step)
				faultAt(t, c.who, step, c.undisturbed, "--nats", nats.urls(), "--nats-replicas", "3", "--nats-prefix", prefix,
					"--handoff-socket", filepath.Join(t.TempDir(), "sock"))
			})
		}
	}
}

// launchFaulty starts a gateway that dies at a step, if one is given. It returns nil and what
// the process is where that has ended before it was ready.
func launchFaulty(t *testing.T, fault, address, internal string, flags ...string) (*gateway, *proctest.Process) {
	t.Helper()
	binary, err := faultyBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, append([]string{"serve", "--address", address, "--internal-address", internal}, flags...)...)
	cmd.Env = append(os.Environ(), "ROOST_API_KEY="+apiKey, "ROOST_FAULT="+fault)
	p, err := proctest.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if strings.Contains(p.Log.String(), "DATA RACE") || strings.Contains(p.Log.String(), "panic") {
			t.Error("a race or a panic")
		}
		if t.Failed() {
			t.Logf("%v %s:\n%s", flags, fault, tail(p.Log.String(), 4<<10))
		}
	})
	line, err := await(p)
	if err != nil {
		return nil, p
	}
	at := proctest.Fields(line)
	return &gateway{Process: p, flags: flags, address: at["address"], internal: at["internal"]}, p
}

// numbers publishes 1, 2, 3, … to some channels in turns, and notes which were acknowledged.
type numbers struct {
	stop, done chan struct{}

	mu    sync.Mutex
	acked []int
}

func publishNumbers(internal string, channels []string) *numbers {
	n := &numbers{}
	n.start(internal, channels, 1)
	return n
}

// start goes on with a number. end stops it.
func (n *numbers) start(internal string, channels []string, from int) {
	n.stop, n.done = make(chan struct{}), make(chan struct{})
	g := &gateway{internal: internal}
	go func() {
		defer close(n.done)
		for i := from; ; i++ {
			select {
			case <-n.stop:
				return
			case <-time.After(time.Millisecond):
			}
			if g.api("publish", object{"channel": channels[i%len(channels)], "data": i}, nil) == nil {
				n.mu.Lock()
				n.acked = append(n.acked, i)
				n.mu.Unlock()
			}
		}
	}()
}

func (n *numbers) end() {
	close(n.stop)
	<-n.done
}

func (n *numbers) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.acked)
}

// more waits for so many more that are acknowledged.
func (n *numbers) more(t *testing.T, count int) {
	t.Helper()
	want := n.count() + count
	eventually(t, func() error {
		if have := n.count(); have < want {
			return fmt.Errorf("%d of %d publications are acknowledged", have, want)
		}
		return nil
	})
}

func faultAt(t *testing.T, who, step string, undisturbed bool, flags ...string) {
	fault := map[string]string{who: who + " " + step}
	old := startMovable(t, fault["old"], flags...)
	next, p := old.succeeded(t, fault["new"])
	died := p
	if who == "old" {
		died = old.Process
	}
	select {
	case <-died.Ended:
	case <-time.After(patience):
		t.Fatal("nobody died")
	}
	if state := died.Cmd.ProcessState.String(); !strings.Contains(state, "killed") {
		t.Errorf("it ended by itself: %s", state)
	}
	if who == "old" && next == nil { // a supervisor
		if next, p = launchFaulty(t, "", old.address, old.internal, old.flags...); next == nil {
			t.Fatalf("it does not start again:\n%s", p.Log.String())
		}
	}
	old.complete(t, undisturbed)
}

// seesAll tells whether a client has got all numbers that were acknowledged and are its
// channel's, each once and in order. Others may be there, too: stored, but not acknowledged.
func seesAll(t *testing.T, c *sdk, channel string, acked []int, rest, of int) {
	t.Helper()
	var want []int
	for _, i := range acked {
		if i%of == rest {
			want = append(want, i)
		}
	}
	eventually(t, func() error {
		last, at := 0, 0
		for _, e := range c.all("publication", channel) {
			i, err := strconv.Atoi(e.data)
			if err != nil || i <= last {
				t.Fatalf("%s: %q came after %d", channel, e.data, last)
			}
			last = i
			if at < len(want) && i == want[at] {
				at++
			}
		}
		if at < len(want) {
			return fmt.Errorf("%s: %d, the %d. of %d, has not come; the last is %d", channel, want[at], at+1, len(want), last)
		}
		return nil
	})
}
