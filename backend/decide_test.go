package backend

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roost/gateway"
	"roost/proto/client"
)

// Decisions come as they are, and what is not one is garbage.
func TestDecisions(t *testing.T) {
	var body, result string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, result)
	}))
	defer srv.Close()
	c := one(Endpoint{URL: srv.URL})
	c.Connect, c.Refresh = "b", "b"
	s := set(t, Options{Config: c})
	h, ctx := s.Handlers(), context.Background()
	for _, k := range []struct{ event, result, request, want string }{
		{"connect", `{"result":{"user":"ann","expire_at":5,"info":{"a":1},"b64data":"MQ==","channels":["x"],"meta":{"m":1},"subs":{"y":{"data":2,"override":{"presence":{"value":true}}}}}}`,
			`"name":"js","version":"1","channels":["y"]`, `ann 5 {"a":1} 1 [x] {"m":1} 2 true`},
		{"connect", `{"result":{"user":7}}`, "", "error"},
		{"connect", `{"result":{"data":1,"b64data":"MQ=="}}`, "", "error"},
		{"subscribe", `{"result":{"info":1,"data":2,"expire_at":3}}`, `"data":8,"channel":"c"`, "1 2 3"},
		{"subscribe", `{"result":{"expire_at":"soon"}}`, "", "error"},
		{"subscribe", `{"result":{"b64info":"?"}}`, "", "error"},
		{"publish", `{"result":{"data":{"n":1},"skip_history":true,"tags":{"k":"v"}}}`, `"data":9,"channel":"c"`, `{"n":1} true map[k:v]`},
		{"publish", `{"result":[]}`, "", "error"},
		{"publish", `{"error":{"code":103}}`, "", "103: permission denied"},
		{"refresh", `{"result":{"expire_at":7,"info":{"a":1},"meta":{"m":2}}}`, `"user":"ann","meta":{"tenant":7}}`, `false 7 {"a":1} {"m":2}`},
		{"refresh", `{"result":{"expired":true,"meta":null}}`, "", "true 0  "},
		{"refresh", `{"result":{"expired":1}}`, "", "error"},
		{"refresh", `{"disconnect":{"code":4500,"reason":"out"}}`, "", "disconnect 4500: out"},
		{"refresh", ` `, "", "error"},
		{"sub_refresh", `{"result":{"expire_at":8,"b64info":"AP8="}}`, `"channel":"c"}`, "false 8 \x00\xff"},
		{"sub_refresh", `{"result":{"info":1,"b64info":"AP8="}}`, "", "error"},
	} {
		result = k.result
		got, err := "", error(nil)
		switch k.event {
		case "connect":
			var r gateway.ConnectReply
			r, err = h.Connect(ctx, gateway.ConnectEvent{Peer: peer, Name: "js", Version: "1", Channels: []string{"y"}})
			if err == nil {
				got = fmt.Sprint(r.User, " ", r.ExpireAt, " ", string(r.Info), " ", string(r.Data), " ", r.Channels, " ", string(r.Meta), " ", string(r.Subs["y"].Data), " ", *r.Subs["y"].Override.Presence)
			}
		case "subscribe":
			var r gateway.SubscribeReply
			r, err = h.Subscribe(ctx, gateway.SubscribeEvent{Peer: peer, Backend: c.Connect, Channel: "c", Data: []byte("8")})
			got = fmt.Sprint(string(r.Info), " ", string(r.Data), " ", r.ExpireAt)
		case "publish":
			var r gateway.PublishReply
			r, err = h.Publish(ctx, gateway.PublishEvent{Peer: peer, Backend: c.Connect, Channel: "c", Data: []byte("9")})
			got = fmt.Sprint(string(r.Data), " ", r.SkipHistory, " ", r.Tags)
		case "refresh":
			var r gateway.RefreshReply
			r, err = h.Refresh(ctx, gateway.RefreshEvent{Peer: peer})
			got = fmt.Sprint(r.Expired, " ", r.ExpireAt, " ", string(r.Info), " ", string(r.Meta))
		case "sub_refresh":
			var r gateway.SubRefreshReply
			r, err = h.SubRefresh(ctx, gateway.SubRefreshEvent{Peer: peer, Backend: c.Connect, Channel: "c"})
			got = fmt.Sprint(r.Expired, " ", r.ExpireAt, " ", string(r.Info))
		}
		if err == client.ErrInternal {
			got = "error"
		} else if err != nil {
			got = err.Error()
		}
		if got != k.want || !strings.Contains(body, k.request) || !strings.Contains(body, `"event":"`+k.event+`"`) {
			t.Errorf("%s: %s, want %s; asked %s", k.result, got, k.want, body)
		}
	}
}

// However much is asked aside, clients' commands find half of the backend free.
func TestAside(t *testing.T) {
	const concurrency = 4
	release := make(chan struct{})
	var asked atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if strings.Contains(string(b), `"event":"refresh"`) {
			asked.Add(1)
			<-release
		}
		says(`{"result":{}}`)(w, r)
	})
	c := one(Endpoint{URL: url, Concurrency: concurrency, Timeout: time.Minute})
	c.Refresh = "b"
	s := set(t, Options{Config: c})
	h := s.Handlers()
	var all sync.WaitGroup
	for range 10 * concurrency {
		all.Go(func() {
			if _, err := h.Refresh(t.Context(), gateway.RefreshEvent{Peer: peer}); err != nil {
				t.Error(err)
			}
		})
	}
	for asked.Load() < concurrency/2 {
		time.Sleep(time.Millisecond)
	}
	if _, err := s.rpcOf(t.Context(), "x", ""); err != nil {
		t.Error(err)
	}
	if st := s.Stats()[0]; st.InFlight != concurrency/2 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Refresh(gone, gateway.RefreshEvent{Peer: peer}); err != client.ErrTooManyRequests {
		t.Error(err)
	}
	close(release)
	all.Wait()
}
