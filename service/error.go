package service

import (
	"encoding/json"
	"fmt"
)

// Error is what a caller gets instead of an answer.
type Error struct {
	Code      uint32 `json:"code"` // 100, or 1400 to 1999, see the service's documentation
	Message   string `json:"message"`
	Temporary bool   `json:"temporary,omitempty"` // the same call may succeed later
	// Revision is the current one, where the caller expected another.
	Revision *uint64 `json:"revision,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Errorf makes an error that is not temporary.
func Errorf(code uint32, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// codeInternal is that of the client protocol, too.
const codeInternal = 100

// Codes of errors that mean the same in all services. They do not change.
const (
	CodeInvalid     = 1400 // no JSON, or a field that is unknown, missing or of the wrong type
	CodeTooLarge    = 1401 // data, key or the whole
	CodeFull        = 1413 // there are as many as there may be
	CodeUnknownOp   = 1414
	CodeClientsOnly = 1416
)

// Unavailable is the answer where a service or its store cannot be reached, or not in time. A write
// that got it may have happened.
var Unavailable = &Error{Code: codeInternal, Message: "the service cannot be reached now, try again", Temporary: true}

// Busy is the answer where too many calls are under way.
var Busy = &Error{Code: 111, Message: "too many requests", Temporary: true}

// First bytes of an answer between processes.
const (
	answerResult byte = iota
	answerError
)

func encodeAnswer(result []byte, failed *Error) []byte {
	if failed == nil {
		return append([]byte{answerResult}, result...)
	}
	b, err := json.Marshal(failed)
	if err != nil {
		panic(err) // strings and numbers
	}
	return append([]byte{answerError}, b...)
}

func decodeAnswer(b []byte) ([]byte, error) {
	if len(b) > 0 && b[0] == answerResult {
		return b[1:], nil
	}
	failed := new(Error)
	if len(b) == 0 || json.Unmarshal(b[1:], failed) != nil {
		return nil, fmt.Errorf("service: malformed answer %.50q", b)
	}
	return nil, failed
}
