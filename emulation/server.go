// Package emulation serves clients that cannot use WebSockets: they get a stream, by
// server-sent events or as a long HTTP response, and send by POST.
//
// Such a client is a WebSocket connection of the gateway like any other, whose
// descriptor is one end of a socketpair. A goroutine has the other end, speaks the
// protocol of WebSocket clients there, and turns frames into the stream. So sessions,
// channels, limits, pings and slow readers are the same for all clients; what an
// emulated one costs beyond that is two goroutines and up to three descriptors more.
package emulation

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"roost/conn"
	"roost/gateway"
	"roost/internal/tally"
)

// Paths that clients use.
const (
	PathSSE        = "/connection/sse"
	PathHTTPStream = "/connection/http_stream"
	PathEmulation  = "/emulation"
)

// Paths are all of them, for conn.Options.HandPaths.
var Paths = []string{PathSSE, PathHTTPStream, PathEmulation}

const (
	idleTimeout  = 60 * time.Second // of a kept connection, to its next request
	writeTimeout = 10 * time.Second // in which a client must take chunkSize bytes
	postTimeout  = 10 * time.Second // in which commands must reach their session
	maxHead      = 16 << 10         // bytes of a request head
	// connectionsPerClient is how many connections there may be for each client that
	// there may be: its stream, and others for what it posts.
	connectionsPerClient = 2
	connectionsBesides   = 64 // for a few more, as with pre-flight requests
)

// Options of a Server.
type Options struct {
	Node *gateway.Node
	// Route is where the node's clients connect; its handshake decides on streams, too.
	Route string
	// AllowedOrigins are those of conn.Options.
	AllowedOrigins []string
	// MaxClients bounds the streams.
	MaxClients int
	// MaxMessage bounds what a client sends at a time, in bytes.
	MaxMessage int64
	// RequestTimeout bounds the time to a whole request.
	RequestTimeout time.Duration
	Logger         *slog.Logger
}

// Server answers the requests of emulated clients.
type Server struct {
	opts  Options
	http  *http.Server
	inbox *conn.Listener
	dial  func(remote netip.AddrPort) (*net.UnixConn, error) // set by Start

	connections atomic.Int64
	streams     atomic.Int64
	counts      struct{ refused, posts tally.Of[string] }
}

// New makes a server. Start must be called before the first request comes.
func New(o Options) *Server {
	s := &Server{opts: o, inbox: conn.NewListener()}
	mux := http.NewServeMux()
	mux.HandleFunc(PathSSE, s.shared(http.MethodGet, s.sse))
	mux.HandleFunc(PathHTTPStream, s.shared(http.MethodPost, s.httpStream))
	mux.HandleFunc(PathEmulation, s.shared(http.MethodPost, s.post))
	mux.HandleFunc("/", s.back)
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: o.RequestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				s.connections.Add(-1)
			}
		},
	}
	return s
}

// Start gives the server what connects to the gateway, conn.Server.Dial.
func (s *Server) Start(dial func(remote netip.AddrPort) (*net.UnixConn, error)) {
	s.dial = dial
	go func() {
		if err := s.http.Serve(s.inbox); !errors.Is(err, http.ErrServerClosed) {
			s.opts.Logger.Error("SSE and HTTP streaming ended", "error", err)
		}
	}()
}

// Hand takes over a connection with a request to one of Paths. Any goroutine.
func (s *Server) Hand(nc net.Conn) {
	if s.connections.Add(1) > int64(s.opts.MaxClients*connectionsPerClient+connectionsBesides) {
		s.connections.Add(-1)
		s.counts.refused.Add("connections")
		_ = nc.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, _ = nc.Write(tooManyConnections)
		_ = nc.Close()
		return
	}
	if !s.inbox.Offer(nc) {
		s.connections.Add(-1)
		_ = nc.Close()
	}
}

// Shutdown waits until all streams have ended, which is the gateway's to bring about, or
// ctx has; then it closes what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	return errors.Join(err, s.http.Close())
}

// Descriptors returns how many of them so many clients may take, besides those of the
// gateway's connections.
func Descriptors(clients int) int { return clients*(connectionsPerClient+1) + connectionsBesides }

// Stats are totals since the start, but for those that say now.
type Stats struct {
	Connections int64             // handed over, now
	Streams     int64             // now
	Refused     map[string]uint64 // streams and connections, by why
	Posts       map[string]uint64 // requests with commands, by outcome
}

// Stats returns the server's figures. Any goroutine.
func (s *Server) Stats() Stats {
	return Stats{Connections: s.connections.Load(), Streams: s.streams.Load(), Refused: s.counts.refused.All(), Posts: s.counts.posts.All()}
}
