//go:build linux

package e2e

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
)

const audience = "the tests"

// withAudience is a configuration whose tokens must be for someone.
const withAudience = `
hmac-secret-key: ` + secret + `
audience: ` + audience + `
` + channels

// badToken is one that must be refused: by an error of the command or, where that is 0,
// by a close with 3500.
type badToken struct {
	name, token string
	expired     bool
}

// badTokens are those for a connection of ann, or with more claims for a channel.
func badTokens(more claims) []badToken {
	make := func(key, algorithm string, change claims) string {
		c := claims{"sub": "ann", "aud": audience, "iat": time.Now().Unix(), "exp": in(time.Hour)}
		for _, from := range []claims{more, change} {
			for k, v := range from {
				if c[k] = v; v == nil {
					delete(c, k)
				}
			}
		}
		return signed(key, algorithm, c)
	}
	good := make(secret, "HS256", nil)
	return []badToken{
		{"alg none", make(secret, "none", nil), false},
		{"alg none, signed", make(secret, "none", nil) + "AAAA", false},
		{"unknown algorithm", make(secret, "HS1024", nil), false},
		{"an algorithm of other keys", make(secret, "RS256", nil), false},
		{"signed as HS256, says HS512", make(secret, "HS512", nil), false},
		{"wrong key", make("another secret", "HS256", nil), false},
		{"no key", make("", "HS256", nil), false},
		{"cut", good[:len(good)-3], false},
		{"not a token", "x", false},
		{"three dots", "...", false},
		{"expired", make(secret, "HS256", claims{"exp": in(-time.Minute)}), true},
		{"expired, and wrong besides", make("another secret", "HS256", claims{"exp": in(-time.Minute)}), false},
		{"not yet valid", make(secret, "HS256", claims{"nbf": in(time.Hour)}), false},
		{"another audience", make(secret, "HS256", claims{"aud": "others"}), false},
		{"no audience", make(secret, "HS256", claims{"aud": nil}), false},
		{"claims of wrong types", make(secret, "HS256", claims{"sub": 17, "exp": "tomorrow"}), false},
	}
}

func TestBadConnectionTokens(t *testing.T) {
	t.Parallel()
	g := start(t, withAudience, "--memory")
	before := g.metrics(t)
	all := badTokens(nil)
	for _, c := range all {
		for _, binary := range []bool{false, true} {
			r := g.rawClient(t, binary)
			r.send(connectCommand(1, c.token))
			reply, err := r.next()
			var end *closed
			switch {
			case c.expired:
				if err != nil || reply.Error == nil || reply.Error.Code != 109 {
					t.Errorf("%s: %v, %v, want error 109", c.name, reply, err)
				}
			case !errors.As(err, &end) || end.code != 3500:
				t.Errorf("%s: %v, %v, want close 3500", c.name, reply, err)
			}
		}
	}
	r := g.rawClient(t, false)
	r.send(connectCommand(1, "")) // no anonymous clients here
	if code, err := r.end(); err != nil || code != 3500 {
		t.Errorf("no token: %d, %v", code, err)
	}
	after := g.metrics(t)
	if got, want := sum(after, tokensMetric, "")-sum(before, tokensMetric, ""), float64(2*len(all)); got != want {
		t.Errorf("%s counts %v refused tokens, want %v", tokensMetric, got, want)
	}
	if got := sum(after, tokensMetric, `"expired"`); got != 2 {
		t.Errorf("%s counts %v expired tokens, want 2", tokensMetric, got)
	}
	r = g.rawClient(t, true)
	if _, err := r.connect(token(claims{"sub": "ann", "aud": audience})); err != nil {
		t.Error(err)
	}
}

// tokensMetric counts refused tokens, by why.
const tokensMetric = "roost_tokens_refused_total"

// A bad token for a channel refuses the subscription and disturbs nothing else.
func TestBadSubscriptionTokens(t *testing.T) {
	t.Parallel()
	g := start(t, withAudience, "--memory")
	ch := named(t, "private:")
	for _, binary := range []bool{false, true} {
		r := g.rawClient(t, binary)
		if _, err := r.connect(token(claims{"sub": "ann", "aud": audience})); err != nil {
			t.Fatal(err)
		}
		id := uint32(1)
		subscribe := func(token string) *protocol.Reply {
			id++
			reply, err := r.call(&protocol.Command{Id: id, Subscribe: &protocol.SubscribeRequest{Channel: ch, Token: token}})
			if err != nil {
				t.Fatal(err)
			}
			return reply
		}
		bad := append(badTokens(claims{"channel": ch}),
			badToken{"another channel", token(claims{"sub": "ann", "aud": audience, "channel": "private:other"}), false},
			badToken{"no channel", token(claims{"sub": "ann", "aud": audience}), false},
			badToken{"another user", token(claims{"sub": "bob", "aud": audience, "channel": ch}), false})
		for _, c := range bad {
			want := uint32(103)
			if c.expired {
				want = 109
			}
			if e := subscribe(c.token).Error; e == nil || e.Code != want {
				t.Errorf("%s: %v, want error %d", c.name, e, want)
			}
		}
		if reply := subscribe(token(claims{"sub": "ann", "aud": audience, "channel": ch})); reply.Error != nil || !reply.Subscribe.Expires {
			t.Errorf("%v", reply)
		}
	}
}

// Nobody refreshes a connection with the token of another user.
func TestRefreshOfAnother(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		r := sharedGateway(t).rawClient(t, binary)
		if _, err := r.connect(tokenOf("ann")); err != nil {
			t.Fatal(err)
		}
		r.send(&protocol.Command{Id: 2, Refresh: &protocol.RefreshRequest{Token: tokenOf("bob")}})
		if code, err := r.end(); err != nil || code != 3500 {
			t.Errorf("%d, %v, want 3500", code, err)
		}
	})
}

// With tokens checked before the upgrade, a client without a right one gets an answer
// in HTTP, and no connection.
func TestUpgradeAuth(t *testing.T) {
	t.Parallel()
	g := start(t, withAudience+"upgrade-auth: true\n", "--memory")
	bearer := func(token string) string { return "Authorization: Bearer " + token }
	for _, c := range append(badTokens(nil), badToken{name: "none"}) {
		var header []string
		if c.token != "" {
			header = []string{bearer(c.token)}
		}
		_, err := dial(g.address, true, header...)
		var no *refused
		if !errors.As(err, &no) || no.status != http.StatusUnauthorized {
			t.Errorf("%s: %v, want 401", c.name, err)
		}
	}
	ann := token(claims{"sub": "ann", "aud": audience})
	r, err := dial(g.address, true, bearer(ann))
	if err != nil {
		t.Fatal(err)
	}
	defer r.conn.Close()
	if _, err := r.connect(""); err != nil { // the upgrade's token is enough
		t.Error(err)
	}
	g.must(t, "block_user", object{"user": "ann"}, nil)
	_, err = dial(g.address, true, bearer(ann))
	var no *refused
	if !errors.As(err, &no) || no.status != http.StatusForbidden {
		t.Errorf("a blocked user: %v, want 403", err)
	}
	if _, err := dial(g.address, true, bearer(token(claims{"sub": "bob", "aud": audience})), "Origin: http://elsewhere.example"); !errors.As(err, &no) || no.status != http.StatusForbidden {
		t.Errorf("a foreign origin: %v, want 403", err)
	}
}
