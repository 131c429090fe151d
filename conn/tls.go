package conn

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"roost/internal/tally"
	"roost/poller/ktls"
	"roost/proto/ws"
)

// fullLogGap is the time between two lines in the log about clients that find no room.
const fullLogGap = time.Minute

// Outcomes of TLS handshakes.
const (
	outcomeKernel    = "kernel"    // the kernel carries the session
	outcomeFallback  = "fallback"  // crypto/tls does
	outcomeChallenge = "challenge" // an ACME authority saw its certificate
	outcomeFailed    = "failed"    // the client spoke no TLS, refused the certificate, went away
	outcomeTimeout   = "timeout"
	outcomeBusy      = "busy" // too many handshakes were in flight
	outcomeFull      = "full" // crypto/tls carries as many sessions as it may
	outcomeLost      = "lost" // no descriptor or no room for a connection
)

var outcomes = []string{outcomeKernel, outcomeFallback, outcomeChallenge, outcomeFailed, outcomeTimeout, outcomeBusy, outcomeFull, outcomeLost}

var (
	errPlain = &ws.HandshakeError{Status: http.StatusBadRequest, Label: "plain_http",
		Detail: "this is plain HTTP, but the port speaks TLS; connect with wss:// or https://"}
	labelNoTLS = "no_tls"
)

// TLSStats are figures of Server.ListenTLS.
type TLSStats struct {
	// Handshakes by outcome: kernel, fallback, challenge, failed, timeout, busy, full, lost.
	Handshakes map[string]uint64
	InFlight   int   // handshakes now
	Kernel     int64 // sessions now that the kernel carries
	Fallback   int   // sessions now that crypto/tls carries
}

// security is what a server has for TLS.
type security struct {
	handshakers []*ktls.Handshaker // static once there are connections, which name them by index
	secured     map[string]int     // those of addresses that ListenTLS is still to come for
	outcomes    tally.Of[string]

	mu     sync.Mutex // guards the rest
	logged time.Time  // when clients were last said to find no room
	relays map[io.Closer]bool
	ended  sync.WaitGroup // of relays; Add under mu
	closed bool
}

func (t *security) stats() TLSStats {
	st := TLSStats{Handshakes: t.outcomes.All()}
	for _, o := range outcomes {
		st.Handshakes[o] += 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.handshakers {
		hs := h.Stats()
		st.InFlight += hs.InFlight
		st.Fallback += hs.Fallback
	}
	return st
}

// stop ends the handshakes that are in flight.
func (t *security) stop() {
	t.mu.Lock()
	all := t.handshakers
	t.mu.Unlock()
	for _, h := range all {
		h.Close()
	}
}

// wait waits until the relays have passed on what the loops wrote last, or ctx has
// ended; then it cuts them.
func (t *security) wait(ctx context.Context) {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for r := range t.relays {
			_ = r.Close()
		}
	})
	t.ended.Wait()
	stop()
}

// outcomeOf says how a handshake went.
func outcomeOf(s ktls.Session, err error) string {
	switch {
	case errors.Is(err, ktls.ErrChallenge):
		return outcomeChallenge
	case errors.Is(err, ktls.ErrFallbackFull):
		return outcomeFull
	case errors.Is(err, os.ErrDeadlineExceeded):
		return outcomeTimeout
	case err != nil:
		return outcomeFailed
	case s.Fallback != nil:
		return outcomeFallback
	}
	return outcomeKernel
}

// full reports whether the log is to be told now that clients find no room.
func (t *security) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.logged) < fullLogGap {
		return false
	}
	t.logged = time.Now()
	return true
}
