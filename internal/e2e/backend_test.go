//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/centrifugal/centrifuge-go"

	"roost/internal/proctest"
)

// Backends over HTTP: what they say is what the SDK hears, and one that hangs holds up
// nobody else's commands.
func TestBackendHTTP(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var stuck, messages atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		switch text := string(body); {
		case r.Header.Get("X-Secret") != "shared":
			w.WriteHeader(http.StatusForbidden)
		case strings.Contains(text, `"method":"hang"`):
			stuck.Add(1)
			<-release
		case strings.Contains(text, `"method":"own"`):
			_, _ = io.WriteString(w, `{"error":{"code":444,"message":"sold out"}}`)
		case strings.Contains(text, `"event":"message"`):
			messages.Add(1)
			_, _ = io.WriteString(w, `{"result":{}}`)
		default:
			_, _ = fmt.Fprintf(w, `{"result":{"data":{"asked":%s}}}`, body)
		}
	}))
	defer backend.Close()
	defer close(release)
	g := start(t, configuration+fmt.Sprintf(`
backends:
  servers:
    shop: {url: %q, timeout: 2s, headers: {X-Secret: shared}}
  rpc: [{method: "shop.*", backend: shop}, {method: hang, backend: shop}, {method: own, backend: shop}]
  message: shop
`, backend.URL), "--memory")
	for _, binary := range []bool{false, true} {
		ann, id := g.connected(t, binary, "ann")
		res, err := ann.RPC(inTime(t), "shop.buy", []byte(`{"n":1}`))
		if err != nil || !strings.Contains(string(res.Data), `"data":{"n":1}`) || !strings.Contains(string(res.Data), `"user":"ann"`) || !strings.Contains(string(res.Data), id) {
			t.Errorf("%s, %v", res.Data, err)
		}
		wantCode(t, ann, "own", 444)
		wantCode(t, ann, "elsewhere", 104)
		if err := ann.Send(inTime(t), []byte(`"hello"`)); err != nil {
			t.Error(err)
		}
		hung := make(chan error, 1)
		before := stuck.Load()
		go func() {
			_, err := ann.RPC(inTime(t), "hang", nil)
			hung <- err
		}()
		eventually(t, func() error {
			if stuck.Load() == before {
				return errors.New("the backend was not asked")
			}
			return nil
		})
		bob, _ := g.connected(t, binary, "bob")
		if _, err := bob.RPC(inTime(t), "shop.look", nil); err != nil {
			t.Errorf("beside a call that hangs: %v", err)
		}
		if _, err := ann.Publish(inTime(t), named(t, ""), []byte(`1`)); err != nil {
			t.Errorf("beside its own call that hangs: %v", err)
		}
		var e *centrifuge.Error
		if err := <-hung; !errors.As(err, &e) || e.Code != 100 || !e.Temporary {
			t.Errorf("a call without an answer: %v", err)
		}
	}
	eventually(t, func() error {
		if n := messages.Load(); n != 2 {
			return fmt.Errorf("%d messages, want 2", n)
		}
		return nil
	})
	const late = `roost_backend_call_seconds_count{backend="shop",event="rpc",outcome="timeout"}`
	if n := g.metrics(t)[late]; n != 2 {
		t.Errorf("%s: %v, want 2", late, n)
	}
}

func wantCode(t *testing.T, c *sdk, method string, code uint32) {
	t.Helper()
	var e *centrifuge.Error
	if _, err := c.RPC(inTime(t), method, nil); !errors.As(err, &e) || e.Code != code {
		t.Errorf("%s: %v, want %d", method, err, code)
	}
}

// settled returns RPC for the time after a backend was killed: what is sent before NATS knows
// that it is gone reaches nobody, times out with 100, and is asked again.
func settled(c *sdk) func(context.Context, string, []byte) (centrifuge.RPCResult, error) {
	return func(ctx context.Context, method string, data []byte) (centrifuge.RPCResult, error) {
		for {
			res, err := c.RPC(ctx, method, data)
			var e *centrifuge.Error
			if !errors.As(err, &e) || e.Code != 100 || ctx.Err() != nil {
				return res, err
			}
		}
	}
}

// The same example is attached to a single gateway by its embedded NATS, where it can see
// nothing but its own subjects.
func TestBackendEmbeddedNATS(t *testing.T) {
	t.Parallel()
	path, err := build("backend-nats", "roost/examples/backend-nats")
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, configuration+"\nbackends: {servers: {shop: {url: 'nats:shop'}}, rpc: [{method: '*', backend: shop}]}\n",
		"--memory", "--nats-listen", loopback+":0", "--nats-user", "shop", "--nats-password", "not a secret")
	at := proctest.Fields(g.Out.String())["nats"]
	c, _ := g.connected(t, false, "ann")
	wantCode(t, c, "time", 108) // nobody is there yet
	p, err := proctest.Start(exec.Command(path, "--url", "nats://shop:not%20a%20secret@"+at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if _, err := await(p); err != nil {
		t.Fatal(err)
	}
	for k := range 50 {
		want := fmt.Sprintf(`{"k":%d}`, k)
		if res, err := c.RPC(inTime(t), "echo", []byte(want)); err != nil || string(res.Data) != want {
			t.Fatalf("%s, %v", res.Data, err)
		}
	}
	if _, err := c.Publish(inTime(t), named(t, ""), []byte(`1`)); err != nil {
		t.Errorf("the gateway itself: %v", err)
	}
	stranger, err := proctest.Start(exec.Command(path, "--url", "nats://"+at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stranger.Kill)
	if _, err := await(stranger); err == nil || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("without a password: %v", err)
	}
	if n := g.metrics(t)["roost_broker_errors_total"]; n == 0 {
		t.Error("nobody counted that a stranger was refused")
	}
	thief, err := proctest.Start(exec.Command(path, "--url", "nats://shop:not%20a%20secret@"+at, "--prefix", "roost"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(thief.Kill)
	eventually(t, func() error {
		if log := thief.Log.String(); !strings.Contains(strings.ToLower(log), "permissions violation") {
			return fmt.Errorf("another's subjects are not refused: %s", log)
		}
		return nil
	})
}

// The example of a backend on NATS answers for all gateways of a cluster, as long as one
// of its processes is there.
func TestBackendNATS(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	var backends []*proctest.Process
	for range 2 {
		p, _ := startExample(t, "backend-nats", "--url", n.urls())
		backends = append(backends, p)
	}
	for i := range 2 {
		g := start(t, configuration+"\nbackends: {servers: {shop: {url: 'nats:shop'}}, rpc: [{method: '*', backend: shop}]}\n", "--nats", n.urls(), "--nats-replicas", "3")
		c, _ := g.connected(t, i == 0, "ann")
		for k := range 50 {
			want := fmt.Sprintf(`{"k":%d}`, k)
			ask := c.RPC
			if i == 0 && k > 25 {
				ask = settled(c)
			}
			if res, err := ask(inTime(t), "echo", []byte(want)); err != nil || string(res.Data) != want {
				t.Fatalf("%s, %v", res.Data, err)
			}
			if i == 0 && k == 25 {
				backends[0].Kill()
			}
		}
		wantCode(t, c, "dance", 404)
		wantCode(t, c, "no.such..subject", 104)
		if res, err := c.RPC(inTime(t), "time", nil); err != nil || !strings.Contains(string(res.Data), `"user":"ann"`) {
			t.Errorf("%s, %v", res.Data, err)
		}
		if i == 1 {
			backends[1].Kill()
			var e *centrifuge.Error
			if _, err := settled(c)(inTime(t), "echo", nil); !errors.As(err, &e) || e.Code != 108 {
				t.Errorf("%v, want 108", err)
			}
		} else if _, err := c.RPC(inTime(t), "leave", nil); err == nil {
			t.Error("leave was answered")
		} else if e := c.wait(t, "disconnected", ""); e.code != 4500 {
			t.Errorf("%+v", e)
		}
	}
}
