package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"roost/benchmarks/internal/client"
	"roost/benchmarks/internal/fleet"
)

// The peer of the gateway does what it is measured doing.
func TestCentrifugeServesClientsAndAPI(t *testing.T) {
	process := startServer(t, "centrifuge")
	c, err := client.Dial(process.Address, fleet.Clients)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(stallLimit))
	if err := c.Send(ws.OpText, []byte(`{"id":1,"connect":{}}`+"\n"+`{"id":2,"subscribe":{"channel":"a"}}`)); err != nil {
		t.Fatal(err)
	}
	receive(t, c, `"recoverable":true`)
	resp, err := http.Post(process.API+"/publish", "application/json", strings.NewReader(`{"channel":"a","data":{"n":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Result struct {
			Offset int
			Epoch  string
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Result.Offset != 1 || answer.Result.Epoch == "" {
		t.Fatalf("%s, %v", body, err)
	}
	receive(t, c, `"pub":{"data":{"n":1},"offset":1`)
}

// receive waits for a message that has text in it.
func receive(t *testing.T, c *client.Client, text string) {
	t.Helper()
	for {
		_, data, err := c.Receive(nil)
		if err != nil {
			t.Fatalf("no message with %s: %v", text, err)
		}
		if strings.Contains(string(data), text) {
			return
		}
	}
}

// Ratios may be taken against a figure of the peer of the gateway itself.
func TestRatiosOfGatewaysHaveABaseOfTheirOwn(t *testing.T) {
	r := &scenarioResult{Name: "connect", scenario: connect(true), Runs: []*run{
		{Server: "roost", Repetition: 1, Metrics: map[string]float64{"cpu_us": 100, "upgrade_us": 50}},
		{Server: "centrifuge", Repetition: 1, Metrics: map[string]float64{"cpu_us": 250}},
		{Server: "centrifuge", Repetition: 2, Metrics: map[string]float64{"cpu_us": 250}},
	}}
	r.divide()
	if got := r.spread("roost", ratioKey).median; got != 2 {
		t.Errorf("roost: %v", got)
	}
	if got := r.spread("centrifuge", ratioKey); got.median != 5 || got.count != 1 {
		t.Errorf("centrifuge: %+v", got)
	}
}

func TestOnlyGatewaysTakePartInTheirScenarios(t *testing.T) {
	for _, s := range fleet.All(1) {
		gateway := s.Name == "roost" || s.Name == "centrifuge"
		if got := s.TakesPart("clients"); got != gateway {
			t.Errorf("%s in clients: %v", s.Name, got)
		}
		if got, want := s.TakesPart("fanout"), s.Name != "centrifuge" && s.Name != "roost-pool"; got != want {
			t.Errorf("%s in fanout: %v", s.Name, got)
		}
	}
}
