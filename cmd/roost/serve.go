package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"roost/conn"
	"roost/poller"
)

// shutdownTime is how long clients have to answer the close frame at SIGTERM.
const shutdownTime = 4 * time.Second

// kernelPerConn is what the kernel keeps for one idle loopback connection at this
// end, in bytes: half of the 9.2 KB that both ends take together.
const kernelPerConn = 4600

type serveCmd struct {
	Address         string        `help:"Address for clients, host:port." default:"127.0.0.1:8000"`
	InternalAddress string        `help:"Address for metrics, health and pprof; not for clients." default:"127.0.0.1:8001"`
	Dev             bool          `help:"Serve the built-in routes /echo, /echo-pool and /broadcast and a page to try them, open to everyone."`
	Loops           int           `help:"Event loops; 0 is one for two cores."`
	Workers         int           `help:"Goroutines for handlers that may block; 0 is 256 per core."`
	NoIOUring       bool          `name:"no-io-uring" help:"Write without io_uring."`
	SendBuffer      int           `help:"SO_SNDBUF of clients' sockets in bytes; 0 leaves it to the kernel."`
	ReceiveBuffer   int           `help:"SO_RCVBUF of clients' sockets in bytes; 0 leaves it to the kernel."`
	PingInterval    time.Duration `help:"How long a client may be silent before it is asked for a sign of life." default:"25s"`
	PongTimeout     time.Duration `help:"How long it then has to answer." default:"10s"`
	HandshakeTime   time.Duration `name:"handshake-timeout" help:"How long a client may take to send its upgrade request." default:"10s"`
	MaxMessage      int64         `help:"Largest message a client may send, in bytes." default:"1048576"`
	MessageRate     int           `help:"Frames a client may send per second; 0 is no limit." default:"0"`
	HardLimit       int           `help:"Bytes that may wait for a client before it is cut." default:"4194304"`
	Deflate         bool          `help:"Accept permessage-deflate." default:"true" negatable:""`
	AllowedOrigins  []string      `help:"Origins browsers may connect from; none is the same host only, * is any."`
	MaxConnections  int           `help:"Clients at the same time; 0 is what descriptors allow."`
	Profile         string        `help:"Record a profile of the whole run: cpu, mem, mutex, block or trace." enum:",cpu,mem,mutex,block,trace" default:""`
	ProfileDir      string        `help:"Folder for the profile." default:"."`
}

// Run serves until SIGTERM or SIGINT.
func (s *serveCmd) Run() error {
	if !s.Dev {
		return errors.New("serve: nothing to serve: this version has the built-in routes of --dev only, add --dev to try them")
	}
	if err := s.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	slog.SetDefault(log)
	defer startProfile(s.Profile, s.ProfileDir)()

	srv, err := conn.New(s.options(log))
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	internal, err := serveInternal(s.InternalAddress, srv)
	if err != nil {
		return errors.Join(err, srv.Shutdown(canceled()))
	}
	defer internal.Close()
	addr, err := srv.Listen(s.Address)
	if err != nil {
		return errors.Join(fmt.Errorf("serve: %w", err), srv.Shutdown(canceled()))
	}
	s.logStart(log, srv)
	go giveMemoryBack(ctx, srv)
	fmt.Printf("ready address=%s internal=%s page=http://%s/\n", addr, internal.addr, addr)

	<-ctx.Done()
	stop() // a second signal kills
	log.Info("stopping", "connections", srv.Stats().Open)
	end, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		log.Warn("some clients had to be cut", "error", err)
	}
	log.Info("stopped")
	return nil
}

// check refuses values by the name of their flag.
func (s *serveCmd) check() error {
	const rateMax = 16_000 // see conn.Options.MessageRate
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{s.MaxMessage <= 0, fmt.Sprintf("--max-message is %d, must be above 0 bytes", s.MaxMessage)},
		{s.HardLimit <= 0, fmt.Sprintf("--hard-limit is %d, must be above 0 bytes", s.HardLimit)},
		{s.PingInterval <= 0, fmt.Sprintf("--ping-interval is %v, must be above 0", s.PingInterval)},
		{s.PongTimeout <= 0, fmt.Sprintf("--pong-timeout is %v, must be above 0", s.PongTimeout)},
		{s.HandshakeTime <= 0, fmt.Sprintf("--handshake-timeout is %v, must be above 0", s.HandshakeTime)},
		{s.Loops < 0 || s.Loops > 256, fmt.Sprintf("--loops is %d, must be 0 (one for two cores) to 256", s.Loops)},
		{s.Workers < 0, fmt.Sprintf("--workers is %d, must be 0 (256 per core) or more", s.Workers)},
		{s.MessageRate < 0 || s.MessageRate > rateMax, fmt.Sprintf("--message-rate is %d, must be 0 (no limit) to %d", s.MessageRate, rateMax)},
		{s.SendBuffer < 0, fmt.Sprintf("--send-buffer is %d, must be 0 (the kernel's choice) or more bytes", s.SendBuffer)},
		{s.ReceiveBuffer < 0, fmt.Sprintf("--receive-buffer is %d, must be 0 (the kernel's choice) or more bytes", s.ReceiveBuffer)},
		{s.MaxConnections < 0, fmt.Sprintf("--max-connections is %d, must be 0 (what descriptors allow) or more", s.MaxConnections)},
	} {
		if c.bad {
			return errors.New("serve: " + c.text)
		}
	}
	return nil
}

// room is how many clients the descriptors allow besides what the process itself
// needs for listeners, loops, files and the internal address.
func room() int {
	const own = 64
	limit, err := poller.DescriptorLimit()
	if err != nil || limit > 1<<30 {
		return 0
	}
	return max(1, int(limit)-own)
}

func (s *serveCmd) options(log *slog.Logger) conn.Options {
	d := newDev()
	return conn.Options{
		Poller: poller.Options{
			Loops:         s.Loops,
			SendBuffer:    s.SendBuffer,
			ReceiveBuffer: s.ReceiveBuffer,
			NoIOUring:     s.NoIOUring,
			MaxConns:      cmp.Or(s.MaxConnections, room()),
		},
		Routes:           d.routes(),
		HTTP:             d.page,
		AllowedOrigins:   s.AllowedOrigins,
		MaxMessage:       s.MaxMessage,
		NoDeflate:        !s.Deflate,
		HardLimit:        s.HardLimit,
		PingInterval:     s.PingInterval,
		PongTimeout:      s.PongTimeout,
		HandshakeTimeout: s.HandshakeTime,
		MessageRate:      s.MessageRate,
		Workers:          s.Workers,
		Logger:           log,
	}
}

// logStart tells what this process can hold.
func (s *serveCmd) logStart(log *slog.Logger, srv *conn.Server) {
	limit, err := poller.DescriptorLimit()
	if err != nil {
		log.Warn("descriptor limit is unknown", "error", err)
	}
	clients := cmp.Or(s.MaxConnections, room())
	log.Info("gateway started", "version", version, "loops", len(srv.Poller().Loops()), "io_uring", srv.Poller().IOUring(),
		"descriptor_limit", limit, "clients_at_most", clients, "kernel_memory_for_that_many_mb", clients*kernelPerConn>>20)
	if clients < 100_000 {
		log.Info("raise the descriptor limit for more clients, see docs/tuning.md", "now", limit)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
