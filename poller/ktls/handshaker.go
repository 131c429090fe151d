package ktls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// CloseNotify is the alert that ends a TLS stream in order (RFC 8446, 6.1).
const CloseNotify tls.AlertError = 0

// acmeProtocol is what an authority offers to see a challenge's certificate (RFC 8737); it wants nothing else.
const acmeProtocol = "acme-tls/1"

// ticketMessage is the number of bytes around a ticket in crypto/tls' NewSessionTicket (RFC 8446, 4.6.1).
const ticketMessage = 17

var (
	// ErrBusy refuses a connection because as many handshakes are in flight as may be, of all or of its address.
	ErrBusy = errors.New("ktls: too many handshakes")
	// ErrClosed refuses a connection after Close.
	ErrClosed = errors.New("ktls: closed")
	// ErrFallbackFull ends a session that the kernel does not carry while crypto/tls carries as many as it may.
	ErrFallbackFull = errors.New("ktls: too many sessions without kernel TLS")
	// ErrHandshakeMessage is what [Control] says of a KeyUpdate (RFC 8446, 4.6.3) or a renegotiation.
	ErrHandshakeMessage = errors.New("ktls: the peer wants new keys, which the kernel cannot follow")
	// ErrChallenge ends a connection that wanted nothing but the certificate of an ACME challenge.
	ErrChallenge = errors.New("ktls: ACME challenge was answered")

	errEarly = errors.New("ktls: input in clear text after the handshake")
)

// Session is what a handshake leads to: either FD or Fallback.
type Session struct {
	// FD is a non-blocking, close-on-exec descriptor whose records the kernel carries. Owned by the receiver.
	FD int
	// Fallback carries the session in user space, some 32 KB of it, when FD is -1. It counts against
	// Options.MaxFallback until it is closed.
	Fallback net.Conn

	ServerName  string // SNI; empty if the client sent none
	Protocol    string // ALPN; empty if none was agreed on
	Version     uint16
	CipherSuite uint16
	// Peer is the client's certificate chain, if Config asked for one.
	Peer []*x509.Certificate
}

// noSession names no descriptor, so that nobody closes number 0.
var noSession = Session{FD: -1}

// Options of a Handshaker. The zero value of a field means its default.
type Options struct {
	// Config is the server's. Required. KeyLogWriter, WrapSession, UnwrapSession and GetConfigForClient must be nil.
	// CipherSuites defaults to those that the kernel can carry.
	Config *tls.Config
	// Done is called with the outcome of every Take that returned nil, a session or an error, on a goroutine of its own
	// that still counts as a handshake. Required.
	Done func(Session, error)
	// MaxHandshakes bounds those in flight, MaxPerAddress those of one IPv4 address or IPv6 /64. In flight a handshake
	// holds some 20 KB, of a hostile client up to 206 KB. Default: 1024, and a quarter of that.
	MaxHandshakes, MaxPerAddress int
	// MaxFallback bounds the open sessions without kernel TLS. Default: 10000. Negative: none.
	MaxFallback int
	// Timeout is the time for a handshake. Default: 5 s.
	Timeout time.Duration
	// NoKernel leaves all sessions to crypto/tls.
	NoKernel bool
	// Logger gets what an operator must know. Default: slog.Default().
	Logger *slog.Logger

	install func(net.Conn, keys) (int, error) // replaced by tests
	probe   func() (supported, error)         // replaced by tests
}

func (o *Options) validate() error {
	if o.Config == nil || o.Done == nil {
		return errors.New("ktls: Options.Config or Options.Done is missing")
	}
	if c := o.Config; c.KeyLogWriter != nil || c.WrapSession != nil || c.UnwrapSession != nil || c.GetConfigForClient != nil {
		return errors.New("ktls: KeyLogWriter, WrapSession, UnwrapSession and GetConfigForClient of Options.Config must be nil")
	}
	if o.MaxHandshakes < 0 || o.MaxPerAddress < 0 || o.Timeout < 0 {
		return errors.New("ktls: MaxHandshakes, MaxPerAddress and Timeout must not be negative")
	}
	if o.MaxHandshakes == 0 {
		o.MaxHandshakes = 1024
	}
	if o.MaxPerAddress == 0 {
		o.MaxPerAddress = max(1, o.MaxHandshakes/4)
	}
	if o.MaxFallback == 0 {
		o.MaxFallback = 10000
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.install == nil {
		o.install, o.probe = install, probe
	}
	return nil
}

// kind is what a kernel does or does not carry.
type kind struct{ version, cipher uint16 }

func (k keys) kind() kind { return kind{k.version, k.cipher} }

type supported map[kind]bool

// Stats of a Handshaker. InFlight and Fallback are gauges, the others count.
type Stats struct {
	InFlight, Fallback                 int
	Kernel, Fallbacks, Failed, Refused uint64
}

// Handshaker makes the handshakes. All methods may be called from any goroutine.
type Handshaker struct {
	o         Options
	config    *tls.Config
	supported supported

	mu      sync.Mutex // guards the rest
	closed  bool
	stats   Stats
	address map[netip.Prefix]int // in flight
	conns   map[net.Conn]bool    // in flight
	running sync.WaitGroup       // Add under mu
}

// New asks the kernel what it can, which the log is told.
func New(o Options) (*Handshaker, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	h := &Handshaker{o: o, config: o.Config.Clone(), address: map[netip.Prefix]int{}, conns: map[net.Conn]bool{}}
	if h.config.CipherSuites == nil {
		for id := range suites {
			h.config.CipherSuites = append(h.config.CipherSuites, id)
		}
	}
	if o.NoKernel {
		return h, nil
	}
	var err error
	if h.supported, err = o.probe(); err != nil {
		o.Logger.Warn("TLS sessions stay in user space, at some 32 KB each", "error", err, "most", max(0, o.MaxFallback))
	} else if slowGCM() {
		o.Logger.Warn("the kernel has no fast AES-GCM: load its module (aesni_intel)")
	}
	return h, nil
}

// Kernel reports whether the kernel carries any sessions.
func (h *Handshaker) Kernel() bool { return len(h.supported) > 0 }

// Take starts a handshake on c, which is the Handshaker's from now on, whatever the result. head is what was already
// read from it, at least the first bytes, so that who sends nothing costs no goroutine; it is copied. Take does not
// block.
func (h *Handshaker) Take(c net.Conn, head []byte) error {
	address := addressOf(c)
	if err := h.admit(c, address); err != nil {
		_ = c.Close()
		return err
	}
	head = slices.Clone(head)
	go func() {
		defer h.leave(c, address)
		s, err := h.handshake(c, head)
		h.count(s, err)
		h.o.Done(s, err)
	}()
	return nil
}

func addressOf(c net.Conn) netip.Prefix {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	a := tcp.AddrPort().Addr().Unmap()
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // bits are right
	return p
}

func (h *Handshaker) admit(c net.Conn, address netip.Prefix) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if h.stats.InFlight >= h.o.MaxHandshakes || h.address[address] >= h.o.MaxPerAddress {
		h.stats.Refused++
		return ErrBusy
	}
	h.stats.InFlight++
	h.address[address]++
	h.conns[c] = true
	h.running.Add(1)
	return nil
}

func (h *Handshaker) leave(c net.Conn, address netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.InFlight--
	delete(h.conns, c)
	if h.address[address]--; h.address[address] == 0 {
		delete(h.address, address)
	}
	h.running.Done()
}

func (h *Handshaker) count(s Session, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil:
		h.stats.Failed++
	case s.Fallback == nil:
		h.stats.Kernel++
	default:
		h.stats.Fallbacks++
	}
}

// Stats returns the figures of now.
func (h *Handshaker) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stats
}

// Close refuses further connections, cuts those whose handshakes are in flight, and waits for the last Options.Done.
// Sessions that were handed out go on.
func (h *Handshaker) Close() {
	h.mu.Lock()
	h.closed = true
	for c := range h.conns {
		_ = c.SetDeadline(time.Unix(1, 0)) // ends the handshake, not a session that has just come of it
	}
	h.mu.Unlock()
	h.running.Wait()
}

// handshake owns c. In the session that it returns nothing is left of crypto/tls, unless it is a fallback.
func (h *Handshaker) handshake(c net.Conn, head []byte) (Session, error) {
	var secrets secrets
	var written uint64
	records := &recordConn{Conn: c, head: head}
	t := tls.Server(records, h.configFor(&secrets, &written))
	s, err := h.finish(t, records, &secrets, &written)
	if err != nil {
		_ = c.Close()
	}
	return s, err
}

// configFor watches one session. The ticket keys are those of h.config, so that sessions of other connections resume.
func (h *Handshaker) configFor(secrets *secrets, written *uint64) *tls.Config {
	config := h.config.Clone()
	config.KeyLogWriter = secrets
	config.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		b, err := h.config.EncryptTicket(cs, ss)
		*written += uint64(ticketMessage+len(b)+recordMax-1) / recordMax // with client certificates it may be large
		return b, err
	}
	config.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		if cs.Version < tls.VersionTLS13 {
			return nil, nil // its keys would not be told
		}
		return h.config.DecryptTicket(ticket, cs)
	}
	return config
}

func (h *Handshaker) finish(t *tls.Conn, records *recordConn, secrets *secrets, written *uint64) (Session, error) {
	c := records.Conn
	if err := h.limit(c); err != nil {
		return noSession, err
	}
	if err := t.Handshake(); err != nil {
		return noSession, fmt.Errorf("ktls: handshake: %w", err)
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol == acmeProtocol {
		_ = t.Close()
		return noSession, ErrChallenge
	}
	// Only the client's Finished may be the last thing read: what stands in head came before our answer, so it cannot
	// have been encrypted with the session's keys.
	if !records.whole() {
		return noSession, errEarly
	}
	s := Session{FD: -1, ServerName: state.ServerName, Protocol: state.NegotiatedProtocol, Version: state.Version,
		CipherSuite: state.CipherSuite, Peer: state.PeerCertificates}
	k, err := secrets.keys(state.Version, state.CipherSuite, records.serverRandom, *written)
	if err == nil && !h.supported[k.kind()] {
		err = errCipher
	}
	if err == nil {
		s.FD, err = h.o.install(c, k)
	}
	switch {
	case errors.Is(err, errCipher) || errors.Is(err, errNoULP):
		s.FD = -1
		records.free = true
		s.Fallback, err = h.fallback(t)
	case err == nil:
		_ = c.Close() // the descriptor lives on in FD
	}
	if err != nil {
		return noSession, err
	}
	return s, nil
}

// limit sets the handshake's deadline, unless Close has.
func (h *Handshaker) limit(c net.Conn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if err := c.SetDeadline(time.Now().Add(h.o.Timeout)); err != nil {
		return fmt.Errorf("ktls: set deadline: %w", err)
	}
	return nil
}

// fallback keeps a session in user space if there is room for it.
func (h *Handshaker) fallback(t *tls.Conn) (net.Conn, error) {
	if err := t.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("ktls: clear deadline: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stats.Fallback >= h.o.MaxFallback {
		return nil, ErrFallbackFull
	}
	h.stats.Fallback++
	return &fallbackConn{Conn: t, release: sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.stats.Fallback--
	})}, nil
}

// fallbackConn gives its place back when it is closed.
type fallbackConn struct {
	*tls.Conn
	release func()
}

func (c *fallbackConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
