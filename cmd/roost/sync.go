package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"

	"roost/broker"
	"roost/internal/config"
)

// syncCmd runs sync in a process of its own.
type syncCmd struct{ config.Config }

// problems are those that matter here.
func (s *syncCmd) problems() (all []error) {
	all = append(all, s.FileProblems()...)
	if len(s.NATS) == 0 {
		all = append(all, errors.New("sync needs --nats: without a NATS cluster it runs in the gateway, see --services"))
	}
	return all
}

// Run answers until SIGTERM or SIGINT.
func (s *syncCmd) Run() error {
	if problems := s.problems(); len(problems) > 0 {
		return refusal("sync", problems)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log, err := newLogger(&s.Config, os.Stderr)
	if err != nil {
		return err
	}
	o := s.Broker()
	o.Guest, o.Logger, o.Node = true, log, ""
	o.Handler = deaf{}
	b, err := broker.New(o)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer func() { _ = b.Close() }()
	services := newServices(&s.Config, log)
	if services.sync, err = services.newSync(b); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", s.InternalAddress)
	if err != nil {
		return errors.Join(fmt.Errorf("sync: internal address %q: %w", s.InternalAddress, err), services.sync.Close())
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(services)
	registerProcess(reg)
	mux := http.NewServeMux()
	mountHealth(mux, reg, b.Ready)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(ln) }()
	fmt.Printf("ready internal=%s\n", ln.Addr())
	notify(log, daemon.SdNotifyReady)
	<-ctx.Done()
	notify(log, daemon.SdNotifyStopping)
	_ = server.Close()
	return services.sync.Close()
}

// deaf is what a guest hears: nothing.
type deaf struct{}

func (deaf) Publication(string, *broker.Publication) {}
func (deaf) JoinLeave(string, bool, []byte)          {}
func (deaf) Gap(string)                              {}
func (deaf) Notice(string, []byte)                   {}
func (deaf) Query(string, []byte) ([]byte, error)    { return nil, nil }
