package gateway

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"roost/conn"
	"roost/poller"
	"roost/proto/client"
)

// blocking handlers answer when released, and count who waits.
type blocking struct {
	waits   atomic.Int64
	release chan struct{}
}

func (b *blocking) wait(ctx context.Context) error {
	b.waits.Add(1)
	defer b.waits.Add(-1)
	select {
	case <-b.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *blocking) await(count int64) {
	for b.waits.Load() != count {
		time.Sleep(time.Millisecond)
	}
}

func askedNode(t *testing.T, b *blocking) *testNode {
	return start(t, func(o *Options) {
		o.CallTimeout = time.Minute
		o.ExpiryGrace = time.Millisecond
		o.Handlers.Connect = func(ctx context.Context, e ConnectEvent) (ConnectReply, error) {
			switch string(e.Data) {
			case `"slow"`:
				return ConnectReply{User: "slow"}, b.wait(ctx)
			case `"bad"`:
				return ConnectReply{Channels: []string{"nowhere:x"}}, nil
			case `"short"`:
				return ConnectReply{User: "bob", ExpireAt: time.Now().Unix() + 2}, nil
			case `"late"`:
				return ConnectReply{ExpireAt: 1}, nil
			case `"out"`:
				return ConnectReply{}, &client.Disconnect{Code: 4500, Reason: "banned"}
			}
			return ConnectReply{User: "ann", Data: []byte(`{"x":1}`), Channels: []string{"own"}}, nil
		}
		o.Handlers.Subscribe = func(ctx context.Context, e SubscribeEvent) (SubscribeReply, error) {
			if string(e.Data) == `"no"` {
				return SubscribeReply{}, client.ErrPermissionDenied
			}
			if string(e.Data) == `"short"` {
				return SubscribeReply{ExpireAt: time.Now().Unix() + 2}, nil
			}
			return SubscribeReply{Data: []byte(`1`)}, b.wait(ctx)
		}
		o.Handlers.Publish = func(ctx context.Context, e PublishEvent) (PublishReply, error) {
			return PublishReply{Data: fmt.Appendf(nil, `{"said":%s}`, e.Data)}, nil
		}
	})
}

// Subscriptions are decided on in parallel; a command about a channel waits for those
// before it, also where it is in the same frame.
func TestPendingCommands(t *testing.T) {
	b := &blocking{release: make(chan struct{})}
	n := askedNode(t, b)
	a := n.dial("")
	if m := a.ok(`{"connect":{}}`); m.Connect.Subs["own"].Recoverable != true {
		t.Errorf("%+v", m.Connect)
	}
	a.write(`{"id":10,"subscribe":{"channel":"a"}}` + "\n" + `{"id":11,"subscribe":{"channel":"b"}}` + "\n" +
		`{"id":12,"publish":{"channel":"c","data":1}}` + "\n" + `{"id":13,"publish":{"channel":"a","data":2}}` + "\n" + `{"id":14,"ping":{}}`)
	b.await(2)
	if m := a.next(); m.ID != 12 {
		t.Fatalf("%+v before the decision", m)
	}
	a.write(`{"id":15,"unsubscribe":{"channel":"b"}}`)
	close(b.release)
	seen := map[uint32]bool{}
	for len(seen) < 5 {
		m := a.next()
		switch {
		case m.Push != nil && m.Push.Pub != nil && string(m.Push.Pub.Data) != `{"said":2}`:
			t.Errorf("%+v", m.Push.Pub)
		case m.ID == 13 && !seen[10], m.ID == 15 && !seen[11], m.Error != nil:
			t.Errorf("%+v after %v", m, seen)
		}
		if m.ID != 0 {
			seen[m.ID] = true
		}
	}
	a.fails(`{"subscribe":{"channel":"d","data":"no"}}`, 103)
}

// What a handler says that cannot be, and its disconnect.
func TestUnusableAnswers(t *testing.T) {
	n := askedNode(t, &blocking{})
	n.dial("").fails(`{"connect":{"data":"bad"}}`, 100)
	n.dial("").fails(`{"connect":{"data":"late"}}`, 100)
	r := n.dial("")
	r.write(`{"id":1,"connect":{"data":"out"}}`)
	r.ends(4500)
	if got := n.Stats().Unusable; got["connect"] != 2 || len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// What a handler lets in for a time ends then, and comes back to be asked about again. The
// client is not told to refresh a token that it does not have.
func TestAskedExpires(t *testing.T) {
	n := askedNode(t, &blocking{})
	a := n.dial("")
	a.ok(`{"connect":{}}`)
	if m := a.ok(`{"subscribe":{"channel":"a","data":"short"}}`); m.Subscribe.Expires || m.Subscribe.TTL != 0 {
		t.Errorf("%+v", m.Subscribe)
	}
	if m := a.next(); m.Push == nil || m.Push.Unsubscribe == nil || m.Push.Unsubscribe.Code != 2501 {
		t.Errorf("%+v", m)
	}
	b := n.dial("")
	if m := b.ok(`{"connect":{"data":"short"}}`); m.Connect.Expires || m.Connect.TTL != 0 {
		t.Errorf("%+v", m.Connect)
	}
	b.ends(3005)
}

// Clients whose connect command is being decided on hold no worker, and neither their
// leaving nor the server's decisions wait for the handler.
func TestPendingEnds(t *testing.T) {
	const crowd = 50
	b := &blocking{release: make(chan struct{})}
	n := askedNode(t, b)
	srv, err := conn.New(conn.Options{Workers: 2, Poller: poller.Options{Loops: 1}, Routes: []*conn.Route{n.Route()}})
	if err != nil {
		t.Fatal(err)
	}
	n.Start(srv)
	addr, err := srv.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = addr.String()
	var all []*raw
	for range crowd {
		r := n.dial("")
		r.write(`{"id":1,"connect":{"data":"slow"}}` + "\n" + `{"id":2,"ping":{}}`)
		all = append(all, r)
	}
	b.await(crowd)
	a := n.dial("")
	a.ok(`{"connect":{}}`)
	for _, r := range all[:crowd-1] {
		_ = r.conn.Close()
	}
	b.await(1)
	a.write(`{"id":20,"subscribe":{"channel":"x"}}`)
	b.await(2)
	if _, err := n.Unsubscribe(t.Context(), &UnsubscribeRequest{User: "ann", Channel: "x"}); err != nil {
		t.Fatal(err)
	}
	if m := a.next(); m.ID != 20 || m.Error == nil || m.Error.Code != 103 {
		t.Errorf("%+v", m)
	}
	a.write(`{"id":21,"subscribe":{"channel":"y"}}` + "\n" + `{"id":22,"unsubscribe":{"channel":"y"}}`)
	b.await(2)
	n.Dismiss()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	b.await(0)
	if c := n.Stats().Clients; c != 0 {
		t.Errorf("%d clients are left", c)
	}
}
