// Package certs is where the listeners' certificates come from: files that are read again when they change, and, if
// asked for, an ACME authority such as Let's Encrypt (RFC 8555).
package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

const (
	pollInterval = 5 * time.Second    // between two looks at the files
	warnInterval = 24 * time.Hour     // between two warnings about the same certificate
	soon         = 7 * 24 * time.Hour // an end of validity closer than this is warned about
	maxFileSize  = 1 << 20            // bytes; a chain takes some 10 KB
)

// Pair names a certificate (PEM, the leaf first, then its chain) and its key (PEM).
type Pair struct{ Certificate, Key string }

// Options of a Source.
type Options struct {
	// Pairs are the certificates from files. A client gets the first one that fits the name it asks for and the
	// algorithms it knows, or the first of all.
	Pairs []Pair
	// ACME is off while it names no hosts.
	ACME ACME
	// Logger gets what an operator must know. Default: slog.Default().
	Logger *slog.Logger

	now func() time.Time // replaced by tests
}

// A Source hands certificates to TLS handshakes. All methods may be called from any goroutine.
type Source struct {
	logger  *slog.Logger
	now     func() time.Time
	manager *autocert.Manager // nil without ACME
	hosts   map[string]bool   // those of ACME

	failures atomic.Uint64
	serving  atomic.Pointer[[]*tls.Certificate] // in the order of the pairs

	mu    sync.Mutex // guards pairs
	pairs []*watched
}

// watched is a pair and what is known of its files.
type watched struct {
	Pair
	certificate, key []byte           // what good was made from
	good             *tls.Certificate // the newest that could be used
	trouble          string           // what was logged about the last look
	warned           time.Time        // when its validity was last warned about
}

// Open reads all pairs once. A pair that cannot be served is an error here; later it is only logged.
func Open(o Options) (*Source, error) {
	if len(o.Pairs) == 0 && len(o.ACME.Hosts) == 0 {
		return nil, errors.New("certs: neither certificate files nor ACME hosts are given")
	}
	s := &Source{logger: o.Logger, now: o.now}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, p := range o.Pairs {
		w := &watched{Pair: p}
		if _, err := w.look(); err != nil {
			return nil, err
		}
		s.pairs = append(s.pairs, w)
	}
	if len(o.ACME.Hosts) > 0 {
		if err := s.openACME(o.ACME); err != nil {
			return nil, err
		}
	}
	s.publish() // nobody else has s yet
	s.warn()
	return s, nil
}

// Run looks at the files every few seconds until ctx ends.
func (s *Source) Run(ctx context.Context) {
	for ticker := time.NewTicker(pollInterval); ; {
		select {
		case <-ctx.Done():
			ticker.Stop()
			return
		case <-ticker.C:
			s.Reload()
		}
	}
}

// Reload looks at the files now. A pair that has become unusable keeps what it served before, and the reason is logged
// once for each reason. Certificates that are no longer valid, or not for long, are warned about daily.
func (s *Source) Reload() {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	for _, w := range s.pairs {
		fresh, err := w.look()
		switch {
		case err != nil && err.Error() != w.trouble:
			s.logger.Error("certificate not reloaded, the old one stays in use", "error", err)
			w.trouble = err.Error()
			s.failures.Add(1)
		case err == nil:
			w.trouble = ""
		}
		if fresh {
			changed = true
			s.logger.Info("certificate reloaded", "file", w.Certificate, "names", w.good.Leaf.DNSNames, "expires", w.good.Leaf.NotAfter)
		}
	}
	if changed {
		s.publish()
	}
	s.warn()
}

// publish is called with mu held.
func (s *Source) publish() {
	serving := make([]*tls.Certificate, len(s.pairs))
	for i, w := range s.pairs {
		serving[i] = w.good
	}
	s.serving.Store(&serving)
}

// warn is called with mu held.
func (s *Source) warn() {
	now := s.now()
	for _, w := range s.pairs {
		said := ""
		switch leaf := w.good.Leaf; {
		case now.After(leaf.NotAfter):
			said = "certificate has expired"
		case now.Before(leaf.NotBefore):
			said = "certificate is not valid yet"
		case now.Add(soon).After(leaf.NotAfter):
			said = "certificate expires soon"
		}
		if said != "" && (w.warned.IsZero() || now.Sub(w.warned) >= warnInterval) {
			w.warned = now
			s.logger.Warn(said, "file", w.Certificate, "from", w.good.Leaf.NotBefore, "until", w.good.Leaf.NotAfter)
		}
	}
}

// Expires returns the earliest end of validity among the certificates from files; zero if there are none.
func (s *Source) Expires() time.Time {
	var first time.Time
	for _, c := range *s.serving.Load() {
		if first.IsZero() || c.Leaf.NotAfter.Before(first) {
			first = c.Leaf.NotAfter
		}
	}
	return first
}

// Served is a certificate from a file that clients get.
type Served struct {
	File     string
	NotAfter time.Time
}

// Served returns the certificates from files, in the order of the pairs.
func (s *Source) Served() []Served {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Served, len(s.pairs))
	for i, w := range s.pairs {
		all[i] = Served{w.Certificate, w.good.Leaf.NotAfter}
	}
	return all
}

// Failures counts the reasons for which a changed certificate was not taken.
func (s *Source) Failures() uint64 { return s.failures.Load() }

// Load reads the pair and returns its leaf, or why it cannot be served.
func (p Pair) Load() (*x509.Certificate, error) {
	w := &watched{Pair: p}
	if _, err := w.look(); err != nil {
		return nil, err
	}
	return w.good.Leaf, nil
}

// look reads the files and takes them if they changed and are whole. It compares what they hold: times are coarse, and
// kept by tools that copy.
func (w *watched) look() (fresh bool, err error) {
	certificate, err := readFile(w.Certificate)
	if err != nil {
		return false, fmt.Errorf("certs: read certificate: %w", err)
	}
	key, err := readFile(w.Key)
	if err != nil {
		return false, fmt.Errorf("certs: read key: %w", err)
	}
	if w.trouble == "" && bytes.Equal(certificate, w.certificate) && bytes.Equal(key, w.key) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return false, fmt.Errorf("certs: %s with %s: %w", w.Certificate, w.Key, err)
	}
	w.certificate, w.key, w.good, w.warned = certificate, key, &pair, time.Time{}
	return true, nil
}

func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileSize {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", name, maxFileSize)
	}
	return os.ReadFile(name)
}

// Config returns a server's configuration that always uses the newest certificates: TLS 1.2 or newer, HTTP/1.1.
func (s *Source) Config() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: s.certificate}
	if s.manager != nil {
		c.NextProtos = append(c.NextProtos, acme.ALPNProto)
	}
	return c
}

// HTTPHandler answers ACME's HTTP-01 challenges (RFC 8555, 8.3), which come to port 80, and leaves the rest to next.
func (s *Source) HTTPHandler(next http.Handler) http.Handler {
	if s.manager == nil {
		return next
	}
	return s.manager.HTTPHandler(next)
}

func (s *Source) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s.forACME(hello) {
		return s.manager.GetCertificate(hello)
	}
	serving := *s.serving.Load()
	for _, c := range serving {
		if hello.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	if len(serving) == 0 {
		return nil, fmt.Errorf("certs: no certificate for %q", hello.ServerName)
	}
	return serving[0], nil
}
