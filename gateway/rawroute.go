package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"mime"
	"regexp"
	"slices"
	"strings"

	"roost/internal/setting"
	"roost/proto/ws"
)

// RawPath is where the clients of all raw routes may connect, with ?route=NAME.
const RawPath = "/connection/raw"

// RawRoute forwards the messages of its clients as they are, in whatever protocol, to a
// backend, and the backend's to them.
type RawRoute struct {
	// Path of its own, besides RawPath.
	Path string `yaml:"path" json:"path"`
	// Backend that the clients are for: what is a NATS subject, see Subject, or is asked
	// by Handlers.
	Backend string `yaml:"backend" json:"backend"`
	// Subprotocols of WebSocket that are understood, most wanted first.
	Subprotocols []string `yaml:"subprotocols" json:"subprotocols"`
	// Messages that clients may send, and get: text, binary or any. Default: any.
	Messages string `yaml:"messages" json:"messages"`
	// MaxMessage a client may send, in bytes. Default: that of Options.
	MaxMessage int64 `yaml:"max-message" json:"max_message"`
	// Auth says who is let in: whoever has a token, none for everyone, or backend for
	// whom Handlers.RawAuthorize lets in. Default: token.
	Auth string `yaml:"auth" json:"auth"`
	// UserConnections is how many connections a user may have on this node, to whatever
	// route; 0 is that of Options.
	UserConnections int `yaml:"user-connections" json:"user_connections"`
	// Headers of the upgrade request that the backend sees, such as Cookie.
	Headers []string `yaml:"headers" json:"headers"`

	// ContentType of the HTTP requests that bring messages to Backend. Default:
	// text/plain; charset=utf-8 for text, application/octet-stream for binary.
	ContentType string `yaml:"content-type" json:"content_type"`
	// NoEvents leaves the backend alone with connects and disconnects: it hears of messages
	// only, as servers do that know nothing of roost.
	NoEvents bool `yaml:"no-events" json:"no_events"`

	// Subject is the beginning of the NATS subjects that messages are published on,
	// instead of calls of Handlers; see docs/raw.md.
	Subject string `yaml:"-" json:"-"`
	// Concurrency is how many calls of Handlers for this route may be under way; other
	// clients wait for their turn. Default: 128.
	Concurrency int `yaml:"-" json:"-"`
}

// RawRoutes are raw routes by name, [A-Za-z0-9_-]{1,64}.
type RawRoutes map[string]RawRoute

const (
	rawAuthToken   = "token"
	rawAuthNone    = "none"
	rawAuthBackend = "backend"

	rawAny    = "any"
	rawText   = "text"
	rawBinary = "binary"

	rawConcurrency = 128
	maxRawRoutes   = 128
)

var (
	rawName   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	rawPathOK = regexp.MustCompile(`^(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+$`) // RFC 3986 section 3.3, without escapes
)

// taken are the paths that are the gateway's.
var taken = []string{"/connection", "/emulation", "/echo", "/echo-pool", "/broadcast"}

// Problems returns all that is wrong with the routes by themselves.
func (rs RawRoutes) Problems() (all []error) {
	paths := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(rs)) {
		r := rs[name]
		add := func(key, format string, args ...any) {
			all = append(all, setting.At(fmt.Errorf("raw route %q: "+key+": "+format, append([]any{name}, args...)...), name, key))
		}
		if !rawName.MatchString(name) {
			all = append(all, setting.At(fmt.Errorf("raw route %q: a name is 1 to 64 of A-Z a-z 0-9 _ -, as it is a part of NATS subjects", name), name))
		}
		r.problems(add)
		if first, clash := paths[r.Path]; clash && r.Path != "" {
			add("path", "%s is that of route %q already", r.Path, first)
		}
		paths[r.Path] = name
	}
	if len(rs) > maxRawRoutes {
		all = append(all, fmt.Errorf("there are %d raw routes, at most %d are possible", len(rs), maxRawRoutes))
	}
	return all
}

func (r RawRoute) problems(add func(key, format string, args ...any)) {
	if r.Backend == "" {
		add("backend", "is missing: name one of backends")
	}
	if r.Path != "" && !rawPathOK.MatchString(r.Path) {
		add("path", "%q must be like /mqtt, without query, escapes or a / at the end", r.Path)
	}
	for _, t := range taken {
		if r.Path == t || strings.HasPrefix(r.Path, t+"/") {
			add("path", "%s is the gateway's own", r.Path)
		}
	}
	seen := map[string]bool{}
	for _, p := range r.Subprotocols {
		if !ws.IsToken(p) || seen[p] {
			add("subprotocols", "%q is no name of a subprotocol, or is there twice", p)
		}
		seen[p] = true
	}
	for _, h := range r.Headers {
		if !ws.IsToken(h) {
			add("headers", "%q is no name of a header", h)
		}
	}
	if r.ContentType != "" {
		if _, _, err := mime.ParseMediaType(r.ContentType); err != nil {
			add("content-type", "%q must be like application/json: %v", r.ContentType, err)
		}
	}
	oneOf := func(key, value string, known ...string) {
		if value != "" && !slices.Contains(known, value) {
			add(key, "%q is none of %s", value, strings.Join(known, ", "))
		}
	}
	oneOf("messages", r.Messages, rawAny, rawText, rawBinary)
	oneOf("auth", r.Auth, rawAuthToken, rawAuthNone, rawAuthBackend)
	if r.MaxMessage < 0 {
		add("max-message", "is %d, must be 0 (the default) or more bytes", r.MaxMessage)
	}
	if r.UserConnections < 0 {
		add("user-connections", "is %d, must be 0 (that of --user-connections) or more", r.UserConnections)
	}
}

// NeedsKeys says whether the route's clients need a token.
func (r RawRoute) NeedsKeys() bool { return r.Auth == "" || r.Auth == rawAuthToken }

func (r RawRoute) withDefaults(o *Options) RawRoute {
	r.Messages = cmp.Or(r.Messages, rawAny)
	r.Auth = cmp.Or(r.Auth, rawAuthToken)
	r.MaxMessage = cmp.Or(r.MaxMessage, o.MaxMessage)
	r.UserConnections = cmp.Or(r.UserConnections, o.UserConnections)
	r.Concurrency = cmp.Or(r.Concurrency, rawConcurrency)
	return r
}

// validate tells what is wrong with the routes, also as far as it depends on o.
func (rs RawRoutes) validate(o *Options) error {
	all := rs.Problems()
	for name, r := range rs {
		h := &o.Handlers
		if r.Auth == rawAuthBackend && h.RawAuthorize == nil {
			all = append(all, fmt.Errorf("gateway: raw route %q: Handlers.RawAuthorize is missing", name))
		}
		if r.Subject == "" && h.RawMessage == nil {
			all = append(all, fmt.Errorf("gateway: raw route %q: Handlers.RawMessage or Subject is missing", name))
		}
	}
	return errors.Join(all...)
}
