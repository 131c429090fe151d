package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A sample is one look at the gateway, the load generator and the kernel. Sizes are bytes, times seconds.
type sample struct {
	Gateway process            `json:"gateway"`
	Load    process            `json:"load"`
	Memory  memory             `json:"memory"`
	Metrics map[string]float64 `json:"metrics"` // the gateway's own, those in keptMetrics
}

type process struct {
	RSS     int64   `json:"rss"`
	CPU     float64 `json:"cpu_s"` // user and system since it started
	Threads int     `json:"threads"`
}

type memory struct {
	Available int64 `json:"available"`
	// Kernel is all that is neither free, nor page cache, nor a process's: MemTotal - MemFree - Buffers - Cached -
	// AnonPages. Sockets, descriptors, epoll entries and page tables of both ends.
	Kernel  int64 `json:"kernel"`
	Slab    int64 `json:"slab"`
	TCP     int64 `json:"tcp_buffers"` // what waits in socket buffers
	Sockets int64 `json:"tcp_sockets"` // both ends
}

// keptMetrics are the prefixes of the series a sample keeps; buckets are left out.
var keptMetrics = []string{connectionsMetric, pingsMetric, "roost_upgrades_total", "roost_messages_total",
	"roost_bytes_total", "roost_io_operations_total", "go_goroutines", "go_gc_duration_seconds_sum",
	"go_memstats_heap_inuse_bytes", "go_memstats_heap_objects", "go_memstats_stack_inuse_bytes",
	"go_memstats_sys_bytes"}

// ticksPerSecond is the unit of times in /proc/PID/stat: USER_HZ, 100 on every Linux that Go runs on (proc(5)).
const ticksPerSecond = 100

// readProcess reads /proc/PID/stat. A process that is gone is a zero process.
func readProcess(pid int) process {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}
	}
	// The name, in parentheses, may hold spaces; the fields after it start with the third.
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 22 {
		return process{}
	}
	number := func(field int) int64 {
		n, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return n
	}
	return process{
		RSS:     number(24) * int64(os.Getpagesize()),
		CPU:     float64(number(14)+number(15)) / ticksPerSecond,
		Threads: int(number(20)),
	}
}

func readMemory() memory {
	kib := keyValues("/proc/meminfo", ":")
	var m memory
	m.Available = kib["MemAvailable"] << 10
	m.Kernel = (kib["MemTotal"] - kib["MemFree"] - kib["Buffers"] - kib["Cached"] - kib["AnonPages"]) << 10
	m.Slab = kib["Slab"] << 10
	if data, err := os.ReadFile("/proc/net/sockstat"); err == nil {
		for line := range strings.Lines(string(data)) {
			var inuse, orphan, tw, alloc, mem int64
			_, err := fmt.Sscanf(line, "TCP: inuse %d orphan %d tw %d alloc %d mem %d", &inuse, &orphan, &tw, &alloc, &mem)
			if err == nil {
				m.Sockets, m.TCP = inuse, mem*int64(os.Getpagesize())
			}
		}
	}
	return m
}

// keyValues reads lines of "key: number ...".
func keyValues(path, separator string) map[string]int64 {
	values := map[string]int64{}
	data, err := os.ReadFile(path)
	if err != nil {
		return values
	}
	for line := range strings.Lines(string(data)) {
		key, rest, _ := strings.Cut(line, separator)
		if fields := strings.Fields(rest); len(fields) > 0 {
			values[strings.TrimSpace(key)], _ = strconv.ParseInt(fields[0], 10, 64)
		}
	}
	return values
}

// readMetrics fetches a Prometheus text page and keeps the series in keptMetrics.
func readMetrics(client *http.Client, url string) (map[string]float64, error) {
	response, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return parseMetrics(response.Body)
}

func parseMetrics(page io.Reader) (map[string]float64, error) {
	kept := map[string]float64{}
	lines := bufio.NewScanner(page)
	for lines.Scan() {
		line := lines.Text()
		space := strings.LastIndexByte(line, ' ')
		if space < 0 || strings.Contains(line, "_bucket{") {
			continue
		}
		for _, prefix := range keptMetrics {
			if !strings.HasPrefix(line, prefix) {
				continue
			}
			if value, err := strconv.ParseFloat(line[space+1:], 64); err == nil && !math.IsNaN(value) {
				kept[line[:space]] = value
			}
			break
		}
	}
	return kept, lines.Err()
}

func describeMachine(o options) *machine {
	m := &machine{
		Started:      time.Now().UTC().Format(time.RFC3339),
		Environment:  o.Environment,
		Cores:        runtime.NumCPU(),
		MemoryBytes:  keyValues("/proc/meminfo", ":")["MemTotal"] << 10,
		Connections:  o.Connections,
		PingInterval: o.PingInterval.Seconds(),
	}
	if data, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(data))
	}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(data), "model name\t: ")
		m.CPU, _, _ = strings.Cut(rest, "\n")
	}
	return m
}
