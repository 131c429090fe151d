package loadtest

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	clockTick     = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	statsInterval = 500 * time.Millisecond
	probeTimeout  = 5 * time.Second
	maxPage       = 16 << 20 // of a Prometheus page, bytes
)

// usage is what a process has used so far. Zero fields were not told.
type usage struct {
	RSS     int64         // bytes
	CPU     time.Duration // user and system, all threads
	Threads int64
	Heap    int64 // bytes, from a Prometheus page
}

// probe reads the server's usage. Not safe for concurrent use.
type probe interface{ read() (usage, error) }

// newProbe returns nil when the options name no server.
func newProbe(o *Options) (probe, error) {
	var p probe
	var hint string
	switch {
	case o.Scenario == Upgrade:
		if p := newListenerProbe(o); p != nil {
			return p, nil
		}
		return nil, nil
	case o.PID > 0:
		p, hint = &procProbe{pid: o.PID}, "give the server's process id"
	case o.Metrics != "":
		p, hint = newMetricsProbe(o.Metrics), "give the URL of a Prometheus page with process_resident_memory_bytes and process_cpu_seconds_total"
	default:
		return nil, nil
	}
	if _, err := p.read(); err != nil {
		return nil, fmt.Errorf("the server's memory and CPU: %w; %s", err, hint)
	}
	return p, nil
}

// procProbe reads /proc/PID. CPU comes from the threads' schedstat, in ns, where the kernel keeps it, else from
// utime and stime in ticks of 10 ms. Threads that end between two reads take what they used since the first with
// them, which schedstat alone would take back; so each thread's time is summed up as it grows.
type procProbe struct {
	pid     int
	threads map[string]int64 // ns seen, by thread id
	cpu     int64            // ns, sum of all growth
}

func (p *procProbe) read() (usage, error) {
	dir := fmt.Sprintf("/proc/%d", p.pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return usage{}, fmt.Errorf("--pid %d: %w", p.pid, err)
	}
	u, err := parseStat(stat)
	if err != nil {
		return usage{}, fmt.Errorf("%s/stat: %w", dir, err)
	}
	if u.RSS, err = readRSS(dir + "/statm"); err != nil {
		return usage{}, err
	}
	if p.threads == nil {
		p.threads = map[string]int64{}
	}
	tasks, _ := filepath.Glob(dir + "/task/*/schedstat") // the pattern is well-formed
	for _, name := range tasks {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		ran, _, _ := strings.Cut(string(b), " ")
		if ns, err := strconv.ParseInt(ran, 10, 64); err == nil {
			p.cpu += max(0, ns-p.threads[name])
			p.threads[name] = ns
		}
	}
	if p.cpu > 0 {
		u.CPU = time.Duration(p.cpu)
	}
	return u, nil
}

// readRSS reads a statm file. Newer kernels sum their per-CPU counters up for it, which they do not for stat.
func readRSS(name string) (int64, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, fmt.Errorf("%s: not what proc_pid_statm(5) says: %.80q", name, b)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// parseStat reads CPU and threads from /proc/PID/stat (proc_pid_stat(5)): fields are counted from the state, which follows the name.
func parseStat(b []byte) (usage, error) {
	_, rest, ok := bytes.Cut(b[max(0, bytes.LastIndexByte(b, ')')):], []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 18 {
		return usage{}, fmt.Errorf("not what proc_pid_stat(5) says: %.80q", b)
	}
	var n [18]int64
	for _, i := range []int{11, 12, 17} { // utime, stime, num_threads
		v, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("field %d: %w", i+3, err)
		}
		n[i] = v
	}
	return usage{CPU: time.Duration(n[11]+n[12]) * clockTick, Threads: n[17]}, nil
}

// metricsProbe reads a page in the Prometheus text format.
type metricsProbe struct {
	url    string
	client *http.Client
}

func newMetricsProbe(url string) *metricsProbe {
	return &metricsProbe{url: url, client: &http.Client{Timeout: probeTimeout}}
}

func (p *metricsProbe) read() (usage, error) {
	r, err := p.client.Get(p.url)
	if err != nil {
		return usage{}, fmt.Errorf("--metrics: %w", err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return usage{}, fmt.Errorf("--metrics %s: %s", p.url, r.Status)
	}
	var u usage
	lines := bufio.NewScanner(http.MaxBytesReader(nil, r.Body, maxPage))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue // a comment, or a value with labels that is none of ours
		}
		switch name {
		case "process_resident_memory_bytes":
			u.RSS = int64(v)
		case "process_cpu_seconds_total":
			u.CPU = seconds(v)
		case "go_memstats_heap_alloc_bytes":
			u.Heap = int64(v)
		case "go_threads":
			u.Threads = int64(v)
		}
	}
	if err := lines.Err(); err != nil {
		return usage{}, fmt.Errorf("--metrics %s: %w", p.url, err)
	}
	if u.RSS == 0 {
		return usage{}, fmt.Errorf("--metrics %s: no process_resident_memory_bytes on that page", p.url)
	}
	return u, nil
}

var _, _ probe = (*procProbe)(nil), (*metricsProbe)(nil)

// selfMeter measures this process. Used by one goroutine.
type selfMeter struct {
	last  usage
	probe procProbe
}

// delta is the growth since it was last called.
func (m *selfMeter) delta() *stats {
	m.probe.pid = os.Getpid()
	u, err := m.probe.read()
	if err != nil {
		return &stats{} // no /proc here
	}
	d := &stats{RSS: u.RSS - m.last.RSS, CPU: int64(u.CPU - m.last.CPU)}
	m.last = u
	return d
}
