package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACME obtains certificates from an authority when a client first asks for one of Hosts, and renews them. To turn it on
// is to accept the authority's terms of service.
type ACME struct {
	Hosts     []string // exact names; no other name is ever asked for
	CacheDir  string   // where account and certificates are kept; holds private keys
	Email     string   // optional: where the authority sends its warnings
	Directory string   // the authority's directory URL; default: Let's Encrypt

	client *http.Client // replaced by tests
}

// Validate returns what is wrong with it; it looks at nothing outside.
func (a ACME) Validate() error {
	if a.CacheDir == "" {
		return errors.New("certs: ACME needs a directory that keeps its certificates: authorities limit how many they give")
	}
	for _, host := range a.Hosts {
		if host == "" || strings.ContainsAny(host, "*:/ ") || !strings.Contains(host, ".") {
			return fmt.Errorf("certs: ACME host %q must be a full name such as chat.example.com, without port or wildcard", host)
		}
	}
	return nil
}

func (s *Source) openACME(a ACME) error {
	if err := a.Validate(); err != nil {
		return err
	}
	// autocert would notice only at the first certificate it wants to keep.
	if err := os.MkdirAll(a.CacheDir, 0o700); err != nil {
		return fmt.Errorf("certs: create ACME directory: %w", err)
	}
	s.hosts = make(map[string]bool, len(a.Hosts))
	for _, host := range a.Hosts {
		s.hosts[strings.ToLower(host)] = true
	}
	s.manager = &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		Cache:      autocert.DirCache(a.CacheDir),
		HostPolicy: autocert.HostWhitelist(a.Hosts...),
		Email:      a.Email,
		Client:     &acme.Client{DirectoryURL: a.Directory, HTTPClient: a.client, UserAgent: "roost"},
	}
	if a.Directory == "" {
		s.manager.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	return nil
}

// forACME reports whether the manager is to answer: an authority's own TLS-ALPN-01 challenge (RFC 8737), or one of the
// hosts, whatever the files hold. Names of neither are left to the files.
func (s *Source) forACME(hello *tls.ClientHelloInfo) bool {
	if s.manager == nil {
		return false
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	return s.hosts[name] || slices.Contains(hello.SupportedProtos, acme.ALPNProto)
}
