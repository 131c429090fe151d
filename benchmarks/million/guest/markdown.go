package main

import (
	"fmt"
	"slices"
	"strings"
)

// pingsMetric counts the pings the gateway sent.
const pingsMetric = "roost_pings_total"

// markdown is the report. name is the file name of its plot and samples without their extension.
func (r *result) markdown(name, command string) string {
	var b strings.Builder
	m := r.machine
	fmt.Fprintf(&b, "# %s idle connections on one gateway process\n\n", grouped(float64(m.Connections)))
	if err := r.verdict(); err != nil {
		fmt.Fprintf(&b, "**It fell short:** %s\n\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	fmt.Fprintf(&b, "%s, `%s`.\nWhere: %s; %s, %d cores, Linux %s, %.1f GiB.\n", m.Started, command, m.Environment, m.CPU,
		m.Cores, m.Kernel, float64(m.MemoryBytes)/(1<<30))
	b.WriteString("Both ends of every connection are on this one machine.\n")
	if strings.Contains(m.Environment, "tcg") {
		b.WriteString("\nThe processors are emulated in software, so every time and CPU figure below is many times what the\n" +
			"same machine needs natively; sizes in bytes are what they are anywhere.\n")
	}
	b.WriteString("\n```\n" + strings.Join(m.Commands, "\n") + "\n```\n\n")
	fmt.Fprintf(&b, "![memory over time](%s.svg)\n\n", name)
	b.WriteString("| what | figure |\n|---|---|\n")
	for _, row := range slices.Concat(r.memoryRows(), r.idleRows(), r.loadRows()) {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	r.writeCycles(&b)
	r.writeTimeline(&b)
	b.WriteString("\n## The gateway's log\n\n```\n" + strings.Join(r.logs[:min(len(r.logs), 40)], "\n") + "\n```\n")
	fmt.Fprintf(&b, "\nAll samples: [%s.json](%s.json).\n", name, name)
	return b.String()
}

type rows [][2]string

func (t *rows) add(what, format string, args ...any) {
	*t = append(*t, [2]string{what, fmt.Sprintf(format, args...)})
}

// memoryRows tell what a connection costs, by slope while they were opened, and in all when they were idle.
func (r *result) memoryRows() (t rows) {
	connecting := in(r.samples, "connect")
	if w, ok := r.window("connect"); ok {
		opened := connectionsOf(w.last) - connectionsOf(w.first)
		t.add("opened", "%s in %.0f s, %s per second", grouped(connectionsOf(w.last)), w.seconds, grouped(opened/w.seconds))
	}
	for _, s := range []struct {
		what  string
		value func(*sample) int64
	}{
		{"gateway, RSS per connection (slope)", func(s *sample) int64 { return s.Gateway.RSS }},
		{"kernel, per connection, both ends (slope)", func(s *sample) int64 { return s.Memory.Kernel }},
		{"of which slab (slope)", func(s *sample) int64 { return s.Memory.Slab }},
		{"load generator, RSS per connection (slope)", func(s *sample) int64 { return s.Load.RSS }},
	} {
		if bytes, ok := slope(connecting, s.value); ok {
			t.add(s.what, "%s B", grouped(bytes))
		}
	}
	w, ok := r.window("idle")
	if !ok {
		return t
	}
	s := w.last.Sample
	t.add("gateway, RSS when idle", "%s, %s B per connection", mib(s.Gateway.RSS),
		grouped(float64(s.Gateway.RSS)/connectionsOf(w.last)))
	t.add("gateway, heap in use when idle", "%s, %s objects", mib(int64(sum(w.last, "go_memstats_heap_inuse_bytes"))),
		grouped(sum(w.last, "go_memstats_heap_objects")))
	t.add("gateway, goroutines and threads when idle", "%.0f and %d", sum(w.last, "go_goroutines"), s.Gateway.Threads)
	t.add("kernel when idle", "%s, of which %s in socket buffers", mib(s.Memory.Kernel), mib(s.Memory.TCP))
	peak := int64(0)
	for _, rec := range r.samples {
		peak = max(peak, rec.Sample.Gateway.RSS)
	}
	t.add("gateway, highest RSS", "%s", mib(peak))
	return t
}

// idleRows tell what the idle gateway costs in CPU, pings and collector included.
func (r *result) idleRows() (t rows) {
	w, ok := r.window("idle")
	if !ok || w.seconds == 0 {
		return t
	}
	t.add("idle window", "%.0f s, a ping per connection every %.0f s", w.seconds, r.machine.PingInterval)
	t.add("gateway, CPU when idle with pings", "%.2f s, %.1f %% of one core", w.cpu, 100*w.cpu/w.seconds)
	if pings := w.grew(pingsMetric); pings > 0 {
		t.add("pings sent in it", "%s, %s per second, %.0f µs of gateway CPU each (collector and samples included)",
			grouped(pings), grouped(pings/w.seconds), 1e6*w.cpu/pings)
	}
	var cpu, worst float64
	for _, c := range w.cycles {
		cpu += c.CPUMS
		worst = max(worst, c.PauseMS)
	}
	t.add("collector cycles in it", "%d", len(w.cycles))
	if len(w.cycles) > 0 {
		t.add("collector, CPU", "%.0f ms, %.2f %% of one core, %.0f ms per cycle", cpu, cpu/10/w.seconds,
			cpu/float64(len(w.cycles)))
		t.add("collector, longest pause", "%.2f ms", worst)
	}
	return t
}

// loadRows tell of the echo sample and the broadcast.
func (r *result) loadRows() (t rows) {
	if e, ok := r.loads["echo"]; ok {
		t.add(fmt.Sprintf("echo next to the idle ones (%d connections, closed loop)", e.Connections.Opened),
			"%s messages, %d wrong, %s per second, median %.1f ms, p99 %.1f ms", grouped(float64(e.Messages.Received)),
			e.Messages.Wrong, grouped(e.Messages.PerSecond), e.Latency.P50/1e3, e.Latency.P99/1e3)
	}
	if b, ok := r.loads["broadcast"]; ok {
		t.add("broadcast of one message", "to %s connections, %d wrong; the last had it after %.2f s, the median after %.2f s",
			grouped(float64(b.Messages.Received)), b.Messages.Wrong, b.Latency.Max/1e6, b.Latency.P50/1e6)
		if b.Server.CPU > 0 {
			t.add("gateway, CPU for it", "%.2f s, %.0f µs per delivery", b.Server.CPU, b.Server.PerDelivery)
		}
		t.add("connections lost in all that time", "%d", b.Connections.Lost)
	}
	if n := len(r.misses); n > 0 {
		t.add("samples the gateway did not answer within 20 s", "%d, the first in the phase %s", n, r.misses[0].Phase)
	}
	return t
}

// writeCycles lists the collector's cycles from the last connect on.
func (r *result) writeCycles(b *strings.Builder) {
	b.WriteString("\n## Collector cycles with all connections open\n\n" +
		"| at, s | phase | live heap, MB | CPU, ms | wall, ms | longer pause, ms |\n|---|---|---|---|---|---|\n")
	for _, rec := range r.cycles {
		if rec.Phase == "start" || rec.Phase == "connect" || rec.Phase == "stop" {
			continue
		}
		forced := ""
		if rec.GC.Forced {
			forced = ", forced"
		}
		fmt.Fprintf(b, "| %.0f | %s%s | %d | %.1f | %.1f | %.2f |\n", rec.T, rec.Phase, forced, rec.GC.LiveMB, rec.GC.CPUMS,
			rec.GC.WallMS, rec.GC.PauseMS)
	}
}

// writeTimeline lists about 30 samples, evenly over time, and the last of each phase.
func (r *result) writeTimeline(b *strings.Builder) {
	b.WriteString("\n## Over time\n\n| s | phase | connections | gateway RSS | load RSS | kernel | available | " +
		"gateway CPU since the last row |\n|---|---|---|---|---|---|---|---|\n")
	every := r.samples[len(r.samples)-1].T / 30
	var last *record
	for i := range r.samples {
		rec := &r.samples[i]
		phaseEnds := i+1 == len(r.samples) || r.samples[i+1].Phase != rec.Phase
		if last != nil && rec.T-last.T < every && !phaseEnds {
			continue
		}
		cpu := "–"
		if last != nil && rec.T > last.T {
			cpu = fmt.Sprintf("%.1f %%", 100*(rec.Sample.Gateway.CPU-last.Sample.Gateway.CPU)/(rec.T-last.T))
		}
		s := rec.Sample
		fmt.Fprintf(b, "| %.0f | %s | %s | %s | %s | %s | %s | %s |\n", rec.T, rec.Phase, grouped(connectionsOf(*rec)),
			mib(s.Gateway.RSS), mib(s.Load.RSS), mib(s.Memory.Kernel), mib(s.Memory.Available), cpu)
		last = rec
	}
}

func mib(bytes int64) string { return grouped(float64(bytes)/(1<<20)) + " MiB" }

// grouped writes a number without decimals, its digits in groups of three.
func grouped(n float64) string {
	digits := fmt.Sprintf("%.0f", n)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return sign + digits
}
