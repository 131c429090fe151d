package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// keys of all kinds, made once.
var (
	rsaKey, _   = rsa.GenerateKey(rand.Reader, 2048)
	otherRSA, _ = rsa.GenerateKey(rand.Reader, 2048)
	p256, _     = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _     = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _     = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, edKey, _ = ed25519.GenerateKey(rand.Reader)
	secret      = []byte("a shared secret")
	noneKey     = jwt.UnsafeAllowNoneSignatureType
)

func publicPEM(t testing.TB, key crypto.Signer) string {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
}

func verifier(t testing.TB, o Options) *Verifier {
	t.Helper()
	o.Logger = quiet
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// signed makes a token; header and claims may hold anything.
func signed(t testing.TB, m jwt.SigningMethod, key any, kid string, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(m, claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func label(err error) string {
	var i *InvalidError
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrExpired):
		return "expired"
	case errors.Is(err, ErrKeys):
		return "keys"
	case errors.As(err, &i):
		return i.Label
	}
	return err.Error()
}

func TestAlgorithms(t *testing.T) {
	hmac := Options{HMACSecret: string(secret)}
	rs := Options{RSAPublicKey: publicPEM(t, rsaKey)}
	es := Options{ECDSAPublicKey: publicPEM(t, p256)}
	ed := Options{Ed25519PublicKey: publicPEM(t, edKey)}
	all := Options{HMACSecret: string(secret), RSAPublicKey: rs.RSAPublicKey, ECDSAPublicKey: publicPEM(t, p384), Ed25519PublicKey: ed.Ed25519PublicKey}
	for _, c := range []struct {
		name string
		o    Options
		m    jwt.SigningMethod
		key  any
		want string
	}{
		{"HS256", hmac, jwt.SigningMethodHS256, secret, ""},
		{"HS384", hmac, jwt.SigningMethodHS384, secret, ""},
		{"HS512", all, jwt.SigningMethodHS512, secret, ""},
		{"RS256", rs, jwt.SigningMethodRS256, rsaKey, ""},
		{"RS384", rs, jwt.SigningMethodRS384, rsaKey, ""},
		{"RS512", all, jwt.SigningMethodRS512, rsaKey, ""},
		{"ES256", es, jwt.SigningMethodES256, p256, ""},
		{"ES384", all, jwt.SigningMethodES384, p384, ""},
		{"ES512", Options{ECDSAPublicKey: publicPEM(t, p521)}, jwt.SigningMethodES512, p521, ""},
		{"EdDSA", ed, jwt.SigningMethodEdDSA, edKey, ""},
		{"EdDSA of many", all, jwt.SigningMethodEdDSA, edKey, ""},
		{"none", hmac, jwt.SigningMethodNone, noneKey, "algorithm"},
		{"none, all keys", all, jwt.SigningMethodNone, noneKey, "algorithm"},
		{"wrong secret", hmac, jwt.SigningMethodHS256, []byte("guess"), "signature"},
		{"empty secret", hmac, jwt.SigningMethodHS256, []byte{}, "signature"},
		{"wrong RSA key", rs, jwt.SigningMethodRS256, otherRSA, "signature"},
		{"public key as secret", rs, jwt.SigningMethodHS256, []byte(rs.RSAPublicKey), "algorithm"},
		{"public key as one of many secrets", all, jwt.SigningMethodHS256, []byte(rs.RSAPublicKey), "signature"},
		{"PSS", rs, jwt.SigningMethodPS256, rsaKey, "algorithm"},
		{"no such kind of key", hmac, jwt.SigningMethodRS256, rsaKey, "algorithm"},
		{"another curve", es, jwt.SigningMethodES384, p384, "algorithm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := verifier(t, c.o).Connect(t.Context(), signed(t, c.m, c.key, "", jwt.MapClaims{"sub": "ann"}))
			if got := label(err); got != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	now := time.Now().Unix()
	v := verifier(t, Options{HMACSecret: string(secret), Audience: "chat", Issuer: "shop"})
	for _, c := range []struct {
		name   string
		claims jwt.MapClaims // besides sub, aud and iss
		want   string
	}{
		{"right", jwt.MapClaims{"exp": now + 60, "nbf": now - 60, "iat": now - 60}, ""},
		{"for ever", nil, ""},
		{"one of many audiences", jwt.MapClaims{"aud": []string{"mail", "chat"}}, ""},
		{"expired", jwt.MapClaims{"exp": now - 1}, "expired"},
		{"expired and for others", jwt.MapClaims{"exp": now - 1, "aud": "mail"}, "audience"},
		{"not yet", jwt.MapClaims{"nbf": now + 60}, "not_yet"},
		{"issued by a clock that is ahead", jwt.MapClaims{"iat": now + 60}, ""},
		{"another audience", jwt.MapClaims{"aud": "mail"}, "audience"},
		{"no audience", jwt.MapClaims{"aud": nil, "exp": now - 1}, "claims"},
		{"another issuer", jwt.MapClaims{"iss": "mallory"}, "issuer"},
		{"no issuer", jwt.MapClaims{"iss": nil}, "claims"},
		{"sub a number", jwt.MapClaims{"sub": 5}, "malformed"},
		{"exp a string", jwt.MapClaims{"exp": "tomorrow"}, "malformed"},
		{"exp beyond time", jwt.MapClaims{"exp": 1e11}, "claims"},
		{"expire_at negative", jwt.MapClaims{"expire_at": -5}, "claims"},
		{"expire_at beyond time", jwt.MapClaims{"expire_at": int64(1) << 40}, "claims"},
		{"b64info", jwt.MapClaims{"b64info": "!"}, "claims"},
		{"data of a subscription", jwt.MapClaims{"subs": map[string]any{"c": map[string]any{"b64data": "!"}}}, "claims"},
		{"info of a subscription", jwt.MapClaims{"subs": map[string]any{"c": map[string]any{"b64info": "!"}}}, "claims"},
		{"channels a string", jwt.MapClaims{"channels": "news"}, "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims := jwt.MapClaims{"sub": "ann", "aud": "chat", "iss": "shop"}
			maps.Copy(claims, c.claims)
			maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
			_, err := v.Connect(t.Context(), signed(t, jwt.SigningMethodHS256, secret, "", claims))
			if got := label(err); got != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	v := verifier(t, Options{HMACSecret: string(secret)})
	good := signed(t, jwt.SigningMethodHS256, secret, "", jwt.MapClaims{"sub": "ann"})
	b64 := base64.RawURLEncoding.EncodeToString
	for token, want := range map[string]string{
		"":                                   "malformed",
		"a.b":                                "malformed",
		"..":                                 "malformed",
		good + ".x":                          "malformed",
		good[:len(good)-3]:                   "signature",
		"Bearer " + good:                     "malformed",
		b64([]byte("{}")) + ".e30.":          "algorithm",
		b64([]byte(`{"alg":"X"}`)) + ".e30.": "algorithm",
		b64([]byte(`{"alg":5}`)) + ".e30.":   "algorithm",
		b64([]byte(`{"alg":"HS256"}`)) + "." + b64([]byte("[]")) + ".": "malformed",
		strings.Repeat("a", tokenSize+1):                               "malformed",
	} {
		if _, err := v.Connect(t.Context(), token); label(err) != want {
			t.Errorf("%.40q: %v, want %s", token, err, want)
		}
		if _, err := v.Subscribe(t.Context(), token); label(err) != want {
			t.Errorf("%.40q: %v, want %s", token, err, want)
		}
	}
	if _, err := v.Subscribe(t.Context(), good); label(err) != "claims" {
		t.Errorf("a connection token subscribes: %v", err)
	}
}

func TestLeeway(t *testing.T) {
	late := signed(t, jwt.SigningMethodHS256, secret, "", jwt.MapClaims{"sub": "ann", "exp": time.Now().Unix() - 30})
	for leeway, want := range map[time.Duration]string{0: "expired", time.Hour: ""} {
		if _, err := verifier(t, Options{HMACSecret: string(secret), Leeway: leeway}).Connect(t.Context(), late); label(err) != want {
			t.Errorf("%v: %v, want %q", leeway, err, want)
		}
	}
}

func TestExpireAt(t *testing.T) {
	exp := time.Now().Unix() + 60
	v := verifier(t, Options{HMACSecret: string(secret)})
	for _, c := range []struct {
		claims jwt.MapClaims
		want   int64
	}{
		{jwt.MapClaims{}, 0},
		{jwt.MapClaims{"exp": exp}, exp},
		{jwt.MapClaims{"exp": exp, "expire_at": 0}, 0},
		{jwt.MapClaims{"exp": exp, "expire_at": exp + 5}, exp + 5},
		{jwt.MapClaims{"expire_at": exp}, exp},
	} {
		c.claims["channel"] = "news"
		token := signed(t, jwt.SigningMethodHS256, secret, "", c.claims)
		conn, err := v.Connect(t.Context(), token)
		sub, err2 := v.Subscribe(t.Context(), token)
		if err != nil || err2 != nil || conn.ExpireAt != c.want || sub.ExpireAt != c.want {
			t.Errorf("%v: %d, %d, want %d (%v, %v)", c.claims, conn.ExpireAt, sub.ExpireAt, c.want, err, err2)
		}
	}
}

func TestOptions(t *testing.T) {
	rs := publicPEM(t, rsaKey)
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "no key"},
		{Options{RSAPublicKey: "hello"}, "RSA public key"},
		{Options{RSAPublicKey: publicPEM(t, p256)}, "RSA public key"},
		{Options{ECDSAPublicKey: rs}, "ECDSA public key"},
		{Options{Ed25519PublicKey: rs}, "Ed25519 public key"},
		{Options{JWKSURL: "keys.example"}, "JWKS URL"},
		{Options{JWKSURL: "file:///keys"}, "JWKS URL"},
		{Options{JWKSURL: "http://"}, "JWKS URL"},
	} {
		if _, err := New(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want one that says %q", c.o, err, c.want)
		}
		if enabled := c.o != (Options{}); c.o.Enabled() != enabled {
			t.Errorf("%+v: enabled is %v", c.o, !enabled)
		}
	}
}

func FuzzToken(f *testing.F) {
	v := verifier(f, Options{HMACSecret: string(secret), RSAPublicKey: publicPEM(f, rsaKey), ECDSAPublicKey: publicPEM(f, p256)})
	good := signed(f, jwt.SigningMethodHS256, secret, "k", jwt.MapClaims{"sub": "ann", "channel": "c", "exp": time.Now().Unix() + 3600,
		"subs": map[string]any{"c": map[string]any{"override": map[string]any{"presence": map[string]bool{"value": true}}}}})
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(signed(f, jwt.SigningMethodNone, noneKey, "", jwt.MapClaims{"sub": "ann"}))
	f.Add(signed(f, jwt.SigningMethodRS256, otherRSA, "", jwt.MapClaims{"sub": "ann"}))
	f.Add("")
	f.Add("e30.e30.e30")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Connect(context.Background(), token)
		if err == nil && c.User != "ann" {
			t.Fatalf("a token nobody signed: %q", token)
		}
		var i *InvalidError
		if err != nil && !errors.As(err, &i) && !errors.Is(err, ErrExpired) {
			t.Fatalf("an error of another type: %v", err)
		}
	})
}

// FuzzClaims signs what was not made by us, so that what is behind the signature is
// parsed, too.
func FuzzClaims(f *testing.F) {
	v := verifier(f, Options{HMACSecret: string(secret)})
	for _, s := range []string{`{}`, `{"sub":"ann","exp":1e300,"expire_at":-1}`, `{"channel":"c","info":null,"b64info":"AA=="}`,
		`{"subs":{"c":{"override":{"presence":{"value":true}}}}}`, `{"exp":null,"aud":[]}`, `[`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, claims string) {
		b64 := base64.RawURLEncoding.EncodeToString
		text := b64([]byte(`{"alg":"HS256"}`)) + "." + b64([]byte(claims))
		sig, err := jwt.SigningMethodHS256.Sign(text, secret)
		if err != nil {
			t.Fatal(err)
		}
		c, err := v.Connect(context.Background(), text+"."+b64(sig))
		if err == nil && (c.ExpireAt < 0 || c.ExpireAt > maxTime) {
			t.Errorf("expires at %d", c.ExpireAt)
		}
		if s, err := v.Subscribe(context.Background(), text+"."+b64(sig)); err == nil && s.Channel == "" {
			t.Error("subscribes to nothing")
		}
	})
}

func TestNegativeLeeway(t *testing.T) {
	if _, err := New(Options{HMACSecret: string(secret), Leeway: -time.Second}); err == nil || !strings.Contains(err.Error(), "-1s") {
		t.Error(err)
	}
}
