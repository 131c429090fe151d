// Command compare runs roost, its peers and the C floor side by side and writes what it measured,
// as a page of tables, plots and JSON. See the README of this module for how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"roost/benchmarks/internal/fleet"
)

// pause lets the kernel take down the sockets of one run before the next begins.
const pause = 2 * time.Second

type options struct {
	repetitions int
	quick       bool
	roostBinary string
	loadBinary  string
	out         string

	commandLine string
	root        string // folder of this module
	binaries    string // folder of what is built
	servers     []fleet.Server
	scenarios   []scenario
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = compare(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func parse(arguments []string) (o options, err error) {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	var servers, scenarios string
	var floorThreads int
	flags.StringVar(&servers, "servers", "", "comma-separated names of servers; all by default, the floor always")
	flags.StringVar(&scenarios, "scenarios", "idle,echo,fanout,upgrade", "comma-separated scenarios: idle, echo, fanout, upgrade, stall; of gateways: clients, personal, connect, channel-fanout, raw, rpc, stalled")
	flags.IntVar(&o.repetitions, "repetitions", 0, "runs of each server in each scenario (default 3, with --quick 1)")
	flags.BoolVar(&o.quick, "quick", false, "small and short: shows that everything works, measures nothing")
	flags.StringVar(&o.roostBinary, "roost-bin", "", "a built roost; by default it is built from ../cmd/roost")
	flags.StringVar(&o.loadBinary, "load-bin", "", "a built roost-load; by default it is built from ../cmd/roost-load")
	flags.StringVar(&o.out, "out", "", "folder for the results (default results; with --quick .work/quick)")
	flags.IntVar(&floorThreads, "floor-threads", 1, "loops of the floor; CPU time, which ratios are of, hardly depends on it")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	if o.root, err = fleet.Root(); err != nil {
		return o, err
	}
	o.binaries = filepath.Join(o.root, ".work", "bin")
	if o.repetitions <= 0 {
		o.repetitions = 3
		if o.quick {
			o.repetitions = 1
		}
	}
	if o.out == "" {
		o.out = filepath.Join(o.root, "results")
		if o.quick {
			o.out = filepath.Join(o.root, ".work", "quick")
		}
	}
	o.commandLine = strings.Join(append([]string{"go run ./cmd/compare"}, arguments...), " ")
	if o.servers, err = chooseServers(fleet.All(floorThreads), servers); err != nil {
		return o, err
	}
	o.scenarios, err = chooseScenarios(strings.Split(scenarios, ","), o.quick)
	return o, err
}

func chooseServers(all []fleet.Server, list string) ([]fleet.Server, error) {
	if list == "" {
		return all, nil
	}
	names := []string{fleet.Floor} // without it there is nothing to divide by
	for name := range strings.SplitSeq(list, ",") {
		if name != fleet.Floor {
			names = append(names, name)
		}
	}
	return fleet.Select(all, names)
}

func compare(ctx context.Context, o options) error {
	if err := build(&o); err != nil {
		return err
	}
	// The folder must be there before an hour of measuring, not after.
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	result := newResult(o)
	for _, s := range o.scenarios {
		part, err := runScenario(ctx, o, s)
		if err != nil {
			return err
		}
		result.Scenarios = append(result.Scenarios, part)
		// Written after each scenario: an interrupted comparison keeps what it has.
		if err := result.write(o); err != nil {
			return err
		}
	}
	return result.failures()
}

func build(o *options) error {
	fmt.Println("building into", o.binaries)
	if err := fleet.Build(o.root, o.binaries, o.servers); err != nil {
		return err
	}
	if slices.ContainsFunc(o.servers, fleet.Server.IsRoost) {
		if err := roostProgram(*o, "roost", &o.roostBinary); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(o.scenarios, func(s scenario) bool { return s.name != "stall" }) {
		if err := roostProgram(*o, "roost-load", &o.loadBinary); err != nil {
			return err
		}
	}
	for i := range o.servers {
		o.servers[i].UseRoost(o.roostBinary)
	}
	return nil
}

// roostProgram builds one of the main module's programs, unless a built one was given, and leaves its
// absolute path in path.
func roostProgram(o options, name string, path *string) (err error) {
	if *path == "" {
		if err := fleet.BuildRoost(o.root, o.binaries, name); err != nil {
			return err
		}
		*path = filepath.Join(o.binaries, name)
	}
	if *path, err = filepath.Abs(*path); err != nil {
		return err
	}
	_, err = os.Stat(*path)
	return err
}

// runScenario runs all servers in turn, as often as there are repetitions: A, B, C, A, B, C, so
// that whatever else the machine does falls on all of them alike.
func runScenario(ctx context.Context, o options, s scenario) (*scenarioResult, error) {
	result := &scenarioResult{Name: s.name, scenario: s, Parameters: s.parameters()}
	for repetition := range o.repetitions {
		for _, server := range o.servers {
			if !server.TakesPart(s.name) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			fmt.Printf("%-8s %d/%d  %-15s ", s.name, repetition+1, o.repetitions, server.Name)
			metrics, err := measure(ctx, o, s, server)
			run := &run{Server: server.Name, Repetition: repetition + 1, Metrics: metrics}
			if err != nil {
				run.Error = err.Error()
				fmt.Println("failed:", err)
			} else {
				fmt.Printf("%s %.2f\n", s.columns[0].title, metrics[s.columns[0].key])
			}
			result.Runs = append(result.Runs, run)
			time.Sleep(pause)
		}
	}
	result.divide()
	return result, nil
}

// measure runs one scenario against a fresh process of one server.
func measure(ctx context.Context, o options, s scenario, server fleet.Server) (map[string]float64, error) {
	process, err := fleet.Start(server, o.binaries)
	if err != nil {
		return nil, err
	}
	defer process.Stop()
	metrics, err := s.measure(ctx, o, process, server)
	if err == nil && !process.Running() {
		err = errors.New("the server ended by itself")
	}
	if err != nil && process.Log() != "" {
		err = fmt.Errorf("%w; the server's log ends: %s", err, lastLine(process.Log()))
	}
	return metrics, err
}

func lastLine(text string) string { return text[strings.LastIndexByte(text, '\n')+1:] }
