package loadtest

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// row is a line of the table, in text and HTML.
type row struct{ Name, Value string }

// rows tells a result as pairs of name and value.
func (r *Result) rows() []row {
	var rows []row
	add := func(name, format string, args ...any) { rows = append(rows, row{name, fmt.Sprintf(format, args...)}) }
	c, m := r.Connections, r.Messages
	if r.Interrupted {
		add("interrupted", "what follows is what there was by then")
	}
	add("connections", "%d wanted, %d opened, %d failed, %d lost", c.Wanted, c.Opened, c.Failed, c.Lost)
	if c.Connect != nil {
		add("connect + upgrade", "p50 %.2f ms, p99 %.2f ms, max %.2f ms", c.Connect.P50, c.Connect.P99, c.Connect.Max)
	}
	add("elapsed", "%.2f s", r.Elapsed)
	switch r.Scenario {
	case Idle, Clients:
	case Storm, Join:
		add("upgrades", "%.0f per second", m.PerSecond)
	default:
		add("messages", "%d sent, %d received of %d expected, %d wrong, %d lost", m.Sent, m.Received, m.Expected, m.Wrong, m.Lost)
		add("received", "%.0f per second", m.PerSecond)
		add("late or dropped sends", "%d", m.Late)
	}
	if v := r.Recovery; v != nil {
		add("connections ended", "%d cut, %d closed by the server", v.Cuts, v.Closed)
		add("upgrades put off", "%d by 503 with Retry-After", v.PutOff)
		add("subscriptions", "%d recovered, %d told that they were not (%d publications)", v.Recovered, v.Unrecovered, v.Told)
		add("publications", "%d doubled, %d out of order, %d gaps in offsets", v.Doubled, v.Disordered, v.Gaps)
		if v.Back != nil {
			add("back after", "p50 %.2f ms, p99 %.2f ms, all %.2f ms", v.Back.P50, v.Back.P99, v.Back.Max)
		}
	}
	if v := r.Upgrade; v != nil {
		v.rows(add)
	}
	latency := func(name string, l *Latency) {
		if l != nil {
			add(name, "p50 %d µs, p90 %d, p99 %d, p99.9 %d, max %d, mean %.0f", l.P50, l.P90, l.P99, l.P999, l.Max, l.Mean)
		}
	}
	latency("latency", r.Latency)
	if v := r.Calls; v != nil {
		latency("latency of bystanders", v.Bystanders)
		add("results", "%d, %.0f per second", v.Results, v.PerSecond)
		for _, e := range v.Errors {
			add("answered with error", "%d × %s", e.Count, e.Text)
		}
	}
	r.serverRows(add)
	add("generator CPU", "%.2f s in %d process(es)", r.Client.CPU, r.Client.Processes)
	add("generator memory", "%s", bytesText(r.Client.RSS))
	optional(add, "generator memory per connection", "%.0f B", r.Client.PerConnection)
	optional(add, "generator CPU per message", "%.2f µs", r.Client.PerMessage)
	for _, e := range r.Errors {
		add("error", "%d × %s", e.Count, e.Text)
	}
	return rows
}

func (u *Upgrades) rows(add func(name, format string, args ...any)) {
	add("disconnects", "%d", u.Disconnects)
	add("publications", "%d lost, %d doubled, %d out of order, %d wrong, %d gaps in offsets", u.Lost, u.Doubled, u.Disordered, u.Wrong, u.Gaps)
	add("publish commands", "%d not answered", u.Unanswered)
	for _, e := range u.Refused {
		add("answered with error", "%d × %s", e.Count, e.Text)
	}
	pauses := func(name string, p *Pauses) {
		if p != nil {
			add(name, "p50 %.1f ms, p99 %.1f ms, max %.1f ms (%d connections)", p.P50, p.P99, p.Max, p.Connections)
		}
	}
	pauses("longest pause", u.Pause)
	pauses("otherwise", u.Calm)
	for i, t := range u.Takeovers {
		name := fmt.Sprintf("takeover %d", i+1)
		add(name, "at %.1f s, %.3f s until the command had ended, %.3f s in total; exit code %d, process %d then %d %s",
			t.Began, t.Command, t.Took, t.ExitCode, t.Before, t.After, t.Error)
		optional(add, name+", server CPU", "%.3f s", t.CPU)
		optional(add, name+", server CPU per connection", "%.1f µs over that of the load", t.PerConnection)
		pauses(name+", longest pause", t.Pause)
	}
	for _, s := range u.States {
		add("server", "at %.1f s process %d: %d descriptors, RSS %s, heap %s", s.T, s.PID, s.Descriptors, bytesText(s.RSS), bytesText(s.Heap))
	}
}

func (r *Result) serverRows(add func(name, format string, args ...any)) {
	s := r.Server
	if s == nil {
		return
	}
	add("server memory", "%s before, %s after", bytesText(s.RSSBefore), bytesText(s.RSSAfter))
	optional(add, "server memory per connection", "%.0f B (least-squares slope)", s.PerConnection)
	add("server CPU", "%.3f s", s.CPU)
	optional(add, "server CPU per message", "%.2f µs", s.PerMessage)
	optional(add, "server CPU per delivery", "%.2f µs", s.PerDelivery)
	optional(add, "server CPU per upgrade + close", "%.2f µs", s.PerUpgrade)
	if r.Scenario == Join {
		optional(add, "server CPU per connect + subscribe + close", "%.2f µs", s.PerClient)
	} else {
		optional(add, "server CPU per connect + subscribe", "%.2f µs", s.PerClient)
	}
	if s.Threads > 0 {
		add("server threads", "%d", s.Threads)
	}
}

func optional(add func(name, format string, args ...any), name, format string, v *float64) {
	if v != nil {
		add(name, format, *v)
	}
}

func bytesText(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// WriteTable writes the results for people to read.
func WriteTable(out io.Writer, results []*Result) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range results {
		fmt.Fprintf(t, "\n%s\t%s\n", r.Scenario, r.Config.URL)
		for _, row := range r.rows() {
			fmt.Fprintf(t, "%s\t%s\n", row.Name, row.Value)
		}
	}
	return t.Flush()
}
