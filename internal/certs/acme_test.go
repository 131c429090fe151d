package certs

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/acme"
)

// TestACME drives autocert as it is wired here: a cached certificate is served, another host of the list is asked for at
// the directory given, and a name that is not on the list never is.
func TestACME(t *testing.T) {
	var asked atomic.Int32
	authority := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(authority.Close)
	cache := filepath.Join(t.TempDir(), "new", "cache")
	a := ACME{Hosts: []string{"cached.test", "Fresh.test"}, CacheDir: cache, Directory: authority.URL, client: authority.Client()}
	s, _ := open(t, Options{ACME: a})
	if info, err := os.Stat(cache); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("cache directory: %v, %v; want mode 0700", info, err)
	}
	m := makePair(t, inAYear(), "cached.test")
	write(t, filepath.Join(cache, "cached.test"), slices.Concat(m.key, m.certificate))

	mustServe(t, s, "cached.test", "cached.test")
	if _, err := served(t, s, &tls.Config{ServerName: "stranger.test"}); err == nil || asked.Load() != 0 {
		t.Errorf("a name not on the list: %v after %d requests to the authority", err, asked.Load())
	}
	if _, err := served(t, s, &tls.Config{ServerName: "fresh.test"}); err == nil || asked.Load() == 0 {
		t.Errorf("a new name: %v after %d requests to the authority", err, asked.Load())
	}
}

// TestACMEBesideFiles: names of the list are ACME's, all others are served from files.
func TestACMEBesideFiles(t *testing.T) {
	cache := t.TempDir()
	s, _ := open(t, Options{
		Pairs: []Pair{files(t, makePair(t, inAYear(), "file.test"))},
		ACME:  ACME{Hosts: []string{"cached.test"}, CacheDir: cache},
	})
	m := makePair(t, inAYear(), "cached.test")
	write(t, filepath.Join(cache, "cached.test"), slices.Concat(m.key, m.certificate))
	mustServe(t, s, "cached.test", "cached.test")
	mustServe(t, s, "file.test", "file.test")
	mustServe(t, s, "stranger.test", "file.test")
}

// TestACMEChallenges: both challenges reach the manager, and nothing of them is there while ACME is off.
func TestACMEChallenges(t *testing.T) {
	pair := files(t, makePair(t, inAYear(), "file.test"))
	off, _ := open(t, Options{Pairs: []Pair{pair}})
	cache := t.TempDir()
	on, _ := open(t, Options{Pairs: []Pair{pair}, ACME: ACME{Hosts: []string{"a.test"}, CacheDir: cache}})
	write(t, filepath.Join(cache, "token+http-01"), []byte("token.thumbprint"))

	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for _, c := range []struct {
		source *Source
		path   string
		status int
		body   string
	}{
		{on, "/.well-known/acme-challenge/token", http.StatusOK, "token.thumbprint"},
		{on, "/.well-known/acme-challenge/other", http.StatusNotFound, "acme/autocert: certificate cache miss\n"},
		{on, "/elsewhere", http.StatusTeapot, ""},
		{off, "/.well-known/acme-challenge/token", http.StatusTeapot, ""},
	} {
		w := httptest.NewRecorder()
		c.source.HTTPHandler(next).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://a.test"+c.path, nil))
		if w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("%s: %d %q, want %d %q", c.path, w.Code, w.Body, c.status, c.body)
		}
	}

	challenge := makePair(t, inAYear(), "a.test")
	write(t, filepath.Join(cache, "a.test+token"), bytes.Join([][]byte{challenge.key, challenge.certificate}, nil))
	hello := &tls.Config{ServerName: "a.test", NextProtos: []string{acme.ALPNProto}}
	if got, err := served(t, on, hello.Clone()); err != nil || got != "a.test" {
		t.Errorf("TLS-ALPN-01: served %q, %v", got, err)
	}
	if _, err := served(t, off, hello.Clone()); err == nil || !strings.Contains(err.Error(), "unsupported application protocols") {
		t.Errorf("TLS-ALPN-01 without ACME: %v", err)
	}
}
