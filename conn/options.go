package conn

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
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
	// Hand takes over the clients whose request's path begins with one of HandPaths and
	// is no route's: it owns nc, whose first reads give what was read of the request,
	// and which counts against Poller.MaxConns no longer. It is called once the request
	// line is there, on a goroutine of its own. Linux only: elsewhere the answer is 501.
	Hand      func(nc net.Conn)
	HandPaths []string

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

	// Storm bounds how upgrades begin when very many clients come at once.
	Storm StormOptions

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
	// Choose, if set, picks another route of the same server by the request, and
	// nothing but Path counts of this one. It runs on the loop and must not block. Its
	// error should be a *ws.HandshakeError.
	Choose func(r *http.Request) (*Route, error)
	// Inline runs the handler on the loop: it must never block.
	Inline bool
	// Protocols are the subprotocols understood, most wanted first.
	Protocols []string
	// Authorize decides on the upgrade before it is confirmed. It runs on the loop
	// and must not block. Its error should be a *ws.HandshakeError; others become a
	// 403. The session is what Conn.Session returns. nil: all may connect.
	Authorize func(r *http.Request) (session any, err error)
	// Admit decides like Authorize, and after it, but in the worker pool: it may
	// block. Its session replaces that of Authorize. It has until HandshakeTimeout;
	// r's context ends then, and when the client goes or the server shuts down: what
	// it returns after that is dropped, so it should reserve nothing. At most half of
	// the workers admit at a time; where too many clients wait for that, or the time
	// is over, the answer is 503 with Retry-After.
	Admit func(r *http.Request) (session any, err error)
	// Peek sees each message first, on the loop, and may handle it there, which saves
	// the way to a worker. It must not block. The payload is valid until it returns.
	// Messages that came earlier, and even Handler.Open, may still be waiting for a
	// worker then, or be at work.
	Peek func(c *Conn, op ws.Opcode, payload []byte) (handled bool)
	// Beat replaces the pings of this route: it is called on the loop, must not
	// block, and returns the time to its next call. The first call comes FirstBeat
	// after the upgrade (default: 10 s), each up to ten ticks of the poller late.
	// After 0 the client is pinged as on other routes, and Beat called at each look
	// for that. While reading is stopped, and so answers remain unread, a beat waits
	// until a second after. Handler.Open may still be waiting for a worker then. Not called once the connection is being closed.
	Beat      func(c *Conn) (next time.Duration)
	FirstBeat time.Duration
	// MaxMessage and HardLimit replace the server's on this route; 0 keeps them.
	// With MaxMessage go, as long as they do not have values of their own, MaxFrame
	// and, downwards, with HardLimit SoftLimit.
	MaxMessage int64
	HardLimit  int
	// NoPong is what a client is told that did not answer a ping; 0 is 1008.
	NoPong ws.CloseCode

	// Static after New.
	id         uint8
	server     *Server
	limits     ws.Limits
	hard, soft int
	firstBeat  uint32 // ticks
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
	for _, p := range o.HandPaths {
		if o.Hand == nil || !strings.HasPrefix(p, "/") {
			return fmt.Errorf("conn: path %q is to be handed over: it must start with /, and Options.Hand be there", p)
		}
	}
	seen := map[string]bool{}
	for _, r := range o.Routes {
		switch {
		case r.Handler == nil && r.Choose == nil:
			return fmt.Errorf("conn: route %q has no handler", r.Path)
		case !strings.HasPrefix(r.Path, "/"):
			return fmt.Errorf("conn: route path %q must start with /", r.Path)
		case seen[r.Path]:
			return fmt.Errorf("conn: route %q is there twice", r.Path)
		case r.MaxMessage < 0 || r.HardLimit < 0 || r.FirstBeat < 0:
			return fmt.Errorf("conn: MaxMessage, HardLimit and FirstBeat of route %q must not be negative", r.Path)
		}
		seen[r.Path] = true
	}
	if o.MessageRate < 0 || o.MessageRate > rateUnits || o.MessageBurst < 0 {
		return fmt.Errorf("conn: MessageRate is %d and MessageBurst %d, must be 0 to %d and not negative", o.MessageRate, o.MessageBurst, rateUnits)
	}
	if o.MaxMessage < 0 || o.MaxFrame < 0 || o.HardLimit < 0 || o.SoftLimit < 0 || o.Workers < 0 {
		return errors.New("conn: limits must not be negative")
	}
	for _, pattern := range o.AllowedOrigins {
		if err := CheckOrigin(pattern); err != nil {
			return fmt.Errorf("conn: allowed origin %q: %w", pattern, err)
		}
	}
	o.setDefaults()
	if err := o.Storm.validate(o.HandshakeTimeout); err != nil {
		return err
	}
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
	for _, r := range o.Routes {
		orDefault(&r.FirstBeat, 10*time.Second)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// attach gives the route its place in s, and what it does not set itself.
func (rt *Route) attach(s *Server, id int) {
	o := &s.opts
	rt.id, rt.server = uint8(id), s
	rt.limits = ws.Limits{MaxFrame: o.MaxFrame, MaxMessage: o.MaxMessage}
	if rt.MaxMessage > 0 {
		if o.MaxFrame == o.MaxMessage {
			rt.limits.MaxFrame = rt.MaxMessage
		}
		rt.limits.MaxMessage = rt.MaxMessage
	}
	rt.hard = o.HardLimit
	if rt.HardLimit > 0 {
		rt.hard = rt.HardLimit
	}
	rt.soft = min(o.SoftLimit, rt.hard)
	rt.firstBeat = o.beatTicks(rt.FirstBeat)
}
