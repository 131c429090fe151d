package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"roost/internal/certs"
	"roost/internal/config"
	"roost/poller/ktls"
)

// handshakeDescriptors are those of as many handshakes as there may be at once.
const handshakeDescriptors = 2 * 1024

// certificates are the process's, if it has any.
type certificates struct {
	source *certs.Source
	stop   context.CancelFunc
}

// openCertificates reads those of the configuration, if there are any, and again when they change.
func openCertificates(o certs.Options, log *slog.Logger) (*certificates, error) {
	if len(o.Pairs)+len(o.ACME.Hosts) == 0 {
		return nil, nil
	}
	o.Logger = log
	source, err := certs.Open(o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	go source.Run(ctx)
	return &certificates{source, stop}, nil
}

func (c *certificates) end() {
	if c != nil {
		c.stop()
	}
}

// listen opens the clients' addresses.
func (p *process) listen(c *config.Config, log *slog.Logger) error {
	plain, secure := c.Addresses()
	if plain != "" {
		addr, err := p.server.Listen(plain)
		if err != nil {
			return err
		}
		p.address = addr.String()
	}
	if secure == "" {
		return nil
	}
	addr, err := p.server.ListenTLS(secure, p.tlsOptions(c, log))
	if err != nil {
		return err
	}
	if p.tlsAddress = addr.String(); plain == "" {
		p.address = p.tlsAddress
	}
	return nil
}

func (p *process) tlsOptions(c *config.Config, log *slog.Logger) ktls.Options {
	most := c.MaxTLSFallback
	if most == 0 {
		most = -1
	}
	return ktls.Options{Config: p.certificates.source.Config(), NoKernel: c.NoKernelTLS, MaxFallback: most, Logger: log}
}

// page is the URL of the page of --dev.
func (p *process) page() string {
	if p.address == p.tlsAddress {
		return "https://" + p.address + "/"
	}
	return "http://" + p.address + "/"
}

// tlsRoom is what TLS needs of so many descriptors: for handshakes, and two more for
// each session in user space.
func tlsRoom(c *config.Config, limit int) int {
	if !c.Secure() {
		return 0
	}
	return min(2*c.MaxTLSFallback+handshakeDescriptors, limit/2)
}

// allCertificates has the metrics of certificates; some may be nil.
type allCertificates []*certificates

// Describe implements prometheus.Collector.
func (all allCertificates) Describe(ch chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(all, ch)
}

// Collect implements prometheus.Collector.
func (all allCertificates) Collect(ch chan<- prometheus.Metric) {
	out, failures, seen := samples(ch), uint64(0), map[string]bool{}
	for _, c := range all {
		if c == nil {
			continue
		}
		failures += c.source.Failures()
		for _, s := range c.source.Served() {
			if !seen[s.File] {
				out.gauge(descTLSNotAfter, s.NotAfter.Unix(), s.File)
			}
			seen[s.File] = true
		}
	}
	out.count(descTLSReloads, failures)
}
