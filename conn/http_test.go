package conn

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"roost/proto/ws"
)

// plain is a server with an HTTP handler beside the route "/ws".
func plain(t *testing.T, set func(o *Options)) (*Server, string, *journal) {
	j := new(journal)
	o := Options{
		Routes: []*Route{{Path: "/ws", Handler: j.record(hooks{message: echo}), Inline: true}},
		HTTP: func(r *http.Request) *Response {
			switch r.URL.Path {
			case "/hello":
				return &Response{Status: 200, ContentType: "text/plain", Body: []byte("hello\n"), Header: http.Header{"X-Test": {"1"}}}
			case "/panic":
				panic("told so")
			}
			return nil
		},
	}
	if set != nil {
		set(&o)
	}
	s, addr := launch(t, o)
	return s, addr, j
}

func TestHTTP(t *testing.T) {
	upgrade := "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + testKey + "\r\n"
	for _, tc := range []struct {
		name, method, path, headers string
		noHTTP                      bool
		status                      int
		header                      string // that must be there
		body                        string // beginning
	}{
		{name: "page", method: "GET", path: "/hello", status: 200, header: "X-Test", body: "hello\n"},
		{name: "head of a page", method: "HEAD", path: "/hello", status: 200, header: "X-Test"},
		{name: "not there", method: "GET", path: "/none", status: 404, body: "404 Not Found"},
		{name: "head of nothing", method: "HEAD", path: "/none", status: 404},
		{name: "not there, upgrade", method: "GET", path: "/none", headers: upgrade, status: 404, body: "404 Not Found"},
		{name: "no HTTP, not there", method: "GET", path: "/none", noHTTP: true, status: 404},
		{name: "panic", method: "GET", path: "/panic", status: 500, body: "internal error"},
		{name: "route without upgrade", method: "GET", path: "/ws", status: 426, header: "Upgrade"},
		{name: "route without upgrade, no HTTP", method: "GET", path: "/ws", noHTTP: true, status: 426, header: "Upgrade"},
		{name: "wrong method", method: "POST", path: "/ws", headers: upgrade, status: 405, header: "Allow"},
		{name: "wrong method, no upgrade", method: "DELETE", path: "/ws", status: 405, header: "Allow"},
		{name: "head of a route", method: "HEAD", path: "/ws", status: 405, header: "Allow"},
		{name: "wrong version", method: "GET", path: "/ws", headers: strings.Replace(upgrade, "13", "12", 1), status: 426, header: "Sec-Websocket-Version"},
		{name: "wrong key", method: "GET", path: "/ws", headers: strings.Replace(upgrade, testKey, "short", 1), status: 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, addr, j := plain(t, func(o *Options) {
				if tc.noHTTP {
					o.HTTP = nil
				}
			})
			c := dial(t, addr)
			c.raw(tc.method + " " + tc.path + " HTTP/1.1\r\nHost: roost.test\r\n" + tc.headers + "\r\n")
			resp := c.response(tc.method)
			got := body(t, resp)
			if resp.StatusCode != tc.status || tc.header != "" && resp.Header.Get(tc.header) == "" || !strings.HasPrefix(got, tc.body) {
				t.Errorf("got %s %v %q", resp.Status, resp.Header, got)
			}
			_ = c.CloseWrite()
			c.expectEnd()
			eventually(t, "closed", func() bool { st := s.Stats(); return st.Closed["http"]+st.Closed["handshake_refused"] == 1 })
			if st := s.Stats(); st.Upgrades != 0 || len(j.all()) != 0 || s.Poller().Live() != 0 {
				t.Errorf("upgrades %d, closed %v, calls %q", st.Upgrades, st.Closed, j.all())
			}
		})
	}
}

func TestAuthorize(t *testing.T) {
	var j journal
	sessions := make(chan any, 1)
	o := Options{Routes: []*Route{{
		Path: "/", Inline: true, Handler: j.record(hooks{open: func(c *Conn) { sessions <- c.Session() }}),
		Authorize: func(r *http.Request) (any, error) {
			switch token := r.URL.Query().Get("token"); token {
			case "":
				return nil, &ws.HandshakeError{Status: 401, Label: "token", Detail: "no token", Header: http.Header{"Www-Authenticate": {"Bearer"}}}
			case "bad":
				return nil, errors.New("not you")
			case "panic":
				panic("told so")
			default:
				return "session of " + token, nil
			}
		},
	}}}
	s, addr := launch(t, o)
	for target, status := range map[string]int{"/": 401, "/?token=bad": 403, "/?token=panic": 500} {
		c := dial(t, addr)
		c.raw(upgradeRequest(target))
		if resp := c.response(http.MethodGet); resp.StatusCode != status || status == 401 && resp.Header.Get("Www-Authenticate") != "Bearer" {
			t.Errorf("%s: %s %v", target, resp.Status, resp.Header)
		}
		_ = c.Close()
	}
	if len(j.all()) != 0 || s.Stats().Upgrades != 0 {
		t.Errorf("calls of refused clients: %q", j.all())
	}
	connect(t, addr, "/?token=ann")
	if got := receive(t, sessions); got != "session of ann" {
		t.Errorf("session is %v", got)
	}
	want := map[string]uint64{"token": 1, "unauthorized": 1, "panic": 1}
	for label, n := range s.Stats().HandshakeErrors {
		if want[label] != n {
			t.Errorf("%d handshake errors %q", n, label)
		}
		delete(want, label)
	}
	if len(want) > 0 {
		t.Errorf("not counted: %v", want)
	}
}

func TestSubprotocol(t *testing.T) {
	_, addr := launch(t, Options{Routes: []*Route{{Path: "/", Handler: new(hooks), Protocols: []string{"v2", "v1"}}}})
	for offer, want := range map[string]string{"v1": "v1", "v1, v2": "v2", "v3": "", "v3,v1": "v1"} {
		c := dial(t, addr)
		c.raw(upgradeRequest("/", "Sec-WebSocket-Protocol: "+offer))
		resp := c.response(http.MethodGet)
		if got := resp.Header.Get("Sec-WebSocket-Protocol"); resp.StatusCode != 101 || got != want {
			t.Errorf("offer %q: %s, chosen %q, want %q", offer, resp.Status, got, want)
		}
	}
}

func TestOrigins(t *testing.T) {
	for _, tc := range []struct {
		allowed []string
		origin  string
		status  int
	}{
		{nil, "http://roost.test", 101},
		{nil, "http://evil.test", 403},
		{[]string{"app.test", "*.fine.test"}, "https://app.test", 101},
		{[]string{"app.test", "*.fine.test"}, "https://a.fine.test", 101},
		{[]string{"app.test", "*.fine.test"}, "http://roost.test", 403},
		{[]string{"*"}, "http://evil.test", 101},
	} {
		_, addr := one(t, true, new(hooks), func(o *Options) { o.AllowedOrigins = tc.allowed })
		c := dial(t, addr)
		c.raw(upgradeRequest("/", "Origin: "+tc.origin))
		if resp := c.response(http.MethodGet); resp.StatusCode != tc.status {
			t.Errorf("allowed %q, origin %q: %s", tc.allowed, tc.origin, resp.Status)
		}
	}
}

// TestSplitHead sends the upgrade in parts, and frames in the same segment as its end.
func TestSplitHead(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		_, addr := one(t, inline, &hooks{message: echo})
		c := dial(t, addr)
		_ = c.tcp().SetNoDelay(true)
		req := upgradeRequest("/") + text("a") + text("b")
		for len(req) > 60 {
			c.raw(req[:40])
			req = req[40:]
		}
		c.raw(req)
		if resp := c.response(http.MethodGet); resp.StatusCode != 101 {
			t.Fatal(resp.Status)
		}
		c.expect(ws.OpText, "a")
		c.expect(ws.OpText, "b")
	})
}

func TestOptionsValidation(t *testing.T) {
	h := new(hooks)
	for _, tc := range []struct {
		name string
		o    Options
		want string // part of the error
	}{
		{"no routes", Options{}, "0 routes"},
		{"too many routes", Options{Routes: make([]*Route, 256)}, "256 routes"},
		{"no handler", Options{Routes: []*Route{{Path: "/"}}}, "no handler"},
		{"no path", Options{Routes: []*Route{{Handler: h}}}, "must start with /"},
		{"relative path", Options{Routes: []*Route{{Path: "ws", Handler: h}}}, "must start with /"},
		{"twice", Options{Routes: []*Route{{Path: "/", Handler: h}, {Path: "/", Handler: h}}}, "twice"},
		{"rate too high", with(h, func(o *Options) { o.MessageRate = 16_001 }), "MessageRate"},
		{"rate negative", with(h, func(o *Options) { o.MessageRate = -1 }), "MessageRate"},
		{"burst negative", with(h, func(o *Options) { o.MessageBurst = -1 }), "MessageBurst"},
		{"burst too high", with(h, func(o *Options) { o.MessageRate, o.MessageBurst = 10, 601 }), "MessageBurst"},
		{"pings too rare", with(h, func(o *Options) { o.MessageRate, o.PingInterval = 10, 2*time.Minute }), "PingInterval"},
		{"limit negative", with(h, func(o *Options) { o.MaxMessage = -1 }), "negative"},
		{"workers negative", with(h, func(o *Options) { o.Workers = -1 }), "negative"},
		{"soft above hard", with(h, func(o *Options) { o.SoftLimit, o.HardLimit = 2, 1 }), "SoftLimit"},
		{"poller's", with(h, func(o *Options) { o.Poller.Linger = -1 }), "Linger"},
		{"tick negative", with(h, func(o *Options) { o.Poller.Tick = -1 }), "Tick"},
	} {
		if s, err := New(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one about %q", tc.name, err, tc.want)
			if s != nil {
				stopNow(s)
			}
		}
	}
}

func with(h Handler, set func(o *Options)) Options {
	o := Options{Routes: []*Route{{Path: "/", Handler: h}}}
	set(&o)
	return o
}
