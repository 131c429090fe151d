package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"

	"roost/auth"
	"roost/broker"
	"roost/conn"
	"roost/emulation"
	"roost/gateway"
	"roost/internal/config"
	"roost/poller"
)

// room is how many clients the descriptors allow besides what the process itself
// needs for listeners, loops, backends and the internal address, for NATS' files, and
// for emulated clients.
func room(c *config.Config) int {
	own := 64
	if c.Data != "" {
		own += 192 // a block or two of each stream, and what is being written
	}
	if c.NATSListen != "" {
		own += broker.MaxServices
	}
	limit, err := poller.DescriptorLimit()
	if err != nil || limit > 1<<30 {
		return 0
	}
	if c.MaxEmulated > 0 {
		own += emulation.Descriptors(maxEmulated(c))
	}
	own += tlsRoom(c, int(limit))
	return max(1, int(limit)-own)
}

// connOptions returns those of the clients' address but for routes and page.
func connOptions(c *config.Config, log *slog.Logger) conn.Options {
	return conn.Options{
		Poller: poller.Options{
			Loops:         c.Loops,
			SendBuffer:    c.SendBuffer,
			ReceiveBuffer: c.ReceiveBuffer,
			NoIOUring:     c.NoIOUring,
			MaxConns:      cmp.Or(c.MaxConnections, room(c)),
		},
		AllowedOrigins:   c.AllowedOrigins,
		MaxMessage:       c.MaxMessage,
		NoDeflate:        !c.Deflate,
		HardLimit:        c.HardLimit,
		PingInterval:     c.PingInterval,
		PongTimeout:      c.PongTimeout,
		HandshakeTimeout: c.HandshakeTimeout,
		MessageRate:      c.MessageRate,
		Storm:            conn.StormOptions{Rate: c.UpgradeRate, AddressRate: c.AddressRate, Backlog: c.UpgradeBacklog, Handshakes: c.MaxHandshakes},
		Workers:          c.Workers,
		Logger:           log,
	}
}

// newNode makes the gateway's node, and the verifier of tokens that it uses.
func newNode(options gateway.Options, keys auth.Options, log *slog.Logger) (*gateway.Node, *auth.Verifier, error) {
	var verifier *auth.Verifier
	if keys.Enabled() {
		keys.Logger = log
		var err error
		if verifier, err = auth.New(keys); err != nil {
			return nil, nil, err
		}
	}
	options.Version, options.Auth, options.Logger = version, verifier, log
	node, err := gateway.Prepare(options)
	if err != nil && verifier != nil {
		verifier.Close()
	}
	return node, verifier, err
}

// newLogger writes to w what the configuration wants to see.
func newLogger(c *config.Config, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}
