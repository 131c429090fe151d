package broker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// listening is a broker with services at one subject, and one of a raw route's.
func listening(t *testing.T, user, password string) *Broker {
	t.Helper()
	b, _ := start(t, Options{Memory: true, Listen: Listener{Address: "127.0.0.1:0", User: user, Password: password,
		Serve: []string{"shop"}, Publish: []string{"shop.raw.game.out.>"}}})
	return b
}

// service connects as one; refused gets what the server does not let it do.
func service(t *testing.T, b *Broker, opts ...nats.Option) (nc *nats.Conn, refused chan error) {
	t.Helper()
	refused = make(chan error, 16)
	nc, err := nats.Connect(b.ListenAddr(), append(opts, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, refused
}

func wantRefused(t *testing.T, what string, refused chan error) {
	t.Helper()
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("%s is not refused", what)
	}
}

// TestServices: a service answers what it is asked on its own subjects, says what it may
// unasked, and can do nothing else.
func TestServices(t *testing.T) {
	b := listening(t, "", "")
	nc, refused := service(t, b)
	if _, err := nc.QueueSubscribe("shop.>", "all", func(m *nats.Msg) { _ = m.Respond(append([]byte("re: "), m.Data...)) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for range 100 {
		if answer, err := b.Ask(ctx, "shop.buy", []byte("x")); err != nil || string(answer) != "re: x" {
			t.Fatalf("%q, %v", answer, err)
		}
	}
	pushed, err := b.nc.SubscribeSync("shop.raw.game.out.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("shop.raw.game.out.n.c.text", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if m, err := pushed.NextMsg(30 * time.Second); err != nil || string(m.Data) != "hello" {
		t.Errorf("%v, %v", m, err)
	}
	for _, subject := range []string{">", "*", "shop2", "roost.>", "roost.ch.1.*", "$JS.EVENT.>", "_INBOX.>", "$SYS.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, "a subscription to "+subject, refused)
	}
	for _, subject := range []string{"shop.buy", "shop.raw.other.out.n.c.text", "roost.ch.1.news", "roost.nodes", "roost.h.0.0.news.1", "$JS.API.INFO", "_INBOX.x", "$SYS.REQ.SERVER.PING"} {
		if err := nc.PublishRequest(subject, "shop.answers", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, "a publication on "+subject, refused)
	}
}

// TestServicesAsk: a service asks on a subject that it may publish on, with an inbox below its own subject; the gateway
// answers nowhere else.
func TestServicesAsk(t *testing.T) {
	b, _ := start(t, Options{Memory: true, Listen: Listener{Address: "127.0.0.1:0", User: "shop", Password: "a long password",
		Serve: []string{"shop"}, Publish: []string{"roost.sync.*"}}})
	asked := make(chan string, 16)
	stop, err := b.Answer("roost.sync.*", "any", func(q *Request) {
		asked <- string(q.Data)
		if err := q.Reply([]byte("re: " + q.Subject)); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	heard, err := b.nc.SubscribeSync("roost.ch.>")
	if err != nil {
		t.Fatal(err)
	}
	nc, refused := service(t, b, nats.UserInfo("shop", "a long password"), nats.CustomInboxPrefix("shop.answers"))
	for _, reply := range []string{"roost.ch.1.news", "$JS.API.STREAM.DELETE.ROOST_H0_0", "_INBOX.x", "roost"} {
		if err := nc.PublishRequest("roost.sync.get", reply, []byte("answer at "+reply)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := nc.Request("roost.sync.get", []byte("x"), 30*time.Second)
	if err != nil || string(m.Data) != "re: roost.sync.get" {
		t.Errorf("%v, %v", m, err)
	}
	if first := <-asked; first != "x" || len(asked) > 0 {
		t.Errorf("%q was asked", first)
	}
	if n := b.Stats().Errors; n != 4 {
		t.Errorf("%d errors were counted, want 4", n)
	}
	if n, _, err := heard.Pending(); n > 0 || err != nil {
		t.Errorf("%d answers went to the gateways' own subjects, %v", n, err)
	}
	for _, subject := range []string{"roost.svc.sync.o.1", "roost.sync", "roost.sync.a.b"} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, "a publication on "+subject, refused)
	}
}

// TestServicesLogIn: with a password nobody gets in without it, nor as the gateway.
func TestServicesLogIn(t *testing.T) {
	b := listening(t, "shop", "a long password")
	for name, opts := range map[string][]nats.Option{
		"nobody":         nil,
		"wrong password": {nats.UserInfo("shop", "a wrong password")},
		"the gateway":    {nats.UserInfo(Inside, "")},
		"another":        {nats.UserInfo("service", "")},
	} {
		if nc, err := nats.Connect(b.ListenAddr(), opts...); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", name, err)
			nc.Close()
		}
	}
	if n := b.Stats().Errors; n != 4 {
		t.Errorf("%d errors were counted, want 4", n)
	}
	nc, _ := service(t, b, nats.UserInfo("shop", "a long password"))
	if _, err := nc.Subscribe("shop.>", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestListenerIsRefused(t *testing.T) {
	for want, o := range map[string]Options{
		"only the embedded NATS": {URLs: []string{"nats://127.0.0.1:1"}, Listen: Listener{Address: ":0"}},
		"user and a password":    {Memory: true, Listen: Listener{Address: ":0", User: "a"}},
		"the gateway itself":     {Memory: true, Listen: Listener{Address: ":0", User: Inside, Password: "a"}},
		"is not for services":    {Memory: true, Listen: Listener{Address: ":0", Serve: []string{"roost.ch"}}},
		"missing port":           {Memory: true, Listen: Listener{Address: "localhost"}},
		"unknown port":           {Memory: true, Listen: Listener{Address: "localhost:x"}},
	} {
		o.Handler = newRecorder()
		if b, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
			if b != nil {
				_ = b.Close()
			}
		}
	}
}

// TestInternal keeps services from all that the broker uses.
func TestInternal(t *testing.T) {
	for subject, want := range map[string]bool{"roost": true, "roost.ch": true, "roost.ch.1.x": true, "roost.nodes": true, "_INBOX": true, "$JS.API": true,
		"roost.rpc": false, "roostx": false, "shop": false, "shop.ch": false} {
		if got := Internal("roost", subject); got != want {
			t.Errorf("%s: %v", subject, got)
		}
	}
	r := newRecorder()
	r.query = func(string, []byte) ([]byte, error) { return nil, nil }
	b, _ := start(t, Options{Memory: true, Handler: r})
	all := make(chan *nats.Msg, 4096)
	if _, err := b.nc.ChanSubscribe(">", all); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.Publish(t.Context(), "a", Publication{Data: []byte("1")}, kept)
	_, _, live := b.Publish(t.Context(), "a", Publication{Data: []byte("1")}, PublishOptions{IdempotencyKey: "k"})
	_, survey := b.Survey(t.Context(), "", nil)
	_, ask := b.AskNode(t.Context(), b.Node(), "", nil)
	put := b.Put(t.Context(), "bucket", "key", nil, time.Hour)
	_, queue := b.NewQueue(t.Context(), QueueOptions{Name: "n", Do: func(context.Context, []byte) error { return nil }})
	if err := errors.Join(err, live, survey, ask, put, queue, b.nc.Flush()); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Error("nothing was seen")
	}
	for range len(all) {
		if m := <-all; !Internal("roost", m.Subject) {
			t.Errorf("%s is open to services", m.Subject)
		}
	}
	for s := range b.js.ListStreams(t.Context()).Info() {
		for _, subject := range s.Config.Subjects {
			if !Internal("roost", subject) {
				t.Errorf("%s of the stream %s is open to services", subject, s.Config.Name)
			}
		}
	}
}
