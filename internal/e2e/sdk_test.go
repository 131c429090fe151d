//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/centrifugal/centrifuge-go"
)

func TestPublishAndSubscribe(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "")
		ann, annID := g.connected(t, binary, "ann")
		nobody, _ := g.connected(t, binary, "")
		_, e := ann.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		if !e.recoverable || !e.positioned || e.attempted {
			t.Errorf("%+v", e)
		}
		sub, _ := nobody.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		if _, err := ann.Publish(inTime(t), ch, []byte(`{"from":"ann"}`)); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*sdk{ann, nobody} {
			if e := c.wait(t, "publication", ch); e.data != `{"from":"ann"}` || e.offset != 1 || e.client != annID {
				t.Errorf("%+v", e)
			}
		}
		if p := g.publish(t, ch, "by the api"); p.Offset != 2 || p.Epoch == "" {
			t.Errorf("%+v", p)
		}
		if e := nobody.wait(t, "publication", ch); e.data != `"by the api"` || e.offset != 2 || e.client != "" {
			t.Errorf("%+v", e)
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		nobody.wait(t, "unsubscribed", ch)
		g.publish(t, ch, "meanwhile")
		ann.wantPublications(t, ch, `"by the api"`, `"meanwhile"`)
		if err := sub.Subscribe(); err != nil {
			t.Fatal(err)
		}
		// The SDK comes back to where it was.
		if e := nobody.wait(t, "subscribed", ch); !e.attempted || !e.recovered {
			t.Errorf("%+v", e)
		}
		g.publish(t, ch, "heard")
		nobody.wantPublications(t, ch, `"meanwhile"`, `"heard"`)
	})
}

func TestDeniedAndUnknown(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g := sharedGateway(t)
		c, _ := g.connected(t, binary, "ann")
		for channel, code := range map[string]string{
			named(t, "nowhere:"): "102", named(t, "private:"): "103", named(t, "") + "#bob": "103", strings.Repeat("x", 256): "107",
		} {
			sub := c.subscription(t, channel, centrifuge.SubscriptionConfig{})
			if err := sub.Subscribe(); err != nil {
				t.Fatal(err)
			}
			if e := c.wait(t, "unsubscribed", channel); fmt.Sprint(e.code) != code {
				t.Errorf("%.20s: %+v, want error %s", channel, e, code)
			}
		}
		_, err := c.Publish(inTime(t), named(t, "live:"), []byte(`1`))
		wantError(t, err, 103) // subscribers may, others not
		_, err = c.Publish(inTime(t), named(t, "nowhere:"), []byte(`1`))
		wantError(t, err, 102)
		_, err = c.Presence(inTime(t), named(t, "short:"))
		wantError(t, err, 108)
		_, err = c.History(inTime(t), named(t, "live:"))
		wantError(t, err, 108)
		_, err = c.History(inTime(t), named(t, "positioned:"))
		wantError(t, err, 103)
		_, err = c.RPC(inTime(t), "nothing", []byte(`{}`))
		wantError(t, err, 104)
		live := named(t, "live:")
		c.subscribe(t, live, centrifuge.SubscriptionConfig{})
		if _, err := c.Publish(inTime(t), live, []byte(`"as a subscriber"`)); err != nil {
			t.Error(err)
		}
		if e := c.wait(t, "publication", live); e.offset != 0 {
			t.Errorf("%+v", e)
		}
	})
}

func TestPresence(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "")
		watcher, watcherID := g.connected(t, binary, "watcher")
		watcher.subscribe(t, ch, centrifuge.SubscriptionConfig{JoinLeave: true})
		if e := watcher.wait(t, "join", ch); e.client != watcherID {
			t.Errorf("%+v", e)
		}
		ids := map[string]string{watcherID: "watcher"}
		clients := map[string]*sdk{}
		for range 2 { // two connections of one user
			c := newSDK(t, g.url(), binary, centrifuge.Config{Token: token(claims{"sub": "ann", "info": object{"name": "Ann"}})})
			id := c.connect(t)
			clients[id], ids[id] = c, "ann"
			c.subscribe(t, ch, centrifuge.SubscriptionConfig{})
			if e := watcher.wait(t, "join", ch); e.client != id {
				t.Errorf("%+v", e)
			}
		}
		p, err := watcher.Presence(inTime(t), ch)
		if err != nil || len(p.Clients) != len(ids) {
			t.Fatal(p, err)
		}
		for id, user := range ids {
			i := p.Clients[id]
			if i.Client != id || i.User != user || (string(i.ConnInfo) == `{"name":"Ann"}`) != (user == "ann") {
				t.Errorf("%s: %+v", id, i)
			}
		}
		s, err := watcher.PresenceStats(inTime(t), ch)
		if err != nil || s.NumClients != 3 || s.NumUsers != 2 {
			t.Error(s, err)
		}
		var api struct {
			Presence map[string]struct {
				User     string
				ConnInfo object `json:"conn_info"`
			}
		}
		g.must(t, "presence", object{"channel": ch}, &api)
		if len(api.Presence) != 3 || api.Presence[watcherID].User != "watcher" {
			t.Errorf("%+v", api)
		}
		gone := map[string]bool{}
		for id, c := range clients {
			c.line.sever()
			gone[id] = true
		}
		for range clients {
			if e := watcher.wait(t, "leave", ch); !gone[e.client] {
				t.Errorf("%+v", e)
			} else {
				delete(gone, e.client)
			}
		}
		if s, err = watcher.PresenceStats(inTime(t), ch); err != nil || s.NumClients != 1 || s.NumUsers != 1 {
			t.Error(s, err)
		}
		if e := watcher.all("join", ch); len(e) != 3 {
			t.Errorf("%+v", e)
		}
	})
}

func TestHistory(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "short:")
		c, _ := g.connected(t, binary, "ann")
		r, err := c.History(inTime(t), ch)
		if err != nil || r.Offset != 0 || r.Epoch == "" {
			t.Errorf("%+v, %v", r, err)
		}
		epoch := r.Epoch
		for i := range 8 {
			if p := g.publish(t, ch, i+1); p.Epoch != epoch || p.Offset != uint64(i+1) {
				t.Errorf("%+v, want the epoch that was read before the first publication: %s", p, epoch)
			}
		}
		since := func(offset uint64) centrifuge.HistoryOption {
			return centrifuge.WithHistorySince(&centrifuge.StreamPosition{Offset: offset, Epoch: epoch})
		}
		for name, q := range map[string]struct {
			options []centrifuge.HistoryOption
			want    string
		}{
			"position":  {nil, ""},
			"all":       {[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(-1)}, "4 5 6 7 8"},
			"limit":     {[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(2)}, "4 5"},
			"reverse":   {[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(2), centrifuge.WithHistoryReverse(true)}, "8 7"},
			"since":     {[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(-1), since(6)}, "7 8"},
			"since, 1":  {[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(1), since(6)}, "7"},
			"since top": {[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(-1), since(8)}, ""},
			"back":      {[]centrifuge.HistoryOption{centrifuge.WithHistoryLimit(2), since(7), centrifuge.WithHistoryReverse(true)}, "6 5"},
		} {
			r, err := c.History(inTime(t), ch, q.options...)
			var got []string
			for _, p := range r.Publications {
				got = append(got, string(p.Data))
				if fmt.Sprint(p.Offset) != string(p.Data) {
					t.Errorf("%s: offset %d of %s", name, p.Offset, p.Data)
				}
			}
			if err != nil || strings.Join(got, " ") != q.want || r.Offset != 8 || r.Epoch != epoch {
				t.Errorf("%s: %v of %d %s, %v; want %s of 8 %s", name, got, r.Offset, r.Epoch, err, q.want, epoch)
			}
		}
		_, err = c.History(inTime(t), ch, centrifuge.WithHistoryLimit(1), centrifuge.WithHistorySince(&centrifuge.StreamPosition{Offset: 1, Epoch: "other"}))
		wantError(t, err, 112)
		g.must(t, "history_remove", object{"channel": ch}, nil)
		if r, err = c.History(inTime(t), ch, centrifuge.WithHistoryLimit(-1)); err != nil || len(r.Publications) != 0 || r.Offset != 8 || r.Epoch != epoch {
			t.Errorf("after history_remove: %+v, %v", r, err)
		}
	})
}

func TestDelta(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "")
		c, _ := g.connected(t, binary, "ann")
		plain, _ := g.connected(t, binary, "bob")
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{Delta: centrifuge.DeltaTypeFossil})
		plain.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		var want []string
		next := func(i int) {
			text := fmt.Sprintf("%s %d \u00e4\u4e16\U0001f600", strings.Repeat("the same words again and again ", 20), i)
			if i%5 == 4 {
				text = fmt.Sprint("nothing in common ", i)
			}
			g.publish(t, ch, text)
			want = append(want, `"`+text+`"`)
		}
		for i := range 10 {
			next(i)
		}
		c.wantPublications(t, ch, want...)
		c.line.sever()
		c.wait(t, "connecting", "")
		for i := range 5 {
			next(10 + i)
		}
		c.line.mend()
		if e := c.wait(t, "subscribed", ch); !e.recovered {
			t.Errorf("%+v", e)
		}
		next(15)
		next(16)
		c.wantPublications(t, ch, want[10:]...)
		plain.wantPublications(t, ch, want...)
	})
}
