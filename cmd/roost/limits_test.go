//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"roost/proto/ws"
)

// run runs the binary to its end.
func run(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b, err := exec.CommandContext(ctx, roost, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("roost %q did not end: %s", args, b)
	}
	if exit != nil {
		return exit.ExitCode(), string(b)
	}
	return 0, string(b)
}

func TestVersion(t *testing.T) {
	if code, out := run(t, "version"); code != 0 || out != "roost "+testVersion+"\n" {
		t.Errorf("code %d, %q", code, out)
	}
}

// usageError is the exit code for a command line that does not parse.
const usageError = 2

func TestRefusedCommandLines(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	inUse := taken.Addr().String()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		want []string // in what it prints
	}{
		"nothing to serve": {[]string{"serve", "--address", "127.0.0.1:0", "--internal-address", "127.0.0.1:0"}, 1,
			[]string{"2 problems", "no client could connect", "ROOST_HMAC_SECRET_KEY", "--jwks-url", "--dev to try", "no place for data", "--data DIR"}},
		"less than nothing":          {onFreePorts("--max-message=-1"), 1, []string{"--max-message", "0 (the default) or more"}},
		"less than no queue":         {onFreePorts("--hard-limit=-1"), 1, []string{"--hard-limit", "0 (the default) or more"}},
		"no ping interval":           {onFreePorts("--ping-interval", "0s"), 1, []string{"--ping-interval", "at least 100ms"}},
		"no pong timeout":            {onFreePorts("--pong-timeout=-1s"), 1, []string{"--pong-timeout", "at least 100ms"}},
		"no handshake timeout":       {onFreePorts("--handshake-timeout", "0s"), 1, []string{"--handshake-timeout", "at least 100ms"}},
		"no such number of loops":    {onFreePorts("--loops=-1"), 1, []string{"--loops", "0 (one for two cores) to 256"}},
		"rate beyond what is kept":   {onFreePorts("--message-rate=99999"), 1, []string{"--message-rate", "16000"}},
		"negative workers":           {onFreePorts("--workers=-5"), 1, []string{"--workers"}},
		"negative send buffer":       {onFreePorts("--send-buffer=-1"), 1, []string{"--send-buffer"}},
		"negative receive buffer":    {onFreePorts("--receive-buffer=-1"), 1, []string{"--receive-buffer"}},
		"negative connections":       {onFreePorts("--max-connections=-1"), 1, []string{"--max-connections"}},
		"another gateway's address":  {onFreePorts("--address", start(t).address), 1, []string{"address already in use"}},
		"address in use":             {onFreePorts("--address", inUse), 1, []string{inUse, "address already in use"}},
		"internal address in use":    {onFreePorts("--internal-address", inUse), 1, []string{"internal address", inUse, "address already in use"}},
		"address without port":       {onFreePorts("--address", "localhost"), 1, []string{`"localhost"`, "missing port"}},
		"internal address, bad port": {onFreePorts("--internal-address", "127.0.0.1:99999"), 1, []string{"--internal-address", "127.0.0.1:99999", "invalid port"}},
		"profile into a file":        {onFreePorts("--profile", "cpu", "--profile-dir", file), 1, []string{file, "not a directory"}},
		"unknown profile":            {onFreePorts("--profile", "heap"), usageError, []string{"--profile must be one of", `"mutex"`, `got "heap"`}},
		"unknown flag":               {onFreePorts("--no-such-flag"), usageError, []string{"unknown flag --no-such-flag"}},
		"no number":                  {onFreePorts("--loops", "many"), usageError, []string{"--loops", `"many"`}},
		"duration without unit":      {onFreePorts("--ping-interval", "25"), usageError, []string{"--ping-interval", "25"}},
		"unknown command":            {[]string{"server"}, usageError, []string{"server"}},
		"no command":                 {nil, usageError, []string{"serve"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := run(t, test.args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("does not say %q: %s", want, out)
				}
			}
			if strings.Contains(out, "ready address=") || strings.Contains(out, "panic") || strings.Contains(out, "context canceled") {
				t.Errorf("says more than it should: %s", out)
			}
		})
	}
}

func TestNoIOUring(t *testing.T) {
	g := start(t, "--no-io-uring")
	if log := g.Log.String(); !strings.Contains(log, "io_uring=false") || strings.Contains(log, "level=WARN") {
		t.Errorf("log:\n%s", log)
	}
	if err := g.upgraded("/echo").echo("plain writes"); err != nil {
		t.Error(err)
	}
	a, b := g.upgraded("/broadcast"), g.upgraded("/broadcast")
	if err := errors.Join(a.echo("to both"), b.expect(ws.OpText, "to both")); err != nil {
		t.Error(err)
	}
	if n := g.metrics()[`roost_io_operations_total{kind="enter"}`]; n != 0 {
		t.Errorf("%v io_uring enters", n)
	}
}

func TestAllowedOrigins(t *testing.T) {
	g := start(t, "--allowed-origins", "https://a.example,https://b.example")
	for origin, want := range map[string]int{"https://a.example": 101, "https://b.example": 101, "https://c.example": 403} {
		if status, err := g.tcp(upgradeRequest(g.address, "/echo", "Origin: "+origin)).status(); status != want {
			t.Errorf("%s: status %d, %v; want %d", origin, status, err, want)
		}
	}
}

func TestMaxMessage(t *testing.T) {
	g := start(t, "--max-message", "1000")
	c := g.upgraded("/echo")
	if err := c.echo(strings.Repeat("x", 1000)); err != nil {
		t.Error(err)
	}
	c.send(ws.OpText, make([]byte, 1001))
	if err := c.expectClose(ws.CloseTooBig); err != nil {
		t.Error(err)
	}
}

func TestPings(t *testing.T) {
	t.Parallel()
	g := start(t, "--ping-interval", "200ms", "--pong-timeout", "100ms")
	c := g.upgraded("/echo")
	if err := c.expect(ws.OpPing, ""); err != nil {
		t.Fatal(err)
	}
	if err := c.expectClose(ws.ClosePolicy); err != nil { // the ping is not answered
		t.Error(err)
	}
	eventually(t, func() error {
		if m := g.metrics(); m[`roost_closed_total{reason="no_pong"}`] != 1 || m["roost_pings_total"] != 1 {
			return fmt.Errorf("%v closed for no pong, %v pings", m[`roost_closed_total{reason="no_pong"}`], m["roost_pings_total"])
		}
		return nil
	})
}

func TestMessageRate(t *testing.T) {
	t.Parallel()
	g := start(t, "--message-rate", "5")
	c := g.upgraded("/echo")
	var burst []byte
	for range 1000 {
		burst = append(burst, masked(ws.OpText, []byte("again"))...)
	}
	_, _ = c.conn.Write(burst)
	for range 5 {
		if err := c.expect(ws.OpText, "again"); err != nil {
			t.Fatalf("within the burst: %v", err)
		}
	}
	m, err := c.read()
	for i := 0; err == nil && m.op == ws.OpText && i < 900; i++ { // time goes on meanwhile
		m, err = c.read()
	}
	if err != nil || m.op != ws.OpClose || string(m.payload) != "\x03\xf0too many messages" {
		t.Errorf("opcode %d %q, %v; want close 1008", m.op, m.payload, err)
	}
	c.conn.Close()
	eventually(t, func() error {
		if n := g.metrics()[`roost_closed_total{reason="rate_limit"}`]; n != 1 {
			return fmt.Errorf("%v closed for their rate", n)
		}
		return nil
	})
}

func TestMaxConnections(t *testing.T) {
	g := start(t, "--max-connections", "5")
	var clients []*client
	for range 5 {
		clients = append(clients, g.upgraded("/echo"))
	}
	if status, err := g.tcp(upgradeRequest(g.address, "/echo")).status(); !refused(err) {
		t.Errorf("one too many: status %d, %v", status, err)
	}
	for i, c := range clients {
		if err := c.echo("still here"); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	clients[0].conn.Close()
	eventually(t, func() error {
		status, err := g.tcp(upgradeRequest(g.address, "/echo")).status()
		if status != http.StatusSwitchingProtocols {
			return fmt.Errorf("no room after one has left: status %d, %v", status, err)
		}
		return nil
	})
	eventually(t, func() error {
		if n := g.metrics()["roost_sockets_refused_total"]; n < 1 {
			return fmt.Errorf("%v sockets refused", n)
		}
		return nil
	})
}

// refused tells whether a connection ended without an answer.
func refused(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// TestOutOfDescriptors has 300 clients come where there are descriptors for some 100.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	const clients, atMost = 300, 128
	shell := []string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, atMost), roost}
	// A limit of its own above the descriptors must not help either.
	g := launch(t, exec.Command("sh", append(shell, onFreePorts("--max-connections", "1000")...)...))
	if !strings.Contains(g.Log.String(), fmt.Sprintf("descriptor_limit=%d ", atMost)) {
		t.Fatalf("the limit is not %d", atMost)
	}
	g.metrics() // opens the connection that later scrapes go through

	var served, refusals atomic.Int64
	accepted := make(chan *client, clients)
	var waiting []*client
	for range clients {
		c := g.tcp(upgradeRequest(g.address, "/echo"))
		waiting = append(waiting, c)
		go func() {
			status, err := c.status()
			switch {
			case status == http.StatusSwitchingProtocols:
				served.Add(1)
				accepted <- c
			case refused(err):
				refusals.Add(1)
			}
		}()
	}
	// Each pause is up to twice as long as the one before. A loop that tried again and
	// again would be far above the bound at the first look.
	var pauses float64
	eventually(t, func() error {
		if pauses = g.metrics()["roost_accept_pauses_total"]; pauses < 8 {
			return fmt.Errorf("%v pauses", pauses)
		}
		return nil
	})
	if n := served.Load(); pauses > 100 || n < atMost/2 || n >= atMost {
		t.Errorf("%v pauses for %d clients, %d served of at most %d", pauses, clients, n, atMost)
	}
	if n := strings.Count(g.Log.String(), "cannot accept connections"); n < 1 || n > 20 {
		t.Errorf("logged %d times that it cannot accept", n)
	}
	firstServed := int(served.Load())
	var connected []*client
	for range firstServed {
		connected = append(connected, <-accepted)
	}
	for i, c := range connected {
		if err := c.echo("still here"); err != nil {
			t.Errorf("client %d of those connected: %v", i, err)
		}
	}
	for _, c := range connected[:firstServed/2] {
		c.conn.Close()
	}
	eventually(t, func() error {
		if n := int(served.Load()); n < firstServed+firstServed/4 {
			return fmt.Errorf("%d served, %d before room was made", n, firstServed)
		}
		return nil
	})
	for _, c := range waiting {
		c.conn.Close()
	}
	eventually(t, func() error {
		status, err := g.tcp(upgradeRequest(g.address, "/echo")).status()
		if status != http.StatusSwitchingProtocols {
			return fmt.Errorf("a new client after all have left: status %d, %v", status, err)
		}
		return nil
	})
	if refusals.Load() == 0 {
		t.Error("no client was told that there is no room")
	}
	g.end(syscall.SIGTERM)
}
