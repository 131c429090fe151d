package backend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"roost/proto/client"
)

// Limits of what a backend may say to a client.
const (
	minErrorCode, maxErrorCode   = 400, 1999
	minDisconnect, maxDisconnect = 4000, 4999
	maxErrorMessage              = 1024 // bytes
	maxReason                    = 120  // bytes; a close frame has room for 123
)

// answer is what every backend answers, to whatever event. null is the same as absent.
type answer struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code      uint32 `json:"code"`
		Message   string `json:"message"`
		Temporary bool   `json:"temporary"`
	} `json:"error"`
	Disconnect *struct {
		Code   uint32 `json:"code"`
		Reason string `json:"reason"`
	} `json:"disconnect"`
}

// parse reads an answer. It hands a result, a JSON object, to use, and returns the
// backend's error as *client.Error, its disconnect as *client.Disconnect, and what is
// wrong with the answer as *fault.
func parse(raw []byte, use func(result []byte) error) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return &fault{outcomeEmpty, errors.New("the answer is empty")}
	}
	var a answer
	if result, ok := only(raw, "result"); ok && result[0] == '{' {
		a.Result = result
	} else if err := json.Unmarshal(raw, &a); err != nil {
		return garbage("the answer is not the JSON expected: %w", err)
	}
	a.Result = given(a.Result)
	said := 0
	for _, is := range []bool{a.Result != nil, a.Error != nil, a.Disconnect != nil} {
		if is {
			said++
		}
	}
	switch {
	case said != 1:
		return garbage("the answer has %d of result, error and disconnect, not one", said)
	case a.Error != nil:
		e := &client.Error{Code: a.Error.Code, Message: a.Error.Message, Temporary: a.Error.Temporary}
		if known := client.ErrorOf(e.Code); known != nil {
			return known
		}
		if e.Code < minErrorCode || e.Code > maxErrorCode || len(e.Message) > maxErrorMessage {
			return garbage("error %d with a message of %d bytes: the code must be %d to %d or one of the protocol, the message have at most %d bytes",
				e.Code, len(e.Message), minErrorCode, maxErrorCode, maxErrorMessage)
		}
		return e
	case a.Disconnect != nil:
		d := &client.Disconnect{Code: a.Disconnect.Code, Reason: a.Disconnect.Reason}
		if d.Code < minDisconnect || d.Code > maxDisconnect || len(d.Reason) > maxReason {
			return garbage("disconnect %d with a reason of %d bytes: the code must be %d to %d, the reason have at most %d bytes",
				d.Code, len(d.Reason), minDisconnect, maxDisconnect, maxReason)
		}
		return d
	case a.Result[0] != '{':
		return garbage("the result is not an object")
	}
	if err := use(a.Result); err != nil {
		return garbage("%w", err)
	}
	return nil
}

// given is a value, nil where it is null.
func given(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

// only returns the value of an object's one member, as most answers are written; it shares raw's memory. Others are
// for a decoder, which takes several times as long.
func only(raw []byte, name string) (value []byte, ok bool) {
	inner, ok := bytes.CutPrefix(bytes.TrimSpace(raw), []byte(`{"`+name+`":`))
	if !ok {
		return nil, false
	}
	inner, ok = bytes.CutSuffix(inner, []byte("}"))
	return bytes.TrimSpace(inner), ok && json.Valid(inner) // two members are no JSON without their braces
}

func garbage(format string, args ...any) error {
	return &fault{outcomeGarbage, fmt.Errorf(format, args...)}
}
