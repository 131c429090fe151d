package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"roost/admin"
	"roost/auth"
	"roost/gateway"
)

const (
	maxLoops       = 256
	maxMessageRate = 16_000 // see conn.Options.MessageRate
	maxChannelName = 255    // see broker.ErrChannel
	maxReplicas    = 5
	minBeat        = 100 * time.Millisecond // what the loops' clocks tell apart
)

// Problems returns everything that is wrong with the configuration, each by the name
// of its flag, without changing anything.
func (c *Config) Problems() []error {
	all := slices.Concat(c.problems, c.numbers(), c.clients(), c.tls(), c.storage(), c.channels(), c.backends(), c.raw())
	for _, a := range []struct{ flag, address string }{{"address", c.Address}, {"internal-address", c.InternalAddress}} {
		if _, err := net.ResolveTCPAddr("tcp", a.address); err != nil {
			all = append(all, fmt.Errorf("--%s %q: %w", a.flag, a.address, err))
		}
	}
	if n := len(c.AdminPassword); n > 0 && n < admin.MinPassword {
		all = append(all, fmt.Errorf("--admin-password has %d bytes, must have at least %d: whoever guesses it may publish and disconnect", n, admin.MinPassword))
	}
	return all
}

// FileProblems returns what is wrong in the file and in the environment's blocks.
func (c *Config) FileProblems() []error { return c.problems }

// bound is what a number must keep to.
type bound struct {
	flag     string
	value    int64
	low, top int64
	text     string
}

func (c *Config) numbers() (all []error) {
	const any = 1 << 62
	for _, b := range []bound{
		{"max-message", c.MaxMessage, 0, any, "0 (the default) or more bytes"},
		{"hard-limit", int64(c.HardLimit), 0, any, "0 (the default) or more bytes"},
		{"max-channels", int64(c.MaxChannels), 1, any, "above 0"},
		{"max-channel-length", int64(c.MaxChannelLength), 1, maxChannelName, "1 to 255 bytes"},
		{"recovery-limit", int64(c.RecoveryLimit), 1, any, "above 0"},
		{"user-connections", int64(c.UserConnections), 0, any, "0 (no limit) or more"},
		{"loops", int64(c.Loops), 0, maxLoops, "0 (one for two cores) to 256"},
		{"workers", int64(c.Workers), 0, any, "0 (256 per core) or more"},
		{"message-rate", int64(c.MessageRate), 0, maxMessageRate, "0 (no limit) to 16000"},
		{"send-buffer", int64(c.SendBuffer), 0, any, "0 (the kernel's choice) or more bytes"},
		{"receive-buffer", int64(c.ReceiveBuffer), 0, any, "0 (the kernel's choice) or more bytes"},
		{"max-connections", int64(c.MaxConnections), 0, any, "0 (what descriptors allow) or more"},
		{"max-emulated", int64(c.MaxEmulated), 0, 1_000_000, "0 (off) to 1000000"},
		{"tail-bytes", c.TailBytes, 1, any, "above 0 bytes"},
		{"nats-replicas", int64(c.NATSReplicas), 1, maxReplicas, "1 to 5"},
	} {
		if b.value < b.low || b.value > b.top {
			all = append(all, fmt.Errorf("--%s is %d, must be %s", b.flag, b.value, b.text))
		}
	}
	for _, d := range []struct {
		flag         string
		value, least time.Duration
	}{
		{"ping-interval", c.PingInterval, minBeat}, {"pong-timeout", c.PongTimeout, minBeat}, {"handshake-timeout", c.HandshakeTimeout, minBeat},
		{"stale-timeout", c.StaleTimeout, minBeat}, {"expiry-grace", c.ExpiryGrace, minBeat}, {"jwks-ttl", c.JWKSTTL, time.Second}, {"leeway", c.Leeway, 0},
	} {
		if d.value < d.least {
			all = append(all, fmt.Errorf("--%s is %v, must be at least %v", d.flag, d.value, d.least))
		}
	}
	if c.PongTimeout >= c.PingInterval {
		all = append(all, fmt.Errorf("--pong-timeout (%v) must be below --ping-interval (%v)", c.PongTimeout, c.PingInterval))
	}
	return all
}

// clients tells what is wrong with the keys, or that nobody could connect.
func (c *Config) clients() (all []error) {
	options := c.Auth()
	if !options.Enabled() {
		if !c.Dev && !c.AllowAnonymous && !c.Insecure && c.Backends.Connect == "" && !c.rawLetsIn() {
			all = append(all, errors.New("no client could connect: there is no key to verify tokens with. Give --hmac-secret-key "+
				"(ROOST_HMAC_SECRET_KEY, or hmac-secret-key in the file), --rsa-public-key, --ecdsa-public-key, --ed25519-public-key or --jwks-url; "+
				"--allow-anonymous to let everyone in; or --dev to try"))
		}
		if c.UpgradeAuth {
			all = append(all, errors.New("--upgrade-auth needs a key to verify tokens with"))
		}
	}
	// Each key by itself, so that all that are unusable are named.
	for _, o := range []auth.Options{{RSAPublicKey: options.RSAPublicKey}, {ECDSAPublicKey: options.ECDSAPublicKey},
		{Ed25519PublicKey: options.Ed25519PublicKey}} {
		if !o.Enabled() {
			continue
		}
		v, err := auth.New(o)
		if err != nil {
			all = append(all, err)
			continue
		}
		v.Close()
	}
	if u, err := url.Parse(c.JWKSURL); c.JWKSURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		all = append(all, fmt.Errorf("--jwks-url %q must be http or https", c.JWKSURL))
	}
	if slices.Contains(c.APIKey, "") {
		all = append(all, errors.New("--api-key is empty"))
	}
	return all
}

func (c *Config) storage() (all []error) {
	b := c.Broker()
	places := 0
	for _, given := range []bool{c.Data != "", c.Memory, len(c.NATS) > 0} {
		if given {
			places++
		}
	}
	switch {
	case places == 0 && !b.Memory:
		all = append(all, errors.New("there is no place for data: give --data DIR (ROOST_DATA, or data in the file), --nats URL for a cluster, or --memory to keep nothing"))
	case places > 1:
		all = append(all, errors.New("--data, --memory and --nats exclude each other"))
	case c.Data != "":
		if err := usable(c.Data); err != nil {
			all = append(all, fmt.Errorf("--data: %w", err))
		}
	}
	if len(c.NATS) == 0 && c.NATSReplicas > 1 {
		all = append(all, errors.New("--nats-replicas needs --nats"))
	}
	return all
}

// usable tells whether dir is a folder, or can become one below the nearest that is there.
func usable(dir string) error {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("%s is not a directory", dir)
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrNotExist):
			return err
		}
		dir = filepath.Dir(dir)
	}
}

// backends tells of those that cannot be asked.
func (c *Config) backends() (all []error) {
	for _, err := range c.Backends.Problems() {
		all = append(all, fmt.Errorf("backends: %w", err))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Backends.Backends)) {
		if e := c.Backends.Backends[name]; e.Subject() != "" && len(c.NATS) == 0 {
			all = append(all, fmt.Errorf("backends: backend %q: %s needs --nats: nobody else can reach the embedded NATS", name, e.URL))
		}
	}
	if c.Backends.Connect != "" && c.UpgradeAuth {
		all = append(all, errors.New("backends: connect is never asked with --upgrade-auth, which requires a token: keep one"))
	}
	if c.Backends.Connect != "" && c.AllowAnonymous {
		all = append(all, errors.New("backends: connect and --allow-anonymous both decide on clients without a token: keep one"))
	}
	check := func(where string, ns gateway.Namespace) {
		for _, b := range []struct{ key, name string }{{"subscribe-backend", ns.SubscribeBackend}, {"publish-backend", ns.PublishBackend}} {
			if b.name == "" {
				continue
			}
			if err := c.Backends.Known(b.name); err != nil {
				all = append(all, fmt.Errorf("%s: %s: %w", where, b.key, err))
			}
		}
	}
	check("channels default", c.Channels.Default)
	for _, name := range slices.Sorted(maps.Keys(c.Channels.Namespaces)) {
		check(fmt.Sprintf("namespace %q", name), c.Channels.Namespaces[name])
	}
	return all
}

// rawLetsIn says whether some raw route has clients without a token.
func (c *Config) rawLetsIn() bool {
	for _, r := range c.Raw {
		if !r.NeedsKeys() {
			return true
		}
	}
	return false
}

// raw tells of raw routes that nobody could use.
func (c *Config) raw() (all []error) {
	for _, p := range c.Raw.Problems() {
		all = append(all, p)
	}
	keys := c.Auth()
	for _, name := range slices.Sorted(maps.Keys(c.Raw)) {
		r := c.Raw[name]
		if err := c.Backends.Known(r.Backend); r.Backend != "" && err != nil {
			all = append(all, fmt.Errorf("raw route %q: %w", name, err))
		}
		if r.NeedsKeys() && !keys.Enabled() {
			all = append(all, fmt.Errorf("raw route %q: auth: token needs a key to verify tokens with, such as --hmac-secret-key; or set auth: backend, or auth: none", name))
		}
		if r.ContentType != "" && c.Backends.Backends[r.Backend].Subject() != "" {
			all = append(all, fmt.Errorf("raw route %q: content-type is for backends over HTTP, and %s is on NATS", name, r.Backend))
		}
	}
	return all
}

// channels tells of each namespace by itself.
func (c *Config) channels() (all []error) {
	whole := c.Channels
	if err := (&gateway.Channels{Default: whole.Default}).Validate(); err != nil {
		all = append(all, err)
	}
	for _, name := range slices.Sorted(maps.Keys(whole.Namespaces)) {
		one := gateway.Channels{Namespaces: map[string]gateway.Namespace{name: whole.Namespaces[name]}}
		if err := one.Validate(); err != nil {
			all = append(all, err)
		}
	}
	if len(all) == 0 {
		if err := whole.Validate(); err != nil {
			all = append(all, err)
		}
	}
	return all
}
