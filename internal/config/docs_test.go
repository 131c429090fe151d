package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"roost/backend"
	"roost/gateway"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

const page = "../../docs/configuration.md"

// namespaceHelp says what each option of a namespace does.
var namespaceHelp = map[string]string{
	"presence":                      "Tell who follows a channel.",
	"join-leave":                    "Tell followers who ask for it when others come and go.",
	"force-join-leave":              "Tell all followers, asked or not.",
	"history-size":                  "Publications kept per channel, 100000 at most; with `history-ttl`.",
	"history-ttl":                   "How long they are kept; with `history-size`.",
	"force-recovery":                "Make every subscription recover what it missed.",
	"force-positioning":             "Make every subscription notice what it missed.",
	"recovery-mode":                 "`stream` recovers all that was missed, `cache` the latest only; `stream` by default.",
	"delta":                         "Let clients ask for fossil deltas.",
	"tags-filter":                   "Let clients filter publications by tags.",
	"allow-subscribe-for-client":    "Identified clients may subscribe without a token.",
	"allow-subscribe-for-anonymous": "Anonymous clients may, too.",
	"allow-publish-for-client":      "Identified clients may publish.",
	"allow-publish-for-subscriber":  "Subscribers may publish.",
	"allow-publish-for-anonymous":   "Anonymous clients may publish.",
	"allow-presence-for-client":     "Identified clients may ask who is there.",
	"allow-presence-for-subscriber": "Subscribers may ask who is there.",
	"allow-presence-for-anonymous":  "Anonymous clients may ask who is there.",
	"allow-history-for-client":      "Identified clients may read the history.",
	"allow-history-for-subscriber":  "Subscribers may read the history.",
	"allow-history-for-anonymous":   "Anonymous clients may read the history.",
	"allow-user-limited-channels":   "Users named after `#`, as in `chat#ann,bob`, may subscribe to a channel, and nobody else.",
	"subscriptions-per-channel":     "Subscribers a channel may have on one node; 0 is no limit.",
	"publish-rate":                  "Publications a client may send per second; 0 is no limit.",
	"subscribe-backend":             "Backend that decides on subscriptions without a token, instead of allow-subscribe-for-client and -anonymous; see [backends](backends.md).",
	"publish-backend":               "Backend that decides on publications of clients, instead of allow-publish-for-client, -subscriber and -anonymous.",
	"sub-refresh-backend":           "Backend that is asked about subscriptions that expire, before they do; without one the client comes with a fresh token.",
	"channel-regex":                 "What the name after the namespace must match as a whole.",
}

// endpointHelp says what each setting of a backend does.
var endpointHelp = map[string]string{
	"url":         "`http://…`, `https://…`, or `nats:PREFIX` for NATS requests on `PREFIX.METHOD`.",
	"timeout":     "How long a call may take, with its retries; 0s is 1s, at most 1m.",
	"concurrency": "Calls under way at a time from this node; 0 is 128. Four times as many may wait, others get error 111.",
	"headers":     "Headers of each HTTP request, such as a shared secret.",
	"retries":     "How often a call over HTTP is tried again, up to 10: after no connection could be made, and after 502, 503 and 504 if it may be repeated without harm.",
	"retry-rpc":   "`rpc` may be repeated without harm.",
	"max-answer":  "Largest answer in bytes; 0 is 1048576.",
}

// eventsHelp says what each bound of events does.
var eventsHelp = map[string]string{
	"concurrency": "Events that one gateway tells at a time; 0 is 32.",
	"max-age":     "After this time an event that no backend took is dropped; 0s is 24h.",
	"max-bytes":   "Bytes of events the queue in NATS holds; 0 is 1073741824.",
	"max-waiting": "Bytes of events in memory that are not in the queue yet, as NATS is away or the queue is full; what comes then is dropped; 0 is 67108864.",
	"grace":       "How long a gateway of a cluster is not heard of before its clients count as gone; 0s is 30s.",
}

// rawHelp says what each setting of a raw route does.
var rawHelp = map[string]string{
	"path":             "Path of its own, such as `/mqtt`, besides `/connection/raw?route=NAME`.",
	"backend":          "Which of `backends.servers` gets the messages.",
	"subprotocols":     "WebSocket subprotocols that are understood, most wanted first.",
	"messages":         "What clients may send, and get: `text`, `binary` or `any`; `any` by default.",
	"max-message":      "Largest message a client may send, in bytes; 0 is that of `max-message`.",
	"auth":             "Who is let in: `token`, who has one; `backend`, whom the backend lets in; `none`, everyone. `token` by default.",
	"user-connections": "Connections a user may have on this node, to whatever route; 0 is that of `user-connections`.",
	"headers":          "Headers of the upgrade request that the backend gets to see, such as `Cookie`.",
	"content-type":     "Content-Type of a message's HTTP request; `text/plain; charset=utf-8` or `application/octet-stream` by default.",
	"no-events":        "Tell the backend nothing of connects and disconnects, as for servers that know nothing of roost.",
}

// TestPage compares docs/configuration.md with the code. `make docs` writes it.
func TestPage(t *testing.T) {
	var text strings.Builder
	text.WriteString(pageHead)
	writeFlags(t, &text)
	text.WriteString(channelsHead)
	writeOptions[gateway.Namespace](t, &text, namespaceHelp)
	text.WriteString(backendsHead)
	writeOptions[backend.Endpoint](t, &text, endpointHelp)
	text.WriteString(eventsHead)
	writeOptions[gateway.EventOptions](t, &text, eventsHelp)
	text.WriteString(rawHead)
	writeOptions[gateway.RawRoute](t, &text, rawHelp)
	if *update {
		if err := os.WriteFile(page, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil || string(have) != text.String() {
		t.Errorf("docs/configuration.md is not what the code says (%v): make docs", err)
	}
}

func writeFlags(t *testing.T, text *strings.Builder) {
	model := parser(t, &struct{ Config }{}).Model
	group := ""
	for _, f := range model.Flags {
		switch {
		case f.Name == "help":
			continue
		case f.Group != nil && f.Group.Title != group:
			group = f.Group.Title
			fmt.Fprintf(text, "\n## %s\n\n| name | default | what it does |\n|---|---|---|\n", group)
		case group == "":
			continue // --config
		}
		standard := f.Default
		switch {
		case standard == "" && f.IsBool():
			standard = "false"
		case standard == "" && f.IsSlice(), standard == "" && f.Target.Kind() == reflect.String:
			standard = "–"
		case standard == "":
			standard = "0"
		}
		fmt.Fprintf(text, "| `%s` | %s | %s |\n", f.Name, standard, f.Help)
	}
}

func writeOptions[T any](t *testing.T, text *strings.Builder, help map[string]string) {
	typ := reflect.TypeFor[T]()
	for i := range typ.NumField() {
		field := typ.Field(i)
		name := field.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		standard := fmt.Sprint(reflect.Zero(field.Type))
		switch {
		case field.Type == reflect.TypeFor[time.Duration]():
			standard = "0s"
		case field.Type.Kind() == reflect.String, field.Type.Kind() == reflect.Map, field.Type.Kind() == reflect.Slice:
			standard = "–"
		}
		if help[name] == "" {
			t.Errorf("%s has no help", name)
		}
		fmt.Fprintf(text, "| `%s` | %s | %s |\n", name, standard, help[name])
	}
}

func parser(t testing.TB, target any) *kong.Kong {
	t.Helper()
	k, err := kong.New(target, Environment(), kong.Name("roost"), kong.Exit(func(int) { t.Error("exit") }))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const pageHead = `# Configuration

Each setting has one name. It is a flag (` + "`--max-message 1000`" + `), a variable of the environment
(` + "`ROOST_MAX_MESSAGE=1000`" + `) and a key of the YAML file that ` + "`--config FILE` or `ROOST_CONFIG`" + ` names
(` + "`max-message: 1000`" + `). A flag counts before the environment, that before the file, and that before the
default. Lists take commas in flags and in the environment. Keep secrets in the environment or in a
file that only the gateway can read: all users of a machine see the flags of its processes.

` + "`roost check`" + ` takes the same settings as ` + "`roost serve`" + `, makes everything that serve would make of them but
the listeners and the data, and tells all that is wrong; its exit code is 1 then, else 0. Unknown names
in the file are errors. ` + "`serve`" + ` refuses to start with the same words:

    $ bin/roost check --config roost.yaml
    roost: check: 3 problems:
      roost.yaml:2: --loops is 999, must be 0 (one for two cores) to 256
      roost.yaml:7: backends: backend "shop": url has scheme "localhost", must be http, https or nats
      ROOST_MAX_CHANNELS: --max-channels is 0, must be above 0

Each problem is a line of standard error: the file and the line, or the variable of the environment (with a line
in ` + "`ROOST_CHANNELS`, `ROOST_BACKENDS` and `ROOST_RAW`" + `), then what is wrong and what would be
right. What comes from a flag, or is missing altogether, has no place. A single problem stands behind
` + "`roost: check:`" + ` in the same line.

    # roost.yaml
    address: 0.0.0.0:8000
    data: /var/lib/roost
    jwks-url: https://id.example.com/keys
    allowed-origins: [https://example.com]
    channels:
      namespaces:
        chat:
          presence: true
          history-size: 100
          history-ttl: 24h
          force-recovery: true
          allow-publish-for-subscriber: true

` + "`serve`" + ` refuses to start where no client could connect (no key for tokens, no ` + "`allow-anonymous`" + `) or where
nothing says what happens to data (` + "`data`, `nats` or `memory`" + `). ` + "`--dev`" + ` allows both; its data is in memory
unless ` + "`data` or `nats`" + ` is given, and it opens the channels without a namespace unless the file has a
` + "`channels`" + ` block.

This page comes from the code: ` + "`make docs`" + ` writes it, and a test compares both.
`

const rawHead = `
## Raw routes

The block ` + "`raw`" + ` has raw routes by name, 1 to 64 of ` + "`A-Z a-z 0-9 _ -`" + `; see [raw routes](raw.md):

| name | default | what it does |
|---|---|---|
`

const channelsHead = `
## Channels

The block ` + "`channels`" + ` stands in the file, or as JSON with the same names in ` + "`ROOST_CHANNELS`" + `. The part of a
channel's name before the first ` + "`:`" + ` is its namespace; a channel whose namespace is not listed is refused.

| name | what it does |
|---|---|
| ` + "`default`" + ` | A namespace's options, for channels without one. |
| ` + "`namespaces`" + ` | Options by namespace; a name is 1 to 64 of ` + "`A-Z a-z 0-9 _ . -`" + `. |
| ` + "`personal`" + ` | Subscribe each identified client to its own channel, ` + "`#USER`" + `. |
| ` + "`personal-namespace`" + ` | The namespace of that channel. |

The options of a namespace allow nothing by default but subscribing with a token:

| name | default | what it does |
|---|---|---|
`

const backendsHead = `
## Backends

The block ` + "`backends`" + `, or ` + "`ROOST_BACKENDS`" + `, names the servers that answer clients' commands; see
[backends](backends.md).

    backends:
      servers:
        shop:
          url: http://127.0.0.1:3000/roost
          headers: {X-Secret: "…"}
      rpc:
        - {method: "cart.*", backend: shop}
      message: shop

| name | what it does |
|---|---|
| ` + "`servers`" + ` | The settings of each by a name of yours, 1 to 64 of ` + "`A-Z a-z 0-9 _ . -`" + `. |
| ` + "`rpc`" + ` | Which of them answers ` + "`rpc`" + `: the first rule whose ` + "`method`" + ` matches, a name, the beginning of names followed by ` + "`*`" + `, or ` + "`*`" + `. |
| ` + "`message`" + ` | Which takes ` + "`send`" + `; none refuses it. |
| ` + "`connect`" + ` | Which decides on clients without a token; none does not ask. |
| ` + "`refresh`" + ` | Which is asked about connections that expire, before they do; none leaves it to clients to come with a fresh token. |
| ` + "`headers`" + ` | Headers of clients' requests that backends get to see, such as ` + "`Cookie`" + `; see [backends](backends.md#headers-and-cookies). |
| ` + "`disconnect`" + ` | Which is told of clients that have gone; none tells nobody. |
| ` + "`unsubscribe`" + ` | Which is told of subscriptions that ended; none tells nobody. |
| ` + "`events`" + ` | Bounds of what waits to be told, see below. |

The settings of a server:

| name | default | what it does |
|---|---|---|
`

const eventsHead = `
Those of ` + "`events`" + `, for ` + "`disconnect` and `unsubscribe`" + ` each:

| name | default | what it does |
|---|---|---|
`
