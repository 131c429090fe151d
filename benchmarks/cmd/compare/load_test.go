package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roost/benchmarks/internal/fleet"
)

// standIn is a load generator that notes its arguments, writes the JSON and ends with the code.
func standIn(t *testing.T, json string, code int) (o options, arguments string) {
	t.Helper()
	folder := t.TempDir()
	arguments = filepath.Join(folder, "arguments")
	script := fmt.Sprintf(`#!/bin/sh
echo "$@" >%s
while [ "$1" != --json ]; do shift; done
echo '%s' >"$2"
echo "the last line"
exit %d
`, arguments, json, code)
	o.loadBinary = filepath.Join(folder, "roost-load")
	if err := os.WriteFile(o.loadBinary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return o, arguments
}

func TestScenariosReadTheReport(t *testing.T) {
	o, arguments := standIn(t, `{"elapsed_s":4,"connections":{"connect_ms":{"p99":1.5}},"messages":{"per_second":700},`+
		`"latency_us":{"p99":90},"server":{"rss_bytes_per_connection":380.5,"cpu_us_per_message":6,`+
		`"cpu_us_per_delivery":7,"cpu_us_per_upgrade":32,"threads":5}}`, 0)
	process := &fleet.Process{Address: "127.0.0.1:8000", PID: 42}
	for _, c := range []struct {
		scenario scenario
		command  string
		want     map[string]float64
	}{
		{idle(true), "idle --url ws://127.0.0.1:8000/echo --pid 42", map[string]float64{"user_bytes": 380.5, "threads": 5}},
		{echo(true), "echo --url ws://127.0.0.1:8000/echo --pid 42", map[string]float64{"cpu_us": 6, "per_second": 700, "p99_us": 90}},
		{fanout(true), "fanout --url ws://127.0.0.1:8000/broadcast --pid 42", map[string]float64{"cpu_us": 7, "per_second": 700, "p99_us": 90}},
		{upgrade(true), "storm --url ws://127.0.0.1:8000/echo --pid 42", map[string]float64{"cpu_us": 32, "per_second": 250, "p99_us": 1500}},
	} {
		got, err := c.scenario.measure(context.Background(), o, process, fleet.Server{})
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range c.want {
			if got[key] != want {
				t.Errorf("%s: %s is %v, want %v", c.scenario.name, key, got[key], want)
			}
		}
		if len(got) != len(c.scenario.columns) {
			t.Errorf("%s: %d figures for %d columns", c.scenario.name, len(got), len(c.scenario.columns))
		}
		if ran, _ := os.ReadFile(arguments); !strings.HasPrefix(string(ran), c.command) {
			t.Errorf("%s ran %s", c.scenario.name, ran)
		}
	}
}

func TestFailedLoadHasNoFigures(t *testing.T) {
	process := &fleet.Process{Address: "127.0.0.1:8000", PID: 42}
	for name, c := range map[string]struct {
		json string
		code int
		want string
	}{
		"exit code":    {`{"server":{"cpu_us_per_message":6}}`, 1, "the last line"},
		"not measured": {`{"server":{}}`, 0, "no figure"},
		"no JSON":      {`{`, 0, "JSON"},
	} {
		o, _ := standIn(t, c.json, c.code)
		_, err := echo(true).measure(context.Background(), o, process, fleet.Server{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
