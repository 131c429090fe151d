package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"roost/auth"
)

// Handlers see the headers that are named, in whatever case, and no others; not more of them
// than there is room for, and none that could be two.
func TestHeaders(t *testing.T) {
	seen := make(chan Peer, 10)
	n := start(t, func(o *Options) {
		o.Headers = []string{"cookie", "X-Forwarded-FOR", "X-Tenant"}
		o.Handlers.Connect = func(_ context.Context, e ConnectEvent) (ConnectReply, error) {
			seen <- e.Peer
			return ConnectReply{User: "ann"}, nil
		}
		o.Handlers.RPC = func(_ context.Context, e RPCEvent) ([]byte, error) {
			seen <- e.Peer
			return nil, nil
		}
	})
	want := func(text string) {
		t.Helper()
		p := <-seen
		if got := fmt.Sprint(p.Headers); got != text {
			t.Errorf("%s, want %s", got, text)
		}
		if b, err := json.Marshal(p); err != nil || strings.Contains(string(b), "a=1") {
			t.Errorf("what is stored has headers: %s, %v", b, err)
		}
	}
	a := n.dial("", "COOKIE: a=1; b=2", "X-Forwarded-For: 10.0.0.1", "Authorization: Bearer x", "Cookie: c=\xff", "x-forwarded-for: 10.0.0.2")
	a.ok(`{"connect":{}}`)
	want("map[cookie:a=1; b=2; c=\xff x-forwarded-for:10.0.0.1, 10.0.0.2]")
	a.ok(`{"rpc":{"method":"m"}}`)
	want("map[cookie:a=1; b=2; c=\xff x-forwarded-for:10.0.0.1, 10.0.0.2]")
	b := n.dial("", "X-Other: 1")
	b.ok(`{"connect":{}}`)
	want("map[]")
	n.dial("", "X-Tenant: "+strings.Repeat("x", maxHeaderValues)).ok(`{"connect":{}}`)
	<-seen
	for line, status := range map[string]int{"Cookie: " + strings.Repeat("x", maxHeaderValues) + "\r\nX-Tenant: y": 431, "Cookie: a\x01b": 400, "X-Tenant: \x7f": 400} {
		if _, resp := n.request("", line); resp.StatusCode != status {
			t.Errorf("%.20q: %d, want %d", line, resp.StatusCode, status)
		}
	}
}

// A client with neither handlers' headers nor anything else that is rare has no extra.
func TestHeadersCostOthersNothing(t *testing.T) {
	n := start(t, func(o *Options) { o.Headers = []string{"Cookie"} })
	token, err := auth.SignConnect(secret, auth.Connect{User: "ann"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	n.dial("").ok(`{"connect":{"token":"` + token + `"}}`)
	n.each(func(s *session) {
		s.Mu.Lock()
		defer s.Mu.Unlock()
		if s.extra != nil {
			t.Errorf("%+v", s.extra)
		}
	})
}

func TestHeaderNames(t *testing.T) {
	for name, want := range map[string]string{
		"Cookie": "", "x-a.b": "", "X Y": "no name", "": "no name", "Connection": "own connection", "TE": "own connection", "accept-encoding": "own connection",
		"Sec-WebSocket-Key": "own connection", "Roost-Session": "own connection", "X-a": "twice",
	} {
		err := (&Options{Headers: []string{"x-A", name}}).prepareHeaders()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	if err := (&Options{Headers: strings.Split(strings.Repeat("a ", 33), " ")}).prepareHeaders(); err == nil || !strings.Contains(err.Error(), "there are 34") {
		t.Error(err)
	}
}
