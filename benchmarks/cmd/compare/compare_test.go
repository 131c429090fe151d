package main

import (
	"context"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/benchmarks/internal/client"
	"roost/benchmarks/internal/fleet"
)

// sample is an echo comparison with three repetitions of the floor and two other servers, one
// run of which failed.
func sample(t *testing.T) (*result, options) {
	t.Helper()
	servers, err := fleet.Select(fleet.All(1), []string{"floor", "roost", "gws"})
	if err != nil {
		t.Fatal(err)
	}
	o := options{out: t.TempDir(), commandLine: "go run ./cmd/compare", servers: servers, root: t.TempDir()}
	s := &scenarioResult{Name: "echo", scenario: echo(false), Parameters: echo(false).parameters()}
	for i, figures := range [][3]float64{{10, 11, 20}, {20, 30, 44}, {10, 12, 30}} {
		for j, name := range []string{"floor", "roost", "gws"} {
			s.Runs = append(s.Runs, &run{Server: name, Repetition: i + 1, Metrics: map[string]float64{
				"cpu_us": figures[j], "per_second": 1000 * figures[j], "p99_us": 5,
			}})
		}
	}
	s.Runs = append(s.Runs, &run{Server: "gws", Repetition: 4, Error: "lost a `message`"})
	s.divide()
	r := newResult(o)
	r.Scenarios = append(r.Scenarios, s)
	return r, o
}

// The ratio is taken within a repetition, then its median: not the ratio of the medians.
func TestRatiosAreOfTheSameRepetition(t *testing.T) {
	r, _ := sample(t)
	s := r.Scenarios[0]
	for _, c := range []struct {
		server, key         string
		median, least, most float64
		count               int
	}{
		{"floor", ratioKey, 1, 1, 1, 3},
		{"roost", ratioKey, 1.2, 1.1, 1.5, 3},
		{"gws", ratioKey, 2.2, 2, 3, 3},
		{"gws", "cpu_us", 30, 20, 44, 3},
		{"coder", "cpu_us", 0, 0, 0, 0},
	} {
		if got := s.spread(c.server, c.key); got != (spread{c.median, c.least, c.most, c.count}) {
			t.Errorf("%s %s: %+v", c.server, c.key, got)
		}
	}
	s.Runs[0].Error, s.Runs[0].Metrics = "failed", nil // the floor's of the first repetition
	delete(s.Runs[1].Metrics, ratioKey)
	delete(s.Runs[2].Metrics, ratioKey)
	s.divide()
	if got := s.spread("roost", ratioKey); got != (spread{1.35, 1.2, 1.5, 2}) {
		t.Errorf("without the floor's first run: %+v", got)
	}
}

func TestResultsAreWritten(t *testing.T) {
	r, o := sample(t)
	if err := r.write(o); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(o.out, r.Date+".md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| roost | 12.00 (11.00–30.00) | 1.20 (1.10–1.50) | 12000 | 5 |",
		"gws, repetition 4, failed and is not counted: `lost a 'message'`",
		"](" + r.Date + "-echo.png)",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
	file, err := os.Open(filepath.Join(o.out, r.Date+"-echo.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := png.Decode(file); err != nil {
		t.Error(err)
	}
	if err := r.failures(); err == nil || !strings.Contains(err.Error(), "1 runs failed") {
		t.Errorf("failures: %v", err)
	}
}

func TestChoices(t *testing.T) {
	if _, err := chooseScenarios([]string{"idle", "nothing"}, false); err == nil {
		t.Error("an unknown scenario is taken")
	}
	for list, want := range map[string]string{"gws": "floor gws", "floor,gws": "floor gws", "coder,gobwas": "floor gobwas coder"} {
		servers, err := chooseServers(fleet.All(1), list)
		var names []string
		for _, server := range servers {
			names = append(names, server.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s: %s, %v", list, got, err)
		}
	}
	if _, err := chooseServers(fleet.All(1), "nobody"); err == nil {
		t.Error("an unknown server is taken")
	}
	if _, err := require(map[string]*float64{"a": new(1.0), "b": nil}); err == nil {
		t.Error("a missing figure is taken")
	}
}

// startServer builds and runs one of the servers until the test ends.
func startServer(t *testing.T, name string) *fleet.Process {
	t.Helper()
	root, err := fleet.Root()
	if err != nil {
		t.Fatal(err)
	}
	servers, err := fleet.Select(fleet.All(1), []string{name})
	if err != nil {
		t.Fatal(err)
	}
	binaries := t.TempDir()
	if err := fleet.Build(root, binaries, servers); err != nil {
		t.Fatal(err)
	}
	process, err := fleet.Start(servers[0], binaries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Stop)
	return process
}

// A reader that loses messages is counted, and does not stop the others.
func TestLockstepCountsLosses(t *testing.T) {
	process := startServer(t, "gobwas")
	var readers []*client.Client
	for range 4 {
		c, err := client.Dial(process.Address, "/broadcast")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(stallLimit))
		if err := c.Settle(); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, c)
	}
	s := stall(true)
	s.messages = 7
	if lost, err := s.lockstep(context.Background(), readers); lost != 0 || err != nil {
		t.Fatalf("lost %d, %v", lost, err)
	}
	readers[3].Close()
	if lost, err := s.lockstep(context.Background(), readers); lost != 7 || err != nil {
		t.Fatalf("one of four is gone: lost %d, want 7; %v", lost, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.lockstep(ctx, readers[:2]); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
