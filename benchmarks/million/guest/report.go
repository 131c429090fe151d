package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A result is a finished or broken measurement, its records sorted out by kind.
type result struct {
	machine  machine
	samples  []record
	cycles   []record
	loads    map[string]loadResult
	logs     []string
	misses   []record
	phases   []record
	failures []string
	ended    bool
}

// loadResult is what the report needs of roost-load's JSON.
type loadResult struct {
	Connections struct{ Wanted, Opened, Failed, Lost int64 } `json:"connections"`
	Messages    struct {
		Sent, Received, Expected, Wrong, Lost int64
		PerSecond                             float64 `json:"per_second"`
	} `json:"messages"`
	Latency struct{ P50, P99, Max float64 } `json:"latency_us"`
	Server  struct {
		CPU         float64 `json:"cpu_s"` // in the measured phase
		PerDelivery float64 `json:"cpu_us_per_delivery"`
	} `json:"server"`
}

// report writes to+".md", ".svg" and ".json". It returns an error if the measurement did not end well, after
// writing down what there is.
func report(records, to, command string) error {
	all, err := readRecords(records)
	if err != nil {
		return err
	}
	r, err := sortRecords(all)
	if err != nil {
		return err
	}
	raw := []byte("{\"schema\":1,\"records\":[\n")
	for i, rec := range all {
		line, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		if i > 0 {
			raw = append(raw, ",\n"...)
		}
		raw = append(raw, line...)
	}
	raw = append(raw, "\n]}\n"...)
	name := filepath.Base(to)
	for _, file := range []struct {
		extension string
		content   []byte
	}{
		{".json", raw},
		{".svg", []byte(plot(r))},
		{".md", []byte(r.markdown(name, command))},
	} {
		if err := os.WriteFile(to+file.extension, file.content, 0o644); err != nil {
			return err
		}
	}
	fmt.Println("wrote", to+".md")
	return r.verdict()
}

func sortRecords(all []record) (*result, error) {
	r := &result{loads: map[string]loadResult{}}
	for _, rec := range all {
		switch rec.Kind {
		case "machine":
			r.machine = *rec.Machine
		case "sample":
			r.samples = append(r.samples, rec)
		case "miss":
			r.misses = append(r.misses, rec)
		case "gc":
			r.cycles = append(r.cycles, rec)
		case "phase":
			r.phases = append(r.phases, rec)
		case "log":
			r.logs = append(r.logs, rec.Text)
		case "failure":
			r.failures = append(r.failures, rec.Text)
		case "end":
			r.ended = true
		case "load":
			var l loadResult
			if err := json.Unmarshal(rec.Load, &l); err != nil {
				return nil, fmt.Errorf("result of the load generator (%s): %w", rec.Text, err)
			}
			r.loads[rec.Text] = l
		}
	}
	if len(r.samples) == 0 {
		return nil, errors.New(strings.Join(append([]string{"the records hold no sample"}, r.failures...), ": "))
	}
	return r, nil
}

// verdict is nil if all connections were opened and kept, and the broadcast reached every one of them.
func (r *result) verdict() error {
	wanted := int64(r.machine.Connections)
	var errs []error
	for _, text := range r.failures {
		errs = append(errs, errors.New(text))
	}
	if !r.ended && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("it was ended in the phase %q", r.phases[len(r.phases)-1].Phase))
	}
	if b, ok := r.loads["broadcast"]; ok {
		if b.Connections.Opened < wanted || b.Connections.Lost > 0 {
			errs = append(errs, fmt.Errorf("%d connections were opened and %d lost, %d wanted", b.Connections.Opened,
				b.Connections.Lost, wanted))
		}
		if b.Messages.Received < wanted || b.Messages.Wrong > 0 {
			errs = append(errs, fmt.Errorf("the broadcast reached %d of %d, %d wrongly", b.Messages.Received, wanted,
				b.Messages.Wrong))
		}
	}
	if e, ok := r.loads["echo"]; ok && (e.Messages.Received == 0 || e.Messages.Wrong > 0 || e.Messages.Lost > 0) {
		errs = append(errs, fmt.Errorf("echo: %d came back, %d wrong, %d lost", e.Messages.Received, e.Messages.Wrong,
			e.Messages.Lost))
	}
	return errors.Join(errs...)
}

// in returns the samples of one phase.
func in(samples []record, phase string) []record {
	return slices.DeleteFunc(slices.Clone(samples), func(rec record) bool { return rec.Phase != phase })
}

func connectionsOf(rec record) float64 { return rec.Sample.Metrics[connectionsMetric] }

// slope is the least-squares slope of value over the number of connections, and false with less than three samples
// or no growth.
func slope(samples []record, value func(*sample) int64) (float64, bool) {
	var meanX, meanY, above, below float64
	for _, rec := range samples {
		meanX += connectionsOf(rec) / float64(len(samples))
		meanY += float64(value(rec.Sample)) / float64(len(samples))
	}
	for _, rec := range samples {
		x := connectionsOf(rec) - meanX
		above += x * (float64(value(rec.Sample)) - meanY)
		below += x * x
	}
	if len(samples) < 3 || below == 0 {
		return 0, false
	}
	return above / below, true
}

// sum adds up the series of a metric, whatever their labels.
func sum(rec record, name string) float64 {
	total := 0.0
	for series, value := range rec.Sample.Metrics {
		if series == name || strings.HasPrefix(series, name+"{") {
			total += value
		}
	}
	return total
}

// A window is what happened between the first and the last sample of a phase.
type window struct {
	seconds, cpu, loadCPU float64
	first, last           record
	cycles                []*gcCycle
}

func (r *result) window(phase string) (w window, ok bool) {
	samples := in(r.samples, phase)
	if len(samples) < 2 {
		return w, false
	}
	w.first, w.last = samples[0], samples[len(samples)-1]
	w.seconds = w.last.T - w.first.T
	w.cpu = w.last.Sample.Gateway.CPU - w.first.Sample.Gateway.CPU
	w.loadCPU = w.last.Sample.Load.CPU - w.first.Sample.Load.CPU
	for _, rec := range r.cycles {
		if rec.T >= w.first.T && rec.T <= w.last.T {
			w.cycles = append(w.cycles, rec.GC)
		}
	}
	return w, true
}

func (w window) grew(metric string) float64 { return sum(w.last, metric) - sum(w.first, metric) }
