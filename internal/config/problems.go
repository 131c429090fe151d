package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"roost/admin"
	"roost/auth"
	"roost/broker"
	"roost/conn"
	"roost/gateway"
	"roost/internal/setting"
	"roost/proto/ws"
	"roost/service/sync"
)

const (
	maxLoops       = 256
	maxMessageRate = 16_000    // see conn.Options.MessageRate
	maxSocketPath  = 99        // bytes: a socket has room for 107, and is replaced by one with a longer name
	maxUpgradeRate = 1_000_000 // see conn.StormOptions
	maxChannelName = 255       // see broker.ErrChannel
	maxReplicas    = 5
	minBeat        = 100 * time.Millisecond // what the loops' clocks tell apart
	maxRatedBeat   = time.Minute            // see conn.Options.MessageRate
)

// Problems returns everything that is wrong with the configuration, each by the name
// of its flag and with its place, in the order of the lines, without changing anything.
func (c *Config) Problems() []error {
	if c.unread {
		return c.problems // all else would only follow from that
	}
	all := slices.Concat(c.problems, c.listen(), c.numbers(), c.clients(), c.tls(), c.storage(), c.natsListen(), c.backends(), c.raw(), c.services())
	for _, err := range c.Channels.Problems() {
		all = append(all, c.place(setting.At(err, channelsKey)))
	}
	return inOrder(all)
}

func (c *Config) listen() (all []error) {
	seen := map[string]string{}
	for _, a := range []struct{ flag, address string }{{"address", c.Address}, {"internal-address", c.InternalAddress}, {"tls-address", c.TLSAddress}, {"nats-listen", c.NATSListen}} {
		if a.address == "" && (a.flag == "tls-address" || a.flag == "nats-listen") {
			continue // there is none
		}
		at, err := net.ResolveTCPAddr("tcp", a.address)
		if err != nil {
			all = append(all, c.wrong(fmt.Errorf("--%s %q: %w; it must be host:port", a.flag, a.address, err), a.flag))
			continue
		}
		if before := seen[at.String()]; before != "" && at.Port != 0 {
			all = append(all, c.wrong(fmt.Errorf("--%s and --%s are both %s: each needs its own", before, a.flag, at), a.flag, before))
		}
		seen[at.String()] = a.flag
	}
	if c.Rebalance && len(c.NATS) == 0 {
		all = append(all, c.wrong(errors.New("--rebalance needs --nats: a gateway alone has no other to shed clients to"), "rebalance"))
	}
	if n := len(c.Handoff); n > maxSocketPath {
		all = append(all, c.wrong(fmt.Errorf("--handoff-socket has %d bytes, at most %d are possible: it is a Unix socket", n, maxSocketPath), "handoff-socket"))
	}
	if n := len(c.AdminPassword); n > 0 && n < admin.MinPassword {
		all = append(all, c.wrong(fmt.Errorf("--admin-password has %d bytes, must have at least %d: whoever guesses it may publish and disconnect",
			n, admin.MinPassword), "admin-password"))
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
		{"upgrade-rate", int64(c.UpgradeRate), 0, maxUpgradeRate, "0 (no limit) to 1000000"},
		{"address-rate", int64(c.AddressRate), 0, maxUpgradeRate, "0 (no limit) to 1000000"},
		{"rebalance-rate", int64(c.RebalanceRate), 1, 1_000_000, "1 to 1000000"},
		{"rebalance-threshold", int64(c.RebalanceThreshold), 5, 90, "5 to 90"},
		{"max-handshakes", int64(c.MaxHandshakes), 0, maxUpgradeRate, "0 (no limit) to 1000000"},
		{"message-rate", int64(c.MessageRate), 0, maxMessageRate, "0 (no limit) to 16000"},
		{"send-buffer", int64(c.SendBuffer), 0, any, "0 (the kernel's choice) or more bytes"},
		{"receive-buffer", int64(c.ReceiveBuffer), 0, any, "0 (the kernel's choice) or more bytes"},
		{"max-connections", int64(c.MaxConnections), 0, any, "0 (what descriptors allow) or more"},
		{"max-emulated", int64(c.MaxEmulated), 0, 1_000_000, "0 (off) to 1000000"},
		{"tail-bytes", c.TailBytes, 1, any, "above 0 bytes"},
		{"nats-replicas", int64(c.NATSReplicas), 1, maxReplicas, "1 to 5"},
		{"sync-max-data", int64(c.SyncMaxData), 1, sync.LargestData, fmt.Sprintf("1 to %d bytes", sync.LargestData)},
		{"sync-max-items", int64(c.SyncMaxItems), 1, math.MaxInt32, "1 or more"},
		{"max-tls-fallback", int64(c.MaxTLSFallback), 0, any, "0 (none) or more"},
	} {
		if b.value < b.low || b.value > b.top {
			all = append(all, c.wrong(fmt.Errorf("--%s is %d, must be %s", b.flag, b.value, b.text), b.flag))
		}
	}
	for _, d := range []struct {
		flag         string
		value, least time.Duration
	}{
		{"ping-interval", c.PingInterval, minBeat}, {"pong-timeout", c.PongTimeout, minBeat}, {"handshake-timeout", c.HandshakeTimeout, minBeat},
		{"stale-timeout", c.StaleTimeout, minBeat}, {"expiry-grace", c.ExpiryGrace, minBeat}, {"upgrade-backlog", c.UpgradeBacklog, minBeat}, {"drain-time", c.DrainTime, 0}, {"jwks-ttl", c.JWKSTTL, time.Second}, {"leeway", c.Leeway, 0},
	} {
		if d.value < d.least {
			all = append(all, c.wrong(fmt.Errorf("--%s is %v, must be at least %v", d.flag, d.value, d.least), d.flag))
		}
	}
	if c.DrainTime > gateway.MaxDrain {
		all = append(all, c.wrong(fmt.Errorf("--drain-time is %v, must be at most %v", c.DrainTime, gateway.MaxDrain), "drain-time"))
	}
	if c.PongTimeout >= c.PingInterval {
		all = append(all, c.wrong(fmt.Errorf("--pong-timeout (%v) must be below --ping-interval (%v)", c.PongTimeout, c.PingInterval), "pong-timeout", "ping-interval"))
	}
	if c.UpgradeBacklog > c.HandshakeTimeout {
		all = append(all, c.wrong(fmt.Errorf("--upgrade-backlog (%v) must be at most --handshake-timeout (%v)", c.UpgradeBacklog, c.HandshakeTimeout), "upgrade-backlog", "handshake-timeout"))
	}
	if c.MessageRate > 0 && c.PingInterval > maxRatedBeat {
		all = append(all, c.wrong(fmt.Errorf("--ping-interval is %v, must be at most %v with --message-rate", c.PingInterval, maxRatedBeat), "ping-interval"))
	}
	return all
}

// clients tells what is wrong with the keys, or that nobody could connect.
func (c *Config) clients() (all []error) {
	options := c.Auth()
	wrong := func(err error, names ...string) { all = append(all, c.wrong(err, names...)) }
	if !options.Enabled() && !c.Dev && !c.AllowAnonymous && !c.Insecure && c.Backends.Connect == "" && !c.someRaw(false) {
		wrong(errors.New("no client could connect: there is no key to verify tokens with. Give --hmac-secret-key " +
			"(ROOST_HMAC_SECRET_KEY, or hmac-secret-key in the file), --rsa-public-key, --ecdsa-public-key, --ed25519-public-key or --jwks-url; " +
			"--allow-anonymous to let everyone in; or --dev to try"))
	}
	if !options.Enabled() && c.UpgradeAuth {
		wrong(errors.New("--upgrade-auth needs a key to verify tokens with"), "upgrade-auth")
	}
	// Each key by itself, so that all that are unusable are named.
	for _, k := range []struct {
		flag string
		auth.Options
	}{
		{"rsa-public-key", auth.Options{RSAPublicKey: options.RSAPublicKey}},
		{"ecdsa-public-key", auth.Options{ECDSAPublicKey: options.ECDSAPublicKey}},
		{"ed25519-public-key", auth.Options{Ed25519PublicKey: options.Ed25519PublicKey}},
	} {
		if !k.Enabled() {
			continue
		}
		v, err := auth.New(k.Options)
		if err != nil {
			wrong(fmt.Errorf("--%s: %w", k.flag, err), k.flag)
			continue
		}
		v.Close()
	}
	if u, err := url.Parse(c.JWKSURL); c.JWKSURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		wrong(fmt.Errorf("--jwks-url %q must be http or https", c.JWKSURL), "jwks-url")
	}
	for _, n := range []struct{ flag, value string }{{"token-header", c.TokenHeader}, {"token-cookie", c.TokenCookie}, {"token-query", c.TokenQuery}} {
		switch {
		case n.value == "":
		case n.flag != "token-query" && !ws.IsToken(n.value):
			wrong(fmt.Errorf("--%s %q: that is no name of a header or cookie: no spaces, colons or characters beyond ASCII", n.flag, n.value), n.flag)
		case !c.UpgradeAuth && !c.someRaw(true):
			wrong(fmt.Errorf("--%s needs --upgrade-auth or a raw route: a token of the connect command is a part of it", n.flag), n.flag)
		}
	}
	for i, pattern := range c.AllowedOrigins {
		if err := conn.CheckOrigin(pattern); err != nil {
			all = append(all, c.place(setting.At(fmt.Errorf("--allowed-origins: allowed origin %q: %w", pattern, err), "allowed-origins", strconv.Itoa(i))))
		}
	}
	if i := slices.Index(c.APIKey, ""); i >= 0 {
		all = append(all, c.place(setting.At(errors.New("--api-key is empty"), "api-key", strconv.Itoa(i))))
	}
	return all
}

func (c *Config) storage() (all []error) {
	b := c.Broker()
	wrong := func(err error, names ...string) { all = append(all, c.wrong(err, names...)) }
	places := 0
	for _, given := range []bool{c.Data != "", c.Memory, len(c.NATS) > 0} {
		if given {
			places++
		}
	}
	switch {
	case places == 0 && !b.Memory:
		wrong(errors.New("there is no place for data: give --data DIR (ROOST_DATA, or data in the file), --nats URL for a cluster, or --memory to keep nothing"))
	case places > 1:
		wrong(errors.New("--data, --memory and --nats exclude each other"), "memory", "nats", "data")
	case c.Data != "":
		if err := usable(c.Data); err != nil {
			wrong(fmt.Errorf("--data: %w", err), "data")
		}
	}
	if len(c.NATS) == 0 && c.NATSReplicas > 1 {
		wrong(errors.New("--nats-replicas needs --nats"), "nats-replicas")
	}
	if c.SyncAlways && (b.Memory || len(c.NATS) > 0) {
		wrong(errors.New("--sync-always needs --data: only the embedded NATS on a disk heeds it"), "sync-always")
	}
	for i, server := range c.NATS {
		if err := natsURL(server); err != nil {
			all = append(all, c.place(setting.At(fmt.Errorf("--nats: %w", err), "nats", strconv.Itoa(i))))
		}
	}
	if err := broker.CheckPrefix(c.NATSPrefix); err != nil {
		wrong(fmt.Errorf("--nats-prefix: %w", err), "nats-prefix")
	}
	if strings.ContainsFunc(c.NodeID, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		wrong(fmt.Errorf("--node-id %q must have neither spaces nor characters beyond ASCII", c.NodeID), "node-id")
	}
	return all
}

// natsListen tells who could not use the embedded NATS, or should not.
func (c *Config) natsListen() (all []error) {
	wrong := func(err error, names ...string) { all = append(all, c.wrong(err, names...)) }
	if c.NATSListen == "" {
		if c.NATSUser != "" || c.NATSPassword != "" {
			wrong(errors.New("--nats-user and --nats-password are for --nats-listen; those of other servers stand in their URLs, nats://USER:PASSWORD@HOST"), "nats-user", "nats-password")
		}
		return all
	}
	if len(c.NATS) > 0 {
		wrong(errors.New("--nats-listen and --nats exclude each other: with --nats nothing is embedded"), "nats-listen")
	}
	if (c.NATSUser == "") != (c.NATSPassword == "") {
		wrong(errors.New("--nats-user and --nats-password belong together"), "nats-user", "nats-password")
	}
	if n := len(c.NATSPassword); n > 0 && n < admin.MinPassword {
		wrong(fmt.Errorf("--nats-password has %d bytes, must have at least %d", n, admin.MinPassword), "nats-password")
	}
	if at, err := net.ResolveTCPAddr("tcp", c.NATSListen); err == nil && !at.IP.IsLoopback() && c.NATSUser == "" && c.NATSPassword == "" {
		wrong(fmt.Errorf("--nats-listen %s is no loopback address: give --nats-user and --nats-password, or everyone who reaches it answers for your backends", c.NATSListen), "nats-listen")
	}
	if c.NATSUser == broker.Inside {
		wrong(fmt.Errorf("--nats-user %s is the gateway itself: choose another name", c.NATSUser), "nats-user")
	}
	if len(c.natsListener().Serve) == 0 {
		wrong(errors.New("--nats-listen is for backends on NATS, and none has a url like nats:shop"), "nats-listen")
	}
	return all
}

// natsURL tells what is wrong with the address of a server. The text holds no password.
func natsURL(text string) error {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(strings.TrimSpace(text))
	switch {
	case err != nil || u.Hostname() == "":
		return errors.New("a server must be like nats://10.0.0.1:4222")
	case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		return fmt.Errorf("a server must be like nats://%s, or with tls, ws or wss; not %s", u.Host, u.Scheme)
	}
	if _, err := net.LookupPort("tcp", cmp.Or(u.Port(), "4222")); err != nil {
		return fmt.Errorf("a server at %s: the port must be 1 to 65535", u.Host)
	}
	return nil
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
	at := func(err error, path ...string) { all = append(all, c.place(setting.At(err, path...))) }
	for _, err := range c.Backends.Problems() {
		at(fmt.Errorf("backends: %w", err), backendsKey)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Backends.Backends)) {
		subject := c.Backends.Backends[name].Subject()
		if subject == "" {
			continue
		}
		if len(c.NATS) == 0 && c.NATSListen == "" {
			at(fmt.Errorf("backends: backend %q: nats:%s needs --nats, or --nats-listen: nobody else can reach the embedded NATS", name, subject), backendsKey, "servers", name, "url")
		}
		if broker.Internal(c.NATSPrefix, subject) {
			at(fmt.Errorf("backends: backend %q: %s is used by gateways or NATS among themselves: choose another subject, such as nats:%s.rpc",
				name, subject, c.NATSPrefix), backendsKey, "servers", name, "url")
		}
	}
	if c.Backends.Connect != "" && c.UpgradeAuth {
		at(errors.New("backends: connect is never asked with --upgrade-auth, which requires a token: keep one"), backendsKey, "connect")
	}
	if c.Backends.Connect != "" && c.AllowAnonymous {
		at(errors.New("backends: connect and --allow-anonymous both decide on clients without a token: keep one"), backendsKey, "connect")
	}
	check := func(where string, ns gateway.Namespace, path ...string) {
		for _, b := range []struct{ key, name string }{{"subscribe-backend", ns.SubscribeBackend}, {"publish-backend", ns.PublishBackend}, {"sub-refresh-backend", ns.SubRefreshBackend}} {
			if b.name == "" {
				continue
			}
			if err := c.Backends.Known(b.name); err != nil {
				at(setting.At(fmt.Errorf("%s: %s: %w", where, b.key, err), b.key), path...)
			}
		}
	}
	check("channels default", c.Channels.Default, channelsKey, "default")
	for _, name := range slices.Sorted(maps.Keys(c.Channels.Namespaces)) {
		check(fmt.Sprintf("namespace %q", name), c.Channels.Namespaces[name], channelsKey, "namespaces", name)
	}
	return all
}

// services tells of those that are not there.
func (c *Config) services() (all []error) {
	for _, name := range c.Services.Services {
		if !slices.Contains(allServices, name) {
			all = append(all, c.wrong(fmt.Errorf("--services %q is none of %s", name, strings.Join(allServices, ", ")), "services"))
		}
		if _, ok := c.Channels.Namespaces[name]; ok {
			all = append(all, c.place(setting.At(fmt.Errorf("namespace %q belongs to the service of that name", name), channelsKey, "namespaces", name)))
		}
	}
	if c.RemoteServices && len(c.NATS) == 0 {
		all = append(all, c.wrong(errors.New("--remote-services needs --nats: nobody else can reach the embedded NATS"), "remote-services"))
	}
	return all
}

// someRaw says whether some raw route has clients with a token, or such without.
func (c *Config) someRaw(token bool) bool {
	for _, r := range c.Raw {
		if r.NeedsKeys() == token {
			return true
		}
	}
	return false
}

// raw tells of raw routes that nobody could use.
func (c *Config) raw() (all []error) {
	at := func(err error, name, key string) { all = append(all, c.place(setting.At(err, rawKey, name, key))) }
	for _, err := range c.Raw.Problems() {
		all = append(all, c.place(setting.At(err, rawKey)))
	}
	keys := c.Auth()
	for _, name := range slices.Sorted(maps.Keys(c.Raw)) {
		r := c.Raw[name]
		if err := c.Backends.Known(r.Backend); r.Backend != "" && err != nil {
			at(fmt.Errorf("raw route %q: %w", name, err), name, "backend")
		}
		if r.NeedsKeys() && !keys.Enabled() {
			at(fmt.Errorf("raw route %q: auth: token needs a key to verify tokens with, such as --hmac-secret-key; or set auth: backend, or auth: none", name), name, "auth")
		}
		if r.ContentType != "" && c.Backends.Backends[r.Backend].Subject() != "" {
			at(fmt.Errorf("raw route %q: content-type is for backends over HTTP, and %s is on NATS", name, r.Backend), name, "content-type")
		}
	}
	return all
}
