// Package api is the server HTTP API: POST /api/<method> for each operation of the
// gateway, JSON in and out, in the shape Centrifugo's client libraries send, and its
// OpenAPI description.
package api

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"roost/proto/client"
)

// Options of New. The zero value of a field but Node means its default.
type Options struct {
	Node Operations
	// Services answer POST /api/<name>/<operation>.
	Services []Service
	// Keys open the API; an empty one opens nothing. Without keys it refuses everyone.
	Keys []string
	// Insecure lets everyone in, without a key.
	Insecure bool
	// MaxBody of a request, in bytes. Default: 4 MiB.
	MaxBody int64
	// MaxCommands of a batch or of an old-style request. Default: 10,000.
	MaxCommands int
	// Timeout of one operation. Default: 10 s.
	Timeout time.Duration
	// Version appears in the OpenAPI description.
	Version string
	Logger  *slog.Logger
	// Observe, if set, is told each operation: its error code, 0 for none, and how long
	// it took. Operations inside a batch are told like others, beside the batch. A
	// request refused before an operation was known has the method "". Any goroutine.
	Observe func(method string, code int, took time.Duration)
}

// handler is static after New.
type handler struct {
	Options
	keys        [][sha256.Size]byte
	operations  map[string]*operation
	description []byte
}

// New returns the handler of /api and all below it.
func New(o Options) http.Handler {
	if o.MaxBody == 0 {
		o.MaxBody = 4 << 20
	}
	if o.MaxCommands == 0 {
		o.MaxCommands = 10_000
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Observe == nil {
		o.Observe = func(string, int, time.Duration) {}
	}
	h := &handler{Options: o, operations: make(map[string]*operation, len(operations)), description: describe(o.Version, o.Services)}
	for _, k := range o.Keys {
		if k != "" {
			h.keys = append(h.keys, sha256.Sum256([]byte(k)))
		}
	}
	for i := range operations {
		h.operations[operations[i].name] = &operations[i]
	}
	return h
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	refuse := func(f *failure) {
		h.Observe("", int(f.Code), time.Since(begun))
		h.fail(w, r, f)
	}
	method := strings.Trim(strings.TrimPrefix(r.URL.Path, "/api"), "/")
	if method == "openapi.json" {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			refuse(fails(http.StatusMethodNotAllowed, client.ErrBadRequest.Code, "use GET, not %.20s", r.Method))
			return
		}
		answer(w, http.StatusOK, h.description)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(fails(http.StatusMethodNotAllowed, client.ErrBadRequest.Code, "use POST, not %.20s", r.Method))
		return
	}
	if !h.authorized(r) {
		w.Header().Set("WWW-Authenticate", "apikey")
		refuse(fails(http.StatusUnauthorized, client.ErrUnauthorized.Code, "unauthorized: send a key as X-API-Key or as Authorization: apikey KEY"))
		return
	}
	op := h.operation(method)
	if op == nil && method != "" && method != batch {
		refuse(notFound(method))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.MaxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		refuse(fails(http.StatusRequestEntityTooLarge, client.ErrLimitExceeded.Code, "the body is above %d bytes", tooLarge.Limit))
		return
	} else if err != nil {
		refuse(fails(http.StatusBadRequest, client.ErrBadRequest.Code, "the body could not be read"))
		return
	}
	reply, failed := h.reply(r, op, method, body)
	if failed != nil {
		h.fail(w, r, failed)
		return
	}
	answer(w, http.StatusOK, reply)
}

// operation returns what a method stands for, or nil.
func (h *handler) operation(method string) *operation {
	if op := h.operations[method]; op != nil {
		return op
	}
	name, rest, ok := strings.Cut(method, "/")
	for i := range h.Services {
		if ok && h.Services[i].Name == name {
			return h.Services[i].operation(rest)
		}
	}
	return nil
}

// reply runs what a request asks for and returns the body of the answer.
func (h *handler) reply(r *http.Request, op *operation, method string, body []byte) ([]byte, *failure) {
	switch method {
	case "":
		return h.lines(r.Context(), body)
	case batch:
		return h.batch(r.Context(), body)
	}
	result, failed := h.run(r.Context(), op, body)
	if failed != nil {
		return nil, failed
	}
	return member("result", result), nil
}

// authorized compares keys by their hashes, so that neither a key's bytes nor its length
// show in the time it takes.
func (h *handler) authorized(r *http.Request) bool {
	if h.Insecure {
		return true
	}
	key := r.Header.Get("X-API-Key")
	if key == "" {
		scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "apikey") {
			return false
		}
		key = strings.TrimSpace(rest)
	}
	sum := sha256.Sum256([]byte(key))
	match := 0
	for _, k := range h.keys {
		match |= subtle.ConstantTimeCompare(k[:], sum[:])
	}
	return match == 1
}

// fail answers an error: with the status of a request that is itself at fault, else with
// 200, or the status of the error's code if the caller asked for transport errors.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, f *failure) {
	body, status := encode(f), f.status
	if r.Header.Get("X-Centrifugo-Error-Mode") == "transport" || r.URL.Query().Get("error_mode") == "transport" {
		if status == 0 {
			status = transportStatus(f.Code)
		}
	} else {
		body = member("error", body)
	}
	answer(w, cmp.Or(status, http.StatusOK), body)
}

func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
