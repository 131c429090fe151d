//go:build linux

package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/metrics.md")

const metricsPage = "../../docs/metrics.md"

const metricsHead = `# Metrics

` + "`/metrics`" + ` on the internal address is for Prometheus. Besides these there are the Go runtime's (` + "`go_*`" + `), and
` + "`process_resident_memory_bytes` and `process_cpu_seconds_total`" + `. Names that end in ` + "`_total`" + ` count since the
start. A label's value appears when there is something to count.

Worth an alarm: ` + "`roost_sockets`" + ` near ` + "`roost_descriptor_limit`" + `; ` + "`roost_closed_total`" + ` by its reason, above all
` + "`slow_consumer`, `overload` and `panic`; `roost_command_errors_total` with code 100; `roost_broker_up`" + ` at 0;
` + "`roost_broker_publish_failures_total` and `roost_gaps_total`; `roost_workers_waiting`" + `, which stays up when the
backend or NATS is too slow; ` + "`roost_accept_pauses_total`" + `, which grows when descriptors run out. A dashboard for
Grafana and rules for all that are described in [observability](observability.md).

This page comes from the code: ` + "`make docs`" + ` writes it, and a test compares both.

| name | labels | what it tells |
|---|---|---|
`

// TestMetricsPage compares docs/metrics.md with the code.
func TestMetricsPage(t *testing.T) {
	var text strings.Builder
	text.WriteString(metricsHead)
	for _, m := range described {
		labels := "–"
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "`, `") + "`"
		}
		fmt.Fprintf(&text, "| `%s` | %s | %s |\n", m.name, labels, m.help)
	}
	if *update {
		if err := os.WriteFile(metricsPage, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(metricsPage)
	if err != nil || string(have) != text.String() {
		t.Errorf("docs/metrics.md is not what the code says (%v): make docs", err)
	}
}

// TestMetricsAreTold finds every metric without labels in a scrape, and no other of ours.
func TestMetricsAreTold(t *testing.T) {
	var known []string
	have := start(t).metrics()
	for _, m := range described {
		known = append(known, m.name)
		_, plain := have[m.name]
		_, histogram := have[m.name+"_count"]
		if len(m.labels) == 0 && !plain && !histogram {
			t.Errorf("/metrics has no %s", m.name)
		}
	}
	for sample := range have {
		name, _, _ := strings.Cut(sample, "{")
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && slices.Contains(known, base) {
				name = base
			}
		}
		if strings.HasPrefix(name, "roost_") && !slices.Contains(known, name) {
			t.Errorf("/metrics has %s, which the page does not", name)
		}
	}
}
