package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strconv"
	"time"

	"roost/internal/certs"
	"roost/internal/setting"
)

// Certificates returns where those of TLS come from.
func (c *Config) Certificates() certs.Options {
	o := certs.Options{ACME: certs.ACME{Hosts: c.ACMEHosts, CacheDir: c.ACMEDir, Email: c.ACMEEmail, Directory: c.ACMEDirectory}}
	for i, file := range c.TLSCert {
		if i < len(c.TLSKey) {
			o.Pairs = append(o.Pairs, certs.Pair{Certificate: file, Key: c.TLSKey[i]})
		}
	}
	return o
}

// InternalCertificates returns those of the internal address; without pairs it speaks plain HTTP.
func (c *Config) InternalCertificates() (o certs.Options) {
	if c.InternalTLSCert != "" {
		o.Pairs = []certs.Pair{{Certificate: c.InternalTLSCert, Key: c.InternalTLSKey}}
	}
	return o
}

// Doubts are settings that work, but are probably not meant so where others can reach this machine.
func (c *Config) Doubts() (all []string) {
	if addr, err := net.ResolveTCPAddr("tcp", c.InternalAddress); err == nil && !addr.IP.IsLoopback() && c.InternalTLSCert == "" {
		all = append(all, fmt.Sprintf("--internal-address %s can be reached from other machines and speaks plain HTTP: keys and passwords can be read on the way; "+
			"give --internal-tls-cert, or keep it on a private network", c.InternalAddress))
	}
	return all
}

// Secure reports whether there are certificates, and so clients over TLS.
func (c *Config) Secure() bool { return len(c.TLSCert)+len(c.ACMEHosts) > 0 }

// Addresses returns those for clients without TLS and with it; "" where there is none.
func (c *Config) Addresses() (plain, secure string) {
	switch {
	case !c.Secure():
		return c.Address, ""
	case c.TLSAddress == "":
		return "", c.Address
	}
	return c.Address, c.TLSAddress
}

// tls tells what keeps TLS from being spoken.
func (c *Config) tls() (all []error) {
	wrong := func(err error, names ...string) { all = append(all, c.wrong(err, names...)) }
	if len(c.TLSCert) != len(c.TLSKey) {
		wrong(fmt.Errorf("--tls-cert is there %d times and --tls-key %d times: each certificate needs its key, in the same order", len(c.TLSCert), len(c.TLSKey)),
			"tls-cert", "tls-key")
	}
	for i, p := range c.Certificates().Pairs {
		if _, err := p.Load(); err != nil {
			all = append(all, c.place(setting.At(fmt.Errorf("--tls-cert, --tls-key: %w", err), "tls-cert", strconv.Itoa(i))))
		}
	}
	switch {
	case (c.InternalTLSCert == "") != (c.InternalTLSKey == ""):
		wrong(errors.New("--internal-tls-cert and --internal-tls-key go together: give both or none"), "internal-tls-cert", "internal-tls-key")
	case c.InternalTLSCert != "":
		if _, err := c.InternalCertificates().Pairs[0].Load(); err != nil {
			wrong(fmt.Errorf("--internal-tls-cert, --internal-tls-key: %w", err), "internal-tls-cert")
		}
	}
	if len(c.ACMEHosts) > 0 {
		if err := c.Certificates().ACME.Validate(); err != nil {
			wrong(fmt.Errorf("--acme-hosts, --acme-dir: %w", err), "acme-hosts")
		} else if err := usable(c.ACMEDir); err != nil {
			wrong(fmt.Errorf("--acme-dir: %w", err), "acme-dir")
		}
		if !c.ACMEAcceptTerms {
			wrong(errors.New("--acme-hosts needs --acme-accept-terms: the authority wants its terms of service accepted"), "acme-hosts")
		}
	} else if c.ACMEDir != "" || c.ACMEEmail != "" || c.ACMEDirectory != "" || c.ACMEAcceptTerms {
		wrong(errors.New("--acme-dir, --acme-email, --acme-directory and --acme-accept-terms mean nothing without --acme-hosts"),
			"acme-dir", "acme-email", "acme-directory", "acme-accept-terms")
	}
	if u, err := url.Parse(c.ACMEDirectory); c.ACMEDirectory != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		wrong(fmt.Errorf("--acme-directory %q must be https", c.ACMEDirectory), "acme-directory")
	}
	if _, err := mail.ParseAddress(c.ACMEEmail); c.ACMEEmail != "" && err != nil {
		wrong(fmt.Errorf("--acme-email %q must be like ops@example.com", c.ACMEEmail), "acme-email")
	}
	if c.TLSAddress != "" && !c.Secure() {
		wrong(errors.New("--tls-address needs certificates: --tls-cert with --tls-key, or --acme-hosts"), "tls-address")
	}
	return all
}

// Expired warns of certificates that clients will not trust at the given time.
func (c *Config) Expired(now time.Time) (warnings []string) {
	for _, p := range append(c.Certificates().Pairs, c.InternalCertificates().Pairs...) {
		leaf, err := p.Load()
		switch {
		case err != nil: // a problem, told elsewhere
		case now.After(leaf.NotAfter):
			warnings = append(warnings, fmt.Sprintf("%s: the certificate has expired on %s", p.Certificate, leaf.NotAfter.Format(time.DateOnly)))
		case now.Before(leaf.NotBefore):
			warnings = append(warnings, fmt.Sprintf("%s: the certificate is not valid before %s", p.Certificate, leaf.NotBefore.Format(time.DateOnly)))
		}
	}
	return warnings
}
