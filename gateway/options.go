package gateway

import (
	"log/slog"
	"time"

	"roost/auth"
	"roost/broker"
)

// Defaults of Options.
const (
	DefaultCallTimeout = 10 * time.Second
	DefaultMaxCalls    = 1024
)

// Options of a Node. The zero value of a field means its default.
type Options struct {
	// Name and Version appear in info. Name defaults to the host's.
	Name, Version string
	Channels      Channels
	// Auth verifies tokens; nil refuses every token.
	Auth *auth.Verifier
	// Broker configures NATS; its Handler and Logger are set by the Node.
	Broker broker.Options

	// AllowAnonymous lets clients connect without a token, as nobody.
	AllowAnonymous bool
	// Insecure lets clients do everything, without permission checks.
	Insecure bool
	// UpgradeAuth requires a token before the upgrade is confirmed.
	UpgradeAuth bool
	// TokenCookie, TokenHeader and TokenQuery name where that token is looked for.
	// Default: Authorization: Bearer, and no cookie or query.
	TokenCookie, TokenHeader, TokenQuery string

	// PingInterval of the client protocol, and how long the answer may take.
	// Default: 25 s, 8 s.
	PingInterval, PongTimeout time.Duration
	// StaleTimeout is the time to the connect command. Default: 10 s.
	StaleTimeout time.Duration
	// ExpiryGrace is the time an expired connection has to refresh. Default: 25 s.
	ExpiryGrace time.Duration
	// MaxChannels per client; default 128. MaxChannelLength in bytes; default 255.
	MaxChannels, MaxChannelLength int
	// MaxMessage a client may send, in bytes. Default: 64 KiB.
	MaxMessage int64
	// QueueLimit of output per client, in bytes. Default: 1 MiB.
	QueueLimit int
	// RecoveryLimit caps publications of a recovery or a history reply. Default: 300.
	RecoveryLimit int
	// UserConnections is how many connections a user may have on this node; 0 is no limit.
	UserConnections int

	Handlers Handlers
	// Headers of upgrade requests that Handlers get to see, such as Cookie, but for raw
	// routes, which have their own. A request with more than 4 KiB of them is refused with
	// 431.
	Headers []string
	// Services that answer clients besides Handlers.
	Services []Service
	// Raw routes, for which Handlers or NATS subjects are needed.
	Raw RawRoutes
	// MaxCalls of Handlers may be under way on this node; what comes then is refused
	// with error 111. Default: 1024.
	MaxCalls int
	// CallTimeout is the time one has. Default: 10 s.
	CallTimeout time.Duration
	// Events bounds what waits for Handlers.Disconnect and Handlers.Unsubscribe.
	Events EventOptions

	// Rebalance moves clients from full nodes of a cluster to empty ones.
	Rebalance RebalanceOptions

	refreshLimits
	Logger *slog.Logger
}
