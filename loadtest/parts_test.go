package loadtest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"roost/proto/ws"
)

func TestPacers(t *testing.T) {
	for _, c := range []struct {
		pacer Pacer
		n     int64
		due   time.Duration
		rate  float64 // at due
	}{
		{constantPacer(1000), 0, 0, 1000},
		{constantPacer(1000), 1, time.Millisecond, 1000},
		{constantPacer(1000), 60_000, time.Minute, 1000},
		{constantPacer(0.1), 1, 10 * time.Second, 0.1},
		{constantPacer(3), 1, 333333334, 3},
		{constantPacer(1e-9), math.MaxInt64, math.MaxInt64, 1e-9},
		{rampPacer{1000, 2 * time.Second}, 0, 0, 0},
		{rampPacer{1000, 2 * time.Second}, 250, time.Second, 500},
		{rampPacer{1000, 2 * time.Second}, 1000, 2 * time.Second, 1000},
		{rampPacer{1000, 2 * time.Second}, 2000, 3 * time.Second, 1000},
	} {
		if due, rate := c.pacer.Due(c.n), c.pacer.Rate(c.due); due != c.due || math.Abs(rate-c.rate) > 1e-6 {
			t.Errorf("%#v: message %d due at %v, rate %v; want %v, %v", c.pacer, c.n, due, rate, c.due, c.rate)
		}
	}
	if newPacer(0, 0) != nil {
		t.Error("a pacer for rate 0")
	}
}

func TestRampNeverGoesBack(t *testing.T) {
	p := rampPacer{777, 3 * time.Second}
	for n := int64(1); n < 5000; n++ {
		if p.Due(n) < p.Due(n-1) {
			t.Fatalf("message %d is due before the one ahead of it", n)
		}
	}
}

func TestSlope(t *testing.T) {
	at := func(pairs ...int64) (points []MemorySample) {
		for i := 0; i < len(pairs); i += 2 {
			points = append(points, MemorySample{Connections: pairs[i], RSS: pairs[i+1]})
		}
		return points
	}
	for _, c := range []struct {
		points []MemorySample
		want   float64
		ok     bool
	}{
		{nil, 0, false},
		{at(5, 7), 0, false},
		{at(5, 7, 5, 9), 0, false},
		{at(0, 1000, 10, 5000), 400, true},
		{at(1000, 1e6, 2000, 14e5, 3000, 18e5), 400, true},
		{at(1, 6, 2, 5, 3, 7, 4, 10), 1.4, true}, // Wikipedia, "Linear least squares", its worked example
		{at(1, 9, 2, 8), -1, true},
	} {
		if got, ok := slope(c.points); ok != c.ok || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v: %v, %v; want %v, %v", c.points, got, ok, c.want, c.ok)
		}
	}
}

func TestSharesSumUp(t *testing.T) {
	a := assignment{Options: Options{Scenario: Echo, Connections: 1003, Messages: 17, Rate: 100, ConnectParallel: 128}, IDStep: 1, Solo: true}
	ids := map[uint32]bool{}
	var connections int
	var messages int64
	for _, p := range a.split(4) {
		for _, leaf := range p.split(2) {
			connections, messages = connections+leaf.Connections, messages+leaf.Messages
			for k := range leaf.Connections {
				ids[leaf.IDBase+uint32(k)*leaf.IDStep] = true
			}
			if leaf.Solo || leaf.Rate != 12.5 || leaf.ConnectParallel != 16 {
				t.Errorf("leaf %+v", leaf)
			}
		}
	}
	if connections != 1003 || messages != 17 || len(ids) != 1003 {
		t.Errorf("%d connections with %d ids, %d messages", connections, len(ids), messages)
	}
	for i := range 7 { // a share never shrinks while the total grows
		for total := int64(1); total < 100; total++ {
			if share(total, 7, i) < share(total-1, 7, i) {
				t.Fatalf("share %d of %d", i, total)
			}
		}
	}
}

func TestStatsOfChildrenMerge(t *testing.T) {
	var want [2]stats
	total := newStats()
	direct := newHist()
	for i := range want {
		s := newStats()
		v := reflect.ValueOf(s).Elem()
		for f := range v.NumField() {
			if v.Field(f).Kind() == reflect.Int64 {
				v.Field(f).SetInt(int64((f + 1) * (i + 1))) // a field that add forgets would show
			}
		}
		for k := range int64(1000) {
			ns := (k + 1) * 1000 * int64(1+i*500)
			s.Latency.record(ns)
			direct.record(ns)
		}
		s.fail("same", 2)
		line, err := json.Marshal(event{Kind: evStats, Stats: s})
		if err != nil {
			t.Fatal(err)
		}
		var back event
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatal(err)
		}
		total.add(back.Stats)
	}
	v := reflect.ValueOf(total).Elem()
	for f := range v.NumField() {
		if v.Field(f).Kind() == reflect.Int64 && v.Field(f).Int() != int64(3*(f+1)) {
			t.Errorf("%s: %d", v.Type().Field(f).Name, v.Field(f).Int())
		}
	}
	if !total.Latency.Equals(direct.Histogram) || total.Latency.TotalCount() != 2000 {
		t.Errorf("histograms differ: %d values", total.Latency.TotalCount())
	}
	if total.Errors["same"] != 4 {
		t.Errorf("errors %v", total.Errors)
	}
}

func TestErrorTextsAreBounded(t *testing.T) {
	s := newStats()
	for i := range 10 * errorTexts {
		s.fail(fmt.Sprint(i), 1)
	}
	if len(s.Errors) != errorTexts+1 || s.Errors["other errors"] != 9*errorTexts {
		t.Errorf("%d texts, %d others", len(s.Errors), s.Errors["other errors"])
	}
}

func TestPayload(t *testing.T) {
	for _, size := range []int{headerSize, headerSize + 1, 128, 5000} {
		pattern := filler(size)
		m := message{id: 7, seq: 1 << 31, due: 1700000000123456789}
		p := appendPayload(nil, m, pattern, size)
		if got, ok := parsePayload(p, pattern, size); !ok || got != m || len(p) != size {
			t.Fatalf("size %d: %+v, %v", size, got, ok)
		}
		if _, ok := parsePayload(p[:size-1], pattern, size); ok {
			t.Errorf("size %d: a short one passed", size)
		}
		for i := headerSize; i < size; i++ {
			p[i] ^= 0x20
			if _, ok := parsePayload(p, pattern, size); ok {
				t.Errorf("size %d: a change at %d passed", size, i)
			}
			p[i] ^= 0x20
		}
	}
}

func TestParseResponse(t *testing.T) {
	key := string(appendKey(nil, 1, 2))
	good := "HTTP/1.1 101 Switching Protocols\r\nUPGRADE: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: " + ws.AcceptKey(key) + "\r\n"
	const deflate = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
	for _, c := range []struct {
		name, in string
		offered  bool
		text     string // of the error; empty: none
		n        int
		deflate  bool
	}{
		{"good, and a frame", good + "\r\n\x89\x00", false, "", len(good) + 2, false},
		{"part", good, false, "", 0, false},
		{"deflate", good + deflate + "\r\n", true, "", len(good + deflate + "\r\n"), true},
		{"deflate nobody offered", good + deflate + "\r\n", false, "nobody offered", 0, false},
		{"context kept", good + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", true, "ignored server_no_context_takeover", 0, false},
		{"refused", "HTTP/1.1 426 Upgrade Required\r\n\r\nbecause\nof", false, "because", 0, false},
		{"put off", "HTTP/1.1 503 Service Unavailable\r\nretry-after: 3\r\n\r\n", false, "503, with Retry-After: 3", 0, false},
		{"put off till a date", "HTTP/1.1 503 Service Unavailable\r\nRetry-After: Fri, 31 Dec\r\n\r\nlater", false, "later", 0, false},
		{"no HTTP", "SSH-2.0\r\n\r\n", false, "refused", 0, false},
		{"no upgrade", strings.Replace(good, "WebSocket\r", "h2c\r", 1) + "\r\n", false, `Upgrade "h2c"`, 0, false},
		{"another's accept", strings.Replace(good, ws.AcceptKey(key), ws.AcceptKey(""), 1) + "\r\n", false, "does not fit", 0, false},
		{"endless", strings.Repeat("x", maxResponseHead+1), false, "longer than", 0, false},
	} {
		n, deflate, err := parseResponse([]byte(c.in), key, c.offered)
		switch {
		case c.text == "" && (err != nil || n != c.n || deflate != c.deflate):
			t.Errorf("%s: %d, %v, %v", c.name, n, deflate, err)
		case c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)):
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}

func FuzzParseResponse(f *testing.F) {
	key := string(appendKey(nil, 1, 2))
	f.Add([]byte("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + ws.AcceptKey(key) + "\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 403 Forbidden\r\n\r\nno"))
	f.Add([]byte("\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, _, err := parseResponse(b, key, true)
		if n < 0 || n > len(b) || n > 0 && (err != nil || !strings.Contains(string(b[:n]), ws.AcceptKey(key))) {
			t.Errorf("%q: %d, %v", b, n, err)
		}
	})
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		set  func(o *Options)
		text string
	}{
		{func(o *Options) { o.URL = "" }, "--url is missing"},
		{func(o *Options) { o.URL = "wss://h/" }, "wss:// (TLS) is not supported yet"},
		{func(o *Options) { o.URL = "http://h/" }, `the scheme is "http"`},
		{func(o *Options) { o.URL = "ws://" }, "no host"},
		{func(o *Options) { o.URL = "ws://h:x/" }, "--url"},
		{func(o *Options) { o.Connections = 0 }, "--connections 0"},
		{func(o *Options) { o.Size = headerSize - 1 }, "--size 15"},
		{func(o *Options) { o.Messages, o.Duration = 0, 0 }, "--duration"},
		{func(o *Options) { o.Scenario, o.Rate = Storm, 5 }, "--connect-rate"},
		{func(o *Options) { o.Scenario, o.Duration = Soak, 1 }, "--rate"},
		{func(o *Options) { o.Ramp = 1 }, "--ramp"},
		{func(o *Options) { o.PID, o.Metrics = 1, "http://h" }, "alternatives"},
		{func(o *Options) { o.Header = []string{"nothing"} }, "Name: value"},
		{func(o *Options) { o.Abort = true }, "storm"},
		{func(o *Options) { o.Timeout = 0 }, "--timeout"},
		{func(o *Options) { o.Next = "ws://h/" }, "--next belongs to reconnect"},
		{func(o *Options) { o.Next = "ws://" }, "--next"},
	} {
		o := Options{Scenario: Echo, URL: "ws://127.0.0.1:1/", Connections: 1, Messages: 1, Size: 128, ConnectParallel: 1, Threads: 1, Timeout: 1}
		if err := o.validate(); err != nil {
			t.Fatal(err)
		}
		c.set(&o)
		if err := o.validate(); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("want %q, have error %v", c.text, err)
		}
	}
}

func TestProbes(t *testing.T) {
	u, err := parseStat([]byte("42 (a) b) S 1 42 42 0 -1 4194304 300 0 0 0 150 50 0 0 20 0 7 0 100 1 2"))
	if err != nil || u.CPU != 2*time.Second || u.Threads != 7 {
		t.Errorf("stat: %+v, %v", u, err)
	}
	if _, err := parseStat([]byte("42 (a")); err == nil {
		t.Error("half a stat passed")
	}
	name := filepath.Join(t.TempDir(), "statm")
	if err := os.WriteFile(name, []byte("100 7 1 1 0 1 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if rss, err := readRSS(name); err != nil || rss != 7*int64(os.Getpagesize()) {
		t.Errorf("statm: %d, %v", rss, err)
	}
	page := "# HELP x\nprocess_resident_memory_bytes 1.5e+06\nprocess_cpu_seconds_total 12.5\ngo_threads 9\nx{a=\"b c\"} 3\n"
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, page) }))
	defer h.Close()
	p, err := newProbe(&Options{Metrics: h.URL})
	if err != nil {
		t.Fatal(err)
	}
	if u, err := p.read(); err != nil || u != (usage{1_500_000, 12500 * time.Millisecond, 9, 0}) {
		t.Errorf("metrics: %+v, %v", u, err)
	}
	page = "up 1\n"
	if _, err := p.read(); err == nil {
		t.Error("a page without the figures passed")
	}
}

func TestScenarioFile(t *testing.T) {
	lines, err := ScenarioFile([]byte("- scenario: echo\n  url: ws://h/\n  duration: 10s\n  header: ['A: b', 'C: d']\n- scenario: idle\n"))
	want := [][]string{{"echo", "--duration=10s", "--header=A: b", "--header=C: d", "--url=ws://h/"}, {"idle"}}
	if err != nil || !reflect.DeepEqual(lines, want) {
		t.Errorf("%q, %v", lines, err)
	}
	for _, bad := range []string{"", "a: b", "- {}", "- scenario: run", "- scenario: child", "- {scenario: echo, size: {a: b}}", "- [", "- scenario: [echo]"} {
		if lines, err := ScenarioFile([]byte(bad)); err == nil {
			t.Errorf("%q passed as %q", bad, lines)
		}
	}
}

func FuzzScenarioFile(f *testing.F) {
	f.Add([]byte("- scenario: echo\n  duration: 10s\n"))
	f.Add([]byte("- {scenario: storm, header: [a, b]}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, err := ScenarioFile(b)
		for _, line := range lines {
			if err != nil || len(line) == 0 {
				t.Errorf("%q: %q, %v", b, lines, err)
			}
		}
	})
}
