package loadtest

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func sampleResult() *Result {
	one := 1.5
	return &Result{
		Tool: "roost-load", Schema: Schema, Scenario: Echo, Command: "roost-load echo </script><script>", Config: Options{URL: "ws://h/"},
		Connections: Connections{Wanted: 2, Opened: 2, Connect: &Milliseconds{1, 2, 3}},
		Messages:    Messages{Sent: 10, Received: 10, Expected: 10},
		Latency:     &Latency{1, 2, 3, 4, 5, 2.5},
		Server:      &Server{PID: 1, RSSBefore: 1, RSSAfter: 2, PerConnection: &one, CPU: 1, PerMessage: &one, PerDelivery: &one, PerUpgrade: &one, Threads: 3},
		Client:      Client{PerConnection: &one},
		Series:      []Sample{{T: 1, Received: 1, RSS: 5, CPU: 1, P99: 7}, {T: 2, Received: 9, RSS: 6, CPU: 2, P99: 8}},
		Memory:      []MemorySample{{1, 2, 3}, {2, 3, 4}},
		Percentiles: []Percentile{{50, 2}, {100, 5}},
		Errors:      []ErrorCount{{"<b>bad</b>", 1}},
	}
}

// TestJSONKeys pins the keys that other programs read.
func TestJSONKeys(t *testing.T) {
	b, err := json.Marshal(sampleResult())
	if err != nil {
		t.Fatal(err)
	}
	var all any
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(`tool schema scenario command started elapsed_s
		machine.cpu machine.cores machine.kernel machine.memory_bytes config.url config.connections
		connections.wanted connections.opened connections.failed connections.lost
		connections.connect_ms.p50 connections.connect_ms.p99 connections.connect_ms.max
		messages.sent messages.received messages.expected messages.wrong messages.lost messages.late_or_dropped_sends
		messages.per_second messages.bytes_in messages.bytes_out
		latency_us.p50 latency_us.p90 latency_us.p99 latency_us.p999 latency_us.max latency_us.mean
		server.pid server.rss_before server.rss_after server.rss_bytes_per_connection server.cpu_s
		server.cpu_us_per_message server.cpu_us_per_delivery server.cpu_us_per_upgrade server.threads
		client.cpu_s client.rss client.bytes_per_connection
		series.t_s series.connections series.sent series.received series.rss series.cpu_percent series.p99_us
		errors.text errors.count`) {
		at := all
		for key := range strings.SplitSeq(path, ".") {
			if list, ok := at.([]any); ok {
				at = list[0]
			}
			value, ok := at.(map[string]any)[key]
			if !ok {
				t.Errorf("no %s", path)
				break
			}
			at = value
		}
	}
}

func TestUnmeasuredKeysAreAbsent(t *testing.T) {
	b, err := json.Marshal(&Result{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"latency_us", `"server"`, "connect_ms", "bytes_per_connection", "cpu_us"} {
		if strings.Contains(string(b), key) {
			t.Errorf("%s in %s", key, b)
		}
	}
}

// TestHTMLIsSelfContained looks for anything a browser would fetch, and for text that was not escaped.
func TestHTMLIsSelfContained(t *testing.T) {
	var b strings.Builder
	if err := WriteHTML(&b, []*Result{sampleResult(), sampleResult()}); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if !strings.Contains(page, echartsJS) {
		t.Error("the plotting library is not in the page")
	}
	ours := strings.Replace(page, echartsJS, "", 1) // it holds namespace names that look like addresses
	if bad := regexp.MustCompile(`(?i)https?:|<link|<script[^>]+src|@import|url\(|<img|<iframe`).FindString(ours); bad != "" {
		t.Errorf("the page would load something: %q", bad)
	}
	if strings.Contains(ours, "<b>bad") || strings.Contains(ours, "echo </script>") {
		t.Error("text is not escaped")
	}
	plots := regexp.MustCompile(`echarts\.init\(document\.getElementById\('(\w+)'\)`).FindAllStringSubmatch(ours, -1)
	if len(plots) != 14 {
		t.Errorf("%d plots", len(plots))
	}
	for _, p := range plots {
		if strings.Count(ours, `id="`+p[1]+`"`) != 1 {
			t.Errorf("plot %s has not one element", p[1])
		}
	}
	checkScripts(t, ours)
}

// checkScripts lets node parse the page's own scripts, where there is one.
func checkScripts(t *testing.T, page string) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Log("no node: scripts are not parsed")
		return
	}
	var all strings.Builder
	for _, m := range regexp.MustCompile(`(?s)<script[^>]*>(.*?)</script>`).FindAllStringSubmatch(page, -1) {
		all.WriteString(m[1] + "\n;\n")
	}
	name := filepath.Join(t.TempDir(), "page.js")
	if err := os.WriteFile(name, []byte(all.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(node, "--check", name).CombinedOutput(); err != nil {
		t.Errorf("scripts do not parse: %s", out)
	}
}

func TestTableTellsEverything(t *testing.T) {
	var b strings.Builder
	if err := WriteTable(&b, []*Result{sampleResult()}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"10 sent, 10 received of 10 expected", "p99.9 4", "per message", "per delivery", "per upgrade", "1 × <b>bad</b>"} {
		if !strings.Contains(b.String(), text) {
			t.Errorf("no %q in\n%s", text, b.String())
		}
	}
}

// TestProgressEnds would hang if a bar waited for a total that was never reached, or was passed.
func TestProgressEnds(t *testing.T) {
	for _, p := range []Progress{&plainProgress{out: io.Discard}, &barProgress{out: io.Discard}} {
		for _, total := range []int64{0, 10} {
			for _, done := range []int64{0, 5, 10, 20} {
				p.Begin("phase", total)
				p.Update(done, "note")
				p.End()
			}
		}
	}
}
