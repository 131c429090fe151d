package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"roost/internal/config"
)

// answerTime is how long a gateway has to answer a command.
const answerTime = 5 * time.Second

// remote names the gateway a command asks, where it is not the one of the configuration.
type remote struct {
	URL gatewayURL `env:"-" name:"url" placeholder:"URL" help:"Ask the gateway with this internal address, such as https://gw1.example.com:8001, instead of the one on this machine. The certificate of https is checked as browsers do."`
}

// gatewayURL is scheme, host and port of an internal address.
type gatewayURL string

// UnmarshalText implements encoding.TextUnmarshaler.
func (g *gatewayURL) UnmarshalText(b []byte) error {
	u, err := url.Parse(string(b))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%q is no address of a gateway: give http://HOST:PORT or https://HOST:PORT, and nothing behind it", b)
	}
	*g = gatewayURL(u.Scheme + "://" + u.Host)
	return nil
}

// asked says whom a command asks: as a URL, and for people.
func (r *remote) asked(c *config.Config) (base, name string) {
	switch {
	case r.URL != "":
		return string(r.URL), string(r.URL)
	case c.InternalTLSCert != "":
		return "https://roost", "--internal-address " + c.InternalAddress
	}
	return "http://roost", "--internal-address " + c.InternalAddress
}

// client is for the URL that asked returns. On this machine the certificate is for the name that others
// use, so own trusts it in another way.
func (r *remote) client(c *config.Config, own *tls.Config) *http.Client {
	if r.URL != "" {
		return &http.Client{Timeout: answerTime}
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { // :8001 and 0.0.0.0:8001 are this machine
		return new(net.Dialer).DialContext(ctx, "tcp", c.InternalAddress)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: own}, Timeout: answerTime}
}
