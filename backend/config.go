package backend

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"roost/gateway"
	"roost/internal/setting"
	"roost/proto/ws"
)

// Config says which backends there are and what they are asked. The zero value asks
// nobody.
type Config struct {
	// Backends by name, [A-Za-z0-9_.-]{1,64}.
	Backends map[string]Endpoint `yaml:"servers" json:"servers"`
	// RPC sends the methods of rpc commands to backends; the first rule that matches
	// holds.
	RPC []Rule `yaml:"rpc" json:"rpc"`
	// Connect is the name of the backend that decides on clients without a token; none
	// does not ask. Who decides on subscriptions and publications, namespaces say.
	Connect string `yaml:"connect" json:"connect"`
	// Refresh is the name of the backend that is asked about connections that expire, before
	// they do; none leaves it to clients to come with a fresh token. Who is asked about
	// subscriptions, namespaces say.
	Refresh string `yaml:"refresh" json:"refresh"`
	// Headers of clients' upgrade requests that backends get to see, as gateway.Options has
	// them.
	Headers []string `yaml:"headers" json:"headers"`
	// Message is the name of the backend that takes send commands; none refuses them.
	Message string `yaml:"message" json:"message"`
	// Disconnect and Unsubscribe are the names of the backends that are told of clients
	// that have gone and of subscriptions that ended; none tells nobody.
	Disconnect  string `yaml:"disconnect" json:"disconnect"`
	Unsubscribe string `yaml:"unsubscribe" json:"unsubscribe"`
	// Events bounds what waits to be told.
	Events gateway.EventOptions `yaml:"events" json:"events"`
}

// Endpoint is where a backend is, and how it is asked.
type Endpoint struct {
	// URL is http:// or https://, reached without a proxy, or nats:PREFIX, by which an
	// rpc is asked on the NATS subject PREFIX.METHOD and any other event on PREFIX.
	URL string `yaml:"url" json:"url"`
	// Timeout of a call, with its retries. Default: 1 s.
	Timeout time.Duration `yaml:"timeout" json:"timeout"`
	// Concurrency is how many calls may be under way from this node; four times as many
	// may wait for their turn, and what comes then is refused with error 111.
	// Default: 128.
	Concurrency int `yaml:"concurrency" json:"concurrency"`
	// Headers of each HTTP request, such as a shared secret.
	Headers map[string]string `yaml:"headers" json:"headers"`
	// Retries of a call over HTTP, 0 to 10, which failed before a connection was made.
	// Calls that may be repeated without harm are sent again after status 502, 503 and
	// 504 too. Pauses are 50 ms and twice as long each time. Default: 0.
	Retries int `yaml:"retries" json:"retries"`
	// RetryRPC says that rpc may be repeated without harm.
	RetryRPC bool `yaml:"retry-rpc" json:"retry_rpc"`
	// MaxAnswer is the largest answer, in bytes. Default: 1 MiB.
	MaxAnswer int64 `yaml:"max-answer" json:"max_answer"`
}

// Rule sends methods to a backend.
type Rule struct {
	// Method is a name, or the beginning of names followed by *; * alone is all.
	Method  string `yaml:"method" json:"method"`
	Backend string `yaml:"backend" json:"backend"`
}

// Limits and defaults of an Endpoint.
const (
	defaultTimeout     = time.Second
	defaultConcurrency = 128
	defaultMaxAnswer   = 1 << 20
	maxTimeout         = time.Minute
	maxConcurrency     = 100_000
	maxRetries         = 10
	maxMaxAnswer       = 64 << 20
	natsScheme         = "nats"
)

// Calls returns how many calls there may be from this node, under way and waiting.
func (e Endpoint) Calls() int { return (1 + queueFactor) * e.withDefaults().Concurrency }

func (e Endpoint) withDefaults() Endpoint {
	e.Timeout = cmp.Or(e.Timeout, defaultTimeout)
	e.Concurrency = cmp.Or(e.Concurrency, defaultConcurrency)
	e.MaxAnswer = cmp.Or(e.MaxAnswer, defaultMaxAnswer)
	return e
}

// Subject returns the prefix of an endpoint on NATS, "" for others.
func (e Endpoint) Subject() string {
	subject, _ := strings.CutPrefix(e.URL, natsScheme+":")
	if subject == e.URL {
		return ""
	}
	return subject
}

func (r Rule) matches(method string) bool {
	if prefix, ok := strings.CutSuffix(r.Method, "*"); ok {
		return strings.HasPrefix(method, prefix)
	}
	return method == r.Method
}

var backendName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// Validate returns the Problems of c, joined.
func (c Config) Validate() error { return errors.Join(c.Problems()...) }

// Problems returns all that is wrong with c. No text holds a header's value or a
// password.
func (c Config) Problems() (all []error) {
	for _, name := range slices.Sorted(maps.Keys(c.Backends)) {
		if !backendName.MatchString(name) {
			all = append(all, setting.At(fmt.Errorf("backend %q: a name is 1 to 64 of A-Z a-z 0-9 _ . -", name), "servers", name))
		}
		for _, err := range c.Backends[name].problems() {
			all = append(all, setting.At(fmt.Errorf("backend %q: %w", name, err), "servers", name))
		}
	}
	for i, r := range c.RPC {
		at := func(key string, err error) {
			if err != nil {
				all = append(all, setting.At(fmt.Errorf("rpc rule %d: %w", i+1, err), "rpc", strconv.Itoa(i), key))
			}
		}
		at("method", r.problem(c.RPC[:i]))
		at("backend", c.Known(r.Backend))
	}
	for _, e := range []struct{ event, backend string }{
		{"connect", c.Connect}, {"refresh", c.Refresh}, {"message", c.Message}, {"disconnect", c.Disconnect}, {"unsubscribe", c.Unsubscribe},
	} {
		if e.backend == "" {
			continue
		}
		if err := c.Known(e.backend); err != nil {
			all = append(all, setting.At(fmt.Errorf("%s: %w", e.event, err), e.event))
		}
	}
	for _, err := range gateway.HeaderProblems(c.Headers) {
		all = append(all, setting.At(fmt.Errorf("headers: %w", err), "headers"))
	}
	return append(all, c.eventProblems()...)
}

// Known returns an error that says which backends there are if name is none of them.
func (c Config) Known(name string) error {
	if _, ok := c.Backends[name]; ok {
		return nil
	}
	names := strings.Join(slices.Sorted(maps.Keys(c.Backends)), ", ")
	if names == "" {
		names = "none"
	}
	return fmt.Errorf("backend %q is not configured, of which there are: %s", name, names)
}

func (r Rule) problem(before []Rule) error {
	prefix, _ := strings.CutSuffix(r.Method, "*")
	if r.Method == "" || strings.Contains(prefix, "*") {
		return fmt.Errorf("method %q must be a name, the beginning of names followed by *, or *", r.Method)
	}
	for i, b := range before {
		if r.Method == b.Method || strings.HasSuffix(b.Method, "*") && b.matches(prefix) {
			return fmt.Errorf("method %q never gets here, since rule %d (%q) takes it: put it before that one", r.Method, i+1, b.Method)
		}
	}
	return nil
}

func (e Endpoint) problems() []error {
	var all []error
	for _, err := range e.address() {
		all = append(all, setting.At(err, "url"))
	}
	for _, n := range []struct {
		name       string
		value, top int64
		text       string
	}{
		{"timeout", int64(e.Timeout), int64(maxTimeout), "0 (1s) to 1m"},
		{"concurrency", int64(e.Concurrency), maxConcurrency, "0 (128) to 100000"},
		{"retries", int64(e.Retries), maxRetries, "0 (none) to 10"},
		{"max-answer", e.MaxAnswer, maxMaxAnswer, "0 (1048576) to 67108864 bytes"},
	} {
		if n.value < 0 || n.value > n.top {
			given := fmt.Sprint(n.value)
			if n.name == "timeout" {
				given = e.Timeout.String()
			}
			all = append(all, setting.At(fmt.Errorf("%s is %s, must be %s", n.name, given, n.text), n.name))
		}
	}
	return append(all, headerProblems(e.Headers)...)
}

func (e Endpoint) address() []error {
	u, err := url.Parse(e.URL)
	if err != nil {
		// The error's own text repeats the URL, which may hold a password.
		return []error{errors.New("url cannot be read, must be like http://127.0.0.1:3000/roost or nats:roost.rpc")}
	}
	switch u.Scheme {
	case "http", "https":
		switch {
		case u.User != nil:
			return []error{errors.New("url has a user or password in it: send such as a header, under headers")}
		case u.Hostname() == "":
			return []error{fmt.Errorf("url %q has no host, must be like http://127.0.0.1:3000/roost", e.URL)}
		case !validPort(u.Port()):
			return []error{fmt.Errorf("url has port %s, must be 1 to 65535", u.Port())}
		case u.Fragment != "":
			return []error{fmt.Errorf("url %q has a fragment, which is never sent: leave out #%s", e.URL, u.Fragment)}
		}
		return nil
	case natsScheme:
		var all []error
		if !isSubject(u.Opaque) || natsScheme+":"+u.Opaque != e.URL {
			all = append(all, errors.New("url must be nats: and the beginning of subjects, of letters, digits, - and _ with dots between, like nats:roost.rpc; servers are named by --nats"))
		}
		if len(e.Headers) > 0 || e.Retries > 0 || e.RetryRPC {
			all = append(all, errors.New("headers, retries and retry-rpc are for http and https, not for nats"))
		}
		return all
	}
	return []error{fmt.Errorf("url has scheme %q, must be http, https or nats", u.Scheme)}
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

func headerProblems(headers map[string]string) (all []error) {
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		var err error
		lower := strings.ToLower(name)
		switch {
		case !ws.IsToken(name):
			err = fmt.Errorf("header %q: that is no name of a header", name)
		case slices.Contains([]string{"content-type", "content-length", "host", "accept", "connection", "transfer-encoding", "te", "trailer", "upgrade"}, lower):
			err = fmt.Errorf("header %q is the gateway's to set: leave it out", name)
		case seen[lower]:
			err = fmt.Errorf("header %q is there twice, in upper and lower case: keep one", name)
		case strings.ContainsFunc(headers[name], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			err = fmt.Errorf("header %q: its value has a line break or another control character", name)
		}
		if err != nil {
			all = append(all, setting.At(err, "headers", name))
		}
		seen[lower] = true
	}
	return all
}
