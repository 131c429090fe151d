package auth

import (
	"context"
	"crypto"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

// keyServer serves a JWKS that changes, and counts who asks.
type keyServer struct {
	*httptest.Server

	mu      sync.Mutex
	set     *jwkset.MemoryJWKSet
	down    bool
	fetches int
}

func serveKeys(t *testing.T) *keyServer {
	s := &keyServer{set: jwkset.NewMemoryStorage()}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fetches++
		if s.down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		b, err := s.set.JSONPublic(r.Context())
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) add(t *testing.T, kid string, alg jwkset.ALG, key crypto.Signer) {
	t.Helper()
	jwk, err := jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid, ALG: alg}})
	if err == nil {
		err = s.set.KeyWrite(context.Background(), jwk)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *keyServer) turn(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *keyServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches
}

// waitOver makes the next fetch for an unknown key possible at once.
func waitOver(v *Verifier) {
	v.fetching.Lock()
	defer v.fetching.Unlock()
	v.fetched = rate.NewLimiter(rate.Every(jwksWait), 1)
}

func check(t *testing.T, v *Verifier, want string, m jwt.SigningMethod, key any, kid string) {
	t.Helper()
	_, err := v.Connect(t.Context(), signed(t, m, key, kid, jwt.MapClaims{"sub": "ann"}))
	if got := label(err); got != want {
		t.Errorf("%s by %q: got %q (%v), want %q", m.Alg(), kid, got, err, want)
	}
}

func TestJWKS(t *testing.T) {
	s := serveKeys(t)
	s.add(t, "rsa", jwkset.AlgRS256, rsaKey)
	s.add(t, "any", "", rsaKey)
	s.add(t, "ec", "", p256)
	s.add(t, "ed", "", edKey)
	v := verifier(t, Options{JWKSURL: s.URL})

	check(t, v, "", jwt.SigningMethodRS256, rsaKey, "rsa")
	check(t, v, "", jwt.SigningMethodRS512, rsaKey, "any")
	check(t, v, "", jwt.SigningMethodES256, p256, "ec")
	check(t, v, "", jwt.SigningMethodEdDSA, edKey, "ed")
	check(t, v, "algorithm", jwt.SigningMethodRS512, rsaKey, "rsa") // the key says RS256
	check(t, v, "algorithm", jwt.SigningMethodHS256, secret, "any")
	check(t, v, "algorithm", jwt.SigningMethodES384, p384, "ec")
	check(t, v, "algorithm", jwt.SigningMethodPS256, rsaKey, "any")
	check(t, v, "algorithm", jwt.SigningMethodNone, noneKey, "any")
	check(t, v, "algorithm", jwt.SigningMethodNone, noneKey, "unknown")
	check(t, v, "signature", jwt.SigningMethodRS256, otherRSA, "rsa")
	check(t, v, "unknown_key", jwt.SigningMethodRS256, rsaKey, "")
	if n := s.count(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

func TestJWKSRotation(t *testing.T) {
	s := serveKeys(t)
	s.add(t, "old", "", rsaKey)
	v := verifier(t, Options{JWKSURL: s.URL})
	s.add(t, "new", "", otherRSA)

	var wg sync.WaitGroup
	for range 20 { // all wait for one fetch
		wg.Go(func() { check(t, v, "", jwt.SigningMethodRS256, otherRSA, "new") })
	}
	wg.Wait()
	if n := s.count(); n != 2 {
		t.Errorf("%d fetches, want one at the start and one for the new key", n)
	}
	for range 20 { // guesses fetch nothing more
		check(t, v, "unknown_key", jwt.SigningMethodRS256, otherRSA, "guess")
	}
	if n := s.count(); n != 2 {
		t.Errorf("%d fetches, unknown keys are not limited", n)
	}
	check(t, v, "", jwt.SigningMethodRS256, rsaKey, "old")
}

func TestJWKSDown(t *testing.T) {
	s := serveKeys(t)
	s.turn(true)
	v := verifier(t, Options{JWKSURL: s.URL})
	check(t, v, "keys", jwt.SigningMethodRS256, rsaKey, "rsa")
	check(t, v, "keys", jwt.SigningMethodRS256, rsaKey, "rsa") // though nothing is fetched now

	s.add(t, "rsa", "", rsaKey)
	s.turn(false)
	waitOver(v)
	check(t, v, "", jwt.SigningMethodRS256, rsaKey, "rsa")

	s.turn(true) // keys that are known stay
	waitOver(v)
	check(t, v, "keys", jwt.SigningMethodRS256, rsaKey, "later")
	check(t, v, "", jwt.SigningMethodRS256, rsaKey, "rsa")

	s.turn(false)
	waitOver(v)
	check(t, v, "unknown_key", jwt.SigningMethodRS256, rsaKey, "later")
}

// A client that goes away does not end the fetch that others wait for.
func TestJWKSClientGone(t *testing.T) {
	s := serveKeys(t)
	v := verifier(t, Options{JWKSURL: s.URL})
	s.add(t, "rsa", "", rsaKey)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = v.Connect(ctx, signed(t, jwt.SigningMethodRS256, rsaKey, "rsa", jwt.MapClaims{"sub": "ann"}))
	check(t, v, "", jwt.SigningMethodRS256, rsaKey, "rsa")
	if n := s.count(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
}

func TestJWKSRefresh(t *testing.T) {
	s := serveKeys(t)
	s.add(t, "gone", "", rsaKey)
	v := verifier(t, Options{JWKSURL: s.URL, JWKSTTL: time.Millisecond})
	check(t, v, "", jwt.SigningMethodRS256, rsaKey, "gone")
	s.mu.Lock()
	_, err := s.set.KeyDelete(t.Context(), "gone")
	n := s.fetches
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for s.count() < n+2 { // the second that began after the key went has been read when a third begins
		time.Sleep(time.Millisecond)
	}
	for n = s.count(); s.count() == n; {
		time.Sleep(time.Millisecond)
	}
	check(t, v, "unknown_key", jwt.SigningMethodRS256, rsaKey, "gone")
}

// Keys of one's own besides a JWKS.
func TestJWKSAndSecret(t *testing.T) {
	s := serveKeys(t)
	s.add(t, "rsa", "", rsaKey)
	v := verifier(t, Options{JWKSURL: s.URL, HMACSecret: string(secret)})
	check(t, v, "", jwt.SigningMethodRS256, rsaKey, "rsa")
	check(t, v, "", jwt.SigningMethodHS256, secret, "")
	check(t, v, "", jwt.SigningMethodHS256, secret, "mine")
	check(t, v, "algorithm", jwt.SigningMethodHS256, []byte(publicPEM(t, rsaKey)), "rsa")
	other := make([]byte, 32)
	_, _ = rand.Read(other)
	check(t, v, "signature", jwt.SigningMethodHS256, other, "")
}
