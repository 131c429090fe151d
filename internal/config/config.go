// Package config is the configuration of the gateway: one set of names for the flags,
// the environment (ROOST_ and the name in upper snake case) and a YAML file. A flag
// counts before the environment, that before the file, and that before the default.
package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"roost/auth"
	"roost/backend"
	"roost/broker"
	"roost/gateway"
	"roost/service/sync"
)

// Config is what serve, check and token share. It is part of a command's struct, and
// reads its file when kong has parsed the command line.
type Config struct {
	File string `name:"config" placeholder:"FILE" help:"YAML file with the same names as the flags."`

	Listen   `embed:"" group:"Addresses"`
	TLS      `embed:"" group:"TLS"`
	Clients  `embed:"" group:"Who may connect"`
	Storage  `embed:"" group:"Data and cluster"`
	Limits   `embed:"" group:"Limits"`
	Services `embed:"" group:"Services"`
	Engine   `embed:"" group:"Engine"`
	Logging  `embed:"" group:"Logs"`
	Channels gateway.Channels  `kong:"-"`
	Backends backend.Config    `kong:"-"`
	Raw      gateway.RawRoutes `kong:"-"`

	Warnings []string `kong:"-"` // what is probably not meant

	read     bool
	problems []error               // in the file and the environment
	given    map[string]bool       // flags of the command line
	file     source                // root is nil without a file
	unread   bool                  // there is a file, and nothing is known of what it says
	blocks   map[string]*yaml.Node // of the environment, by key
	opened   bool                  // the file or the environment said what channels allow
}

// Listen says where the gateway is reached.
type Listen struct {
	Address         string `help:"Address for clients, host:port." default:"127.0.0.1:8000"`
	InternalAddress string `help:"Address for the server API, metrics, health and pprof; not for clients." default:"127.0.0.1:8001"`
	AdminPassword   string `placeholder:"PASSWORD" help:"Password of the page /admin/ on the internal address, 8 bytes or more. Without one there is no page; --dev then makes one up and prints it."`
	Dev             bool   `help:"For trying: anonymous clients, all channels without a namespace open to them, a page to try it, and /echo, /echo-pool and /broadcast."`
}

// TLS says how clients are spoken to in private.
type TLS struct {
	TLSAddress      string   `name:"tls-address" placeholder:"ADDRESS" help:"Address for clients over TLS (wss, https), host:port, besides --address. Without it --address itself speaks TLS as soon as there are certificates."`
	TLSCert         []string `name:"tls-cert" placeholder:"FILE" help:"Certificate with its chain (PEM), read again when it changes; may be repeated, with as many --tls-key: a client gets the one for the name it asks for, or the first."`
	TLSKey          []string `name:"tls-key" placeholder:"FILE" help:"Its key (PEM); one for each --tls-cert, in the same order."`
	ACMEHosts       []string `name:"acme-hosts" placeholder:"HOST" help:"Names for which certificates are fetched from an ACME authority; clients must reach this gateway at port 443 of them."`
	ACMEDir         string   `name:"acme-dir" placeholder:"DIR" help:"Folder that keeps these certificates and their keys."`
	ACMEEmail       string   `name:"acme-email" placeholder:"EMAIL" help:"Where the authority may write to."`
	ACMEDirectory   string   `name:"acme-directory" placeholder:"URL" help:"The authority's directory; Let's Encrypt by default."`
	ACMEAcceptTerms bool     `name:"acme-accept-terms" help:"Accept the authority's terms of service; it gives no certificates otherwise."`
	NoKernelTLS     bool     `name:"no-kernel-tls" help:"Leave all TLS sessions to user space, at some 29 KB each, even if the kernel could carry them."`
	InternalTLSCert string   `name:"internal-tls-cert" placeholder:"FILE" help:"Certificate (PEM) with which the internal address speaks TLS (https), read again when it changes; with --internal-tls-key. Without one it speaks plain HTTP."`
	InternalTLSKey  string   `name:"internal-tls-key" placeholder:"FILE" help:"Its key (PEM)."`
	MaxTLSFallback  int      `name:"max-tls-fallback" help:"TLS sessions in user space at the same time, where the kernel carries none; more are turned away." default:"10000"`
}

// Clients says who is let in, and how that is found out.
type Clients struct {
	HMACSecretKey    string        `name:"hmac-secret-key" placeholder:"SECRET" help:"Secret that clients' tokens are signed with (HS256, HS384, HS512)."`
	RSAPublicKey     string        `name:"rsa-public-key" placeholder:"PEM" help:"Public key for tokens of RS256, RS384 and RS512."`
	ECDSAPublicKey   string        `name:"ecdsa-public-key" placeholder:"PEM" help:"Public key for tokens of ES256, ES384 and ES512."`
	Ed25519PublicKey string        `name:"ed25519-public-key" placeholder:"PEM" help:"Public key for tokens of EdDSA."`
	JWKSURL          string        `name:"jwks-url" placeholder:"URL" help:"Where the keys for tokens are fetched."`
	JWKSTTL          time.Duration `name:"jwks-ttl" help:"How long fetched keys are used before they are fetched again." default:"1h"`
	Audience         string        `help:"Audience (aud) that tokens must name."`
	Issuer           string        `help:"Issuer (iss) that tokens must name."`
	Leeway           time.Duration `help:"By how much clocks may differ." default:"0s"`
	AllowAnonymous   bool          `help:"Let clients without a token in, as nobody."`
	UpgradeAuth      bool          `help:"Check the token before the upgrade is confirmed: 401 or 403 instead of a connection."`
	TokenHeader      string        `placeholder:"NAME" help:"Header that holds that token, besides Authorization: Bearer."`
	TokenCookie      string        `placeholder:"NAME" help:"Cookie that holds that token."`
	TokenQuery       string        `placeholder:"NAME" help:"Query parameter that holds that token."`
	AllowedOrigins   []string      `help:"Origins browsers may connect from; none is the same host only, * is any."`
	Insecure         bool          `help:"Let every client do everything, whatever the channels allow. For tests only."`
	APIKey           []string      `name:"api-key" placeholder:"KEY" help:"Key for the server API; may be repeated. Without one the API refuses everyone; --dev then makes one up and prints it."`
}

// Storage says where publications are kept, and which other nodes there are.
type Storage struct {
	Data               string   `placeholder:"DIR" help:"Folder for the data of the embedded NATS; one process at a time."`
	Rebalance          bool     `help:"Shed clients towards nodes of the cluster that have far fewer, such as new ones."`
	RebalanceRate      int      `help:"Clients per second that this node sheds at most for that." default:"100"`
	RebalanceThreshold int      `help:"Percent by which a node must differ from the mean before clients are moved; then they are until all are within a quarter of it." default:"20"`
	Handoff            string   `name:"handoff-socket" placeholder:"FILE" help:"Socket by which a new process takes over from this one, see roost upgrade; in a folder of the gateway's own. Default: roost.sock in --data; none without that."`
	Memory             bool     `help:"Keep everything in memory only. It is gone when the process ends."`
	NATS               []string `name:"nats" placeholder:"URL" help:"NATS servers with JetStream to use instead of the embedded one. All gateways of a cluster name the same."`
	NATSListen         string   `name:"nats-listen" placeholder:"ADDRESS" help:"Address where the embedded NATS listens, host:port, so that backends on NATS need no NATS server; off by default. They may answer on their own subjects and, if they log in, call services; nothing else."`
	NATSUser           string   `name:"nats-user" placeholder:"NAME" help:"User that these backends connect as; needed unless nats-listen is on loopback."`
	NATSPassword       string   `name:"nats-password" placeholder:"PASSWORD" help:"Password of that user, 8 bytes or more."`
	NATSPrefix         string   `name:"nats-prefix" help:"Prefix of subjects and streams in NATS; gateways with the same one are a cluster." default:"roost"`
	NATSReplicas       int      `name:"nats-replicas" help:"Copies that a NATS cluster keeps of each publication, 1 to 5." default:"1"`
	SyncAlways         bool     `help:"Have the embedded NATS write to the disk before it confirms: not even a power cut loses a publication, at a tenth of the rate."`
	TailBytes          int64    `help:"Recent publications kept in memory for those who come back, in bytes." default:"67108864"`
	Name               string   `help:"Name of this node in info; the host's by default."`
	NodeID             string   `name:"node-id" placeholder:"ID" help:"Id of this node, unique in the cluster; a random one by default."`
}

// Services are what clients may use besides channels.
type Services struct {
	Services           []string `placeholder:"NAME" help:"Services for clients besides channels: sync (shared state). None by default; --dev has them all."`
	RemoteServices     bool     `help:"Leave services to processes of their own (roost sync): this one only brings calls to them. Needs --nats."`
	SyncMaxData        int      `help:"Largest document, item or message of sync, in bytes of JSON; 262144 at most." default:"16384"`
	SyncMaxItems       int      `help:"Items that a map or a list of sync may have." default:"1000000"`
	SyncRestricted     bool     `help:"New objects of sync are for those alone whom their creator has granted it, unless they say otherwise themselves."`
	SyncBackendsCreate bool     `help:"Only backends create objects of sync; clients open those that are there."`
}

// Limits bound what one client may take.
type Limits struct {
	PingInterval     time.Duration `help:"How often a client is asked for a sign of life." default:"25s"`
	PongTimeout      time.Duration `help:"How long it then has to answer." default:"8s"`
	HandshakeTimeout time.Duration `help:"How long a client may take to send its upgrade request." default:"10s"`
	StaleTimeout     time.Duration `help:"How long it may then take to send the connect command." default:"10s"`
	ExpiryGrace      time.Duration `help:"How long a client may take to refresh an expired token." default:"25s"`
	MaxConnections   int           `help:"Clients at the same time; 0 is what descriptors allow."`
	MaxEmulated      int           `help:"Clients by SSE and HTTP streaming at the same time, at most one for 16 open files the process may have; 0 turns both off." default:"10000"`
	UserConnections  int           `help:"Connections one user may have on this node; 0 is no limit."`
	MaxChannels      int           `help:"Channels a client may subscribe to." default:"128"`
	MaxChannelLength int           `help:"Longest name of a channel, in bytes; 255 at most." default:"255"`
	MaxMessage       int64         `help:"Largest message a client may send, in bytes; 0 is 65536, and 1048576 for the routes of --dev." default:"0"`
	UpgradeRate      int           `help:"Upgrades that may begin per second, a tenth of that at once; the others wait their turn. 0 is no limit." default:"0"`
	AddressRate      int           `help:"The same for one client address, of IPv6 its /64, with one second's worth at once. Not behind a proxy, where all clients have one. 0 is no limit." default:"0"`
	UpgradeBacklog   time.Duration `help:"How long an upgrade may wait for its turn; those that would wait longer are answered 503 with a Retry-After." default:"2s"`
	DrainTime        time.Duration `help:"Time over which clients are told to come back elsewhere, evenly, at SIGTERM; a second signal cuts it short. 0 tells all at once." default:"0s"`
	MaxHandshakes    int           `help:"Connections that may be on their way to an upgrade at the same time; more are answered 503. 0 is no limit." default:"0"`
	MessageRate      int           `help:"Frames a client may send per second; 0 is no limit." default:"0"`
	HardLimit        int           `help:"Bytes that may wait for a client before it is cut; 0 is 1048576, and 4194304 for the routes of --dev." default:"0"`
	RecoveryLimit    int           `help:"Publications that a recovery or a reply with history may hold." default:"300"`
}

// Engine tunes the process.
type Engine struct {
	Loops         int    `help:"Event loops; 0 is one for two cores."`
	Workers       int    `help:"Goroutines for what may block; 0 is 256 per core."`
	NoIOUring     bool   `name:"no-io-uring" help:"Write without io_uring."`
	SendBuffer    int    `help:"SO_SNDBUF of clients' sockets in bytes; 0 leaves it to the kernel."`
	ReceiveBuffer int    `help:"SO_RCVBUF of clients' sockets in bytes; 0 leaves it to the kernel."`
	Deflate       bool   `help:"Accept permessage-deflate." default:"true" negatable:""`
	Profile       string `help:"Record a profile of the whole run: cpu, mem, mutex, block or trace." enum:",cpu,mem,mutex,block,trace" default:""`
	ProfileDir    string `help:"Folder for the profile." default:"."`
}

// Logging says what is logged, and how.
type Logging struct {
	LogLevel  string `help:"Least level that is logged: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
	LogFormat string `help:"Form of the log on standard error: text or json." enum:"text,json" default:"text"`
}

const envPrefix = "ROOST_"

// envName is the environment's name for a flag.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Environment gives every flag its variable but those with the tag env:"-".
func Environment() kong.Option {
	var name func(n *kong.Node)
	name = func(n *kong.Node) {
		for _, f := range n.Flags {
			f.Envs = nil
			if f.Name != "help" && !f.Tag.Has("env") {
				f.Envs = []string{envName(f.Name)}
			}
			f.Tag.Envs = f.Envs // kong reads these, and prints those
		}
		for _, child := range n.Children {
			name(child)
		}
	}
	return kong.PostBuild(func(k *kong.Kong) error {
		name(k.Model.Node)
		return nil
	})
}

// Auth returns what tokens are verified with.
func (c *Config) Auth() auth.Options {
	return auth.Options{
		HMACSecret: c.HMACSecretKey, RSAPublicKey: c.RSAPublicKey, ECDSAPublicKey: c.ECDSAPublicKey, Ed25519PublicKey: c.Ed25519PublicKey,
		JWKSURL: c.JWKSURL, JWKSTTL: c.JWKSTTL, Audience: c.Audience, Issuer: c.Issuer, Leeway: c.Leeway,
	}
}

// HandoffSocket is where a new process takes over from this one; "" where none can.
func (c *Config) HandoffSocket() string {
	if c.Handoff == "" && c.Data != "" {
		return filepath.Join(c.Data, "roost.sock")
	}
	return c.Handoff
}

// Broker returns how NATS is used. With --dev and nothing said it is memory only.
func (c *Config) Broker() broker.Options {
	return broker.Options{
		URLs: c.NATS, Dir: c.Data, Memory: c.Memory || c.Dev && c.Data == "" && len(c.NATS) == 0,
		Prefix: c.NATSPrefix, Replicas: c.NATSReplicas, SyncAlways: c.SyncAlways, TailBytes: c.TailBytes, Node: c.NodeID, Listen: c.natsListener(),
	}
}

// natsListener is what the embedded NATS lets backends do.
func (c *Config) natsListener() broker.Listener {
	l := broker.Listener{Address: c.NATSListen, User: c.NATSUser, Password: c.NATSPassword}
	for _, name := range slices.Sorted(maps.Keys(c.Backends.Backends)) {
		if subject := c.Backends.Backends[name].Subject(); subject != "" {
			l.Serve = append(l.Serve, subject)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Raw)) {
		if subject := c.Backends.Backends[c.Raw[name].Backend].Subject(); subject != "" {
			l.Publish = append(l.Publish, subject+".raw."+name+".out.>")
		}
	}
	if c.NATSUser != "" && c.Offers(sync.Namespace) { // whoever else reaches the address is not to be trusted
		l.Publish = append(l.Publish, c.NATSPrefix+"."+sync.Namespace+".*")
	}
	return l
}

// allServices are the names there are.
var allServices = []string{sync.Namespace}

// Offers tells whether clients may use a service.
func (c *Config) Offers(name string) bool {
	return slices.Contains(c.Services.Services, name) || c.Dev && len(c.Services.Services) == 0
}

// Sync returns what operators say of sync.
func (c *Config) Sync() sync.Config {
	return sync.Config{MaxData: c.SyncMaxData, MaxItems: c.SyncMaxItems, Restricted: c.SyncRestricted, BackendsCreate: c.SyncBackendsCreate}
}

// Gateway returns the node's options but for Auth, Logger and Version. --dev opens the
// channels without a namespace, unless the configuration says what they allow.
func (c *Config) Gateway() gateway.Options {
	channels := c.Channels
	if c.Dev && !c.opened {
		channels.Default = gateway.Open()
	}
	timeout, calls := gateway.DefaultCallTimeout, 0
	for _, s := range c.Backends.Backends { // whose own limits say more
		timeout = max(timeout, s.Timeout+time.Second)
		calls += s.Calls()
	}
	raw := maps.Clone(c.Raw)
	for name, r := range raw {
		r.Subject, r.Concurrency = c.Backends.Backends[r.Backend].Subject(), c.Backends.Backends[r.Backend].Concurrency
		raw[name] = r
	}
	return gateway.Options{
		Name: c.Name, Channels: channels, Broker: c.Broker(),
		Rebalance:      gateway.RebalanceOptions{On: c.Rebalance, Rate: c.RebalanceRate, Threshold: c.RebalanceThreshold},
		AllowAnonymous: c.AllowAnonymous || c.Dev, Insecure: c.Insecure,
		UpgradeAuth: c.UpgradeAuth, TokenCookie: c.TokenCookie, TokenHeader: c.TokenHeader, TokenQuery: c.TokenQuery,
		PingInterval: c.PingInterval, PongTimeout: c.PongTimeout, StaleTimeout: c.StaleTimeout, ExpiryGrace: c.ExpiryGrace,
		MaxChannels: c.MaxChannels, MaxChannelLength: c.MaxChannelLength, MaxMessage: c.MaxMessage,
		QueueLimit: c.HardLimit, RecoveryLimit: c.RecoveryLimit, UserConnections: c.UserConnections,
		CallTimeout: timeout, MaxCalls: max(gateway.DefaultMaxCalls, calls), Events: c.Backends.Events, Headers: c.Backends.Headers, Raw: raw,
	}
}
