package main

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

	"roost/benchmarks/internal/fleet"
)

// A stall counts only if the backend had taken all it could and answered nothing.
func TestCallsAreAsTheyShouldBe(t *testing.T) {
	for text, want := range map[string]struct{ answered, stalled bool }{
		`{"results":5}`: {true, false},
		`{}`:            {false, false},
		`{"results":5,"errors":[{"text":"100: internal server error","count":1}]}`:                                 {false, false},
		`{"errors":[{"text":"100: internal server error","count":9}]}`:                                             {false, false},
		`{"errors":[{"text":"100: internal server error","count":9},{"text":"111: too many requests","count":1}]}`: {false, true},
	} {
		var c callReport
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		if got := c.were(false); (got == nil) != want.answered {
			t.Errorf("%s, answered: %v", text, got)
		}
		if got := c.were(true); (got == nil) != want.stalled {
			t.Errorf("%s, stalled: %v", text, got)
		}
	}
}

// The floor of rpc asks the backend what a gateway would, and gets the data back.
func TestRawRequestsAreAnswered(t *testing.T) {
	root, err := fleet.Root()
	if err != nil {
		t.Fatal(err)
	}
	s := rpc(true)
	s.messages = 200
	cpu, rate, err := s.rawRequests(t.Context(), options{root: root, binaries: t.TempDir()}, t.TempDir())
	if err != nil || rate <= 0 || cpu < 0 {
		t.Errorf("%v µs, %v per second, %v", cpu, rate, err)
	}
}

// Without a backend its absence is an error, not a rate.
func TestRawRequestsToNobody(t *testing.T) {
	root, err := fleet.Root()
	if err != nil {
		t.Fatal(err)
	}
	broker, err := fleet.StartNATS(root, t.TempDir(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Stop()
	nc, err := nats.Connect("nats://" + broker.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := rpc(true).ask(context.Background(), nc, []byte("{}"), 100); err == nil {
		t.Error("requests that nobody answers are no error")
	}
}
