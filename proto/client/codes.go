// Package client is the protocol of clients, Centrifuge's, in JSON and Protobuf:
// commands in, replies and pushes out. The messages and their codecs are those of
// github.com/centrifugal/protocol; here are framing, codes, and what is encoded once
// for many receivers.
package client

import (
	"fmt"

	"github.com/centrifugal/protocol"
)

// Error is what a command is answered instead of a result.
type Error struct {
	Code      uint32
	Message   string
	Temporary bool // the client may try again
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// Proto returns e as it travels.
func (e *Error) Proto() *protocol.Error {
	return &protocol.Error{Code: e.Code, Message: e.Message, Temporary: e.Temporary}
}

// BadRequest is ErrBadRequest with what was wrong, or what would be right.
func BadRequest(format string, args ...any) *Error {
	return &Error{Code: ErrBadRequest.Code, Message: ErrBadRequest.Message + ": " + fmt.Sprintf(format, args...)}
}

// Errors of the protocol. Applications have 400 to 1999.
var (
	ErrInternal              = &Error{100, "internal server error", true}
	ErrUnauthorized          = &Error{101, "unauthorized", false}
	ErrUnknownChannel        = &Error{102, "unknown channel", false}
	ErrPermissionDenied      = &Error{103, "permission denied", false}
	ErrMethodNotFound        = &Error{104, "method not found", false}
	ErrAlreadySubscribed     = &Error{105, "already subscribed", false}
	ErrLimitExceeded         = &Error{106, "limit exceeded", false}
	ErrBadRequest            = &Error{107, "bad request", false}
	ErrNotAvailable          = &Error{108, "not available", false}
	ErrTokenExpired          = &Error{109, "token expired", false}
	ErrExpired               = &Error{110, "expired", false}
	ErrTooManyRequests       = &Error{111, "too many requests", true}
	ErrUnrecoverablePosition = &Error{112, "unrecoverable position", false}
)

var protocolErrors = [...]*Error{
	ErrInternal, ErrUnauthorized, ErrUnknownChannel, ErrPermissionDenied, ErrMethodNotFound, ErrAlreadySubscribed, ErrLimitExceeded,
	ErrBadRequest, ErrNotAvailable, ErrTokenExpired, ErrExpired, ErrTooManyRequests, ErrUnrecoverablePosition,
}

// ErrorOf returns the protocol's error of a code, or nil.
func ErrorOf(code uint32) *Error {
	for _, e := range protocolErrors {
		if e.Code == code {
			return e
		}
	}
	return nil
}

// Disconnect ends a connection: code and reason of its close frame.
type Disconnect struct {
	Code   uint32
	Reason string
}

// Error implements error.
func (d *Disconnect) Error() string { return fmt.Sprintf("disconnect %d: %s", d.Code, d.Reason) }

// Reconnect tells whether clients come back after d.
func (d *Disconnect) Reconnect() bool {
	return d.Code >= 3000 && d.Code < 3500 || d.Code >= 4000 && d.Code < 4500
}

// Disconnects of the protocol. Applications have 4000 to 4499 for clients that are to
// come back and 4500 to 4999 for others.
var (
	DisconnectConnectionClosed      = Disconnect{3000, "connection closed"}
	DisconnectShutdown              = Disconnect{3001, "shutdown"}
	DisconnectServerError           = Disconnect{3004, "internal server error"}
	DisconnectExpired               = Disconnect{3005, "connection expired"}
	DisconnectSubExpired            = Disconnect{3006, "subscription expired"}
	DisconnectSlow                  = Disconnect{3008, "slow"}
	DisconnectWriteError            = Disconnect{3009, "write error"}
	DisconnectInsufficientState     = Disconnect{3010, "insufficient state"}
	DisconnectForceReconnect        = Disconnect{3011, "force reconnect"}
	DisconnectNoPong                = Disconnect{3012, "no pong"}
	DisconnectTooManyRequests       = Disconnect{3013, "too many requests"}
	DisconnectInvalidToken          = Disconnect{3500, "invalid token"}
	DisconnectBadRequest            = Disconnect{3501, "bad request"}
	DisconnectStale                 = Disconnect{3502, "stale"}
	DisconnectForceNoReconnect      = Disconnect{3503, "force disconnect"}
	DisconnectConnectionLimit       = Disconnect{3504, "connection limit"}
	DisconnectChannelLimit          = Disconnect{3505, "channel limit"}
	DisconnectInappropriateProtocol = Disconnect{3506, "inappropriate protocol"}
	DisconnectPermissionDenied      = Disconnect{3507, "permission denied"}
	DisconnectNotAvailable          = Disconnect{3508, "not available"}
	DisconnectTooManyErrors         = Disconnect{3509, "too many errors"}
)

// Unsubscribe is the code and reason of an unsubscribe push.
type Unsubscribe struct {
	Code   uint32
	Reason string
}

// Unsubscribes of the protocol. After codes below 2500 clients stay off, after others
// they subscribe again.
var (
	UnsubscribeServer            = Unsubscribe{2000, "server unsubscribe"}
	UnsubscribeInsufficientState = Unsubscribe{2500, "insufficient state"}
	UnsubscribeExpired           = Unsubscribe{2501, "expired"}
)
