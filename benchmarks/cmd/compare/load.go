package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"roost/benchmarks/internal/fleet"
)

// loadLimit is how long one run of the load generator may take.
const loadLimit = 10 * time.Minute

// loadReport is what is used of roost-load's JSON. Pointers are nil where it measured nothing.
type loadReport struct {
	Elapsed     float64 `json:"elapsed_s"`
	Connections struct {
		Milliseconds struct {
			P99 *float64 `json:"p99"`
		} `json:"connect_ms"`
	} `json:"connections"`
	Messages struct {
		PerSecond *float64 `json:"per_second"`
	} `json:"messages"`
	Latency struct {
		P50 *float64 `json:"p50"`
		P99 *float64 `json:"p99"`
	} `json:"latency_us"`
	Calls  callReport `json:"calls"`
	Server struct {
		BytesPerConnection *float64 `json:"rss_bytes_per_connection"`
		PerMessage         *float64 `json:"cpu_us_per_message"`
		PerDelivery        *float64 `json:"cpu_us_per_delivery"`
		PerUpgrade         *float64 `json:"cpu_us_per_upgrade"`
		PerClient          *float64 `json:"cpu_us_per_client"`
		Threads            *float64 `json:"threads"`
	} `json:"server"`
}

// callReport is what became of calls to a backend.
type callReport struct {
	Results int `json:"results"`
	Errors  []struct {
		Text  string `json:"text"`
		Count int    `json:"count"`
	} `json:"errors"`
}

func (r *loadReport) connectP99() *float64 {
	if r.Connections.Milliseconds.P99 == nil {
		return nil
	}
	return new(*r.Connections.Milliseconds.P99 * 1000)
}

// load runs roost-load against the path of a server. A run it finds wrong, by its exit code, is an
// error: a server that loses messages has no figures.
func load(ctx context.Context, o options, p *fleet.Process, mode, path string, arguments ...string) (*loadReport, error) {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	file, err := os.CreateTemp("", "roost-load-*.json")
	if err != nil {
		return nil, err
	}
	file.Close()
	defer os.Remove(file.Name())
	command := exec.CommandContext(ctx, o.loadBinary, append([]string{
		mode, "--url", "ws://" + p.Address + path, "--pid", strconv.Itoa(p.PID), "--plain", "--json", file.Name(),
	}, arguments...)...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", mode, err, lastLine(strings.TrimSpace(string(output))))
	}
	data, err := os.ReadFile(file.Name())
	if err != nil {
		return nil, err
	}
	report := new(loadReport)
	if err := json.Unmarshal(data, report); err != nil {
		return nil, fmt.Errorf("%s: its JSON: %w", mode, err)
	}
	return report, nil
}

// require turns figures into metrics; one that is missing is an error.
func require(figures map[string]*float64) (map[string]float64, error) {
	metrics := make(map[string]float64, len(figures))
	for key, figure := range figures {
		if figure == nil {
			return nil, fmt.Errorf("the load generator gave no figure for %s", key)
		}
		metrics[key] = *figure
	}
	return metrics, nil
}
