package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"roost/auth"
	"roost/broker"
	"roost/conn"
)

func TestSubscribeAndPublish(t *testing.T) {
	n := start(t, nil)
	a, b := n.connected("ann"), n.connected("")
	for _, r := range []*raw{a, b} {
		m := r.ok(`{"subscribe":{"channel":"news"}}`)
		if s := m.Subscribe; !s.Recoverable || !s.Positioned || s.Epoch == "" || s.Offset != 0 {
			t.Errorf("%+v", s)
		}
	}
	a.fails(`{"subscribe":{"channel":"news"}}`, 105)
	for i := range 3 {
		a.write(fmt.Sprintf(`{"id":%d,"publish":{"channel":"news","data":{"n":%d}}}`, 100+i, i))
	}
	for i := range 3 {
		p := b.publication("news")
		if string(p.Data) != fmt.Sprintf(`{"n":%d}`, i) || p.Offset != uint64(i+1) || p.Info == nil || p.Info.User != "ann" {
			t.Errorf("%+v", p)
		}
	}
	if got := n.publish("news", `"server"`); got.Offset != 4 || got.Epoch == "" {
		t.Errorf("%+v", got)
	}
	if p := b.publication("news"); p.Offset != 4 || p.Info != nil {
		t.Errorf("%+v", p)
	}
	h := b.ok(`{"history":{"channel":"news","limit":2}}`).History
	if len(h.Publications) != 2 || h.Offset != 4 || h.Publications[0].Offset != 1 {
		t.Errorf("%+v", h)
	}
	b.ok(`{"unsubscribe":{"channel":"news"}}`)
	n.publish("news", `"unheard"`)
	b.ok(`{"subscribe":{"channel":"news"}}`)
	n.publish("news", `"heard"`)
	if p := b.publication("news"); p.Offset != 6 {
		t.Errorf("%+v", p)
	}
}

func TestRecovery(t *testing.T) {
	n := start(t, nil)
	a := n.connected("")
	s := a.ok(`{"subscribe":{"channel":"c"}}`).Subscribe
	for i := range 5 {
		n.publish("c", fmt.Sprint(i+1))
	}
	for range 2 {
		a.publication("c")
	}
	_ = a.conn.Close()
	b := n.connected("")
	m := b.ok(fmt.Sprintf(`{"subscribe":{"channel":"c","recover":true,"offset":2,"epoch":%q}}`, s.Epoch)).Subscribe
	if !m.Recovered || !m.WasRecovering || m.Offset != 2 || len(m.Publications) != 3 || m.Publications[0].Offset != 3 {
		t.Errorf("%+v", m)
	}
	n.publish("c", "6")
	if p := b.publication("c"); p.Offset != 6 {
		t.Errorf("%+v", p)
	}
	c := n.connected("")
	m = c.ok(`{"subscribe":{"channel":"c","recover":true,"offset":2,"epoch":"other"}}`).Subscribe
	if m.Recovered || !m.WasRecovering || m.Offset != 6 || len(m.Publications) != 0 {
		t.Errorf("%+v", m)
	}
	d := n.connected("")
	d.fails(`{"subscribe":{"channel":"c","recover":true,"offset":2,"epoch":"other","flag":2}}`, 112)
	d.ok(`{"subscribe":{"channel":"c"}}`) // the failure left nothing behind
}

func TestPresenceJoinLeave(t *testing.T) {
	n := start(t, nil)
	a := n.connected("ann")
	a.ok(`{"subscribe":{"channel":"c","join_leave":true}}`)
	if m := a.next(); m.Push.Join == nil || m.Push.Join.Info.User != "ann" {
		t.Errorf("%+v", m.Push)
	}
	b := n.connected("bob")
	b.ok(`{"subscribe":{"channel":"c"}}`)
	if m := a.next(); m.Push.Join == nil || m.Push.Join.Info.User != "bob" {
		t.Errorf("%+v", m.Push)
	}
	p := a.ok(`{"presence":{"channel":"c"}}`).Presence.Presence
	if len(p) != 2 {
		t.Errorf("%+v", p)
	}
	_ = b.conn.Close()
	if m := a.next(); m.Push.Leave == nil || m.Push.Leave.Info.User != "bob" {
		t.Errorf("%+v", m.Push)
	}
	st, err := n.PresenceStats(context.Background(), &PresenceStatsRequest{Channel: "c"})
	if err != nil || st.NumClients != 1 || st.NumUsers != 1 {
		t.Error(st, err)
	}
}

func TestBadInput(t *testing.T) {
	n := start(t, func(o *Options) { o.MaxChannels = 3 })
	for name, c := range map[string]struct {
		frames []string
		code   uint16
	}{
		"no connect":          {[]string{`{"id":1,"subscribe":{"channel":"c"}}`}, 3501},
		"second connect":      {[]string{`{"id":1,"connect":{}}`, `{"id":2,"connect":{}}`}, 3501},
		"no id":               {[]string{`{"connect":{}}`}, 3501},
		"two requests":        {[]string{`{"id":1,"connect":{},"subscribe":{"channel":"c"}}`}, 3501},
		"unsolicited pong":    {[]string{`{"id":1,"connect":{}}`, `{}`}, 3501},
		"malformed":           {[]string{`{"id":1,"connect":{}`}, 3501},
		"empty frame":         {[]string{``}, 3501},
		"send":                {[]string{`{"id":1,"connect":{}}`, `{"send":{"data":1}}`}, 3508},
		"invalid token":       {[]string{`{"id":1,"connect":{"token":"a.b.c"}}`}, 3500},
		"after failed":        {[]string{`{"id":1,"connect":{"token":"` + expired(t) + `"}}`, `{"id":2,"subscribe":{"channel":"c"}}`}, 3501},
		"null":                {[]string{`null`}, 3501},
		"array":               {[]string{`[]`}, 3501},
		"unknown command":     {[]string{`{"id":1,"dance":{}}`}, 3501},
		"refresh for another": {[]string{`{"id":1,"connect":{}}`, `{"id":2,"refresh":{"token":"` + token(t, "bob", time.Hour) + `"}}`}, 3500},
	} {
		t.Run(name, func(t *testing.T) {
			r := n.dial("")
			r.t = t
			for _, f := range c.frames {
				r.write(f)
			}
			r.ends(c.code)
		})
	}
	r := n.connected("ann")
	r.fails(`{"subscribe":{"channel":""}}`, 107)
	if e := r.fails(`{"subscribe":{"channel":"`+strings.Repeat("x", 256)+`"}}`, 107); e != "bad request: the channel name has 256 bytes, at most 255 are allowed" {
		t.Error(e)
	}
	if e := r.fails(`{"subscribe":{"channel":"c","tf":{"op":"maybe"}}}`, 107); e != `bad request: filter: op is "maybe", must be "", "and", "or" or "not"` {
		t.Error(e)
	}
	r.fails(`{"subscribe":{"channel":"nowhere:c"}}`, 102)
	r.fails(`{"subscribe":{"channel":"closed:c"}}`, 103)
	r.fails(`{"publish":{"channel":"closed:c","data":1}}`, 103)
	r.fails(`{"history":{"channel":"live:c"}}`, 108)
	r.fails(`{"presence":{"channel":"live:c"}}`, 108)
	r.fails(`{"rpc":{"method":"m"}}`, 104)
	r.fails(`{"subscribe":{"channel":"c#bob"}}`, 103)
	r.ok(`{"subscribe":{"channel":"c#bob,ann"}}`)
	for _, ch := range []string{"a.*.>", "sp ace", "\\u0001😀"} {
		if ch == "\\u0001😀" {
			r.ok(`{"unsubscribe":{"channel":"sp ace"}}`)
		}
		r.ok(`{"subscribe":{"channel":"` + ch + `"}}`)
		r.ok(`{"publish":{"channel":"` + ch + `","data":"x"}}`)
	}
	r.fails(`{"subscribe":{"channel":"onemore"}}`, 106)
}

func token(t *testing.T, user string, ttl time.Duration) string {
	t.Helper()
	s, err := auth.SignConnect(secret, auth.Connect{User: user}, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expired(t *testing.T) string {
	t.Helper()
	s := token(t, "ann", time.Second)
	time.Sleep(1100 * time.Millisecond)
	return s
}

func TestServerSide(t *testing.T) {
	n := start(t, func(o *Options) { o.Channels.Personal = true })
	tok, err := auth.SignConnect(secret, auth.Connect{User: "ann", Channels: []string{"news"}, Info: []byte(`{"x":1}`)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r := n.dial("")
	c := r.ok(`{"connect":{"token":"` + tok + `"}}`).Connect
	if len(c.Subs) != 2 || !c.Expires || c.TTL < 3500 || c.Client == "" || !c.Pong || c.Ping != 25 {
		t.Errorf("%+v", c)
	}
	n.publish("#ann", `"hello"`)
	if p := r.publication("#ann"); string(p.Data) != `"hello"` {
		t.Errorf("%+v", p)
	}
	ctx := context.Background()
	if _, err := n.Subscribe(ctx, &SubscribeRequest{User: "ann", Channel: "live:x"}); err != nil {
		t.Fatal(err)
	}
	if m := r.next(); m.Push == nil || m.Push.Subscribe == nil || m.Push.Channel != "live:x" {
		t.Errorf("%+v", m)
	}
	n.publish("live:x", `1`)
	r.publication("live:x")
	if _, err := n.Unsubscribe(ctx, &UnsubscribeRequest{User: "ann", Channel: "live:x"}); err != nil {
		t.Fatal(err)
	}
	if m := r.next(); m.Push == nil || m.Push.Unsubscribe == nil || m.Push.Unsubscribe.Code != 2000 {
		t.Errorf("%+v", m)
	}
	all, err := n.Connections(ctx, &ConnectionsRequest{User: "ann"})
	if err != nil || len(all.Connections[c.Client].Channels) != 2 {
		t.Error(all, err)
	}
	if _, err := n.Disconnect(ctx, &DisconnectRequest{Client: c.Client, Disconnect: &DisconnectCode{4500, "out"}}); err != nil {
		t.Fatal(err)
	}
	r.ends(4500)
	r2 := n.connected("ann")
	if _, err := n.BlockUser(ctx, &BlockUserRequest{User: "ann"}); err != nil {
		t.Fatal(err)
	}
	r2.ends(3503)
	r3 := n.dial("")
	r3.write(`{"id":1,"connect":{"token":"` + tok + `"}}`)
	r3.ends(3500)
}

// Who has a token issued after the time of an invalidation keeps its connection, with
// an id in the token or without.
func TestInvalidatedTokens(t *testing.T) {
	n := start(t, nil)
	now := time.Now()
	_, err := n.InvalidateUserTokens(context.Background(), &InvalidateUserTokensRequest{User: "ann", IssuedBefore: now.Add(-time.Minute).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	plain := n.connected("ann")
	named := n.dial("")
	tok, err := auth.SignConnect(secret, auth.Connect{User: "ann", ID: "t"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	named.ok(`{"connect":{"token":"` + tok + `"}}`)
	invalidate := func(before time.Time) {
		t.Helper()
		if _, err := n.InvalidateUserTokens(context.Background(), &InvalidateUserTokensRequest{User: "ann", IssuedBefore: before.Unix()}); err != nil {
			t.Fatal(err)
		}
	}
	invalidate(now.Add(-time.Second))
	for _, r := range []*raw{plain, named} {
		r.ok(`{"subscribe":{"channel":"still"}}`)
	}
	all, err := n.Connections(context.Background(), &ConnectionsRequest{User: "ann"})
	if err != nil || len(all.Connections) != 2 {
		t.Fatal(all, err)
	}
	for _, c := range all.Connections {
		if d := now.Unix() - c.ConnectedAt; d < -20 || d > 20 {
			t.Errorf("connected %d s ago", d)
		}
	}
	invalidate(now.Add(time.Minute))
	plain.ends(3500)
	named.ends(3500)
}

func TestDelta(t *testing.T) {
	n := start(t, nil)
	r := n.connected("")
	if s := r.ok(`{"subscribe":{"channel":"d","delta":"fossil"}}`).Subscribe; !s.Delta {
		t.Errorf("%+v", s)
	}
	long := strings.Repeat("abc ", 100)
	n.publish("d", `"`+long+`1"`)
	n.publish("d", `"`+long+`2"`)
	if p := r.publication("d"); p.Delta || !strings.HasPrefix(string(p.Data), `"\"abc`) {
		t.Errorf("%+v", p)
	}
	if p := r.publication("d"); !p.Delta || len(p.Data) > 60 {
		t.Errorf("%+v %s", p, p.Data)
	}
}

func TestTagsFilter(t *testing.T) {
	n := start(t, nil)
	r := n.connected("")
	r.ok(`{"subscribe":{"channel":"f","tf":{"key":"lang","cmp":"eq","val":"de"}}}`)
	for i, lang := range []string{"en", "de"} {
		_, err := n.Publish(context.Background(), &PublishRequest{Channel: "f", Data: json.RawMessage(fmt.Sprint(i)), Tags: map[string]string{"lang": lang}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if p := r.publication("f"); string(p.Data) != "1" {
		t.Errorf("%+v", p)
	}
}

// What a client held is given back when it goes, in whatever state it was.
func TestNothingIsLeft(t *testing.T) {
	n := start(t, nil)
	for i := range 50 {
		r := n.dial("")
		r.write(`{"id":1,"connect":{"token":"` + token(t, fmt.Sprint("u", i%5), time.Hour) + `"}}`)
		r.write(fmt.Sprintf(`{"id":2,"subscribe":{"channel":"c%d"}}`+"\n"+`{"id":3,"subscribe":{"channel":"all"}}`, i))
		if i%2 == 0 {
			r.next()
		}
		_ = r.conn.Close()
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		s := n.Stats()
		if s.Clients == 0 && s.Channels == 0 && s.Subscriptions == 0 && s.Users == 0 && s.Transports == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %+v", s)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A node that could not be started can be stopped.
func TestDismissBeforeStart(t *testing.T) {
	n, err := New(Options{Broker: broker.Options{Memory: true}})
	if err != nil {
		t.Fatal(err)
	}
	n.Dismiss()
	if err := n.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// A node that is shut down does not listen any more.
func TestListenAfterShutdown(t *testing.T) {
	n, err := New(Options{Broker: broker.Options{Memory: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen("127.0.0.1:0", conn.Options{}); err != errClosing {
		t.Errorf("Listen: %v", err)
	}
	if err := n.Start(nil); err != errClosing {
		t.Errorf("Start: %v", err)
	}
}
