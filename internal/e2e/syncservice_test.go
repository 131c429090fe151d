//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"roost/internal/proctest"
	"roost/internal/syncmodel"
)

// syncCall calls sync by the server API of the gateway there is at the moment.
func syncCall(at *atomic.Pointer[gateway]) syncmodel.Call {
	return func(_ context.Context, op string, params []byte) ([]byte, error) {
		var result json.RawMessage
		err := at.Load().api("sync/"+op, json.RawMessage(params), &result)
		var no *apiError
		if errors.As(err, &no) {
			return nil, &syncmodel.Refused{Code: no.Code, Message: no.Message, Temporary: no.Code == 100 || no.Code == 111}
		}
		return result, err
	}
}

// watch opens all objects of a run, and has a client follow them from then on. It returns what that sees.
func watch(t *testing.T, run *syncmodel.Run, g *gateway) func() map[string]*syncmodel.View {
	t.Helper()
	channels, err := run.Open(inTime(t))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := g.connected(t, true, "watcher")
	for _, ch := range channels {
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{Recoverable: true})
	}
	return func() map[string]*syncmodel.View {
		views := map[string]*syncmodel.View{}
		for name, ch := range channels {
			views[name] = run.Opened(name)
			for _, e := range c.all("publication", ch) {
				views[name].Take(e.offset, []byte(e.data))
			}
		}
		return views
	}
}

// random runs operations in the background, and disturb meanwhile, over and over; in the end all must agree.
func random(t *testing.T, run *syncmodel.Run, operations int, views func() map[string]*syncmodel.View, disturb func(round int)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const rounds = 4
	for round := range rounds {
		done := make(chan error, 1)
		go func() { done <- run.Do(ctx, operations/rounds) }()
		disturb(round)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d, %d operations", run.Seed, run.Operations())
	read := func(op string, params []byte) ([]byte, error) { return run.Call(ctx, op, params) }
	eventually(t, func() error { return run.Compare(read, views()) })
}

// A gateway is killed again and again while clients write: what was acknowledged is there, what was tried
// again happened once, events have no gap, and a subscriber has seen all.
func TestSyncKilled(t *testing.T) {
	t.Parallel()
	var at atomic.Pointer[gateway]
	at.Store(start(t, configuration, "--services", "sync", "--data", t.TempDir()))
	run := syncmodel.New(syncCall(&at), 2, 4, uint64(time.Now().UnixNano()))
	run.Stay = true
	views := watch(t, run, at.Load())
	random(t, run, size(t, "SYNC_OPERATIONS", 4000), views, func(round int) {
		time.Sleep(time.Duration(100+70*round) * time.Millisecond)
		g := at.Load()
		g.Kill()
		at.Store(g.again(t))
	})
}

// startSync runs an instance of sync alone.
func startSync(t *testing.T, nats string) *proctest.Process {
	t.Helper()
	roost, err := roostBinary()
	if err != nil {
		t.Fatal(err)
	}
	p, err := proctest.Start(exec.Command(roost, "sync", "--nats", nats, "--nats-replicas", "3", "--internal-address", loopback+":0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the log of an instance:\n%s", tail(p.Log.String(), 4<<10))
		}
	})
	if _, err := await(p); err != nil {
		t.Fatal(err)
	}
	return p
}

// Several instances share the objects. While clients write, one is killed, one ends in order, and others
// come: nothing is lost or done twice.
func TestSyncOwners(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	var at atomic.Pointer[gateway]
	at.Store(start(t, configuration, "--services", "sync", "--remote-services", "--nats", n.urls(), "--nats-replicas", "3"))
	instances := []*proctest.Process{startSync(t, n.urls()), startSync(t, n.urls()), startSync(t, n.urls())}
	run := syncmodel.New(syncCall(&at), 2, 4, uint64(time.Now().UnixNano()))
	run.Stay = true
	views := watch(t, run, at.Load())
	random(t, run, size(t, "SYNC_OPERATIONS", 3000), views, func(round int) {
		time.Sleep(200 * time.Millisecond)
		switch round {
		case 0:
			instances[0].Kill()
		case 1:
			if err := instances[1].Cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		case 2:
			instances[0] = startSync(t, n.urls())
		case 3:
			instances[2].Kill()
		}
	})
}

// runTakeovers has a gateway replaced over and over under writes.
func runTakeovers(t *testing.T, g *gateway) {
	var at atomic.Pointer[gateway]
	at.Store(g)
	run := syncmodel.New(syncCall(&at), 2, 4, uint64(time.Now().UnixNano()))
	run.Stay = true
	views := watch(t, run, g)
	random(t, run, size(t, "SYNC_OPERATIONS", 3000), views, func(int) {
		time.Sleep(100 * time.Millisecond)
		at.Store(at.Load().succeed(t))
	})
}
