//go:build linux && !race

// Not under the race detector: it would watch the suites' client, which has its own
// tests, and not the gateway, which is another process.

package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"roost/internal/conformance"
)

var bulkMessages = flag.Int("messages", 50, "messages in each of the Autobahn cases 9.7, 9.8, 12 and 13; the original sends 1000")

// hostileCases is how many RunHostile has with all options set.
const hostileCases = 147

// deadlines are short, as the hostile inputs wait for them.
var deadlines = []string{"--handshake-timeout", "2s", "--ping-interval", "2s", "--pong-timeout", "1s"}

func TestAutobahn(t *testing.T) {
	for _, path := range []string{"/echo", "/echo-pool"} {
		t.Run(path[1:], func(t *testing.T) {
			g := start(t, "--max-message", "33554432", "--hard-limit", "67108864")
			before := g.metrics()
			counts := conformance.RunAll(t, "ws://"+g.address+path, conformance.Options{Messages: *bulkMessages})
			want := conformance.Counts{conformance.OK: conformance.CaseCount - 3, conformance.Informational: 3}
			if !maps.Equal(counts, want) {
				t.Errorf("%v, want %v", counts, want)
			}
			g.expectErrors("protocol", "rsv", "opcode", "control_fragmented", "control_too_long", "stray_continuation",
				"interleaved", "utf8", "close_length", "close_code")
			g.expectCalm(before)
		})
	}
}

func TestHostile(t *testing.T) {
	for _, path := range []string{"/echo", "/echo-pool"} {
		t.Run(path[1:], func(t *testing.T) {
			g := start(t, append(deadlines, "--max-message", "1048576")...)
			before := g.metrics()
			counts := conformance.RunHostile(t, "ws://"+g.address+path, conformance.Options{
				Deflate: true, MaxMessage: 1 << 20, HandshakeDeadline: 2 * time.Second, IdleDeadline: 3 * time.Second,
				BadOrigin: "http://evil.example", Memory: g.residentBytes,
			})
			if want := (conformance.Counts{conformance.Passed: hostileCases}); !maps.Equal(counts, want) {
				t.Errorf("%v, want %v", counts, want)
			}
			g.expectErrors("protocol", "unmasked", "rsv", "opcode", "control_fragmented", "control_too_long",
				"stray_continuation", "interleaved", "length_not_minimal", "length_63bit", "frame_too_big",
				"message_too_big", "utf8", "close_length", "close_code", "deflate", "inflate_limit")
			g.expectErrors("handshake", "head_too_big", "tls", "malformed", "http_version", "host", "method",
				"not_upgrade", "version", "key", "origin", "timeout", "not_found")
			g.expectCalm(before)
		})
	}
}

func (g *instance) residentBytes() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.Cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, errors.New("the process has ended")
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// expectErrors wants each kind of error to have been counted, and none without a name.
func (g *instance) expectErrors(what string, kinds ...string) {
	g.t.Helper()
	m := g.metrics()
	count := func(kind string) float64 { return m[fmt.Sprintf("roost_%s_errors_total{kind=%q}", what, kind)] }
	for _, kind := range kinds {
		if count(kind) == 0 {
			g.t.Errorf("no %s error of kind %s was counted", what, kind)
		}
	}
	if n := count("unknown"); n != 0 {
		g.t.Errorf("%v %s errors without a kind", n, what)
	}
}

// expectCalm wants nothing left of the clients that have gone.
func (g *instance) expectCalm(before map[string]float64) {
	g.t.Helper()
	// The runtime starts and ends a few goroutines of its own.
	const spare = 4
	eventually(g.t, func() (err error) {
		m := g.metrics()
		for _, name := range []string{"roost_sockets", "roost_connections", "roost_workers_busy", "roost_workers_waiting"} {
			if m[name] != 0 {
				err = errors.Join(err, fmt.Errorf("%s is %v", name, m[name]))
			}
		}
		if now, then := m["go_goroutines"], before["go_goroutines"]; now > then+spare {
			err = errors.Join(err, fmt.Errorf("%v goroutines, %v at the start", now, then))
		}
		closed := 0.0
		for name, n := range m {
			if strings.HasPrefix(name, "roost_closed_total{") {
				closed += n
			}
		}
		if accepted := m["roost_sockets_accepted_total"]; closed != accepted {
			err = errors.Join(err, fmt.Errorf("%v sockets accepted, %v closed for a reason", accepted, closed))
		}
		return err
	})
	m := g.metrics()
	for _, reason := range []string{"panic", "unknown", "none"} {
		if n := m[fmt.Sprintf("roost_closed_total{reason=%q}", reason)]; n != 0 {
			g.t.Errorf("%v sockets closed for %s", n, reason)
		}
	}
	if strings.Contains(g.Log.String(), "panic") {
		g.t.Error("a panic is in the log")
	}
}
