//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/centrifugal/centrifuge-go"
)

// decide is a backend that lets bob in, subscribes him to all but channels with "no" and
// upper-cases what he publishes.
func decide(body []byte) string {
	var q struct{ Event, User, Channel, Data string }
	_ = json.Unmarshal(body, &q)
	switch {
	case q.Event == "connect":
		return `{"result":{"user":"bob","data":{"hello":1}}}`
	case q.User != "bob" || strings.Contains(q.Channel, "no"):
		return `{"error":{"code":103}}`
	case q.Event == "publish":
		return fmt.Sprintf(`{"result":{"data":%q}}`, strings.ToUpper(q.Data))
	}
	return `{"result":{}}`
}

func checkDecisions(t *testing.T, g *gateway) {
	t.Helper()
	c := centrifuge.NewJsonClient("ws://"+g.address+"/connection/websocket", centrifuge.Config{})
	t.Cleanup(c.Close)
	hello := make(chan string, 1)
	c.OnConnected(func(e centrifuge.ConnectedEvent) { hello <- string(e.Data) })
	if err := c.Connect(); err != nil {
		t.Fatal(err)
	}
	if got := <-hello; got != `{"hello":1}` {
		t.Error(got)
	}
	sub, err := c.NewSubscription("decided:yes")
	if err != nil {
		t.Fatal(err)
	}
	heard, on := make(chan string, 1), make(chan struct{})
	sub.OnSubscribed(func(centrifuge.SubscribedEvent) { close(on) })
	sub.OnPublication(func(e centrifuge.PublicationEvent) { heard <- string(e.Data) })
	if err := sub.Subscribe(); err != nil {
		t.Fatal(err)
	}
	<-on
	if _, err := c.Publish(inTime(t), "decided:yes", []byte(`"loud"`)); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != `"LOUD"` {
		t.Error(got)
	}
	var e *centrifuge.Error
	if _, err := c.Publish(inTime(t), "decided:no", []byte(`"x"`)); !errors.As(err, &e) || e.Code != 103 {
		t.Error(err)
	}
}

const decisions = "hmac-secret-key: " + secret + "\nchannels: {namespaces: {decided: {subscribe-backend: shop, publish-backend: shop}}}\n"

// Backends see the headers of clients that they are to see: as JSON, and over HTTP as such;
// of a WebSocket's request as of an event stream's.
func TestBackendHeaders(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Event, Transport string
			Headers          map[string]string
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		seen <- fmt.Sprint(q.Event, " ", q.Transport, " ", q.Headers, " ", r.Header["Cookie"], r.Header["X-Other"])
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"result":{}}`)
	}))
	defer srv.Close()
	g := start(t, decisions+fmt.Sprintf("backends: {servers: {shop: {url: %q}}, connect: shop, rpc: [{method: '*', backend: shop}], headers: [COOKIE]}\n", srv.URL), "--memory")
	c := newSDK(t, g.url(), true, centrifuge.Config{Header: http.Header{"Cookie": {"a=1"}, "X-Other": {"b"}}})
	c.connect(t)
	if _, err := c.RPC(inTime(t), "m", nil); err != nil {
		t.Error(err)
	}
	req, err := http.NewRequestWithContext(inTime(t), http.MethodGet, "http://"+g.address+"/connection/sse?cf_connect="+url.QueryEscape(`{"id":1,"connect":{}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Cookie": {"a=2"}, "X-Other": {"b"}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for _, want := range []string{"connect websocket map[cookie:a=1] [a=1] []", "rpc websocket map[cookie:a=1] [a=1] []", "connect sse map[cookie:a=2] [a=2] []"} {
		if got := <-seen; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Decisions of a backend reach the SDK.
func TestDecisionsHTTP(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, decide(body))
	}))
	defer srv.Close()
	checkDecisions(t, start(t, decisions+fmt.Sprintf("backends: {servers: {shop: {url: %q}}, connect: shop}\n", srv.URL), "--memory"))
}
