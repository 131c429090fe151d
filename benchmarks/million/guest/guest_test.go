package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseGC(t *testing.T) {
	line := "gc 7 @2.104s 3%: 0.021+3.4+0.25 ms clock, 0.042+0.31/2.9/1.5+0.5 ms cpu, 9->10->6 MB, 13 MB goal, " +
		"0 MB stacks, 0 MB globals, 2 P (forced)"
	got, ok := parseGC(line)
	if !ok {
		t.Fatal("not taken for a gctrace line")
	}
	want := gcCycle{At: 2.104, PauseMS: 0.25, WallMS: 0.021 + 3.4 + 0.25, CPUMS: 0.042 + 0.31 + 2.9 + 1.5 + 0.5,
		LiveMB: 6, HeapMB: 10, Forced: true, StopCPUMS: 0.042 + 0.5}
	if *got != want {
		t.Errorf("got %+v\nwant %+v", *got, want)
	}
	for _, other := range []string{"", "gc ", "gc forced", "time=now level=INFO msg=ready", "gcpacer: x"} {
		if _, ok := parseGC(other); ok {
			t.Errorf("%q was taken for a gctrace line", other)
		}
	}
}

func TestParseMetrics(t *testing.T) {
	page := `# HELP roost_connections open
roost_connections 12
roost_messages_total{direction="a b"} 3
roost_turn_seconds_bucket{le="+Inf"} 9
go_gc_duration_seconds{quantile="0.5"} NaN
go_info{version="go1"} 1
go_goroutines 1.5e+01
`
	got, err := parseMetrics(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"roost_connections": 12, `roost_messages_total{direction="a b"}`: 3, "go_goroutines": 15}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for series, value := range want {
		if got[series] != value {
			t.Errorf("%s = %v, want %v", series, got[series], value)
		}
	}
}

func at(phase string, seconds, connections float64, rss int64) record {
	s := &sample{Metrics: map[string]float64{connectionsMetric: connections}}
	s.Gateway.RSS = rss
	return record{Kind: "sample", Phase: phase, T: seconds, Sample: s}
}

func TestSlope(t *testing.T) {
	rss := func(s *sample) int64 { return s.Gateway.RSS }
	samples := []record{at("connect", 0, 0, 1000), at("connect", 1, 10, 5000), at("connect", 2, 20, 9000)}
	if got, ok := slope(samples, rss); !ok || got != 400 {
		t.Errorf("slope = %v, %v, want 400", got, ok)
	}
	if _, ok := slope(samples[:2], rss); ok {
		t.Error("two samples gave a slope")
	}
	if _, ok := slope([]record{samples[0], samples[0], samples[0]}, rss); ok {
		t.Error("samples without growth gave a slope")
	}
}

func TestRecordsSurviveACutLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	out := &recorder{start: time.Now(), file: file}
	out.write(record{Kind: "phase", Phase: "connect"})
	out.write(record{Kind: "log", Text: "hello"})
	_, _ = file.WriteString(`{"kind":"samp`)
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := readRecords(path)
	if err != nil || len(all) != 2 || all[1].Text != "hello" || all[1].Phase != "connect" {
		t.Errorf("got %+v, %v", all, err)
	}
	if err := os.WriteFile(path, []byte("rubbish\n{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readRecords(path); err == nil {
		t.Error("rubbish in the middle was let through")
	}
}

func TestVerdict(t *testing.T) {
	const broadcast = `{"connections":{"wanted":3,"opened":3,"failed":0,"lost":0},` +
		`"messages":{"sent":1,"received":3,"expected":3,"wrong":0,"lost":0,"per_second":1},"latency_us":{"max":5}}`
	good := []record{
		{Kind: "machine", Machine: &machine{Connections: 3}},
		{Kind: "phase", Phase: "connect"},
		at("connect", 1, 3, 1),
		{Kind: "load", Text: "broadcast", Load: json.RawMessage(broadcast)},
		{Kind: "load", Text: "echo", Load: json.RawMessage(`{"messages":{"received":9}}`)},
		{Kind: "end"},
	}
	load := func(text string) record { return record{Kind: "load", Text: "broadcast", Load: json.RawMessage(text)} }
	for _, c := range []struct {
		name    string
		records []record
		fault   string // part of the error; empty: none
	}{
		{"all is well", good, ""},
		{"cut off", good[:3], `ended in the phase "connect"`},
		{"failed", append(good[:3:3], record{Kind: "failure", Text: "stuck"}), "stuck"},
		{"not all opened", append(good[:5:5], load(strings.Replace(broadcast, `"opened":3`, `"opened":2`, 1)), good[5]),
			"2 connections were opened"},
		{"one lost", append(good[:5:5], load(strings.Replace(broadcast, `"lost":0`, `"lost":1`, 1)), good[5]), "1 lost"},
		{"one not reached", append(good[:5:5], load(strings.Replace(broadcast, `"received":3`, `"received":2`, 1)), good[5]),
			"reached 2 of 3"},
		{"no echo", append(good[:4:4], record{Kind: "load", Text: "echo", Load: json.RawMessage(`{}`)}, good[5]),
			"0 came back"},
	} {
		r, err := sortRecords(c.records)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		err = r.verdict()
		if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s: verdict %v, want %q", c.name, err, c.fault)
		}
		if text := r.markdown("x", "run"); strings.Contains(text, "fell short") != (c.fault != "") {
			t.Errorf("%s: the report says otherwise:\n%s", c.name, text)
		}
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%v) = %s, want %s", n, got, want)
		}
	}
}
