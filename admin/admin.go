// Package admin is the page for whoever runs the gateway: live figures, the nodes, channels
// with presence and history, publishing and disconnecting. It asks the server API's handler
// in the same process, under a session instead of a key.
package admin

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

//go:embed index.html admin.js admin.css
var files embed.FS

// MinPassword is the length of the shortest password, in bytes.
const MinPassword = 8

// ErrPassword refuses a password that is too easily guessed.
var ErrPassword = errors.New("admin: the password needs at least 8 bytes")

const (
	cookieName = "roost_admin"
	csrfHeader = "X-CSRF-Token"
	maxBody    = 1 << 20 // bytes of a request

	policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// operations of the server API that the page may ask for.
var operations = []string{"info", "channels", "presence", "history", "connections", "publish", "disconnect"}

// Figures are what the page plots. Names that end in _total count since the start.
type Figures struct {
	Time             int64             `json:"time"` // Unix milliseconds
	Connections      int64             `json:"connections"`
	Clients          int64             `json:"clients"`
	Channels         int64             `json:"channels"`
	Subscriptions    int64             `json:"subscriptions"`
	MessagesIn       uint64            `json:"messages_in_total"`
	MessagesOut      uint64            `json:"messages_out_total"`
	BytesIn          uint64            `json:"bytes_in_total"`
	BytesOut         uint64            `json:"bytes_out_total"`
	QueueBytes       int64             `json:"queue_bytes"`
	QueueConnections int64             `json:"queue_connections"`
	Memory           int64             `json:"memory"` // resident bytes of the process; 0: unknown
	Closed           map[string]uint64 `json:"closed_total"`
}

// Options of New. All but FailedLogin must be set.
type Options struct {
	Password string
	// API answers POST /api/<operation> to anyone who reaches it.
	API http.Handler
	// Figures returns those of now, but for Time. Any goroutine.
	Figures func() Figures
	// FailedLogin, if set, is called after each login that was refused. Any goroutine.
	FailedLogin func()
}

// handler is static after New, but for its sessions and its guard.
type handler struct {
	Options
	password digest
	sessions sessions
	guard    guard
	now      func() time.Time
}

// New returns the handler of /admin/ and all below it.
func New(o Options) (http.Handler, error) {
	h, err := newHandler(o, time.Now)
	if err != nil {
		return nil, err
	}
	return h.routes(), nil
}

func newHandler(o Options, now func() time.Time) (*handler, error) {
	if len(o.Password) < MinPassword {
		return nil, ErrPassword
	}
	if o.FailedLogin == nil {
		o.FailedLogin = func() {}
	}
	h := &handler{Options: o, password: sum(o.Password), now: now}
	h.sessions.open = make(map[digest]session)
	h.guard.init()
	return h, nil
}

func (h *handler) routes() http.Handler {
	mux := http.NewServeMux()
	for at, f := range map[string]struct{ name, kind string }{
		"/admin/{$}":       {"index.html", "text/html; charset=utf-8"},
		"/admin/admin.js":  {"admin.js", "text/javascript; charset=utf-8"},
		"/admin/admin.css": {"admin.css", "text/css; charset=utf-8"},
	} {
		body, err := files.ReadFile(f.name)
		if err != nil { // cannot happen: the names are those embedded
			panic(err)
		}
		mux.HandleFunc("GET "+at, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", f.kind)
			_, _ = w.Write(body)
		})
	}
	mux.HandleFunc("GET /admin/session", h.session)
	mux.HandleFunc("GET /admin/figures", h.known(h.figures))
	mux.HandleFunc("POST /admin/login", h.login)
	mux.HandleFunc("POST /admin/logout", h.known(h.logout))
	mux.HandleFunc("POST /admin/api/{operation}", h.known(h.operate))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-store")
		if r.Method == http.MethodPost && !sameOrigin(r) {
			refuse(w, http.StatusForbidden, "this request comes from another origin")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

// sameOrigin tells whether a page of this very host sent the request. Browsers send Origin
// with every POST, so one without it is none of the page's.
func sameOrigin(r *http.Request) bool {
	u, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && u.Host != "" && u.Host == r.Host && (u.Scheme == "http" || u.Scheme == "https")
}

// known lets through who has a session and, for a POST, its token.
func (h *handler) known(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, ok := h.sessions.find(token(r), h.now())
		switch {
		case !ok:
			refuse(w, http.StatusUnauthorized, "log in first")
		case r.Method == http.MethodPost && !s.csrf.matches(r.Header.Get(csrfHeader)):
			refuse(w, http.StatusForbidden, "the "+csrfHeader+" header is missing or wrong")
		default:
			next(w, r)
		}
	}
}

// token is the session's secret that the request brings.
func token(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	return c.Value
}

func (h *handler) figures(w http.ResponseWriter, _ *http.Request) {
	f := h.Figures()
	f.Time = h.now().UnixMilli()
	answer(w, http.StatusOK, f)
}

// operate passes an operation on to the server API, without what the browser knows.
func (h *handler) operate(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("operation")
	if !slices.Contains(operations, name) {
		refuse(w, http.StatusNotFound, "the page has no such operation")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "the request could not be read, or is above 1 MiB")
		return
	}
	inner, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "/api/"+name, bytes.NewReader(body))
	if err != nil {
		refuse(w, http.StatusBadRequest, "the request could not be read")
		return
	}
	h.API.ServeHTTP(w, inner)
}

// refuse answers an error in the form that the server API gives its own.
func refuse(w http.ResponseWriter, status int, message string) {
	answer(w, status, map[string]any{"error": map[string]any{"code": status, "message": message}})
}

func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot happen: only plain structs and maps come here
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
