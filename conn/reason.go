package conn

import (
	"roost/poller"
	"roost/proto/ws"
)

// Reason says why a connection ended: a close code for the peer, a label for
// metrics and logs.
type Reason = poller.Reason

// Reasons for which a connection ends. Those of package poller come besides them.
const (
	ReasonPeerClosed    Reason = poller.ReasonUser + iota // the peer sent a close frame
	ReasonProtocol                                        // the peer broke the protocol
	ReasonHandshake                                       // the upgrade was refused
	ReasonHandshakeLate                                   // no whole upgrade request in time
	ReasonHTTP                                            // a plain HTTP request was answered
	ReasonNoPong                                          // a ping was not answered in time
	ReasonSlow                                            // too much output was waiting
	ReasonRate                                            // too many messages came in
	ReasonOverload                                        // no worker was free for too long
	ReasonPanic                                           // the handler panicked
	ReasonShutdown                                        // the server stops
	ReasonApplication                                     // Conn.Close was called
	ReasonRestart                                         // another process took over, but not this connection
	reasonCount
)

type reasonInfo struct {
	label string
	code  ws.CloseCode // what the peer is told, 0 = nothing or what the case gives
}

var reasons = [reasonCount]reasonInfo{
	poller.ReasonNone:       {"none", 0},
	poller.ReasonEOF:        {"peer_gone", 0},
	poller.ReasonReadError:  {"read_error", 0},
	poller.ReasonWriteError: {"write_error", 0},
	poller.ReasonDetached:   {"detached", 0},
	poller.ReasonStopped:    {"stopped", 0},
	poller.ReasonRecord:     {"tls_record", 0},
	ReasonPeerClosed:        {"peer_closed", 0},
	ReasonProtocol:          {"protocol", 0},
	ReasonHandshake:         {"handshake_refused", 0},
	ReasonHandshakeLate:     {"handshake_timeout", 0},
	ReasonHTTP:              {"http", 0},
	ReasonNoPong:            {"no_pong", ws.ClosePolicy},
	ReasonSlow:              {"slow_consumer", 0}, // it reads nothing, so it cannot be told
	ReasonRate:              {"rate_limit", ws.ClosePolicy},
	ReasonOverload:          {"overload", ws.CloseTryAgainLater},
	ReasonPanic:             {"panic", ws.CloseInternal},
	ReasonShutdown:          {"shutdown", ws.CloseGoingAway},
	ReasonApplication:       {"application", 0},
	ReasonRestart:           {"restart", ws.CloseServiceRestart},
}

// Label returns the metric label of r.
func Label(r Reason) string {
	if int(r) < len(reasons) && reasons[r].label != "" {
		return reasons[r].label
	}
	return "unknown"
}

// Reasons returns all reasons that have a label.
func Reasons() []Reason {
	var all []Reason
	for r := range reasons {
		if reasons[r].label != "" {
			all = append(all, Reason(r))
		}
	}
	return all
}
