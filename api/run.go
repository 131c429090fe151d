package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"roost/gateway"
	"roost/proto/client"
	"roost/service"
)

// failure is an error as callers read it.
type failure struct {
	gateway.OperationError
	Revision *uint64 `json:"revision,omitempty"` // of a service: the current one
	status   int     // of HTTP, where the request itself is at fault; else 0
}

func (f *failure) Error() string { return f.Message }

func fails(status int, code uint32, format string, args ...any) *failure {
	return &failure{OperationError: gateway.OperationError{Code: code, Message: fmt.Sprintf(format, args...)}, status: status}
}

func malformed(format string, args ...any) *failure {
	return fails(http.StatusBadRequest, client.ErrBadRequest.Code, format, args...)
}

func notFound(method string) *failure {
	return fails(http.StatusNotFound, client.ErrMethodNotFound.Code, "method %.50q not found, see /api/openapi.json", method)
}

// transportStatus is the HTTP status of an error's code, as Centrifugo has it.
func transportStatus(code uint32) int {
	switch code {
	case client.ErrUnknownChannel.Code, client.ErrMethodNotFound.Code:
		return http.StatusNotFound
	case client.ErrBadRequest.Code, client.ErrNotAvailable.Code:
		return http.StatusBadRequest
	case client.ErrTooManyRequests.Code:
		return http.StatusTooManyRequests
	case client.ErrUnrecoverablePosition.Code:
		return http.StatusRequestedRangeNotSatisfiable
	}
	return http.StatusInternalServerError
}

// run does one operation and returns its result as JSON.
func (h *handler) run(ctx context.Context, op *operation, params []byte) (result []byte, failed *failure) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	v, err := op.call(ctx, h.Node, params)
	if err == nil {
		result, err = service.Marshal(v)
	}
	var ce *client.Error
	var of *service.Error
	switch {
	case err == nil:
		h.Observe(op.name, 0, time.Since(begun))
		return result, nil
	case errors.As(err, &failed):
	case errors.As(err, &ce):
		failed = fails(0, ce.Code, "%s", ce.Message)
	case errors.As(err, &of):
		failed = fails(0, of.Code, "%s", of.Message)
		failed.Revision = of.Revision
	default:
		h.Logger.Error("an operation of the server API failed", "method", op.name, "error", err)
		failed = fails(0, client.ErrInternal.Code, "%s", client.ErrInternal.Message)
	}
	h.Observe(op.name, int(failed.Code), time.Since(begun))
	return nil, failed
}

// BatchRequest is the request of the method batch. A command is an object with one
// member: an operation's request under its name.
type BatchRequest struct {
	Commands []map[string]json.RawMessage `json:"commands"`
	Parallel bool                         `json:"parallel,omitempty"`
}

// parallel is how many operations of a batch run at once.
const parallel = 16

// batch runs operations and returns their replies in order, each {"<name>":result} or
// {"error":…}. The order of effects is theirs too unless the request says parallel.
func (h *handler) batch(ctx context.Context, body []byte) ([]byte, *failure) {
	begun := time.Now()
	var r BatchRequest
	failed := decode(body, &r)
	if failed == nil && len(r.Commands) > h.MaxCommands {
		failed = malformed("the batch has %d commands, more than %d", len(r.Commands), h.MaxCommands)
	}
	if failed != nil {
		h.Observe(batch, int(failed.Code), time.Since(begun))
		return nil, failed
	}
	atOnce := 1
	if r.Parallel {
		atOnce = parallel
	}
	replies := make([][]byte, len(r.Commands))
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for i, c := range r.Commands {
		free <- struct{}{}
		wg.Go(func() {
			replies[i] = h.command(ctx, c)
			<-free
		})
	}
	wg.Wait()
	h.Observe(batch, 0, time.Since(begun))
	return member("replies", append(append([]byte{'['}, bytes.Join(replies, []byte{','})...), ']')), nil
}

// command runs one command of a batch. Members that are null are as if they were not
// there, and unknown ones are ignored beside a known one.
func (h *handler) command(ctx context.Context, c map[string]json.RawMessage) []byte {
	var op *operation
	var unknown string
	for name, params := range c {
		switch known := h.operations[name]; {
		case string(params) == "null":
		case known == nil:
			unknown = name
		case op != nil:
			return member("error", encode(malformed("the command holds more than one operation")))
		default:
			op = known
		}
	}
	switch {
	case op == nil && unknown != "":
		return member("error", encode(notFound(unknown)))
	case op == nil:
		return member("error", encode(malformed("the command holds no operation")))
	}
	result, failed := h.run(ctx, op, c[op.name])
	if failed != nil {
		return member("error", encode(failed))
	}
	return member(op.name, result)
}

// Command is one of the old form, in which the method is in the body.
type Command struct {
	ID     uint32          `json:"id,omitempty"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
}

// Reply answers a Command.
type Reply struct {
	ID     uint32                  `json:"id,omitempty"`
	Error  *gateway.OperationError `json:"error,omitempty"`
	Result json.RawMessage         `json:"result,omitempty"`
}

// lines runs commands of the old form, JSON objects one after the other, and returns
// replies with newlines between them, none after the last, as libraries split by it.
// Nothing runs unless all can be read.
func (h *handler) lines(ctx context.Context, body []byte) ([]byte, *failure) {
	all, failed := h.readLines(body)
	if failed != nil {
		h.Observe("", int(failed.Code), 0)
		return nil, failed
	}
	replies := make([][]byte, len(all))
	for i, c := range all {
		reply, failed := Reply{ID: c.ID}, notFound(c.Method)
		if op := h.operations[strings.ToLower(c.Method)]; op != nil {
			if len(c.Params) == 0 {
				c.Params = json.RawMessage("{}")
			}
			reply.Result, failed = h.run(ctx, op, c.Params)
		}
		if failed != nil {
			reply.Error = &failed.OperationError
		}
		replies[i] = encode(reply)
	}
	return bytes.Join(replies, []byte{'\n'}), nil
}

func (h *handler) readLines(body []byte) ([]Command, *failure) {
	var all []Command
	d := json.NewDecoder(bytes.NewReader(body))
	for {
		var c Command
		begins := d.InputOffset()
		err := d.Decode(&c)
		if err == io.EOF && len(all) > 0 {
			return all, nil
		}
		// Offsets of syntax errors count from the start of the input, those of type
		// errors from the start of the value.
		if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
			wrong.Offset += begins
		}
		if err != nil {
			return nil, unreadable(body, err)
		}
		if len(all) == h.MaxCommands {
			return nil, malformed("more than %d commands", h.MaxCommands)
		}
		all = append(all, c)
	}
}

// decode reads one JSON value. Members that v does not have are ignored.
func decode(b []byte, v any) *failure {
	if err := json.Unmarshal(b, v); err != nil {
		return unreadable(b, err)
	}
	return nil
}

// unreadable tells what is wrong with a body, and where.
func unreadable(body []byte, err error) *failure {
	var (
		syntax *json.SyntaxError
		wrong  *json.UnmarshalTypeError
		base   base64.CorruptInputError
	)
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return malformed("the body is empty, send at least {}")
	case errors.As(err, &syntax):
		return malformed("malformed JSON at %s: %v", place(body, syntax.Offset), err)
	case errors.As(err, &wrong):
		field := ""
		if wrong.Field != "" {
			field = fmt.Sprintf(" of %.100q", wrong.Field)
		}
		return malformed("wrong type%s at %s: JSON %s, want %s", field, place(body, wrong.Offset), wrong.Value, wanted(wrong.Type))
	case errors.As(err, &base):
		return malformed("b64data is not base64: %v", err)
	}
	return malformed("malformed JSON: %v", err)
}

// wanted is what JSON a Go type is read from.
func wanted(t reflect.Type) string {
	switch s := simple(t); {
	case s == nil:
		return "object"
	case s["type"] == "integer":
		return "integer of Go's " + t.Kind().String()
	default:
		return s["type"].(string)
	}
}

// place turns an offset, a count of bytes read, into words.
func place(body []byte, offset int64) string {
	read := body[:min(max(offset, 0), int64(len(body)))]
	return fmt.Sprintf("byte %d (line %d)", offset, 1+bytes.Count(read, []byte{'\n'}))
}

// encode is service.Marshal for what cannot fail: structs of strings, numbers and valid JSON.
func encode(v any) []byte {
	b, err := service.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// member is the JSON object with one member; name needs no escapes.
func member(name string, value []byte) []byte {
	b := make([]byte, 0, len(name)+len(value)+5)
	b = append(append(append(b, `{"`...), name...), `":`...)
	return append(append(b, value...), '}')
}
