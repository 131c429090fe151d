package loadtest

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Schema is the version of the JSON results.
const Schema = 1

// Result is what a run found. Its JSON is the tool's output for machines; pointers and omitted keys are what was
// not measured.
type Result struct {
	Tool        string         `json:"tool"`
	Schema      int            `json:"schema"`
	Scenario    Scenario       `json:"scenario"`
	Command     string         `json:"command"`
	Started     string         `json:"started"`   // RFC 3339
	Elapsed     float64        `json:"elapsed_s"` // of the measured phase, last answers included
	Interrupted bool           `json:"interrupted,omitempty"`
	Machine     Machine        `json:"machine"`
	Config      Options        `json:"config"`
	Connections Connections    `json:"connections"`
	Messages    Messages       `json:"messages"`
	Recovery    *Recovery      `json:"recovery,omitempty"` // reconnect
	Calls       *Calls         `json:"calls,omitempty"`    // rpc
	Upgrade     *Upgrades      `json:"upgrade,omitempty"`  // upgrade
	Latency     *Latency       `json:"latency_us,omitempty"`
	Server      *Server        `json:"server,omitempty"`
	Client      Client         `json:"client"`
	Series      []Sample       `json:"series"`
	Memory      []MemorySample `json:"memory,omitempty"`       // idle: the samples of the slope
	Percentiles []Percentile   `json:"distribution,omitempty"` // of the latency
	Errors      []ErrorCount   `json:"errors"`
}

// Machine is where the generator ran.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Memory int64  `json:"memory_bytes"`
}

// Connections counts them; a fanout's sender is not among them.
type Connections struct {
	Wanted  int64         `json:"wanted"`
	Opened  int64         `json:"opened"`
	Failed  int64         `json:"failed"`
	Lost    int64         `json:"lost"` // ended by the server, unasked
	Connect *Milliseconds `json:"connect_ms,omitempty"`
}

// Milliseconds are from the connect to the 101, with the client protocol to the last subscribe reply.
type Milliseconds struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Messages counts data messages; in a fanout everything but Sent counts deliveries.
type Messages struct {
	Sent      int64   `json:"sent"`
	Received  int64   `json:"received"`
	Expected  int64   `json:"expected"`
	Wrong     int64   `json:"wrong"`
	Lost      int64   `json:"lost"`
	Late      int64   `json:"late_or_dropped_sends"` // sent over 1 ms after the intended time, or not at all
	PerSecond float64 `json:"per_second"`            // received (storm: upgrades), over Elapsed
	BytesIn   int64   `json:"bytes_in"`              // of the whole run, upgrades included
	BytesOut  int64   `json:"bytes_out"`
}

// Recovery is what became of sessions whose connections ended.
type Recovery struct {
	Cuts        int64         `json:"cuts"`              // connections cut
	Closed      int64         `json:"closed_by_server"`  // with a code after which clients come back
	PutOff      int64         `json:"put_off"`           // upgrades answered with 503 and a Retry-After, which was heeded
	Recovered   int64         `json:"recovered"`         // subscriptions that came back and missed nothing
	Unrecovered int64         `json:"unrecovered"`       // subscriptions whose gap the server told of
	Told        int64         `json:"told_lost"`         // publications in these gaps
	Gaps        int64         `json:"offset_gaps"`       // jumps of the offset that the server did not tell of
	Doubled     int64         `json:"doubled"`           // publications that came again
	Disordered  int64         `json:"out_of_order"`      // publications that came late
	Back        *Milliseconds `json:"back_ms,omitempty"` // from a cut until the session was open again; Max: until all were
}

func recoveryOf(s *stats) *Recovery {
	return &Recovery{
		Cuts: s.Cuts, Closed: s.Closed, PutOff: s.PutOff, Recovered: s.Recovered, Unrecovered: s.Unrecovered, Told: s.Told,
		Gaps: s.Gaps, Doubled: s.Doubled, Disordered: s.Disordered, Back: connectOf(s.Back),
	}
}

// Calls is what became of rpc commands. Messages counts all answers, those of bystanders and with an error too;
// Latency is of results only, and not of bystanders.
type Calls struct {
	Results    int64        `json:"results"`
	PerSecond  float64      `json:"results_per_second"` // over Elapsed
	Errors     []ErrorCount `json:"errors"`             // by code and message
	Bystanders *Latency     `json:"bystander_latency_us,omitempty"`
}

func callsOf(s *stats, elapsed float64) *Calls {
	c := &Calls{Results: s.Latency.TotalCount(), Errors: errorCounts(s.Codes), Bystanders: latencyOf(s.Beside)}
	if elapsed > 0 {
		c.PerSecond = float64(c.Results) / elapsed
	}
	return c
}

// Latency is from the intended send to the arrival, in µs; for a storm from the connect to the 101.
type Latency struct {
	P50  int64   `json:"p50"`
	P90  int64   `json:"p90"`
	P99  int64   `json:"p99"`
	P999 int64   `json:"p999"`
	Max  int64   `json:"max"`
	Mean float64 `json:"mean"`
}

// Server is what the server process took.
type Server struct {
	PID           int      `json:"pid,omitempty"`
	RSSBefore     int64    `json:"rss_before"` // bytes, before the first connection
	RSSAfter      int64    `json:"rss_after"`  // bytes, at the end of the measured phase
	PerConnection *float64 `json:"rss_bytes_per_connection,omitempty"`
	CPU           float64  `json:"cpu_s"` // of the measured phase only
	PerMessage    *float64 `json:"cpu_us_per_message,omitempty"`
	PerDelivery   *float64 `json:"cpu_us_per_delivery,omitempty"`
	PerUpgrade    *float64 `json:"cpu_us_per_upgrade,omitempty"`
	PerClient     *float64 `json:"cpu_us_per_client,omitempty"` // clients: connect and subscribe; join: and close
	Threads       int64    `json:"threads,omitempty"`
}

// Client is what the generator itself took, in all its processes.
type Client struct {
	CPU           float64  `json:"cpu_s"` // of the measured phase only
	RSS           int64    `json:"rss"`
	Processes     int      `json:"processes"`
	PerConnection *float64 `json:"bytes_per_connection,omitempty"`
	PerMessage    *float64 `json:"cpu_us_per_message,omitempty"`
}

// Sample is one point of the time series, about a second after the one before.
type Sample struct {
	T           float64 `json:"t_s"`
	Connections int64   `json:"connections"`
	Sent        int64   `json:"sent"`
	Received    int64   `json:"received"`
	Wanted      float64 `json:"wanted_per_second,omitempty"` // the rate that the pacer was at
	RSS         int64   `json:"rss,omitempty"`
	CPU         float64 `json:"cpu_percent,omitempty"` // of one core
	P99         int64   `json:"p99_us,omitempty"`      // of the messages since the sample before
	Max         int64   `json:"max_us,omitempty"`      // of the same
}

// MemorySample is what the server and the generator held with so many connections.
type MemorySample struct {
	Connections int64 `json:"connections"`
	RSS         int64 `json:"rss,omitempty"`
	ClientRSS   int64 `json:"client_rss"`
}

// Percentile is a point of the latency distribution.
type Percentile struct {
	Percent float64 `json:"percent"`
	Micros  int64   `json:"us"`
}

// ErrorCount is an error text and how often it occurred.
type ErrorCount struct {
	Text  string `json:"text"`
	Count int64  `json:"count"`
}

// OK reports whether all was as wanted.
func (r *Result) OK() bool {
	return !r.Interrupted && len(r.Errors) == 0 && r.Connections.Opened > 0 && r.Connections.Failed == 0 &&
		r.Connections.Lost == 0 && r.Messages.Wrong == 0 && r.Messages.Lost == 0 &&
		(r.Recovery == nil || r.Recovery.Gaps == 0) &&
		(r.Upgrade == nil || r.Upgrade.ok()) &&
		(r.Calls == nil || r.Config.AllowErrors || len(r.Calls.Errors) == 0)
}

func latencyOf(h hist) *Latency {
	if h.TotalCount() == 0 {
		return nil
	}
	return &Latency{
		P50: h.ValueAtPercentile(50), P90: h.ValueAtPercentile(90), P99: h.ValueAtPercentile(99),
		P999: h.ValueAtPercentile(99.9), Max: h.Max(), Mean: h.Mean(),
	}
}

func connectOf(h hist) *Milliseconds {
	if h.Histogram == nil || h.TotalCount() == 0 {
		return nil
	}
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return &Milliseconds{P50: ms(h.ValueAtPercentile(50)), P99: ms(h.ValueAtPercentile(99)), Max: ms(h.Max())}
}

// plottedPercentiles come closer to 100 as a plot of the tail wants it.
var plottedPercentiles = []float64{0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100}

func distribution(h hist) (points []Percentile) {
	if h.TotalCount() == 0 {
		return nil
	}
	for _, p := range plottedPercentiles {
		points = append(points, Percentile{p, h.ValueAtPercentile(p)})
	}
	return points
}

// errorCounts sorts by count, then text.
func errorCounts(m map[string]int64) []ErrorCount {
	list := []ErrorCount{}
	for text, n := range m {
		list = append(list, ErrorCount{text, n})
	}
	slices.SortFunc(list, func(a, b ErrorCount) int {
		if a.Count != b.Count {
			return int(b.Count - a.Count)
		}
		return strings.Compare(a.Text, b.Text)
	})
	return list
}

// thisMachine leaves empty what the system does not tell.
func thisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU()}
	field := func(file, key string) string {
		b, _ := os.ReadFile(file) // empty elsewhere than on Linux
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
				return strings.TrimSpace(value)
			}
		}
		return ""
	}
	m.CPU = field("/proc/cpuinfo", "model name")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(kernel))
	kib, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	n, _ := strconv.ParseInt(kib, 10, 64)
	m.Memory = n << 10
	return m
}
