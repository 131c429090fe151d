//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"roost/internal/proctest"
)

// drain runs `roost drain` for a gateway until it ends with an exit code, and returns what it prints.
func (g *gateway) drain(t *testing.T, code int, args ...string) string {
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
	out := p.Out.String() + p.Log.String()
	if got := p.Cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("roost drain %v: exit code %d, want %d: %s", args, got, code, out)
	}
	return out
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
	if out := g.drain(t, 0, "--share", "50%", "--over", "1s"); !strings.Contains(out, "serving: 5 of 5 clients have gone") {
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
	if out := g.drain(t, 2, "--share", "2x"); !strings.Contains(out, `"2x" is no share`) {
		t.Errorf("%q", out)
	}
	if out := g.drain(t, 0, "--over", "0s"); !strings.Contains(out, "drained: 10 of 10 clients have gone") {
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
	if out := g.drain(t, 1, "--over", "5s"); !strings.Contains(out, "the node is drained already") {
		t.Errorf("%q", out)
	}
	if out := g.drain(t, 0, "--abort"); !strings.Contains(out, "aborted: ") {
		t.Errorf("%q", out)
	}
	if out := g.drain(t, 0, "--abort"); !strings.Contains(out, "nothing to abort") {
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

// balancer leads clients to the gateways that say they are ready, one after the other, and returns where it is.
func balancer(t *testing.T, gateways []*gateway) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	lead := func(c net.Conn, first int) {
		defer c.Close()
		for i := range gateways {
			g := gateways[(first+i)%len(gateways)]
			if g.ready() != nil {
				continue
			}
			to, err := net.Dial("tcp", g.address)
			if err != nil {
				continue
			}
			defer to.Close()
			go func() {
				_, _ = io.Copy(to, c)
				_ = to.Close()
			}()
			_, _ = io.Copy(c, to)
			return
		}
	}
	go func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go lead(c, i)
		}
	}()
	return l.Addr().String()
}

// SDK clients of a node that is drained go on at the others, and miss nothing of what is published meanwhile.
func TestDrainToOthers(t *testing.T) {
	t.Parallel()
	_, gateways := startCluster(t)
	address, ch := balancer(t, gateways), named(t, "")
	var clients []*sdk
	for i := range 12 {
		c := newSDK(t, "ws://"+address+"/connection/websocket", i%2 == 0, centrifuge.Config{Token: tokenOf(fmt.Sprint("user", i))})
		c.connect(t)
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		clients = append(clients, c)
	}
	of := func(g *gateway) float64 { return sum(g.metrics(t), "roost_clients", "") }
	if n := of(gateways[2]); n != 4 {
		t.Fatalf("the node that is to be drained has %v clients", n)
	}
	var publishing sync.WaitGroup
	stop := make(chan struct{})
	var published []string
	publishing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := gateways[0].api("publish", object{"channel": ch, "data": i}, nil); err != nil {
				t.Error(err)
				return
			}
			published = append(published, fmt.Sprint(i))
		}
	})
	out := gateways[2].drain(t, 0, "--over", "2s")
	eventually(t, func() error {
		if a, b, c := of(gateways[0]), of(gateways[1]), of(gateways[2]); a+b != 12 || c != 0 {
			return fmt.Errorf("%v, %v and %v clients", a, b, c)
		}
		return nil
	})
	close(stop)
	publishing.Wait()
	if !strings.Contains(out, "drained: 4 of 4 clients have gone") {
		t.Errorf("%q", out)
	}
	moved := 0
	for _, c := range clients {
		eventually(t, func() error {
			if n := len(c.all("publication", ch)); n < len(published) {
				return fmt.Errorf("%d publications of %d", n, len(published))
			}
			return nil
		})
		c.wantPublications(t, ch, published...)
		for _, e := range c.all("connecting", "") {
			if e.code == 3001 {
				moved++
			}
		}
		for _, e := range c.all("subscribed", ch)[1:] {
			if !e.recovered {
				t.Errorf("not recovered: %+v", e)
			}
		}
	}
	if moved != 4 {
		t.Errorf("%d clients were told to go", moved)
	}
}

// The rest of the clients of a drain that is aborted half-way notice nothing. Those with SSE go as others do.
func TestDrainAborted(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--memory")
	res, err := http.Get("http://" + g.address + "/connection/sse?cf_connect=" + url.QueryEscape(`{"id":1,"connect":{"token":"`+tokenOf("ann")+`"}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var clients []*sdk
	for range 20 {
		c, _ := g.connected(t, false, "")
		clients = append(clients, c)
	}
	var r struct {
		State       string
		Total, Done int
	}
	g.must(t, "drain", object{"percent": 100, "seconds": 20}, &r)
	if r.State != "draining" || g.ready() == nil {
		t.Errorf("%+v, and ready: %v", r, g.ready())
	}
	eventually(t, func() error {
		g.must(t, "drain_status", object{}, &r)
		if r.Done < 5 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	g.must(t, "drain_abort", object{}, &r)
	if err := g.ready(); err != nil || r.Total != 21 || r.Done >= 21 {
		t.Errorf("after the abort: %+v, %v", r, err)
	}
	m := g.metrics(t)
	gone := sum(m, "roost_drain_disconnects_total", "")
	if gone < float64(r.Done) || gone > 20 || sum(m, "roost_drain_clients_left", "") != 0 || sum(m, "roost_drain_refusing", "") != 0 {
		t.Errorf("%v were disconnected, %+v", gone, r)
	}
	told := 0
	eventually(t, func() error {
		if n := sum(g.metrics(t), "roost_clients", ""); n < 20 { // SDKs are back
			return fmt.Errorf("%v clients", n)
		}
		return nil
	})
	for _, c := range clients {
		told += len(c.all("connecting", "")) - 1
	}
	if float64(told) < gone-1 || float64(told) > gone { // one may have been the one with SSE
		t.Errorf("%d clients were told to go, %v were disconnected", told, gone)
	}
	g.must(t, "drain", object{"percent": 100, "seconds": 0}, nil)
	stream, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(stream), `"disconnect":{"code":3001`) {
		t.Errorf("the SSE client got %q, %v", stream, err)
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
