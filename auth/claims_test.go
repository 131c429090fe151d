package auth

import (
	"reflect"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The shape of tokens that backends make already.
func TestConnectToken(t *testing.T) {
	yes, no := true, false
	token := signed(t, jwt.SigningMethodHS256, secret, "", jwt.MapClaims{
		"sub": "ann", "jti": "t1", "iat": 1700000000, "info": map[string]any{"name": "Ann"}, "meta": map[string]any{"plan": 2},
		"channels": []string{"news"},
		"subs": map[string]any{
			"chat": map[string]any{"b64info": "/wA=", "data": []int{1}, "override": map[string]any{
				"presence": map[string]any{"value": true}, "join_leave": map[string]any{"value": false}, "force_push_join_leave": map[string]any{"value": true},
				"force_recovery": map[string]any{"value": true}, "force_positioning": map[string]any{"value": false}}},
			"plain": map[string]any{},
		},
	})
	got, err := verifier(t, Options{HMACSecret: string(secret)}).Connect(t.Context(), token)
	want := Connect{User: "ann", ID: "t1", IssuedAt: 1700000000, Info: []byte(`{"name":"Ann"}`), Meta: []byte(`{"plan":2}`), Channels: []string{"news"},
		Subs: map[string]SubOptions{
			"chat": {Info: []byte{0xff, 0}, Data: []byte("[1]"), Override: Override{Presence: &yes, JoinLeave: &no,
				ForcePushJoinLeave: &yes, ForceRecovery: &yes, ForcePositioning: &no}},
			"plain": {},
		}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestInfo(t *testing.T) {
	v := verifier(t, Options{HMACSecret: string(secret)})
	for name, c := range map[string]struct {
		claims jwt.MapClaims
		want   string
	}{
		"none":        {jwt.MapClaims{}, ""},
		"null":        {jwt.MapClaims{"info": nil}, ""},
		"JSON":        {jwt.MapClaims{"info": "x"}, `"x"`},
		"bytes":       {jwt.MapClaims{"b64info": "aGk="}, "hi"},
		"bytes first": {jwt.MapClaims{"info": 1, "b64info": "aGk="}, "hi"},
	} {
		c.claims["channel"] = "c"
		token := signed(t, jwt.SigningMethodHS256, secret, "", c.claims)
		conn, err := v.Connect(t.Context(), token)
		sub, err2 := v.Subscribe(t.Context(), token)
		if err != nil || err2 != nil || string(conn.Info) != c.want || string(sub.Info) != c.want {
			t.Errorf("%s: %q, %q, want %q (%v, %v)", name, conn.Info, sub.Info, c.want, err, err2)
		}
	}
}

func TestSign(t *testing.T) {
	yes := true
	o := Options{HMACSecret: string(secret), Audience: "chat", Issuer: "shop"}
	v := verifier(t, o)
	exp := time.Now().Unix() + 1000
	conn := Connect{User: "ann", ID: "t1", ExpireAt: exp, Info: []byte{0xff}, Meta: []byte("{}"), Channels: []string{"news"},
		Subs: map[string]SubOptions{"c": {Info: []byte("{}"), Data: []byte("bytes"), Override: Override{ForceRecovery: &yes}}, "d": {}}}
	token, err := o.SignConnect(conn, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	gotConn, err := v.Connect(t.Context(), token)
	conn.IssuedAt = gotConn.IssuedAt
	if err != nil || gotConn.IssuedAt == 0 || !reflect.DeepEqual(gotConn, conn) {
		t.Errorf("got %+v, %v\nwant %+v", gotConn, err, conn)
	}
	sub := Subscribe{User: "ann", Channel: "news", ID: "t2", ExpireAt: exp, Info: []byte(`{"a":1}`), Override: Override{Presence: &yes}}
	if token, err = o.SignSubscribe(sub, 0); err != nil {
		t.Fatal(err)
	}
	gotSub, err := v.Subscribe(t.Context(), token)
	sub.IssuedAt = gotSub.IssuedAt
	if err != nil || !reflect.DeepEqual(gotSub, sub) {
		t.Errorf("got %+v, %v\nwant %+v", gotSub, err, sub)
	}
	if token, err = SignConnect(string(secret), Connect{User: "ann"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err = v.Connect(t.Context(), token); label(err) == "" {
		t.Error("a token for nobody in particular is taken")
	}
	if _, err = SignSubscribe("", sub, 0); err == nil {
		t.Error("signed without a secret")
	}
}
