package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"roost/benchmarks/internal/fleet"
)

// ratioKey is the metric added to each run of a scenario with ratios: the first figure over the base's, mostly the
// floor's, in the same repetition.
const ratioKey = "ratio"

// run is one server in one scenario, once.
type run struct {
	Server     string             `json:"server"`
	Repetition int                `json:"repetition"`
	Metrics    map[string]float64 `json:"metrics,omitempty"`
	Error      string             `json:"error,omitempty"`
}

type scenarioResult struct {
	Name       string `json:"name"`
	Parameters string `json:"parameters"`
	Runs       []*run `json:"runs"`

	scenario scenario
}

type result struct {
	Command   string            `json:"command"`
	Date      string            `json:"date"`
	Quick     bool              `json:"quick"`
	Machine   machine           `json:"machine"`
	Servers   map[string]string `json:"servers"` // name: settings
	Scenarios []*scenarioResult `json:"scenarios"`

	order []fleet.Server
}

func newResult(o options) *result {
	r := &result{
		Command: o.commandLine, Date: time.Now().UTC().Format(time.DateOnly), Quick: o.quick,
		Machine: thisMachine(o.root), Servers: map[string]string{}, order: o.servers,
	}
	for _, server := range o.servers {
		r.Servers[server.Name] = server.Settings
	}
	return r
}

// divide adds the ratios. A repetition whose base failed has none.
func (r *scenarioResult) divide() {
	if !r.scenario.ratio {
		return
	}
	key, by := r.scenario.columns[0].key, r.scenario.against()
	for _, of := range r.Runs {
		if of.Error != "" {
			continue
		}
		for _, base := range r.Runs {
			if base.Server == by.server && base.Repetition == of.Repetition && base.Metrics[by.key] > 0 {
				of.Metrics[ratioKey] = of.Metrics[key] / base.Metrics[by.key]
			}
		}
	}
}

// spread is what the repetitions of one figure came to.
type spread struct {
	median, least, most float64
	count               int
}

// spread of a metric over the runs of a server that succeeded.
func (r *scenarioResult) spread(server, key string) spread {
	var values []float64
	for _, run := range r.Runs {
		if value, ok := run.Metrics[key]; ok && run.Server == server {
			values = append(values, value)
		}
	}
	if len(values) == 0 {
		return spread{}
	}
	slices.Sort(values)
	n := len(values)
	return spread{median: (values[(n-1)/2] + values[n/2]) / 2, least: values[0], most: values[n-1], count: n}
}

// write puts the page, the JSON and the plots into the folder of the results, named by the date.
func (r *result) write(o options) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	base := filepath.Join(o.out, r.Date)
	if err := os.WriteFile(base+".json", append(data, '\n'), 0o644); err != nil {
		return err
	}
	for _, s := range r.Scenarios {
		if err := r.plot(s, base+"-"+s.Name+".png"); err != nil {
			return err
		}
	}
	if err := os.WriteFile(base+".md", []byte(r.page()), 0o644); err != nil {
		return err
	}
	fmt.Println("wrote", base+".md")
	return nil
}

// failures is an error when any run failed: its figures are missing from the medians.
func (r *result) failures() error {
	failed := 0
	for _, s := range r.Scenarios {
		for _, run := range s.Runs {
			if run.Error != "" {
				failed++
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d runs failed; the page says which", failed)
	}
	return nil
}
