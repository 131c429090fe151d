//go:build linux && !portable

package poller

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"roost/poller/ktls"
)

// records is a kernel with TLS in a script: what reads, control and alert do, one after the other; then
// the socket itself, without TLS.
type records struct {
	mu      sync.Mutex
	reads   []syscall.Errno // 0: what is there
	control []func(b []byte) (int, error)
	alerts  []error
	sent    []tls.AlertError
	armed   faults
}

func (r *records) sys() *sys {
	s := realSys()
	s.read = func(fd int, b []byte) (int, syscall.Errno) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.reads) > 0 {
			errno := r.reads[0]
			if r.reads = r.reads[1:]; errno != 0 {
				return -1, errno
			}
		}
		return rawRead(fd, b)
	}
	s.control = func(_ int, b []byte) (int, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.control) == 0 {
			return 0, errors.New("control was called once too often")
		}
		f := r.control[0]
		r.control = r.control[1:]
		return f(b)
	}
	s.alert = func(fd int, a tls.AlertError) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sent = append(r.sent, a)
		if len(r.alerts) > 0 {
			err := r.alerts[0]
			r.alerts = r.alerts[1:]
			r.armed.rearm(fd) // as the kernel would tell of room
			return err
		}
		return nil
	}
	return s
}

// TestRecords: what a read of a session in the kernel ends with, what the handler is told, and
// which alert the peer gets.
func TestRecords(t *testing.T) {
	gives := func(text string, err error) func([]byte) (int, error) {
		return func(b []byte) (int, error) { return copy(b, text), err }
	}
	for _, c := range []struct {
		name    string
		reads   []syscall.Errno
		control []func([]byte) (int, error)
		data    string // besides what the peer sends
		ends    bool   // by itself
		reason  Reason
		alert   string
	}{
		{name: "a record that is no data, then data", reads: []syscall.Errno{syscall.EIO}, control: []func([]byte) (int, error){gives("", nil)}},
		{name: "data behind it", reads: []syscall.Errno{syscall.EIO}, control: []func([]byte) (int, error){gives("early ", nil)}, data: "early "},
		{name: "many of them", reads: []syscall.Errno{syscall.EIO, syscall.EIO, syscall.EIO}, control: []func([]byte) (int, error){gives("", nil), gives("", nil), gives("", nil)}},
		{name: "EINTR and EAGAIN between", reads: []syscall.Errno{syscall.EINTR, syscall.EIO}, control: []func([]byte) (int, error){gives("", nil)}},
		{name: "close_notify", reads: []syscall.Errno{syscall.EIO}, control: []func([]byte) (int, error){gives("", io.EOF)}, ends: true, reason: ReasonEOF, alert: "[0]"},
		{name: "end without close_notify", reads: []syscall.Errno{syscall.EIO}, control: []func([]byte) (int, error){gives("", io.ErrUnexpectedEOF)}, ends: true, reason: ReasonEOF, alert: "[0]"},
		{name: "KeyUpdate", reads: []syscall.Errno{syscall.EIO}, control: []func([]byte) (int, error){gives("", ktls.ErrHandshakeMessage)}, ends: true, reason: ReasonRecord, alert: "[10]"},
		{name: "alert of the peer", reads: []syscall.Errno{syscall.EIO}, control: []func([]byte) (int, error){gives("", tls.AlertError(80))}, ends: true, reason: ReasonRecord, alert: "[]"},
		{name: "bad MAC", reads: []syscall.Errno{syscall.EBADMSG}, ends: true, reason: ReasonRecord, alert: "[20]"},
		{name: "too long", reads: []syscall.Errno{syscall.EMSGSIZE}, ends: true, reason: ReasonRecord, alert: "[22]"},
		{name: "bad version", reads: []syscall.Errno{syscall.EINVAL}, ends: true, reason: ReasonRecord, alert: "[10]"},
		{name: "reset", reads: []syscall.Errno{syscall.ECONNRESET}, ends: true, reason: ReasonReadError, alert: "[]"},
		{name: "reset behind a record", reads: []syscall.Errno{syscall.EIO}, control: []func([]byte) (int, error){gives("", unix.ECONNRESET)}, ends: true, reason: ReasonReadError, alert: "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &records{reads: c.reads, control: c.control}
			got := make(chan string, 8)
			closed := make(chan Reason, 1)
			peer := session(t, r, hooks{
				data:   func(_ *Loop, _ *Conn, b []byte) { got <- string(b) },
				closed: func(_ *Loop, _ *Conn, why Reason) { closed <- why },
			})
			if _, err := peer.Write([]byte("data")); err != nil {
				t.Fatal(err)
			}
			if !c.ends {
				want := c.data + "data"
				for have := ""; have != want; {
					if have += receive(t, got); len(have) > len(want) {
						t.Fatalf("the handler got %q, want %q", have, want)
					}
				}
				_ = peer.Close()
				receive(t, closed)
				return
			}
			if why := receive(t, closed); why != c.reason {
				t.Errorf("closed for %d, want %d", why, c.reason)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if sent := fmt.Sprint(alerts(r.sent)); sent != c.alert {
				t.Errorf("alerts %s, want %s", sent, c.alert)
			}
			if len(r.control) > 0 {
				t.Errorf("control was not called %d times more", len(r.control))
			}
		})
	}
}

// alerts are the numbers of RFC 8446, section 6.
func alerts(sent []tls.AlertError) []uint8 {
	numbers := make([]uint8, len(sent))
	for i, a := range sent {
		numbers[i] = uint8(a)
	}
	return numbers
}

// TestCloseNotifyBlocked: where the socket takes no close_notify yet, it is sent when it does, and
// the connection ends after it.
func TestCloseNotifyBlocked(t *testing.T) {
	r := &records{alerts: []error{fmt.Errorf("send: %w", unix.EAGAIN), fmt.Errorf("send: %w", unix.EAGAIN)}}
	conns := make(chan *Conn, 1)
	closed := make(chan Reason, 1)
	peer := session(t, r, hooks{
		data:   func(_ *Loop, c *Conn, _ []byte) { conns <- c },
		closed: func(_ *Loop, _ *Conn, why Reason) { closed <- why },
	})
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	c := receive(t, conns)
	c.Finish(ReasonUser)
	if rest, err := io.ReadAll(peer); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	_ = peer.Close()
	if why := receive(t, closed); why != ReasonUser {
		t.Errorf("closed for %d", why)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if sent := fmt.Sprint(alerts(r.sent)); sent != "[0 0 0]" {
		t.Errorf("alerts %s, want close_notify until it went out", sent)
	}
}

// session is a connection whose records the kernel is said to carry, and its peer.
func session(t *testing.T, r *records, h hooks) net.Conn {
	t.Helper()
	p := launch(t, Options{Loops: 1, sys: r.sys()}, h)
	r.armed.p = p
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f, err := nc.(*net.TCPConn).File()
	_ = nc.Close()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Adopt(Detached{FD: fd, TLS: true}, func(*Conn) {}); err != nil {
		t.Fatal(err)
	}
	return peer
}
