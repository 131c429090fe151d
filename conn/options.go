package conn

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"

	"roost/poller"
	"roost/proto/ws"
)

// Options of a Server. The zero value of a field means its default.
type Options struct {
	// Poller configures the event loops. Its Handler, New and Logger are set by the Server.
	Poller poller.Options
	// Routes by path. At least one is required.
	Routes []*Route
	// HTTP answers requests that are no upgrade to a known route. It runs on the
	// loop and must not block. nil, or a nil result: 404.
	HTTP func(r *http.Request) *Response
	// AllowedOrigins are the origins browsers may connect from, see ws.CheckOrigin.
	// Default: the same host only.
	AllowedOrigins []string

	// MaxMessage and MaxFrame bound what a client may send, in bytes. Default: 1 MiB each.
	MaxMessage, MaxFrame int64
	// NoDeflate declines permessage-deflate.
	NoDeflate bool
	// HardLimit: a write that finds more than this many bytes waiting cuts the
	// connection. Default: 4 MiB.
	HardLimit int
	// SoftLimit: a connection with more than this many bytes waiting for SoftTime is
	// cut. Default: 1 MiB, 10 s.
	SoftLimit int
	SoftTime  time.Duration
	// PingInterval is how long a connection may be silent before it is asked;
	// PongTimeout how long it has to answer. Negative: no pings. Default: 25 s, 10 s.
	PingInterval, PongTimeout time.Duration
	// HandshakeTimeout bounds the time to a whole upgrade request. Default: 10 s.
	HandshakeTimeout time.Duration
	// MessageRate and MessageBurst limit the messages and control frames a client
	// may send per second. Default: no limit; a burst of one second's worth. The rate
	// is at most 16,000, the burst at most one minute's worth; and PingInterval,
	// PongTimeout and SoftTime are at most one minute each, or the limiter's clock
	// would lose count.
	MessageRate, MessageBurst int

	// Workers bounds the pool's goroutines. Default: 256 per core.
	Workers int
	// InboxMessages and InboxBytes bound what waits for a worker per connection;
	// then reading stops until it has been handled. Default: 64, 256 KiB.
	InboxMessages, InboxBytes int
	// OverloadTime is how long a connection waits for a worker at most. Default: 10 s.
	OverloadTime time.Duration

	Logger *slog.Logger
}

// Route is where clients connect to.
type Route struct {
	// Path of the request, exactly.
	Path    string
	Handler Handler
	// Inline runs the handler on the loop: it must never block.
	Inline bool
	// Protocols are the subprotocols understood, most wanted first.
	Protocols []string
	// Authorize decides on the upgrade before it is confirmed. It runs on the loop
	// and must not block. Its error should be a *ws.HandshakeError; others become a
	// 403. The session is what Conn.Session returns. nil: all may connect.
	Authorize func(r *http.Request) (session any, err error)

	id     uint8
	server *Server
}

// Handler is what a route does. For one connection the calls never overlap.
type Handler interface {
	// Open is called when the upgrade has been confirmed.
	Open(c *Conn)
	// Message hands over a whole message. The payload is valid until it returns.
	Message(c *Conn, op ws.Opcode, payload []byte)
	// Close is called once, last. code is what the peer sent or was sent, or
	// ws.CloseAbnormal where there was no close frame.
	Close(c *Conn, r Reason, code ws.CloseCode)
}

// Response answers a plain HTTP request.
type Response struct {
	Status      int
	ContentType string
	Header      http.Header // more headers, or nil
	Body        []byte
}

const (
	maxRoutes = 255
	rateUnits = 16_000 // units of the rate limiter's clock per second
)

func (o *Options) validate() error {
	if len(o.Routes) == 0 || len(o.Routes) > maxRoutes {
		return fmt.Errorf("conn: %d routes, must be 1 to %d", len(o.Routes), maxRoutes)
	}
	seen := map[string]bool{}
	for _, r := range o.Routes {
		switch {
		case r.Handler == nil:
			return fmt.Errorf("conn: route %q has no handler", r.Path)
		case !strings.HasPrefix(r.Path, "/"):
			return fmt.Errorf("conn: route path %q must start with /", r.Path)
		case seen[r.Path]:
			return fmt.Errorf("conn: route %q is there twice", r.Path)
		}
		seen[r.Path] = true
	}
	if o.MessageRate < 0 || o.MessageRate > rateUnits || o.MessageBurst < 0 {
		return fmt.Errorf("conn: MessageRate is %d and MessageBurst %d, must be 0 to %d and not negative", o.MessageRate, o.MessageBurst, rateUnits)
	}
	if o.MaxMessage < 0 || o.MaxFrame < 0 || o.HardLimit < 0 || o.SoftLimit < 0 || o.Workers < 0 {
		return errors.New("conn: limits must not be negative")
	}
	o.setDefaults()
	if o.MessageRate > 0 && (o.MessageBurst > 60*o.MessageRate || max(o.PingInterval, o.PongTimeout, o.SoftTime) > time.Minute) {
		return errors.New("conn: with a MessageRate, MessageBurst is at most 60 times that, and PingInterval, PongTimeout and SoftTime at most a minute")
	}
	if o.SoftLimit > o.HardLimit {
		return fmt.Errorf("conn: SoftLimit %d is above HardLimit %d", o.SoftLimit, o.HardLimit)
	}
	return nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (o *Options) setDefaults() {
	orDefault(&o.MaxMessage, 1<<20)
	orDefault(&o.MaxFrame, o.MaxMessage)
	orDefault(&o.HardLimit, 4<<20)
	orDefault(&o.SoftLimit, min(1<<20, o.HardLimit))
	orDefault(&o.SoftTime, 10*time.Second)
	orDefault(&o.PingInterval, 25*time.Second)
	orDefault(&o.PongTimeout, 10*time.Second)
	orDefault(&o.HandshakeTimeout, 10*time.Second)
	orDefault(&o.MessageBurst, max(1, o.MessageRate))
	orDefault(&o.Workers, 256*runtime.GOMAXPROCS(0))
	orDefault(&o.InboxMessages, 64)
	orDefault(&o.InboxBytes, 256<<10)
	orDefault(&o.OverloadTime, 10*time.Second)
	orDefault(&o.Poller.Tick, 100*time.Millisecond)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}
