package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roost/internal/testcert"
)

// made is a self-signed certificate and its key, in PEM.
type made struct{ certificate, key []byte }

func makePair(t *testing.T, until time.Time, names ...string) made {
	t.Helper()
	certificate, key, err := testcert.New(until, names...)
	if err != nil {
		t.Fatal(err)
	}
	return made{certificate, key}
}

func inAYear() time.Time { return time.Now().AddDate(0, 6, 0).UTC().Truncate(time.Second) }

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// files writes a pair into a new directory.
func files(t *testing.T, m made) Pair {
	t.Helper()
	dir := t.TempDir()
	p := Pair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	write(t, p.Certificate, m.certificate)
	write(t, p.Key, m.key)
	return p
}

func open(t *testing.T, o Options) (*Source, *bytes.Buffer) {
	t.Helper()
	logged := new(bytes.Buffer)
	o.Logger = slog.New(slog.NewTextHandler(logged, nil))
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, logged
}

// served makes a whole handshake and returns the first name of the certificate that came.
func served(t *testing.T, s *Source, client *tls.Config) (string, error) {
	t.Helper()
	a, b := net.Pipe()
	defer func() { _ = a.Close() }()
	defer func() { _ = b.Close() }()
	failed := make(chan error, 1)
	go func() { failed <- tls.Server(a, s.Config()).Handshake(); _ = a.Close() }()
	client.InsecureSkipVerify = true
	conn := tls.Client(b, client)
	if err := conn.Handshake(); err != nil {
		_ = b.Close()
		return "", <-failed
	}
	_ = b.Close()
	<-failed // the ticket may find nobody reading, which is no matter
	return conn.ConnectionState().PeerCertificates[0].DNSNames[0], nil
}

func mustServe(t *testing.T, s *Source, asked, want string) {
	t.Helper()
	if got, err := served(t, s, &tls.Config{ServerName: asked}); err != nil || got != want {
		t.Errorf("asked for %s: served %q, %v; want %q", asked, got, err, want)
	}
}

func TestReload(t *testing.T) {
	old, fresh, other := makePair(t, inAYear(), "old.test"), makePair(t, inAYear(), "new.test"), makePair(t, inAYear(), "other.test")
	for _, c := range []struct {
		name             string
		certificate, key []byte // nil: the file is removed
		want, logged     string
	}{
		{"renewed", fresh.certificate, fresh.key, "new.test", "certificate reloaded"},
		{"not a certificate", []byte("half a fi"), old.key, "old.test", "failed to find any PEM data"},
		{"key of another", fresh.certificate, other.key, "old.test", "private key does not match public key"},
		{"key not yet replaced", fresh.certificate, old.key, "old.test", "private key does not match public key"},
		{"certificate gone", nil, old.key, "old.test", "no such file"},
		{"key gone", old.certificate, nil, "old.test", "no such file"},
		{"far too large", make([]byte, maxFileSize+1), old.key, "old.test", "at most"},
		{"unchanged", old.certificate, old.key, "old.test", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := files(t, old)
			s, logged := open(t, Options{Pairs: []Pair{p}})
			for name, content := range map[string][]byte{p.Certificate: c.certificate, p.Key: c.key} {
				if content != nil {
					write(t, name, content)
				} else if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				s.Reload()
			}
			mustServe(t, s, c.want, c.want)
			lines := strings.Count(logged.String(), "\n")
			if c.logged == "" && lines != 0 || c.logged != "" && (lines != 1 || !strings.Contains(logged.String(), c.logged)) {
				t.Errorf("logged %q, want %q once", logged, c.logged)
			}
			if c.logged != "" && !strings.Contains(logged.String(), filepath.Dir(p.Certificate)) {
				t.Errorf("logged %q, which names no file", logged)
			}
		})
	}
}

// TestReloadAfterTrouble: what was mended is taken, and the same trouble is told again afterwards.
func TestReloadAfterTrouble(t *testing.T) {
	fresh := makePair(t, inAYear(), "new.test")
	p := files(t, makePair(t, inAYear(), "old.test"))
	s, logged := open(t, Options{Pairs: []Pair{p}})
	for range 2 {
		write(t, p.Certificate, []byte("broken"))
		s.Reload()
		write(t, p.Certificate, fresh.certificate)
		write(t, p.Key, fresh.key)
		s.Reload()
	}
	mustServe(t, s, "new.test", "new.test")
	if n := strings.Count(logged.String(), "not reloaded"); n != 2 {
		t.Errorf("trouble was told %d times, want 2:\n%s", n, logged)
	}
}

func TestRunReloads(t *testing.T) {
	fresh := makePair(t, inAYear(), "new.test")
	p := files(t, makePair(t, inAYear(), "old.test"))
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, Options{Pairs: []Pair{p}})
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx)
		write(t, p.Certificate, fresh.certificate)
		write(t, p.Key, fresh.key)
		time.Sleep(2 * pollInterval)
		cancel()
		synctest.Wait()
		if got := (*s.serving.Load())[0].Leaf.DNSNames[0]; got != "new.test" {
			t.Errorf("serves %s after two looks", got)
		}
	})
}

func TestNames(t *testing.T) {
	s, _ := open(t, Options{Pairs: []Pair{
		files(t, makePair(t, inAYear(), "a.test", "aa.test")),
		files(t, makePair(t, inAYear(), "*.b.test")),
	}})
	for asked, want := range map[string]string{
		"a.test": "a.test", "AA.test": "a.test", "x.b.test": "*.b.test", "unknown.test": "a.test", "": "a.test",
	} {
		mustServe(t, s, asked, want)
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	s, _ := open(t, Options{Pairs: []Pair{files(t, makePair(t, inAYear(), "a.test"))}})
	if _, err := served(t, s, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil ||
		!strings.Contains(err.Error(), "unsupported versions") {
		t.Errorf("TLS 1.1: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := makePair(t, inAYear(), "a.test")
	pair := files(t, good)
	mixed := files(t, made{good.certificate, makePair(t, inAYear(), "b.test").key})
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, nil)
	for _, c := range []struct {
		want string
		o    Options
	}{
		{"neither", Options{}},
		{"private key does not match", Options{Pairs: []Pair{pair, mixed}}},
		{"no such file", Options{Pairs: []Pair{{pair.Certificate, dir + "/none"}}}},
		{"is no file", Options{Pairs: []Pair{{dir, pair.Key}}}},
		{"needs a directory", Options{ACME: ACME{Hosts: []string{"a.example.com"}}}},
		{"must be a full name", Options{ACME: ACME{Hosts: []string{"*.example.com"}, CacheDir: dir}}},
		{"must be a full name", Options{ACME: ACME{Hosts: []string{"localhost"}, CacheDir: dir}}},
		{"must be a full name", Options{ACME: ACME{Hosts: []string{"a.example.com:443"}, CacheDir: dir}}},
		{"not a directory", Options{ACME: ACME{Hosts: []string{"a.example.com"}, CacheDir: file + "/cache"}}},
	} {
		if _, err := Open(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Open(%+v): %v, want %q", c.o, err, c.want)
		}
	}
}

func TestValidityIsWarnedAbout(t *testing.T) {
	until := inAYear()
	now := until.AddDate(0, 0, -30)
	m := makePair(t, until, "a.test")
	s, logged := open(t, Options{Pairs: []Pair{files(t, m), files(t, makePair(t, until.AddDate(2, 0, 0), "b.test"))},
		now: func() time.Time { return now }})
	if !s.Expires().Equal(until) {
		t.Errorf("Expires is %v, want %v", s.Expires(), until)
	}
	check := func(day time.Time, want string, count int) {
		t.Helper()
		logged.Reset()
		now = day
		for range 3 {
			s.Reload()
		}
		if n := strings.Count(logged.String(), want); n != count {
			t.Errorf("on %v %q was logged %d times, want %d:\n%s", day, want, n, count, logged)
		}
	}
	check(until.AddDate(0, 0, -8), "expires soon", 0)
	check(until.AddDate(0, 0, -6), "expires soon", 1)
	check(until.AddDate(0, 0, -6).Add(time.Hour), "expires soon", 0)
	check(until.AddDate(0, 0, 1), "has expired", 1)
	mustServe(t, s, "a.test", "a.test") // an expired certificate is better than none

	now = until.AddDate(-2, 0, 0)
	_, logged = open(t, Options{Pairs: []Pair{files(t, m)}, now: func() time.Time { return now }})
	if !strings.Contains(logged.String(), "not valid yet") {
		t.Errorf("at start %q was logged", logged)
	}
}
