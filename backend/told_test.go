package backend

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"roost/gateway"
	"roost/proto/client"
)

func TestTold(t *testing.T) {
	var body string
	var says string
	var fails error
	s := set(t, Options{
		Config: Config{Backends: map[string]Endpoint{"b": {URL: "nats:app"}}, Disconnect: "b", Unsubscribe: "b"},
		Ask: asks(func(_ context.Context, _ string, data []byte) ([]byte, error) {
			body = string(data)
			return []byte(says), fails
		}),
	})
	gone := gateway.DisconnectEvent{ID: "c1", Peer: peer, Time: 5, Code: 3000, Reason: "connection closed", Channels: []string{"a", `"b"`}}
	left := gateway.UnsubscribeEvent{ID: "x", Peer: peer, Time: 6, Channel: "a", Reason: "client unsubscribed"}
	const who = `"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"ann","meta":{"tenant":7}`
	says = `{"result":{}}`
	if err := s.Handlers().Disconnect(t.Context(), gone); err != nil || body != `{"event":"disconnect",`+who+`,"id":"c1","time":5,"code":3000,"reason":"connection closed","channels":["a","\"b\""]}` {
		t.Errorf("%v: %s", err, body)
	}
	if err := s.Handlers().Unsubscribe(t.Context(), left); err != nil || body != `{"event":"unsubscribe",`+who+`,"id":"x","time":6,"channel":"a","code":0,"reason":"client unsubscribed"}` {
		t.Errorf("%v: %s", err, body)
	}
	// What the backend says is the gateway's to judge, and what it does not is temporary.
	for _, c := range []struct {
		says  string
		fails error
		final bool
	}{
		{`{"error":{"code":400}}`, nil, true},
		{`{"error":{"code":108}}`, nil, true},
		{`{"error":{"code":400,"temporary":true}}`, nil, false},
		{`{"disconnect":{"code":4000}}`, nil, true},
		{`garbage`, nil, false},
		{``, silence{}, false},
		{``, errors.New("away"), false},
	} {
		says, fails = c.says, c.fails
		err := s.Handlers().Disconnect(t.Context(), gone)
		var own *client.Error
		final := !errors.As(err, &own) || !own.Temporary
		if err == nil || final != c.final {
			t.Errorf("%s, %v: %v", c.says, c.fails, err)
		}
	}
	if h := set(t, Options{Config: one(Endpoint{URL: "http://x"})}).Handlers(); h.Disconnect != nil || h.Unsubscribe != nil {
		t.Error("there are handlers of events that nobody wants")
	}
}

func TestEventConfig(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := Config{Backends: map[string]Endpoint{"b": {URL: "http://x"}}, Disconnect: "b"}
		change(&c)
		return c
	}
	for want, c := range map[string]Config{
		`disconnect: backend "x" is not configured`:  with(func(c *Config) { c.Disconnect = "x" }),
		`unsubscribe: backend "x" is not configured`: with(func(c *Config) { c.Unsubscribe = "x" }),
		`concurrency is -1`:                          with(func(c *Config) { c.Events.Concurrency = -1 }),
		`max-age is 1ms`:                             with(func(c *Config) { c.Events.MaxAge = time.Millisecond }),
		`max-bytes is 5`:                             with(func(c *Config) { c.Events.MaxBytes = 5 }),
		`max-waiting is 5`:                           with(func(c *Config) { c.Events.MaxWaiting = 5 }),
		`neither disconnect nor`:                     with(func(c *Config) { c.Disconnect, c.Events.Concurrency = "", 1 }),
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := with(func(c *Config) { c.Events = gateway.EventOptions{Concurrency: 1, MaxAge: time.Second} }).Validate(); err != nil {
		t.Error(err)
	}
}
