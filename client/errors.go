package client

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/centrifugal/centrifuge-go"
)

// Error is what the service refused, see docs/sync.md.
type Error struct {
	Code    uint32
	Message string
	// Revision is the current one, with CodeWrongRevision and CodeItemExists.
	Revision uint64
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// Codes of Error.
const (
	CodeInvalid       = 1400
	CodeTooLarge      = 1401
	CodeUnknownObject = 1402
	CodeNoPermission  = 1403
	CodeWrongType     = 1404
	CodeObjectExists  = 1405
	CodeUnknownItem   = 1406
	CodeItemExists    = 1407
	CodeWrongRevision = 1408
	CodeBadTTL        = 1409
	CodeBadIndex      = 1410
	CodeBadCursor     = 1411
	CodeBadKey        = 1412
	CodeFull          = 1413
	CodeUnknownOp     = 1414
	CodeBadName       = 1415
	CodeClientsOnly   = 1416
)

// Codes of the client protocol after which a call is sent again.
const (
	codeInternal    = 100
	codeTooManyCall = 111
)

// codeOf returns the code of an *Error, 0 of any other.
func codeOf(err error) uint32 {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

var revisionIn = regexp.MustCompile(`revision (?:is )?(\d+)`)

// failure is an error as callers see it; final says that the call must not be sent again.
func failure(err error) (e error, final bool) {
	var own *centrifuge.Error
	if !errors.As(err, &own) {
		return err, errors.Is(err, centrifuge.ErrClientClosed)
	}
	f := &Error{Code: own.Code, Message: own.Message}
	if m := revisionIn.FindStringSubmatch(own.Message); m != nil && (f.Code == CodeWrongRevision || f.Code == CodeItemExists) {
		f.Revision, _ = strconv.ParseUint(m[1], 10, 64) // digits, and if they are too many, 0
	}
	return f, !own.Temporary && own.Code != codeInternal && own.Code != codeTooManyCall
}
