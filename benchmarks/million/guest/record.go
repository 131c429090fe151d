package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// A record is one line of what a measurement writes. Kind says which of the other fields are set.
type record struct {
	Kind    string          `json:"kind"` // machine, phase, sample, miss, gc, load, log, failure or end
	T       float64         `json:"t_s"`  // seconds since the measurement began
	Phase   string          `json:"phase,omitempty"`
	Machine *machine        `json:"machine,omitempty"`
	Sample  *sample         `json:"sample,omitempty"`
	GC      *gcCycle        `json:"gc,omitempty"`
	Load    json.RawMessage `json:"load,omitempty"` // the load generator's own JSON
	Text    string          `json:"text,omitempty"`
}

type machine struct {
	Started      string   `json:"started"` // RFC 3339
	Environment  string   `json:"environment"`
	CPU          string   `json:"cpu"`
	Cores        int      `json:"cores"`
	Kernel       string   `json:"kernel"`
	MemoryBytes  int64    `json:"memory_bytes"`
	Connections  int      `json:"connections"`
	PingInterval float64  `json:"ping_interval_s"`
	Commands     []string `json:"commands"`
}

// A recorder writes records, each in one write, and knows the phase. Any goroutine may use it.
type recorder struct {
	start time.Time

	mu    sync.Mutex
	file  *os.File
	phase string
	err   error // first failed write
}

func (r *recorder) write(rec record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec.Kind == "phase" {
		r.phase = rec.Phase
	}
	rec.Phase = r.phase
	rec.T = float64(time.Since(r.start).Milliseconds()) / 1000
	line, err := json.Marshal(rec)
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("write record: %w", err)
	}
}

func (r *recorder) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// readRecords reads what a recorder wrote. A last line that was cut off, because the guest was, is left out.
func readRecords(path string) ([]record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []record
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var rec record
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			if lines.Scan() {
				return nil, fmt.Errorf("record %d: %w", len(all)+1, err)
			}
			break
		}
		all = append(all, rec)
	}
	return all, lines.Err()
}

// A gcCycle is one line of the Go runtime's gctrace (package runtime, "Environment Variables").
type gcCycle struct {
	At        float64 `json:"at_s"`        // since the gateway started
	PauseMS   float64 `json:"pause_ms"`    // the longer of its two stop-the-world phases, wall clock
	WallMS    float64 `json:"wall_ms"`     // whole cycle
	CPUMS     float64 `json:"cpu_ms"`      // all of the collector's CPU, idle-time workers included
	LiveMB    int     `json:"live_mb"`     // heap marked live
	HeapMB    int     `json:"heap_mb"`     // heap at the cycle's end
	Forced    bool    `json:"forced"`      // nothing was collected for two minutes
	StopCPUMS float64 `json:"stop_cpu_ms"` // CPU of the stop-the-world phases alone
}

// parseGC reads a gctrace line:
//
//	gc 7 @2.104s 3%: 0.021+3.4+0.002 ms clock, 0.042+0.31/2.9/1.4+0.004 ms cpu, 9->10->6 MB, 13 MB goal, ...
func parseGC(line string) (*gcCycle, bool) {
	if !strings.HasPrefix(line, "gc ") {
		return nil, false
	}
	var (
		number, percent, before          int
		sweep, mark, end                 float64
		sweepCPU, assist, background, id float64
		endCPU                           float64
		c                                gcCycle
	)
	_, err := fmt.Sscanf(line, "gc %d @%fs %d%%: %f+%f+%f ms clock, %f+%f/%f/%f+%f ms cpu, %d->%d->%d MB",
		&number, &c.At, &percent, &sweep, &mark, &end, &sweepCPU, &assist, &background, &id, &endCPU,
		&before, &c.HeapMB, &c.LiveMB)
	if err != nil {
		return nil, false
	}
	c.PauseMS = max(sweep, end)
	c.WallMS = sweep + mark + end
	c.StopCPUMS = sweepCPU + endCPU
	c.CPUMS = sweepCPU + assist + background + id + endCPU
	c.Forced = strings.HasSuffix(strings.TrimSpace(line), "(forced)")
	return &c, true
}
