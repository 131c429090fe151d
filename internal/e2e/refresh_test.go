//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"roost/internal/proctest"
)

// shopConfig is a gateway whose backend decides on everything.
func shopConfig(url, more string) string {
	return fmt.Sprintf(`
hmac-secret-key: %s
expiry-grace: 100ms
backends: {servers: {shop: {url: %q%s}}, rpc: [{method: "*", backend: shop}], connect: shop, refresh: shop}
channels: {namespaces: {room: {subscribe-backend: shop, publish-backend: shop, sub-refresh-backend: shop}}}
`, secret, url, more)
}

// shopBackend runs a backend of examples until the test ends; clients stay for two seconds
// at a time. It returns the address that it says it has, if it does.
func shopBackend(t testing.TB, name string, flags ...string) (p *proctest.Process, address string) {
	t.Helper()
	path, err := build(name, "roost/examples/"+name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(flags, "--stay", "2s")...)
	cmd.Env = append(os.Environ(), "SECRET=s3")
	if p, err = proctest.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	line, err := await(p)
	if err != nil {
		t.Fatal(err)
	}
	return p, proctest.Fields(line)["address"]
}

const shopSecret = `, headers: {X-Secret: s3}, timeout: 20s`

// visitor connects a client by a name that the example backends let in.
func (g *gateway) visitor(t testing.TB, binary bool, name string) *sdk {
	t.Helper()
	c := newSDK(t, g.url(), binary, centrifuge.Config{Data: fmt.Appendf(nil, `{"name":%q}`, name)})
	c.connect(t)
	return c
}

// refreshes waits until so many questions had an outcome.
func (g *gateway) refreshes(t testing.TB, event, outcome string, least float64) {
	t.Helper()
	eventually(t, func() error {
		name := fmt.Sprintf("roost_refreshes_total{event=%q,outcome=%q}", event, outcome)
		if n := g.metrics(t)[name]; n < least {
			return fmt.Errorf("%s is %v, want %v", name, n, least)
		}
		return nil
	})
}

// checkShop has the SDK let in, subscribed and heard as the example backends decide.
func checkShop(t *testing.T, g *gateway, c *sdk, name string) {
	t.Helper()
	own := "room:private-" + name
	c.subscribe(t, own, centrifuge.SubscriptionConfig{})
	if _, err := c.Publish(inTime(t), own, []byte(`"hi"`)); err != nil {
		t.Error(err)
	}
	if e := c.wait(t, "publication", own); e.data != fmt.Sprintf(`{"from":%q,"text":"hi"}`, name) {
		t.Errorf("%+v", e)
	}
	_, err := c.Publish(inTime(t), "room:private-other", []byte(`1`))
	wantError(t, err, 103)
	sub := c.subscription(t, "room:private-other", centrifuge.SubscriptionConfig{})
	if err := sub.Subscribe(); err != nil {
		t.Fatal(err)
	}
	if e := c.wait(t, "unsubscribed", "room:private-other"); e.code != 103 {
		t.Errorf("%+v", e)
	}
	g.refreshes(t, "refresh", "kept", 2)
	g.refreshes(t, "sub_refresh", "kept", 2)
	if all := append(c.all("connecting", ""), c.all("subscribing", own)...); len(all) != 2 {
		t.Errorf("it was not left in peace: %+v", all)
	}
}

// A backend over HTTP prolongs clients and subscriptions; while it is dead nobody ends, and
// when it is back it does end those it will not have any longer.
func TestRefreshHTTP(t *testing.T) {
	t.Parallel()
	p, address := shopBackend(t, "backend-http", "--address", loopback+":0")
	g := start(t, shopConfig("http://"+address+"/", shopSecret), "--memory")
	ann, bob := g.visitor(t, false, "ann"), g.visitor(t, true, "bob")
	checkShop(t, g, ann, "ann")
	p.Kill()
	g.refreshes(t, "refresh", "failed", 2)
	g.refreshes(t, "sub_refresh", "failed", 1)
	time.Sleep(2500 * time.Millisecond) // what they were let in for, and the grace
	var there struct{ Connections map[string]object }
	g.must(t, "connections", object{}, &there)
	if len(there.Connections) != 2 || len(ann.all("connecting", "")) != 1 || len(ann.all("subscribing", "room:private-ann")) != 1 {
		t.Errorf("%v, %+v", there, ann.all("connecting", ""))
	}
	shopBackend(t, "backend-http", "--address", address)
	if _, err := bob.RPC(inTime(t), "signout", nil); err != nil {
		t.Fatal(err)
	}
	g.must(t, "refresh", object{"user": "bob", "expire_at": time.Now().Unix() + 2}, nil) // rather than wait for a minute
	if e := bob.wait(t, "connecting", ""); e.code != 3005 {
		t.Errorf("%+v", e)
	}
	bob.wait(t, "connected", "") // as itself, anew
}

// A backend on NATS does all that, too.
func TestRefreshNATS(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	shopBackend(t, "backend-nats", "--url", n.urls())
	g := start(t, shopConfig("nats:shop", ""), "--nats", n.urls(), "--nats-replicas", "3")
	ann := g.visitor(t, false, "ann")
	checkShop(t, g, ann, "ann")
	ann.subscribe(t, "room:guests", centrifuge.SubscriptionConfig{})
	if e := ann.wait(t, "subscribing", "room:guests"); e.code != 2501 {
		t.Errorf("%+v", e)
	}
	guest := g.visitor(t, true, "guest 7")
	if e := guest.wait(t, "connecting", ""); e.code != 3005 {
		t.Errorf("%+v", e)
	}
}

// freeze stops a process. The signal alone is no more than a wish: until the thread that it falls to has
// run, the others go on.
func freeze(t *testing.T, p *proctest.Process) {
	t.Helper()
	if err := p.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Cmd.Process.Pid))
		for _, file := range threads {
			b, _ := os.ReadFile(file)
			if _, state, _ := strings.Cut(string(b), ") "); !strings.HasPrefix(state, "T") {
				return fmt.Errorf("a thread is not stopped: %.40s", b)
			}
		}
		if err != nil || len(threads) == 0 {
			return fmt.Errorf("no threads: %v", err)
		}
		return nil
	})
}

// A backend that is killed while it is asked: each command gets its error, and the gateway
// forgets none of them; what asks again is answered when it is back.
func TestBackendKilledWhileAsked(t *testing.T) {
	t.Parallel()
	p, address := shopBackend(t, "backend-http", "--address", loopback+":0")
	g := start(t, shopConfig("http://"+address+"/", shopSecret), "--memory")
	ann := g.visitor(t, false, "ann")
	freeze(t, p)
	const calls = 30
	failed := make(chan error, 2*calls)
	for i := range calls {
		go func() {
			_, err := ann.RPC(inTime(t), "echo", []byte(`1`))
			failed <- err
		}()
		go func() {
			_, err := ann.Publish(inTime(t), fmt.Sprint("room:", i), []byte(`1`))
			failed <- err
		}()
	}
	sub := ann.subscription(t, "room:a", centrifuge.SubscriptionConfig{})
	if err := sub.Subscribe(); err != nil {
		t.Fatal(err)
	}
	bob := newSDK(t, g.url(), true, centrifuge.Config{Data: []byte(`{"name":"bob"}`)})
	if err := bob.Connect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if n := g.metrics(t)[`roost_backend_calls{backend="shop"}`]; n < 2*calls+2 {
			return fmt.Errorf("%v calls are under way, want %d", n, 2*calls+2)
		}
		return nil
	})
	p.Kill()
	for range 2 * calls {
		var e *centrifuge.Error
		if err := <-failed; !errors.As(err, &e) || e.Code != 100 || !e.Temporary {
			t.Errorf("a call that was under way: %v", err)
		}
	}
	if e := ann.wait(t, "subscription error", "room:a"); !strings.Contains(e.data, "100") {
		t.Errorf("%+v", e)
	}
	shopBackend(t, "backend-http", "--address", address)
	ann.wait(t, "subscribed", "room:a")
	bob.wait(t, "connected", "")
	if _, err := ann.RPC(inTime(t), "echo", []byte(`1`)); err != nil {
		t.Error(err)
	}
	m := g.metrics(t)
	if n := sum(m, "roost_backend_call_seconds_count", `outcome="broken"`); n < 2*calls { // others were sent again, to nobody
		t.Errorf("%v calls broke, want %d", n, 2*calls)
	}
	if n := m[`roost_backend_calls{backend="shop"}`] + m[`roost_backend_calls_waiting{backend="shop"}`]; n > 2 { // refreshes
		t.Errorf("%v calls are still under way", n)
	}
}
