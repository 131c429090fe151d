package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// registerProcess adds the Go runtime's figures, and the process's own memory and CPU under the names the
// Prometheus client gives them. Its own collector of these is not used: it lists every open
// descriptor at every scrape, which at a million connections costs more than all of
// them together.
func registerProcess(reg *prometheus.Registry) {
	reg.MustRegister(
		collectors.NewGoCollector(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "process_resident_memory_bytes", Help: "Resident memory size in bytes."}, residentMemory),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "process_cpu_seconds_total", Help: "Total user and system CPU time spent in seconds."}, cpuSeconds))
}

// residentMemory is 0 where /proc does not tell.
func residentMemory() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return float64(pages) * float64(os.Getpagesize())
}
