package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"roost/auth"
	"roost/conn"
	"roost/emulation"
	"roost/gateway"
	"roost/internal/config"
	"roost/poller"
)

// shutdownTime is how long clients have to answer the close frame at SIGTERM, and
// calls of the server API to end. With what the broker needs the end takes below 5 s.
const shutdownTime = 3500 * time.Millisecond

// kernelPerConn is what the kernel keeps for one idle loopback connection at this
// end, in bytes: half of the 9.2 KB that both ends take together.
const kernelPerConn = 4600

type serveCmd struct {
	config.Config

	Takeover bool `env:"-" help:"Take over from the gateway that runs with this configuration: its clients notice nothing. Starts afresh if there is none."`
}

// Run serves until SIGTERM or SIGINT.
func (s *serveCmd) Run() error {
	if problems := s.Problems(); len(problems) > 0 {
		return refusal("serve", problems)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log, err := newLogger(&s.Config, os.Stderr)
	if err != nil {
		return err
	}
	slog.SetDefault(log)
	for _, w := range slices.Concat(s.Warnings, s.Doubts()) {
		log.Warn(w)
	}
	defer startProfile(s.Profile, s.ProfileDir)()

	p, err := s.launch(log)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	succession, err := s.openSuccession(p, log)
	if err != nil {
		return fmt.Errorf("serve: %w", errors.Join(err, p.stop(canceled())))
	}
	go giveMemoryBack(ctx, p.server)
	log.Info("ready", "address", p.address, "internal", p.internal.addr)
	fmt.Println(p.readyLine(s.Dev))

	notify(log, daemon.SdNotifyReady)
	select {
	case <-ctx.Done():
	case <-succession.given():
	}
	stop() // a second signal kills, but for a drain
	if succession.end() {
		p.leave(log)
		return nil
	}
	notify(log, daemon.SdNotifyStopping)
	if s.DrainTime > 0 {
		p.drain(s.DrainTime, log)
	}
	log.Info("stopping", "connections", p.server.Stats().Open)
	end, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := p.stop(end); err != nil {
		log.Warn("some clients had to be cut", "error", err)
	}
	log.Info("stopped")
	return nil
}

// refusal says all that is wrong.
func refusal(command string, problems []error) error {
	if len(problems) == 1 {
		return fmt.Errorf("%s: %w", command, problems[0])
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = "  " + p.Error()
	}
	return fmt.Errorf("%s: %d problems:\n%s", command, len(problems), strings.Join(lines, "\n"))
}

// process is all that runs. What could not be started is nil.
type process struct {
	verifier *auth.Verifier
	backends *backends
	services *services
	node     *gateway.Node
	server   *conn.Server
	internal *internalServer

	emulation *emulation.Server

	certificates   *certificates // nil without TLS
	inner          *certificates // of the internal address, likewise
	address        string
	tlsAddress     string // "" without TLS, and equal to address where all is TLS
	madeUpKey      string // for the server API, where none was given
	madeUpPassword string // for the admin page, likewise
	up             atomic.Bool

	inherited net.Listener // of the internal address; nil unless taken over
	starts    func()       // the connections that were taken over; nil unless there are
}

// launch starts a process, or takes over from another one.
func (s *serveCmd) launch(log *slog.Logger) (p *process, err error) {
	found := false
	if s.Takeover {
		p, found, err = s.takeOver(log)
	}
	if found || err != nil {
		return p, err // the end of the process undoes what there is: nothing else may be touched
	}
	if p, err = s.start(log); err != nil {
		return nil, errors.Join(err, p.stop(canceled()))
	}
	return p, nil
}

// tookOver tells whether the process has taken over from another one.
func (p *process) tookOver() bool { return p.starts != nil }

// notify tells systemd, if that has started this process.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d\n%s", os.Getpid(), state)); err != nil {
		log.Warn("systemd was not told", "state", state, "error", err)
	}
}

// start starts everything. What it returns must be stopped also after an error.
func (s *serveCmd) start(log *slog.Logger) (*process, error) {
	p := &process{}
	if err := s.prepare(p, log); err != nil {
		return p, err
	}
	if err := p.node.Open(nil); err != nil {
		return p, err
	}
	return p, s.begin(p, log)
}

// prepare makes everything that needs neither the data nor clients.
func (s *serveCmd) prepare(p *process, log *slog.Logger) (err error) {
	if p.certificates, err = openCertificates(s.Certificates(), log); err != nil {
		return err
	}
	if p.inner, err = openCertificates(s.InternalCertificates(), log); err != nil {
		return err
	}
	if p.backends, err = newBackends(s.Backends, log); err != nil {
		return err
	}
	options := s.Gateway()
	options.Handlers = p.backends.set.Handlers()
	p.services = newServices(&s.Config, log)
	options.Services = p.services.gateway()
	if p.node, p.verifier, err = newNode(options, s.Auth(), log); err != nil {
		return err
	}
	o := connOptions(&s.Config, log)
	o.Routes = p.node.Routes()
	if s.Dev {
		d := newDev()
		o.Routes, o.HTTP = append(o.Routes, d.routes()...), d.page
	}
	p.emulation = newEmulation(&s.Config, p.node, log)
	if s.MaxEmulated > 0 {
		o.Hand, o.HandPaths = p.emulation.Hand, emulation.Paths
	}
	p.server, err = conn.New(o)
	return err
}

// begin starts serving, once the node is open.
func (s *serveCmd) begin(p *process, log *slog.Logger) (err error) {
	p.backends.broker = p.node.Broker()
	if err = p.services.open(p.node, p.tookOver()); err != nil {
		return err
	}
	if err = p.node.Start(p.server); err != nil {
		return err
	}
	p.services.start()
	if p.tookOver() {
		p.starts()
	}
	step("reading")
	p.emulation.Start(p.server.Dial)
	keys := s.APIKey
	if s.Dev && len(keys) == 0 {
		keys = []string{rand.Text()}
		p.madeUpKey = keys[0]
	}
	password := s.AdminPassword
	if s.Dev && password == "" {
		password = rand.Text()
		p.madeUpPassword = password
	}
	if p.internal, err = serveInternal(s.InternalAddress, p, keys, password, log); err != nil {
		return err
	}
	step("internal")
	if err = p.listen(&s.Config, log); err != nil {
		return err
	}
	step("listening")
	p.up.Store(true)
	s.logStart(log, p.server, len(keys) > 0)
	return nil
}

// readyLine tells those who started the process where it is.
func (p *process) readyLine(page bool) string {
	line := fmt.Sprintf("ready address=%s internal=%s", p.address, p.internal.addr)
	if p.tlsAddress != "" {
		line += " tls_address=" + p.tlsAddress
	}
	if at := p.node.Broker().ListenAddr(); at != "" {
		line += " nats=" + at
	}
	if p.madeUpKey != "" {
		line += " api_key=" + p.madeUpKey
	}
	if p.madeUpPassword != "" {
		line += " admin=" + p.internal.url() + "/admin/ admin_password=" + p.madeUpPassword
	}
	if page {
		line += " page=" + p.page()
	}
	return line
}

// drain has the clients go evenly over a time, until a signal.
func (p *process) drain(over time.Duration, log *slog.Logger) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	p.node.Leave(over)
	log.Info("draining", "over", over, "connections", p.server.Stats().Open)
	for p.server.Stats().Open > 0 {
		r, err := p.node.DrainStatus(ctx, nil)
		if err != nil || r.State != gateway.DrainDraining {
			return
		}
		select {
		case <-ctx.Done():
			log.Warn("the drain is cut short by a signal", "connections", p.server.Stats().Open)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// leaveTime is how long backends have to send one more request by connections that they keep:
// the answer tells them to connect anew. Closing such a connection may cut a request off.
const leaveTime = 3 * time.Second

// leave ends a process whose place has been taken.
func (p *process) leave(log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	for p.internal.conns.Load() > 0 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	_ = p.internal.http.Shutdown(ctx)
	_ = p.server.Shutdown(ctx)
	if err := p.services.stop(canceled()); err != nil {
		log.Warn("a service did not end in order", "error", err)
	}
	p.node.Abandon()
	log.Info("another process has taken over")
}

// stop ends everything in the order in which nothing is lost: clients are told to
// come back elsewhere, then their connections end, then calls of the API, then the broker.
func (p *process) stop(ctx context.Context) (err error) {
	p.up.Store(false)
	if p.server != nil {
		p.node.Dismiss()
		err = errors.Join(p.server.Shutdown(ctx), p.emulation.Shutdown(ctx))
	}
	if p.internal != nil {
		p.internal.stop(ctx)
	}
	err = errors.Join(err, p.services.stop(ctx))
	if p.node != nil {
		err = errors.Join(err, p.node.Shutdown(ctx))
	}
	if p.backends != nil {
		p.backends.set.Close()
	}
	if p.verifier != nil {
		p.verifier.Close()
	}
	p.certificates.end()
	p.inner.end()
	return err
}

// ready tells what keeps clients from being served, if anything does.
func (p *process) ready() error {
	if !p.up.Load() {
		return errors.New("starting or stopping")
	}
	return p.node.Ready()
}

// logStart tells what this process can hold, and what about it is unsafe.
func (s *serveCmd) logStart(log *slog.Logger, srv *conn.Server, api bool) {
	limit, err := poller.DescriptorLimit()
	if err != nil {
		log.Warn("descriptor limit is unknown", "error", err)
	}
	clients := cmp.Or(s.MaxConnections, room(&s.Config))
	log.Info("gateway started", "version", version, "loops", len(srv.Poller().Loops()), "io_uring", srv.Poller().IOUring(),
		"descriptor_limit", limit, "clients_at_most", clients, "emulated_at_most", maxEmulated(&s.Config), "kernel_memory_for_that_many_mb", clients*kernelPerConn>>20)
	if clients < 100_000 {
		log.Info("raise the descriptor limit for more clients, see docs/tuning.md", "now", limit)
	}
	switch b := s.Broker(); {
	case b.Memory:
		log.Info("publications are kept in memory and gone with the process; --data keeps them")
	case len(b.URLs) > 0:
		log.Info("publications are kept in a NATS cluster", "prefix", b.Prefix, "replicas", b.Replicas)
	default:
		log.Info("publications are kept on disk", "dir", b.Dir, "sync_always", b.SyncAlways)
	}
	switch {
	case s.Insecure:
		log.Warn("--insecure lets every client do everything")
	case s.Dev:
		log.Info("--dev lets everyone in")
	}
	if !api {
		log.Info("the server API refuses everyone; --api-key gives it a key")
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
