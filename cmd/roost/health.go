package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"roost/internal/config"
)

// probeTime is how long a gateway has to answer a probe.
const probeTime = 5 * time.Second

type healthCmd struct {
	config.Config

	Ready bool `env:"-" help:"Ask whether clients should come here, not only whether it runs."`
}

// internalClient asks the internal address of the gateway of a configuration, on this machine.
func internalClient(c *config.Config, trust *tls.Config) (scheme string, client *http.Client) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { // :8001 and 0.0.0.0:8001 are this machine
		return new(net.Dialer).DialContext(ctx, "tcp", c.InternalAddress)
	}
	scheme = "http"
	if c.InternalTLSCert != "" {
		scheme = "https"
	}
	return scheme, &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: trust}, Timeout: probeTime}
}

// Run asks the gateway of this configuration, for containers that hold nothing but the
// binary.
func (h *healthCmd) Run() error {
	for _, problem := range h.FileProblems() {
		return fmt.Errorf("health: %w", problem)
	}
	path := "/health"
	if h.Ready {
		path = "/ready"
	}
	// Nothing is told to whoever answers, and the certificate is for the name that others use.
	scheme, client := internalClient(&h.Config, &tls.Config{InsecureSkipVerify: true})
	res, err := client.Get(scheme + "://roost" + path)
	if err != nil {
		return fmt.Errorf("health: no answer from --internal-address %s: %w", h.InternalAddress, err)
	}
	defer res.Body.Close()
	why, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s says %d: %s", path, res.StatusCode, strings.TrimSpace(string(why)))
	}
	_, err = fmt.Println("ok")
	return err
}
