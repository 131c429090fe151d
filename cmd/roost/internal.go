package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"roost/api"
)

// internalServer answers backends and operators: the server API, metrics, health, pprof.
type internalServer struct {
	addr   net.Addr
	http   *http.Server
	gate   *gate
	conns  atomic.Int64
	secure *tls.Config // nil without TLS
	log    *slog.Logger

	listener *net.TCPListener // of the takeover's goroutine, once it is there
}

func (s *internalServer) url() string {
	if s.secure != nil {
		return "https://" + s.addr.String()
	}
	return "http://" + s.addr.String()
}

// serveInternal opens the internal address; keys open the server API, and the password the admin page, if there is one.
func serveInternal(address string, p *process, keys []string, password string, log *slog.Logger) (*internalServer, error) {
	ln, err := p.inherited, error(nil)
	if ln == nil {
		ln, err = net.Listen("tcp", address)
	}
	if err != nil {
		return nil, fmt.Errorf("internal address %q: %w", address, err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		&metrics{p.server, p.node}, emulated{p.emulation}, allCertificates{p.certificates, p.inner},
		p.backends, p.services)
	registerProcess(reg)
	mux := http.NewServeMux()
	apiOptions := api.Options{Node: p.node, Keys: keys, Version: version, Logger: log, Observe: observeAPI(reg), Services: p.services.api()}
	serverAPI := api.New(apiOptions)
	mux.Handle("/api", serverAPI)
	mux.Handle("/api/", serverAPI)
	if err := mountAdmin(mux, reg, p, password, apiOptions); err != nil {
		_ = ln.Close()
		return nil, err
	}
	mountHealth(mux, reg, p.ready)
	g := &gate{next: mux}
	s := &internalServer{addr: ln.Addr(), http: &http.Server{Handler: g, ReadHeaderTimeout: 5 * time.Second}, gate: g, log: log}
	s.http.ConnState = s.count
	if p.inner != nil {
		s.secure = p.inner.source.Config()
		s.http.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug) // whoever speaks no TLS there
	}
	s.serve(ln.(*net.TCPListener))
	return s, nil
}

// mountHealth answers operators: metrics, whether the process lives and is ready, and profiles.
func mountHealth(mux *http.ServeMux, reg *prometheus.Registry, ready func() error) {
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { say(w, nil) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { say(w, ready()) })
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

// serve accepts connections until the listener is closed.
func (s *internalServer) serve(tcp *net.TCPListener) {
	s.listener = tcp
	ln := net.Listener(tcp)
	if s.secure != nil {
		ln = tls.NewListener(ln, s.secure)
	}
	go func() {
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("internal address stopped", "error", err)
		}
	}()
}

// again listens anew, after the listener was another process's.
func (s *internalServer) again() error {
	ln, err := net.Listen("tcp", s.addr.String())
	if err != nil {
		return fmt.Errorf("internal address %q: %w", s.addr, err)
	}
	s.serve(ln.(*net.TCPListener))
	return nil
}

// count counts connections.
func (s *internalServer) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Add(-1)
	}
}

// say answers a probe: ok, or why not.
func say(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, err)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// observeAPI counts and times the operations of the server API.
func observeAPI(reg *prometheus.Registry) func(method string, code int, took time.Duration) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricAPIRequests.name, Help: metricAPIRequests.help}, metricAPIRequests.labels)
	seconds := metricAPISeconds.histograms()
	reg.MustRegister(requests, seconds)
	return func(method string, code int, took time.Duration) {
		requests.WithLabelValues(method, strconv.Itoa(code)).Inc()
		seconds.WithLabelValues(method).Observe(took.Seconds())
	}
}

// stop waits until ctx ends for answers that are under way.
func (s *internalServer) stop(ctx context.Context) {
	_ = s.http.Shutdown(ctx)
	_ = s.http.Close()
}
