// Package ws is the WebSocket protocol as pure functions on bytes: the upgrade (RFC 6455 section 4), frames,
// masking, UTF-8 and close codes (sections 5 to 8), and permessage-deflate without context takeover (RFC 7692).
//
// It does no I/O, starts no goroutine and reads no clock. Nothing in it is tied to a connection: an idle
// connection needs no state of this package at all.
package ws

import "fmt"

// Opcode is the 4-bit frame type (RFC 6455 section 5.2).
type Opcode byte

// The opcodes RFC 6455 defines. All others are reserved and fail the connection.
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xa
)

// IsControl reports whether o is in the control range, 8 to 15 (RFC 6455 section 5.5).
func (o Opcode) IsControl() bool { return o&0x8 != 0 }

// MaxControlPayload is the longest payload of a control frame, in bytes (RFC 6455 section 5.5).
const MaxControlPayload = 125

// CloseCode is the status of a close frame (RFC 6455 section 7.4 and the IANA registry).
type CloseCode uint16

// Registered close codes. 1005 and 1006 are for reporting only and never appear on the wire.
const (
	CloseNormal             CloseCode = 1000
	CloseGoingAway          CloseCode = 1001
	CloseProtocolError      CloseCode = 1002
	CloseUnsupported        CloseCode = 1003
	CloseNoStatus           CloseCode = 1005
	CloseAbnormal           CloseCode = 1006
	CloseInvalidPayload     CloseCode = 1007
	ClosePolicy             CloseCode = 1008
	CloseTooBig             CloseCode = 1009
	CloseMandatoryExtension CloseCode = 1010
	CloseInternal           CloseCode = 1011
	CloseServiceRestart     CloseCode = 1012
	CloseTryAgainLater      CloseCode = 1013
)

// Valid reports whether c may appear on the wire: 1000-1003, 1007-1014 and 3000-4999.
func (c CloseCode) Valid() bool {
	return c >= 1000 && c <= 1003 || c >= 1007 && c <= 1014 || c >= 3000 && c <= 4999
}

// ProtocolError says why a peer's bytes fail the connection.
type ProtocolError struct {
	Code   CloseCode // what to close with
	Label  string    // short and stable, for metrics and logs; see the label constants in this package
	Detail string    // for people
}

// Error implements error.
func (e *ProtocolError) Error() string {
	return fmt.Sprintf("ws: %s (%d): %s", e.Label, e.Code, e.Detail)
}

// Labels of ProtocolError.
const (
	LabelUnmasked          = "unmasked"           // a client's frame without mask
	LabelMasked            = "masked"             // a server's frame with mask
	LabelRSV               = "rsv"                // a reserved bit nobody negotiated
	LabelOpcode            = "opcode"             // a reserved opcode
	LabelControlFragmented = "control_fragmented" // a control frame without FIN
	LabelControlTooLong    = "control_too_long"   // a control frame above 125 bytes
	LabelStrayContinuation = "stray_continuation" // a continuation of nothing
	LabelInterleaved       = "interleaved"        // a new message inside a fragmented one
	LabelLengthNotMinimal  = "length_not_minimal" // a longer length form than needed
	LabelLength63Bit       = "length_63bit"       // the top bit of a 64-bit length set
	LabelFrameTooBig       = "frame_too_big"      // above Limits.MaxFrame
	LabelMessageTooBig     = "message_too_big"    // above Limits.MaxMessage
	LabelUTF8              = "utf8"               // text or a close reason that is not UTF-8
	LabelCloseCode         = "close_code"         // a close code that must not be sent
	LabelCloseLength       = "close_length"       // a close frame with a 1-byte body
	LabelDeflate           = "deflate"            // a compressed message that does not inflate
	LabelInflateLimit      = "inflate_limit"      // a compressed message that inflates beyond the limit
)
