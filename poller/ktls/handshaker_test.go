//go:build linux

package ktls

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fake plays the kernel: install hands out a duplicate, and its keys beside it.
type fake struct {
	keys chan keys
	err  error
}

func (f *fake) install(c net.Conn, k keys) (int, error) {
	if f.err != nil {
		return -1, f.err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if controlErr := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); controlErr != nil {
		return -1, controlErr
	}
	f.keys <- k
	return fd, err
}

// all ciphers are there.
func (f *fake) probe() (supported, error) {
	s := supported{}
	for _, u := range suites {
		s[kind{tls.VersionTLS12, u.cipher}] = true
		s[kind{tls.VersionTLS13, u.cipher}] = true
	}
	return s, nil
}

// start makes a Handshaker whose sessions arrive in the channel.
func start(t *testing.T, o Options) (*Handshaker, chan outcome) {
	t.Helper()
	done := make(chan outcome, 16)
	o.Done = func(s Session, err error) { done <- outcome{s, err} }
	o.Logger = slog.New(slog.DiscardHandler)
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h, done
}

func exchange(t *testing.T, client *tls.Conn, c *carried) {
	t.Helper()
	for _, text := range []string{"first", "second"} {
		if kind, p, err := c.readRecord(); kind != recordData || string(p) != text || err != nil {
			t.Fatalf("server read %d %q, %v; want %q", kind, p, err, text)
		}
		if err := c.writeRecord(recordData, []byte("re: "+text)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		if n, err := client.Read(b); string(b[:n]) != "re: "+text || err != nil {
			t.Fatalf("client read %q, %v", b[:n], err)
		}
		if _, err := client.Write([]byte("second")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeys: with the keys that would be the kernel's, a session goes on where crypto/tls left it.
func TestKeys(t *testing.T) {
	for _, c := range sessionCases(t) {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{keys: make(chan keys, 1)}
			server, config := c.configs(t)
			h, done := start(t, Options{Config: server, install: f.install, probe: f.probe})
			l := listen(t)
			go accept(t, l, h, 1, c.head)
			client := dial(t, l, config)
			if _, err := client.Write([]byte("first")); err != nil {
				t.Fatal(err)
			}
			o := <-done
			if o.err != nil {
				t.Fatal(o.err)
			}
			state := client.ConnectionState()
			if o.ServerName != "ktls.test" || o.Version != c.version || o.CipherSuite != c.suite || o.Fallback != nil ||
				o.Protocol != state.NegotiatedProtocol || len(o.Peer) != len(config.Certificates) {
				t.Errorf("session is %+v", o.Session)
			}
			if flags, err := unix.FcntlInt(uintptr(o.FD), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("the descriptor blocks: %#x, %v", flags, err)
			}
			conn, err := Conn(o.FD)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			exchange(t, client, &carried{conn, <-f.keys})
		})
	}
}

// TestResumption: TLS 1.3 sessions resume on other connections of the Handshaker, those of TLS 1.2 are made anew.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f := &fake{keys: make(chan keys, 1)}
		h, done := start(t, Options{Config: &tls.Config{Certificates: []tls.Certificate{certificate(t, 0)}}, install: f.install, probe: f.probe})
		l := listen(t)
		go accept(t, l, h, 2, 1)
		config := &tls.Config{MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		for i := range 2 {
			client := dial(t, l, config)
			if _, err := client.Write([]byte("first")); err != nil {
				t.Fatal(err)
			}
			o := <-done
			conn, err := Conn(o.FD)
			if o.err != nil || err != nil {
				t.Fatal(o.err, err)
			}
			exchange(t, client, &carried{conn, <-f.keys})
			_ = conn.Close()
			if want := version == tls.VersionTLS13 && i == 1; client.ConnectionState().DidResume != want {
				t.Errorf("%s, connection %d: resumed is %v", tls.VersionName(version), i, !want)
			}
		}
	}
}

// TestFallback: what the kernel does not carry goes on in user space, up to a number, whatever was read before.
func TestFallback(t *testing.T) {
	for name, o := range map[string]Options{
		"no kernel":     {NoKernel: true},
		"nothing found": {probe: func() (supported, error) { return nil, errNoULP }},
		"no cipher":     {probe: func() (supported, error) { return supported{{tls.VersionTLS12, 0}: true}, nil }},
		"no ULP":        {install: (&fake{err: errNoULP}).install},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{}
			if o.install == nil {
				o.install = f.install
			}
			if o.probe == nil {
				o.probe = f.probe
			}
			o.MaxFallback = 1
			o.Config = &tls.Config{Certificates: []tls.Certificate{certificate(t, 0)}}
			h, done := start(t, o)
			l := listen(t)
			go accept(t, l, h, 3, 20)
			client := dial(t, l, &tls.Config{})
			first := <-done
			if first.err != nil || first.Fallback == nil || first.FD != -1 {
				t.Fatalf("%+v", first)
			}
			go func() { _, _ = io.Copy(first.Fallback, first.Fallback) }()
			if _, err := client.Write(make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(client, make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
			_ = dial(t, l, &tls.Config{})
			if second := <-done; !errors.Is(second.err, ErrFallbackFull) {
				t.Errorf("the second: %+v", second)
			}
			for range 2 {
				_ = first.Fallback.Close()
			}
			_ = dial(t, l, &tls.Config{})
			if third := <-done; third.err != nil {
				t.Error("after the first was closed:", third.err)
			}
			if s := h.Stats(); s.Fallback != 1 || s.Fallbacks != 2 || s.Failed != 1 || s.Kernel != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestFailures: a handshake that does not succeed closes its connection and says why.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name, send, want string
		install          error
		timeout          time.Duration
		head             string
	}{
		{name: "not TLS", send: "GET / HTTP/1.1\r\n\r\n", want: "does not look like a TLS handshake"},
		{name: "silence", want: "i/o timeout", timeout: time.Millisecond},
		{name: "half a record", send: "\x16\x03\x01\x01\x00half", want: "i/o timeout", timeout: time.Millisecond},
		{name: "keys refused", install: errors.New("no memory"), want: "no memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{err: c.install}
			h, done := start(t, Options{Config: &tls.Config{Certificates: []tls.Certificate{certificate(t, 0)}},
				Timeout: c.timeout, install: f.install, probe: f.probe})
			l := listen(t)
			go accept(t, l, h, 1, 0)
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			if c.install != nil {
				_ = tls.Client(client, &tls.Config{InsecureSkipVerify: true}).Handshake()
			} else if _, err := client.Write([]byte(c.send)); err != nil {
				t.Fatal(err)
			}
			if o := <-done; o.err == nil || !strings.Contains(o.err.Error(), c.want) {
				t.Errorf("%v, want %q", o.err, c.want)
			}
			if _, err := io.Copy(io.Discard, client); err != nil && !errors.Is(err, unix.ECONNRESET) {
				t.Error("the connection was left open:", err)
			}
		})
	}
}

// TestACMEChallenge: an authority that looks at a challenge's certificate becomes no session.
func TestACMEChallenge(t *testing.T) {
	f := &fake{}
	h, done := start(t, Options{Config: &tls.Config{Certificates: []tls.Certificate{certificate(t, 0)}, NextProtos: []string{acmeProtocol}},
		install: f.install, probe: f.probe})
	l := listen(t)
	go accept(t, l, h, 1, 0)
	client := dial(t, l, &tls.Config{NextProtos: []string{acmeProtocol}})
	if o := <-done; !errors.Is(o.err, ErrChallenge) {
		t.Errorf("%+v", o)
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client read %v, want EOF by close_notify", err)
	}
}

// TestInputAfterHandshake: bytes that follow the client's first flight in what was read before would never reach the kernel.
func TestInputAfterHandshake(t *testing.T) {
	f := &fake{keys: make(chan keys, 1)}
	h, _ := start(t, Options{Config: &tls.Config{Certificates: []tls.Certificate{certificate(t, 0)}}, install: f.install, probe: f.probe})
	a, b := net.Pipe()
	defer func() { _ = b.Close() }()
	records := &recordConn{Conn: a}
	var s secrets
	var written uint64
	outcome := make(chan error, 1)
	go func() {
		server := tls.Server(records, h.configFor(&s, &written))
		err := server.Handshake()
		records.head = []byte{recordData}
		if err == nil {
			_, err = h.finish(server, records, &s, &written)
		}
		outcome <- err
	}()
	client := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, client) }()
	if err := <-outcome; !errors.Is(err, errEarly) {
		t.Error(err)
	}
}

// TestBounds: more than MaxPerAddress of one address and all after Close are refused, and closed.
func TestBounds(t *testing.T) {
	f := &fake{}
	h, done := start(t, Options{Config: &tls.Config{Certificates: []tls.Certificate{certificate(t, 0)}}, MaxHandshakes: 8,
		install: f.install, probe: f.probe})
	l := listen(t)
	take := func(want error) net.Conn {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Take(server, nil); !errors.Is(err, want) {
			t.Fatalf("Take: %v, want %v", err, want)
		}
		if want != nil {
			if _, err := client.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("refused connection: %v, want EOF", err)
			}
		}
		return client
	}
	clients := []net.Conn{take(nil), take(nil)}
	_ = take(ErrBusy)
	if s := h.Stats(); s.InFlight != 2 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
	for _, c := range clients {
		_ = c.Close()
		<-done
	}
	h.Close()
	if s := h.Stats(); s.InFlight != 0 || len(h.address) != 0 || s.Failed != 2 {
		t.Errorf("%+v, addresses %v", s, h.address)
	}
	_ = take(ErrClosed)
}

func TestOptionsAreChecked(t *testing.T) {
	done := func(Session, error) {}
	for _, o := range []Options{
		{}, {Config: &tls.Config{}}, {Done: done},
		{Config: &tls.Config{KeyLogWriter: io.Discard}, Done: done},
		{Config: &tls.Config{}, Done: done, Timeout: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v) succeeded", o)
		}
	}
}

func TestAddressOf(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
	} {
		if got := addressOf(peerOf{addr: &net.TCPAddr{IP: net.ParseIP(text)}}).String(); got != want {
			t.Errorf("%s counts as %s, want %s", text, got, want)
		}
	}
}

// peerOf is a connection of which only the address matters.
type peerOf struct {
	net.Conn
	addr net.Addr
}

func (p peerOf) RemoteAddr() net.Addr { return p.addr }
