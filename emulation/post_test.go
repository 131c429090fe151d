package emulation

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"

	"roost/gateway"
)

func TestPosts(t *testing.T) {
	g := start(t, func(o *settings) { o.conns.AllowedOrigins = []string{"https://app.example.com"} })
	a, b := g.connected(gateway.TransportSSE, "ann"), g.connected(gateway.TransportHTTPStream, "bob")
	other := strings.Map(func(r rune) rune {
		if r == 'A' {
			return 'B'
		}
		return 'A'
	}, a.session)
	presence := `{"id":2,"presence":{"channel":"a"}}`
	for _, c := range []struct {
		name    string
		body    []byte
		headers []string
		status  int
		outcome string
	}{
		{"right", postBody(a.node, a.session, presence), nil, 204, "delivered"},
		{"no node", postBody("", a.session, presence), nil, 204, "delivered"},
		{"right origin", postBody(a.node, a.session, presence), []string{"Origin: https://app.example.com"}, 204, "delivered"},
		{"another session", postBody(a.node, other, presence), nil, 404, "no_session"},
		{"a client's id", postBody(a.node, a.client, presence), nil, 404, "no_session"},
		{"session in part", postBody(a.node, a.session[:25], presence), nil, 404, "no_session"},
		{"session and more", postBody(a.node, a.session+"\n", presence), nil, 404, "no_session"},
		{"session in lower case", postBody(a.node, strings.ToLower(a.session), presence), nil, 404, "no_session"},
		{"another node", postBody("elsewhere", a.session, presence), nil, 404, "no_node"},
		{"wildcard", postBody("*", a.session, presence), nil, 404, "no_node"},
		{"no session", postBody(a.node, "", presence), nil, 400, "malformed"},
		{"no data", postBody(a.node, a.session, ""), nil, 400, "malformed"},
		{"data is no string", []byte(`{"node":"","session":"` + a.session + `","data":{"id":2}}`), nil, 400, "malformed"},
		{"no JSON", []byte(`{"node":`), nil, 400, "malformed"},
		{"not UTF-8", []byte("{\"session\":\"" + a.session + "\",\"data\":\"\xff\"}"), nil, 400, "malformed"},
		{"empty", nil, nil, 400, "malformed"},
		{"no Protobuf", []byte("\xff\xff"), []string{"Content-Type: application/octet-stream"}, 400, "malformed"},
		{"large data", postBody(a.node, a.session, strings.Repeat("x", 64<<10+1)), nil, 413, "too_large"},
		{"large body", postBody(a.node, a.session, strings.Repeat("x", 200<<10)), nil, 413, "too_large"},
		{"wrong origin", postBody(a.node, a.session, presence), []string{"Origin: https://evil.example.com"}, 403, ""},
	} {
		before := g.emulation.Stats()
		status, text := g.answer(g.do(http.MethodPost, PathEmulation, bytes.NewReader(c.body), c.headers...))
		if status != c.status || status != 204 && len(text) < 20 {
			t.Errorf("%s: %d %q, want %d", c.name, status, text, c.status)
		}
		if after := g.emulation.Stats(); c.outcome != "" && after.Posts[c.outcome] != before.Posts[c.outcome]+1 {
			t.Errorf("%s: %v after %v, want one more %s", c.name, after.Posts, before.Posts, c.outcome)
		}
	}
	for range 3 {
		if m := a.next(); m.ID != 2 || m.Error != nil {
			t.Errorf("%+v", m)
		}
	}
	if b.ok(`{"presence":{"channel":"a"}}`); g.Stats().Commands["presence"] != 4 {
		t.Errorf("%v: the other client got what was not its own", g.Stats().Commands)
	}
	if got := g.emulation.Stats().Refused["origin"]; got != 1 {
		t.Errorf("%d of a wrong origin", got)
	}
}

func TestPreflight(t *testing.T) {
	g := start(t, func(o *settings) { o.conns.AllowedOrigins = []string{"https://app.example.com"} })
	for _, path := range Paths {
		for origin, status := range map[string]int{"https://app.example.com": 204, "https://evil.example.com": 403} {
			res := g.do(http.MethodOptions, path, nil, "Origin: "+origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type,authorization")
			allowed := ""
			if status == 204 {
				allowed = origin
			}
			h := res.Header
			if res.StatusCode != status || h.Get("Access-Control-Allow-Origin") != allowed || !strings.Contains(strings.Join(h["Vary"], ","), "Origin") {
				t.Errorf("%s from %s: %d %v", path, origin, res.StatusCode, h)
			}
			if status == 204 && (h.Get("Access-Control-Allow-Headers") != "content-type,authorization" || h.Get("Access-Control-Allow-Methods") == "") {
				t.Errorf("%s: %v", path, h)
			}
		}
	}
	res := g.do(http.MethodPost, PathEmulation, strings.NewReader("{}"), "Origin: https://app.example.com")
	if res.StatusCode != 400 || res.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("a page cannot read why it was refused: %d %v", res.StatusCode, res.Header)
	}
}

// Protobuf: messages have their length before them, in both directions.
func TestProtobuf(t *testing.T) {
	g := start(t, nil)
	command := func(c *protocol.Command) []byte {
		b, err := c.MarshalCF()
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{byte(len(b))}, b...)
	}
	binary := "Content-Type: application/octet-stream"
	res := g.do(http.MethodPost, PathHTTPStream, bytes.NewReader(command(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}})), binary)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/octet-stream" {
		t.Fatal(res.StatusCode, res.Header)
	}
	next := func() *protocol.Reply {
		t.Helper()
		var length [1]byte // 127 at most in this test
		if _, err := io.ReadFull(res.Body, length[:]); err != nil || length[0] > 127 {
			t.Fatal(length, err)
		}
		b := make([]byte, length[0])
		if _, err := io.ReadFull(res.Body, b); err != nil {
			t.Fatal(err)
		}
		r := new(protocol.Reply)
		if err := r.UnmarshalCF(b); err != nil {
			t.Fatal(err)
		}
		return r
	}
	connect := next().Connect
	if connect == nil || connect.Session == "" {
		t.Fatalf("%+v", connect)
	}
	body, err := (&protocol.EmulationRequest{Node: connect.Node, Session: connect.Session, Data: command(&protocol.Command{Id: 7, Presence: &protocol.PresenceRequest{Channel: "a"}})}).MarshalCF()
	if err != nil {
		t.Fatal(err)
	}
	if status, text := g.answer(g.do(http.MethodPost, PathEmulation, bytes.NewReader(body), binary)); status != 204 {
		t.Fatal(status, text)
	}
	if r := next(); r.Id != 7 || r.Error != nil {
		t.Errorf("%+v", r)
	}
	if _, err := g.Disconnect(t.Context(), &gateway.DisconnectRequest{Session: connect.Session}); err != nil {
		t.Fatal(err)
	}
	if d := next().Push.GetDisconnect(); d.GetCode() != 3503 {
		t.Errorf("%+v", d)
	}
}
