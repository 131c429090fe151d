//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// post sends commands of an emulated client to g and returns the status.
func (g *gateway) post(t testing.TB, node, session, commands string) (status int, body string) {
	t.Helper()
	res, err := http.Post("http://"+g.address+"/emulation", "application/json", bytes.NewReader(encodedJSON(t, object{"node": node, "session": session, "data": commands})))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func encodedJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A load balancer sends the stream to one node and the commands to others.
func TestEmulationAcrossNodes(t *testing.T) {
	t.Parallel()
	_, gateways := startCluster(t)
	res, err := http.Get("http://" + gateways[0].address + "/connection/sse?cf_connect=" + url.QueryEscape(`{"id":1,"connect":{"token":"`+tokenOf("ann")+`"}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	var m struct {
		ID      int
		Connect struct{ Session, Node string }
	}
	next := func(id int) {
		t.Helper()
		for m.ID = 0; m.ID != id; {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				if err := json.Unmarshal([]byte(data), &m); err != nil {
					t.Fatalf("%q: %v", data, err)
				}
			}
		}
	}
	next(1)
	node, session := m.Connect.Node, m.Connect.Session
	for i, g := range gateways {
		if status, body := g.post(t, node, session, fmt.Sprintf(`{"id":%d,"presence_stats":{"channel":"a"}}`, i+2)); status != http.StatusNoContent {
			t.Fatalf("by node %d: %d %s", i, status, body)
		}
		next(i + 2)
		var sent struct {
			Clients int `json:"num_clients"`
		}
		g.must(t, "send", object{"session": session, "data": i}, &sent)
		if line, err := in.ReadString('}'); err != nil || sent.Clients != 1 || !strings.Contains(line, fmt.Sprintf(`{"message":{"data":%d`, i)) {
			t.Errorf("sent by node %d to %d: %q, %v", i, sent.Clients, line, err)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if status, body := g.post(t, node, "A"+session[1:]+"A", `{"id":9}`); status != http.StatusNotFound {
			t.Errorf("another's session by node %d: %d %s", i, status, body)
		}
	}
	gateways[0].Kill()
	eventually(t, func() error { // once the others have noticed
		if status, body := gateways[1].post(t, node, session, `{}`); status != http.StatusNotFound {
			return fmt.Errorf("after the node has died: %d %s", status, body)
		}
		return nil
	})
}
