package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"roost/auth"
	"roost/proto/client"
)

// What an idle client takes must not grow by what few have: Go hands out 144, 160, ... bytes.
func TestSessionSizes(t *testing.T) {
	for name, s := range map[string][2]uintptr{
		"extra": {unsafe.Sizeof(extra{}), 144}, "channelExtra": {unsafe.Sizeof(channelExtra{}), 48},
	} {
		if s[0] > s[1] {
			t.Errorf("%s has %d bytes, want at most %d", name, s[0], s[1])
		}
	}
}

// refreshing answers the questions about each user, or channel, by a function, and counts them.
type refreshing struct {
	mu    sync.Mutex
	asked map[string]int
}

func soon() int64 { return time.Now().Unix() + 2 }

// count returns how often it was asked about whom.
func (r *refreshing) count(whom string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[whom]
}

func (r *refreshing) await(whom string, times int) {
	for r.count(whom) < times {
		time.Sleep(time.Millisecond)
	}
}

func (r *refreshing) answer(whom string) (RefreshReply, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[whom]++
	times := r.asked[whom]
	switch whom {
	case "ends":
		return RefreshReply{Expired: true}, nil
	case "banned":
		return RefreshReply{}, &client.Disconnect{Code: 4500, Reason: "banned"}
	case "broken":
		switch {
		case times == 1:
			return RefreshReply{}, client.ErrPermissionDenied
		case times == 2:
			return RefreshReply{}, errors.New("down")
		case times < 5: // until it would have expired long ago
			return RefreshReply{ExpireAt: 1}, nil
		}
	}
	if times > 2 {
		return RefreshReply{}, nil
	}
	return RefreshReply{ExpireAt: soon(), Info: fmt.Appendf(nil, `%d`, times), Meta: []byte(`{"m":1}`)}, nil
}

func refreshingNode(t *testing.T) (*testNode, *refreshing) {
	r := &refreshing{asked: make(map[string]int)}
	n := start(t, func(o *Options) {
		o.ExpiryGrace = time.Millisecond
		o.refreshLimits.again = 100 * time.Millisecond
		o.Handlers.Connect = func(_ context.Context, e ConnectEvent) (ConnectReply, error) {
			return ConnectReply{User: e.Name, ExpireAt: soon()}, nil
		}
		o.Handlers.Refresh = func(_ context.Context, e RefreshEvent) (RefreshReply, error) { return r.answer(e.User) }
		o.Handlers.SubRefresh = func(_ context.Context, e SubRefreshEvent) (SubRefreshReply, error) {
			a, err := r.answer(e.Channel)
			return SubRefreshReply{Expired: a.Expired, ExpireAt: a.ExpireAt, Info: a.Info}, err
		}
	})
	return n, r
}

func (n *testNode) outcomes(t *testing.T, event string, want map[string]uint64) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) { // an answer counts some time after it was asked for
		got := n.Stats().Refreshes[event]
		if fmt.Sprint(got.Outcomes) == fmt.Sprint(want) && got.Waiting == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%+v, want %v", got, want)
			return
		}
	}
}

// Handlers say how long a client stays; errors and answers that are none end nothing.
func TestRefresh(t *testing.T) {
	t.Parallel()
	n, r := refreshingNode(t)
	clients := map[string]*raw{}
	for _, user := range []string{"stays", "ends", "banned", "broken"} {
		c := n.dial("")
		if m := c.ok(`{"connect":{"name":"` + user + `"}}`); m.Connect.Expires || m.Connect.TTL != 0 {
			t.Errorf("%+v", m.Connect)
		}
		clients[user] = c
	}
	token, err := auth.SignConnect(secret, auth.Connect{User: "token"}, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	clients["token"] = n.dial("")
	if m := clients["token"].ok(`{"connect":{"token":"` + token + `"}}`); m.Connect.Expires {
		t.Errorf("%+v", m.Connect)
	}
	clients["ends"].ends(3005)
	clients["banned"].ends(4500)
	r.await("broken", 5)
	for user, times := range map[string]int{"stays": 3, "token": 3, "broken": 5} {
		r.await(user, times)
		clients[user].ok(`{"publish":{"channel":"c","data":1}}`)
	}
	c := clients["stays"]
	c.ok(`{"subscribe":{"channel":"c"}}`)
	for _, i := range c.ok(`{"presence":{"channel":"c"}}`).Presence.Presence {
		if string(i.ConnInfo) != "2" {
			t.Errorf("%s, want the info of the last answer that had one", i.ConnInfo)
		}
	}
	n.outcomes(t, "refresh", map[string]uint64{"kept": 7, "ended": 2, "failed": 4})
}

// So do they of subscriptions, whether clients or the server made them.
func TestSubRefresh(t *testing.T) {
	t.Parallel()
	n, r := refreshingNode(t)
	a := n.connected("ann")
	for _, ch := range []string{"stays", "broken", "ends"} {
		sub := SubscribeRequest{User: "ann", Channel: ch, ExpireAt: soon()}
		if ch == "ends" {
			token, err := auth.SignSubscribe(secret, auth.Subscribe{User: "ann", Channel: ch}, 2*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if m := a.ok(`{"subscribe":{"channel":"ends","token":"` + token + `"}}`); m.Subscribe.Expires {
				t.Errorf("%+v", m.Subscribe)
			}
		} else if _, err := n.Subscribe(t.Context(), &sub); err != nil {
			t.Fatal(err)
		}
	}
	for {
		if m := a.next(); m.Push != nil && m.Push.Unsubscribe != nil {
			if m.Push.Channel != "ends" || m.Push.Unsubscribe.Code != 2501 {
				t.Errorf("%+v", m.Push)
			}
			break
		}
	}
	r.await("broken", 5)
	r.await("stays", 3)
	n.outcomes(t, "sub_refresh", map[string]uint64{"kept": 4, "ended": 1, "failed": 4})
	b := n.connected("bob")
	if _, err := n.Subscribe(t.Context(), &SubscribeRequest{User: "bob", Channel: "ends", ExpireAt: soon()}); err != nil {
		t.Fatal(err)
	}
	b.ends(3006)
}

// However many clients expire at once, few questions are under way; the others wait, or come
// again where there is no room. Those whose client has gone change nothing.
func TestRefreshesBounded(t *testing.T) {
	t.Parallel()
	const crowd = 200
	b := &blocking{release: make(chan struct{})}
	var flying, most, asked atomic.Int64
	n := start(t, func(o *Options) {
		o.ExpiryGrace, o.CallTimeout = time.Millisecond, time.Minute
		o.refreshLimits = refreshLimits{100 * time.Millisecond, 100}
		o.Handlers.Connect = func(context.Context, ConnectEvent) (ConnectReply, error) {
			return ConnectReply{ExpireAt: soon()}, nil
		}
		o.Handlers.Refresh = func(ctx context.Context, e RefreshEvent) (RefreshReply, error) {
			asked.Add(1)
			defer flying.Add(-1)
			for now := flying.Add(1); ; {
				if was := most.Load(); now <= was || most.CompareAndSwap(was, now) {
					return RefreshReply{}, b.wait(ctx)
				}
			}
		}
	})
	var all []*raw
	for range crowd {
		c := n.dial("")
		c.ok(`{"connect":{}}`)
		all = append(all, c)
	}
	b.await(refreshAskers)
	for n.Stats().Refreshes["refresh"].Outcomes[refreshFull] < crowd-refreshAskers-100 {
		time.Sleep(time.Millisecond)
	}
	if st := n.Stats(); st.Clients != crowd || st.Refreshes["refresh"].Waiting != 100 {
		t.Errorf("%d clients, %+v", st.Clients, st.Refreshes)
	}
	for _, c := range all[:crowd/2] {
		_ = c.conn.Close()
	}
	for n.Stats().Clients != crowd/2 {
		time.Sleep(time.Millisecond)
	}
	close(b.release)
	for {
		o := n.Stats().Refreshes["refresh"].Outcomes
		if o[refreshKept] == crowd/2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if most.Load() > refreshAskers || asked.Load() > crowd/2+refreshAskers {
		t.Errorf("%d questions at once, %d in all", most.Load(), asked.Load())
	}
	l := n.refreshes.clients
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > 0 {
		t.Errorf("%d questions wait", len(l.waiting))
	}
	for _, c := range all[crowd/2:] {
		c.ok(`{"ping":{}}`)
	}
}
