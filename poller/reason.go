package poller

import "errors"

// Reason says why a connection ended. Values from ReasonUser on belong to the
// caller.
type Reason uint8

// Reasons of this package.
const (
	ReasonNone       Reason = iota
	ReasonEOF               // the peer closed
	ReasonReadError         // read(2) failed, mostly ECONNRESET
	ReasonWriteError        // a send failed, mostly EPIPE or ECONNRESET
	ReasonDetached          // the descriptor was handed over, see Loop.Detach
	ReasonStopped           // the poller stopped
	ReasonRecord            // a TLS record that the kernel cannot go on after, or an alert
	ReasonUser       Reason = 16
)

var (
	// ErrClosed is returned by writes to a connection that is closed, finished or cut.
	ErrClosed = errors.New("poller: connection is closed")
	// ErrFull is returned when there are Options.MaxConns connections.
	ErrFull = errors.New("poller: there are as many connections as may be")
	// ErrStopped is returned when the poller does not run (any more).
	ErrStopped = errors.New("poller: stopped")
)
