//go:build linux && !portable

package conn

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"roost/poller"
)

const (
	relayUp       = 4 << 10         // bytes read from the client at a time
	relayDown     = 16 << 10        // bytes sent to it at a time: a whole record
	relayPatience = time.Minute     // for a client to take that much, where there are no pings
	relayLinger   = 2 * time.Second // for a client to end its side, after the loop has waited as long
)

var relayBuffers = sync.Pool{New: func() any { return new([relayDown]byte) }}

// relay carries a session that the kernel does not: between crypto/tls, which needs
// goroutines, and an ordinary connection of a loop, by a socketpair. What either side
// does to its end happens to the other: back-pressure, half-close, close.
type relay struct {
	t     *security
	outer halfConn      // the client
	inner *net.UnixConn // its loop
	left  atomic.Int32  // directions under way

	patience time.Duration // for the client to take something: as long as one without TLS has to answer a ping
	linger   time.Duration // for it to end its side after the loop has
}

// relay starts one. outer is taken over whatever the result.
func (s *Server) relay(outer halfConn) error {
	var remote netip.AddrPort
	if a, ok := outer.RemoteAddr().(*net.TCPAddr); ok {
		remote = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	inner, err := s.Dial(remote)
	if err != nil {
		_ = outer.Close()
		return err
	}
	r := &relay{t: &s.tls, outer: outer, inner: inner, patience: relayPatience, linger: s.opts.Poller.Linger + relayLinger}
	if s.opts.PingInterval >= 0 {
		r.patience = s.opts.PingInterval + s.opts.PongTimeout
	}
	r.left.Store(2)
	if err := r.note(); err != nil {
		_ = r.Close()
		return err
	}
	go r.up()
	go r.down()
	return nil
}

// note has the end of the server wait for r, until forget.
func (r *relay) note() error {
	t := r.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return poller.ErrStopped
	}
	if t.relays == nil {
		t.relays = map[io.Closer]bool{}
	}
	t.relays[r] = true
	t.ended.Add(1)
	return nil
}

// up carries what the client sends.
func (r *relay) up() {
	defer r.done()
	b := make([]byte, relayUp)
	for {
		n, err := r.outer.Read(b)
		if n > 0 {
			if _, err := r.inner.Write(b[:n]); err != nil {
				return // the loop wants no more; what it wrote before still goes out
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			_ = r.inner.CloseWrite()
			return
		default:
			_ = r.Close()
			return
		}
	}
}

// down carries what the loop writes.
func (r *relay) down() {
	defer r.done()
	raw, err := r.inner.SyscallConn()
	for err == nil {
		b, n := next(raw)
		if n == 0 {
			break
		}
		if err = r.outer.SetWriteDeadline(time.Now().Add(r.patience)); err == nil {
			_, err = r.outer.Write(b[:n])
		}
		relayBuffers.Put(b)
	}
	if err != nil {
		_ = r.Close()
		return
	}
	_ = r.outer.SetDeadline(time.Now().Add(r.linger))
	_ = r.outer.CloseWrite() // close_notify
}

// next waits for what the loop writes, without a buffer as long as there is nothing.
// The buffer goes back to relayBuffers; at the end n is 0.
func next(raw syscall.RawConn) (b *[relayDown]byte, n int) {
	_ = raw.Read(func(fd uintptr) bool {
		b = relayBuffers.Get().(*[relayDown]byte)
		var err error
		for {
			if n, err = unix.Read(int(fd), b[:]); err != unix.EINTR {
				break
			}
		}
		if err == unix.EAGAIN {
			relayBuffers.Put(b)
		}
		return err != unix.EAGAIN
	})
	return b, max(n, 0)
}

// done ends a direction, and with the second one the relay.
func (r *relay) done() {
	if r.left.Add(-1) > 0 {
		return
	}
	_ = r.Close()
	r.forget()
}

// Close ends both sides at once.
func (r *relay) Close() error {
	return errors.Join(r.inner.Close(), r.outer.Close())
}

func (r *relay) forget() {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	delete(r.t.relays, r)
	r.t.ended.Done()
}
