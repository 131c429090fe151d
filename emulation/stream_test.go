package emulation

import (
	"net/http"
	"strings"
	"testing"

	"roost/gateway"
)

var transports = []string{gateway.TransportSSE, gateway.TransportHTTPStream}

func TestClient(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			g := start(t, nil)
			c := g.connected(transport, "ann")
			if len(c.session) < 26 || c.node != g.Broker().Node() || c.client == "" {
				t.Errorf("%+v", c)
			}
			for name, want := range map[string]string{"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Access-Control-Allow-Origin": ""} {
				if got := c.res.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			c.ok(`{"subscribe":{"channel":"ch"}}`)
			g.publish("ch", `"hello"`)
			if m := c.next(); m.Push == nil || m.Push.Pub == nil || string(m.Push.Pub.Data) != `"hello"` {
				t.Errorf("%+v", m)
			}
			if st := g.Stats(); st.Clients != 1 || st.Emulated[transport] != 1 {
				t.Errorf("%+v", st)
			}
			_ = c.res.Body.Close()
			eventually(t, "the client has gone", func() bool { return g.Stats().Clients == 0 && g.emulation.Stats().Streams == 0 })
			if n := g.Stats().Emulated[transport]; n != 0 {
				t.Errorf("%d clients", n)
			}
		})
	}
}

// What JSON allows between tokens must not end an event or a line.
func TestWhitespaceInData(t *testing.T) {
	for _, transport := range transports {
		g := start(t, nil)
		c := g.connected(transport, "")
		c.ok(`{"subscribe":{"channel":"ch"}}`)
		g.publish("ch", "{\"a\":\r\n [1,\r2,\n3],\"b\":\"\\r\\n\"}")
		if m := c.next(); m.Push == nil || strings.Map(func(r rune) rune {
			if strings.ContainsRune(" \r\n", r) {
				return -1
			}
			return r
		}, string(m.Push.Pub.Data)) != `{"a":[1,2,3],"b":"\r\n"}` {
			t.Errorf("%s: %+v", transport, m)
		}
	}
}

// Several messages in one frame are as many events.
func TestBatch(t *testing.T) {
	for _, transport := range transports {
		g := start(t, nil)
		c := g.connected(transport, "")
		c.post("{\"id\":2,\"presence\":{\"channel\":\"a\"}}\n{\"id\":3,\"presence\":{\"channel\":\"b\"}}\n{\"id\":4,\"presence\":{\"channel\":\"c\"}}")
		for id := 2; id <= 4; id++ {
			if m := c.next(); m.ID != id || m.Error != nil {
				t.Errorf("%s: %+v, want %d", transport, m, id)
			}
		}
	}
}

func TestDisconnect(t *testing.T) {
	for _, transport := range transports {
		g := start(t, nil)
		c := g.connected(transport, "ann")
		if _, err := g.Disconnect(t.Context(), &gateway.DisconnectRequest{User: "ann", Disconnect: &gateway.DisconnectCode{Code: 4500, Reason: "out"}}); err != nil {
			t.Fatal(err)
		}
		c.ends(4500)
		c.post(`{"id":9,"presence":{"channel":"a"}}`) // 204: it may be on its way when the stream ends
		bad := g.open(transport, `{"id":1,"connect":{"token":"nonsense"}}`)
		bad.ends(3500)
		bad = g.open(transport, `nonsense`)
		bad.ends(3501)
		if got := g.emulation.Stats().Posts; got["ended"] != 1 {
			t.Errorf("%v", got)
		}
		last := g.connected(transport, "ann")
		done := make(chan struct{})
		go func() { g.down(); close(done) }()
		last.ends(3001)
		<-done
	}
}

func TestRefusedStreams(t *testing.T) {
	g := start(t, func(o *settings) {
		o.emulation.MaxClients = 1
		o.conns.AllowedOrigins = []string{"https://app.example.com"}
	})
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
	}{
		{"no command", "GET", PathSSE, "", nil, 400},
		{"no body", "POST", PathHTTPStream, "", nil, 400},
		{"POST for SSE", "POST", PathSSE + "?cf_connect={}", "", nil, 405},
		{"GET for a stream", "GET", PathHTTPStream, "", nil, 405},
		{"HEAD", "HEAD", PathSSE, "", nil, 405},
		{"longer path", "GET", PathSSE + "x", "", nil, 404},
		{"large", "POST", PathHTTPStream, strings.Repeat("x", 64<<10+1), nil, 413},
		{"origin", "GET", PathSSE + "?cf_connect={}", "", []string{"Origin: https://evil.example.com"}, 403},
		{"forged session", "GET", PathSSE + "?cf_connect={}", "", []string{"Origin: https://evil.example.com", "Roost-Session: x"}, 403},
	} {
		status, body := g.answer(g.do(c.method, c.path, strings.NewReader(c.body), c.headers...))
		if status != c.status || c.method != "HEAD" && len(body) < 10 {
			t.Errorf("%s: %d %q, want %d", c.name, status, body, c.status)
		}
	}
	first := g.connected(gateway.TransportSSE, "")
	res := g.do(http.MethodPost, PathHTTPStream, strings.NewReader(connectCommand(t, "")))
	if status, body := g.answer(res); status != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(body, "1 clients") {
		t.Errorf("one too many: %d %q %v", status, body, res.Header)
	}
	_ = first.res.Body.Close()
	eventually(t, "room", func() bool { return g.emulation.Stats().Streams == 0 })
	g.connected(gateway.TransportHTTPStream, "")
	if got := g.emulation.Stats().Refused; got["full"] != 1 || got["origin"] != 2 || got["method"] != 3 || got["malformed"] != 2 || got["too_large"] != 1 {
		t.Errorf("refused %v", got)
	}
}
