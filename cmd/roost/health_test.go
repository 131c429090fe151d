//go:build linux

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"roost/internal/proctest"
)

// health runs `roost health` on an address.
func health(address string, flags ...string) (out string, err error) {
	all, err := exec.Command(roost, append([]string{"health", "--internal-address", address}, flags...)...).CombinedOutput()
	return strings.TrimSpace(string(all)), err
}

func TestHealth(t *testing.T) {
	g := start(t)
	for _, flags := range [][]string{nil, {"--ready"}} {
		if out, err := health(g.internal, flags...); err != nil || out != "ok" {
			t.Errorf("roost health %v: %q, %v", flags, out, err)
		}
	}
	_, port, _ := net.SplitHostPort(g.internal)
	if out, err := health("0.0.0.0:" + port); err != nil || out != "ok" {
		t.Errorf("an address that means all of this machine's: %q, %v", out, err)
	}
}

// TestHealthTellsWhy covers the gateway that is there but not ready, and the one that is not there.
func TestHealthTellsWhy(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ready" {
			say(w, fmt.Errorf("NATS is away"))
		}
	}))
	address := s.Listener.Addr().String()
	if out, err := health(address); err != nil {
		t.Errorf("alive: %q, %v", out, err)
	}
	if out, err := health(address, "--ready"); err == nil || !strings.Contains(out, "/ready says 503: NATS is away") {
		t.Errorf("not ready: %q, %v", out, err)
	}
	s.Close()
	free := "127.0.0.1:" + proctest.FreePorts(t, "127.0.0.1", 1)[0]
	if out, err := health(free); err == nil || !strings.Contains(out, "no answer from --internal-address "+free) {
		t.Errorf("nobody there: %q, %v", out, err)
	}
}
