package conformance

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCasesAreComplete(t *testing.T) {
	cases := Cases()
	if len(cases) != CaseCount {
		t.Errorf("%d cases, want %d", len(cases), CaseCount)
	}
	groups, seen := map[string]int{}, map[string]bool{}
	for _, c := range cases {
		if seen[c.ID] || c.Sends == "" || c.Expect == "" {
			t.Errorf("case %q twice or without words", c.ID)
		}
		seen[c.ID] = true
		group, _, _ := strings.Cut(c.ID, ".")
		groups[group]++
	}
	want := map[string]int{"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1, "12": 90, "13": 126}
	if fmt.Sprint(groups) != fmt.Sprint(want) {
		t.Errorf("groups %v, want %v", groups, want)
	}
	for _, id := range []string{"1.2.8", "2.11", "5.20", "6.4.4", "6.22.34", "6.23.7", "7.9.9", "7.13.2", "9.8.6", "12.5.18", "13.7.18"} {
		if !seen[id] {
			t.Errorf("no case %s", id)
		}
	}
}

// A server that does everything right gets everything right.
func TestRightServer(t *testing.T) {
	counts := RunAll(t, startServer(t, time.Minute), Options{Messages: bulkMessages})
	if counts[OK] != 514 || counts[Informational] != 3 {
		t.Errorf("counts %v, want 514 OK and 3 INFORMATIONAL", counts)
	}
}

func memory() (int64, error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse), nil
}

func hostileOptions() Options {
	return Options{Timeout: time.Minute, Deflate: true, MaxMessage: refMaxMessage, HandshakeDeadline: refHandshake, IdleDeadline: refIdle,
		BadOrigin: "http://evil.example", Aborts: 200, Memory: memory, MemoryBound: 256 << 20}
}

func TestRightServerUnderHostileInputs(t *testing.T) {
	counts := RunHostile(t, startServer(t, refIdle), hostileOptions())
	if counts[Failed]+counts[Skipped] != 0 || counts[Passed] < 100 {
		t.Errorf("counts %v, want all passed", counts)
	}
}

// A check that cannot fail is no check: each fault of the server must be seen,
// and by the case that is there for it.
func TestFaultsAreSeen(t *testing.T) {
	cases := Cases()
	for _, c := range []struct {
		fault, id       string
		behavior, close Class
	}{
		{"rsv", "3.1", Failed, Failed},
		{"opcode", "4.1.1", Failed, Failed},
		{"fragmented control", "5.1", Failed, OK},
		{"long control", "2.5", Failed, Failed},
		{"stray continuation", "5.9", Failed, Failed},
		{"interleaved", "5.18", Failed, Failed},
		{"no pong", "2.2", Failed, Unclean},
		{"no utf8", "6.3.1", Failed, Failed},
		{"late utf8", "6.4.3", NonStrict, OK},
		{"any close code", "7.9.2", Failed, WrongCode},
		{"no close frame", "7.1.1", OK, Unclean},
		{"keep TCP", "1.1.1", OK, FailedByClient},
		{"text for binary", "1.2.2", Failed, Unclean},
		{"corrupt", "9.1.1", Failed, OK},
		{"corrupt", "9.7.6", Failed, OK},
		{"corrupt", "12.1.4", Failed, OK},
		{"pong before echo", "1.1.2", Failed, Unclean},
		{"long lengths", "1.1.2", Failed, Unclean},
		{"no deflate", "12.1.1", Unimplemented, OK},
		{"window broken", "13.3.6", Failed, OK},
		{"takeover broken", "12.1.4", Failed, OK},
	} {
		t.Run(c.fault+" in "+c.id, func(t *testing.T) {
			t.Parallel()
			found := cases[slices.IndexFunc(cases, func(x Case) bool { return x.ID == c.id })]
			r := run(context.Background(), startServer(t, time.Minute, c.fault), found, 3*time.Second)
			if r.Behavior != c.behavior || r.Close != c.close {
				t.Errorf("%v\nwant behaviour %s, close %s", r, c.behavior, c.close)
			}
		})
	}
}

func TestHostileFaultsAreSeen(t *testing.T) {
	for fault, name := range map[string]string{
		"unmasked":           "frame/unmasked text",
		"rsv":                "frame/rsv 010 on text",
		"opcode":             "frame/reserved opcode 3",
		"fragmented control": "frame/fragmented ping",
		"long control":       "frame/over-long ping",
		"stray continuation": "frame/stray continuation, FIN",
		"interleaved":        "frame/text inside text",
		"late utf8":          "utf8/unfinished frame: surrogate",
		"no utf8":            "utf8/cut off by FIN",
		"any close code":     "close/code 999",
		"no close frame":     "close/code 999",
		"keep TCP":           "close/own code",
		"no linger":          "close/unread input after a bad frame",
		"any header":         "head/header without a colon",
		"any method":         "head/POST",
		"any host":           "head/two Hosts",
		"any version":        "head/version 8",
		"any key":            "head/key of 15 bytes",
		"deadline moves":     "slow/a byte now and then",
		"window broken":      "deflate/a window of 512 bytes, kept or declined",
		"no pong":            "stream/byte by byte",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			target, err := parseTarget(startServer(t, refIdle, fault))
			if err != nil {
				t.Fatal(err)
			}
			o := hostileOptions().withDefaults()
			h := &hostile{target: target, o: o, timeout: 600 * time.Millisecond}
			attacks := h.attacks()
			i := slices.IndexFunc(attacks, func(a attack) bool { return a.name == name })
			if i < 0 {
				t.Fatalf("no attack %q", name)
			}
			if err := attacks[i].do(h); err == nil {
				t.Error("not seen")
			} else {
				t.Log(err)
			}
		})
	}
}

func TestMemoryBound(t *testing.T) {
	h := &hostile{o: Options{MemoryBound: 10}}
	size := int64(100)
	h.o.Memory = func() (int64, error) { size += 6; return size, nil }
	err := h.watched(attack{do: func(*hostile) error { time.Sleep(100 * time.Millisecond); return nil }}, true)
	if err == nil || !strings.Contains(err.Error(), "grew") {
		t.Errorf("growth not seen: %v", err)
	}
}
