//go:build linux

package e2e

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// A connection and a subscription outlive the tokens they began with, because the SDK
// fetches new ones in time.
func TestTokensAreRefreshed(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "private:")
		var tokens, subTokens atomic.Int32
		c := newSDK(t, g.url(), binary, centrifuge.Config{GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) {
			tokens.Add(1)
			return token(claims{"sub": "ann", "exp": in(2 * time.Second)}), nil
		}})
		c.connect(t)
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{GetToken: func(e centrifuge.SubscriptionTokenEvent) (string, error) {
			subTokens.Add(1)
			return token(claims{"sub": "ann", "channel": e.Channel, "exp": in(2 * time.Second)}), nil
		}})
		eventually(t, func() error {
			if a, b := tokens.Load(), subTokens.Load(); a < 4 || b < 4 {
				return fmt.Errorf("%d connection tokens and %d subscription tokens", a, b)
			}
			return nil
		})
		g.publish(t, ch, "still there")
		c.wantPublications(t, ch, `"still there"`)
		if n := len(c.all("connected", "")); n != 1 {
			t.Errorf("connected %d times", n)
		}
		if n := len(c.all("subscribed", ch)); n != 1 {
			t.Errorf("subscribed %d times", n)
		}
	})
}

// An expired token is answered so that the SDK fetches another and comes back.
func TestExpiredTokenIsReplaced(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "private:")
		c := newSDK(t, g.url(), binary, centrifuge.Config{
			Token:    token(claims{"sub": "ann", "exp": in(-time.Minute)}),
			GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) { return tokenOf("ann"), nil },
		})
		if err := c.Connect(); err != nil {
			t.Fatal(err)
		}
		c.wait(t, "connected", "")
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{
			Token: token(claims{"sub": "ann", "channel": ch, "exp": in(-time.Minute)}),
			GetToken: func(e centrifuge.SubscriptionTokenEvent) (string, error) {
				return token(claims{"sub": "ann", "channel": ch}), nil
			},
		})
	})
}

func TestServerSideSubscriptions(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, byChannels, bySubs, byAPI := sharedGateway(t), named(t, ""), named(t, "private:"), named(t, "private:api")
		user := named(t, "user")
		c := newSDK(t, g.url(), binary, centrifuge.Config{Token: token(claims{"sub": user, "channels": []string{byChannels},
			"subs": object{bySubs: object{"data": object{"welcome": true}, "override": object{"force_recovery": object{"value": true}}}}})})
		id := c.connect(t)
		for _, name := range []string{byChannels, bySubs, "personal:#" + user} {
			e := c.find(t, "server subscribed", name)
			if !e.recoverable || e.attempted || (e.data == `{"welcome":true}`) != (name == bySubs) {
				t.Errorf("%s: %+v", name, e)
			}
			g.publish(t, name, "to "+name)
			if e := c.wait(t, "publication", name); e.data != `"to `+name+`"` {
				t.Errorf("%+v", e)
			}
		}
		g.must(t, "subscribe", object{"user": user, "channel": byAPI, "data": "by the api"}, nil)
		if e := c.wait(t, "server subscribed", byAPI); e.data != `"by the api"` {
			t.Errorf("%+v", e)
		}
		g.publish(t, byAPI, 1)
		c.wantPublications(t, byAPI, "1")
		var all struct {
			Connections map[string]struct {
				User     string
				Channels []string
			}
		}
		g.must(t, "connections", object{"user": user}, &all)
		if i := all.Connections[id]; len(all.Connections) != 1 || i.User != user || len(i.Channels) != 4 {
			t.Errorf("%+v", all)
		}
		g.must(t, "unsubscribe", object{"user": user, "channel": byAPI}, nil)
		c.wait(t, "server unsubscribed", byAPI)
		g.publish(t, byAPI, 2)
		g.publish(t, byChannels, "last")
		c.wantPublications(t, byChannels, `"last"`)
		if n := len(c.all("publication", byAPI)); n != 1 {
			t.Errorf("%d publications after the unsubscribe", n-1)
		}
	})
}

// find finds an event wherever it is in the journal.
func (j *journal) find(t testing.TB, kind, channel string) (e event) {
	t.Helper()
	eventually(t, func() error {
		if all := j.all(kind, channel); len(all) > 0 {
			e = all[0]
			return nil
		}
		return fmt.Errorf("no %s in %s", kind, channel)
	})
	return e
}

func TestUnsubscribedAndDisconnectedByTheServer(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "")
		user := named(t, "user")
		c, id := g.connected(t, binary, user)
		other, _ := g.connected(t, binary, user)
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		g.must(t, "unsubscribe", object{"user": user, "channel": ch}, nil)
		if e := c.wait(t, "unsubscribed", ch); e.code != 2000 {
			t.Errorf("%+v", e)
		}
		// A code with which clients come back.
		g.must(t, "disconnect", object{"user": user, "client": id, "disconnect": object{"code": 4000, "reason": "come again"}}, nil)
		if e := c.wait(t, "connecting", ""); e.code != 4000 {
			t.Errorf("%+v", e)
		}
		again := c.wait(t, "connected", "").client
		if again == id {
			t.Error("the same client id twice")
		}
		if n := len(other.all("connecting", "")); n != 1 {
			t.Errorf("the user's other connection was cut, too")
		}
		// And one with which they do not; the whitelist stays.
		g.must(t, "disconnect", object{"user": user, "whitelist": []string{again}}, nil)
		if e := other.wait(t, "disconnected", ""); e.code != 3503 {
			t.Errorf("%+v", e)
		}
		g.must(t, "disconnect", object{"user": user, "disconnect": object{"code": 4500, "reason": "for good"}}, nil)
		if e := c.wait(t, "disconnected", ""); e.code != 4500 || e.data != "for good" {
			t.Errorf("%+v", e)
		}
		var status struct{ Statuses []struct{ Online bool } }
		eventually(t, func() error {
			if err := g.api("user_status", object{"users": []string{user}}, &status); err != nil || len(status.Statuses) != 1 || status.Statuses[0].Online {
				return fmt.Errorf("%+v, %v", status, err)
			}
			return nil
		})
	})
}

func TestUserLimitedChannels(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g := sharedGateway(t)
		ch := named(t, "") + "#ann,bob"
		ann, _ := g.connected(t, binary, "ann")
		bob, _ := g.connected(t, binary, "bob")
		ann.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		bob.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		if _, err := ann.Publish(inTime(t), ch, []byte(`"hello bob"`)); err != nil {
			t.Fatal(err)
		}
		bob.wantPublications(t, ch, `"hello bob"`)
		for _, user := range []string{"eve", ""} {
			eve, _ := g.connected(t, binary, user)
			if err := eve.subscription(t, ch, centrifuge.SubscriptionConfig{}).Subscribe(); err != nil {
				t.Fatal(err)
			}
			if e := eve.wait(t, "unsubscribed", ch); e.code != 103 {
				t.Errorf("%+v", e)
			}
			_, err := eve.Publish(inTime(t), ch, []byte(`"hello ann"`))
			wantError(t, err, 103)
			_, err = eve.History(inTime(t), ch)
			wantError(t, err, 103)
		}
	})
}

// Blocked users are disconnected and kept out; so are revoked tokens.
func TestBlockAndRevoke(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g := sharedGateway(t)
		user := named(t, "user")
		c, _ := g.connected(t, binary, user)
		g.must(t, "block_user", object{"user": user}, nil)
		if e := c.wait(t, "disconnected", ""); e.code < 3500 {
			t.Errorf("%+v", e)
		}
		r := g.rawClient(t, binary)
		r.send(connectCommand(1, tokenOf(user)))
		if code, err := r.end(); err != nil || code != 3500 {
			t.Errorf("a blocked user: %d, %v", code, err)
		}
		g.must(t, "unblock_user", object{"user": user}, nil)
		g.connected(t, binary, user)
		id := named(t, "token")
		tok := token(claims{"sub": user, "jti": id})
		c = newSDK(t, g.url(), binary, centrifuge.Config{Token: tok})
		c.connect(t)
		g.must(t, "revoke_token", object{"uid": id}, nil)
		if e := c.wait(t, "disconnected", ""); e.code < 3500 {
			t.Errorf("%+v", e)
		}
		r = g.rawClient(t, binary)
		r.send(connectCommand(1, tok))
		if code, err := r.end(); err != nil || code != 3500 {
			t.Errorf("a revoked token: %d, %v", code, err)
		}
	})
}

// A connection whose token has expired, and is not refreshed in time, ends so that the
// client may come back with another.
func TestExpiredConnectionsEnd(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g := sharedGateway(t)
		r := g.rawClient(t, binary)
		res, err := r.connect(token(claims{"sub": "ann", "exp": in(3 * time.Second)}))
		if err != nil || !res.Expires || res.Ttl < 1 || res.Ttl > 3 {
			t.Fatalf("%+v, %v", res, err)
		}
		if code, err := r.end(); err != nil || code != 3005 {
			t.Errorf("%d, %v, want 3005", code, err)
		}
	})
}
