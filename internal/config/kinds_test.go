package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"roost/internal/testcert"
)

// kinds are the ways in which a file can be wrong, each with all that must be said: one
// problem, in that line. Line 0 is what no line of the file can be blamed for.
var kinds = []struct {
	kind, file string
	line       int
	want       string
}{
	// The file itself.
	{"no YAML", "dev: true\nloops: [\n", 2, "it is no YAML: did not find expected node content"},
	{"no mapping", "- dev\n", 1, "must be names with values"},
	{"unknown name", "dev: true\nmax-chanels: 3\n", 2, `unknown name "max-chanels", did you mean "max-channels"?`},
	{"underscores in a name", "dev: true\nmax_channels: 3\n", 2, `unknown name "max_channels", did you mean "max-channels"?`},
	{"flag that is not for files", "dev: true\nconfig: x\n", 2, `unknown name "config"`},
	{"name twice", "dev: true\nloops: 1\n\nloops: 2\n", 4, `"loops" is there already, in line 2`},
	{"list for a value", "dev: true\nworkers: [1]\n", 2, "workers: must be a plain value"},
	{"names for a value", "dev: true\naddress:\n  host: b\n", 3, "address: must be a plain value"},
	{"list in a list", "dev: true\nallowed-origins:\n  - a\n  - [b]\n", 4, "allowed-origins: must be a list of plain values"},
	{"no number", "dev: true\nloops: many\n", 2, `loops: expected a valid 64 bit int but got "many"`},
	{"neither true nor false", "dev: true\ndeflate: maybe\n", 2, `deflate: bool value must be true, 1, yes, false, 0 or no but got "maybe"`},
	{"duration without a unit", "dev: true\nping-interval: 25\n", 2, `ping-interval: expected duration but got "25"`},
	{"value that is not of a list", "dev: true\nlog-level: loud\n", 2, `log-level: "loud" is none of debug, info, warn, error`},

	// Addresses and TLS.
	{"address without a port", "dev: true\naddress: localhost\n", 2, `--address "localhost": address localhost: missing port in address; it must be host:port`},
	{"port out of range", "dev: true\ninternal-address: 127.0.0.1:99999\n", 2, `--internal-address "127.0.0.1:99999": address 99999: invalid port; it must be host:port`},
	{"one address twice", "dev: true\naddress: 127.0.0.1:8001\n", 2, "--address and --internal-address are both 127.0.0.1:8001: each needs its own"},
	{"short admin password", "dev: true\nadmin-password: sevenup\n", 2, "--admin-password has 7 bytes, must have at least 8"},
	{"certificate without a key", "dev: true\ntls-cert: CERT\n", 2, "--tls-cert is there 1 times and --tls-key 0 times"},
	{"key without a certificate", "dev: true\ntls-key: KEY\n", 2, "--tls-cert is there 0 times and --tls-key 1 times"},
	{"missing certificate", "dev: true\ntls-key: [KEY, KEY]\ntls-cert:\n  - CERT\n  - /nowhere/tls.crt\n", 5, "/nowhere/tls.crt: no such file"},
	{"key of another certificate", "dev: true\ntls-cert: CERT\ntls-key: OTHER\n", 2, "private key does not match public key"},
	{"TLS address without certificates", "dev: true\ntls-address: :8443\n", 2, "--tls-address needs certificates: --tls-cert with --tls-key, or --acme-hosts"},
	{"ACME without a folder", "dev: true\nacme-accept-terms: true\nacme-hosts: [a.example.com]\n", 3, "needs a directory"},
	{"ACME for a wildcard", "dev: true\nacme-accept-terms: true\nacme-dir: /tmp\nacme-hosts: ['*.example.com']\n", 4, `ACME host "*.example.com" must be a full name`},
	{"ACME without its terms", "dev: true\nacme-dir: /tmp\nacme-hosts: [a.example.com]\n", 3, "--acme-hosts needs --acme-accept-terms"},
	{"ACME without hosts", "dev: true\nacme-email: a@example.com\n", 2, "mean nothing without --acme-hosts"},
	{"ACME directory without TLS", "dev: true\nacme-accept-terms: true\nacme-dir: /tmp\nacme-hosts: [a.example.com]\nacme-directory: http://ca\n", 5, `--acme-directory "http://ca" must be https`},
	{"no e-mail", "dev: true\nacme-accept-terms: true\nacme-dir: /tmp\nacme-hosts: [a.example.com]\nacme-email: me\n", 5, `--acme-email "me" must be like`},
	{"TLS fallback", "dev: true\nmax-tls-fallback: -1\n", 2, "--max-tls-fallback is -1, must be 0 (none) or more"},

	{"internal certificate without a key", "dev: true\ninternal-tls-cert: CERT\n", 2, "--internal-tls-cert and --internal-tls-key go together"},
	{"internal key of another certificate", "dev: true\ninternal-tls-cert: CERT\ninternal-tls-key: OTHER\n", 2, "--internal-tls-cert, --internal-tls-key: "},

	// Services.
	{"unknown service", "dev: true\nservices: [chat]\n", 2, `--services "chat" is none of sync`},
	{"namespace of a service", "dev: true\nservices: [sync]\nchannels:\n  namespaces:\n    sync: {}\n", 5, `namespace "sync" belongs to the service of that name`},
	{"service elsewhere without NATS", "dev: true\nremote-services: true\n", 2, "--remote-services needs --nats"},
	{"data of sync", "dev: true\nsync-max-data: 300000\n", 2, "--sync-max-data is 300000, must be 1 to 262144 bytes"},
	{"items of sync", "dev: true\nsync-max-items: 0\n", 2, "--sync-max-items is 0, must be 1 or more"},

	// Who may connect.
	{"nobody could connect", "memory: true\n", 0, "no client could connect: there is no key to verify tokens with. Give --hmac-secret-key"},
	{"RSA key", "dev: true\nrsa-public-key: a\n", 2, "RSA public key"},
	{"ECDSA key", "dev: true\necdsa-public-key: a\n", 2, "ECDSA public key"},
	{"Ed25519 key", "dev: true\ned25519-public-key: a\n", 2, "Ed25519 public key"},
	{"JWKS URL", "dev: true\njwks-url: ftp://x\n", 2, `--jwks-url "ftp://x" must be http or https`},
	{"JWKS in too short a time", "dev: true\njwks-ttl: 1ms\n", 2, "--jwks-ttl is 1ms, must be at least 1s"},
	{"leeway below 0", "dev: true\nleeway: -1s\n", 2, "--leeway is -1s, must be at least 0s"},
	{"upgrade without a key", "dev: true\nupgrade-auth: true\n", 2, "--upgrade-auth needs a key"},
	{"token in a cookie without upgrade", "dev: true\ntoken-cookie: session\n", 2, "--token-cookie needs --upgrade-auth or a raw route"},
	{"name of a header", "dev: true\nupgrade-auth: true\nhmac-secret-key: s\ntoken-header: 'X Token:'\n", 4, `--token-header "X Token:": that is no name`},
	{"origin with a path", "dev: true\nallowed-origins:\n  - https://a.example\n  - https://b.example/chat\n", 4, `allowed origin "https://b.example/chat": it must be [scheme://]host[:port]`},
	{"origin of a WebSocket", "dev: true\nallowed-origins: [wss://a.example]\n", 2, "its scheme is http or https"},
	{"empty API key", "dev: true\napi-key:\n  - a\n  - ''\n", 4, "--api-key is empty"},

	// Data and cluster.
	{"no place for data", "allow-anonymous: true\n", 0, "there is no place for data: give --data DIR"},
	{"two places for data", "dev: true\nmemory: true\ndata: /tmp\n", 2, "--data, --memory and --nats exclude each other"},
	{"data in a file", "dev: true\ndata: /dev/null/x\n", 2, "--data: "},
	{"replicas without a cluster", "dev: true\nnats-replicas: 3\n", 2, "--nats-replicas needs --nats"},
	{"too many replicas", "dev: true\nnats: nats://n\nnats-replicas: 6\n", 3, "--nats-replicas is 6, must be 1 to 5"},
	{"scheme of a NATS server", "dev: true\nnats:\n  - nats://a:4222\n  - http://b:4222\n", 4, "--nats: a server must be like nats://b:4222, or with tls, ws or wss; not http"},
	{"NATS server without a host", "dev: true\nnats: ['nats://:4222']\n", 2, "--nats: a server must be like nats://10.0.0.1:4222"},
	{"port of a NATS server", "dev: true\nnats: ['nats://u:hunter2@a:70000']\n", 2, "--nats: a server at a:70000: the port must be 1 to 65535"},
	{"prefix in NATS", "dev: true\nnats-prefix: A.B\n", 2, `prefix "A.B" is not of a-z, 0-9 and -`},
	{"node's id", "dev: true\nnode-id: node 1\n", 2, `--node-id "node 1" must have neither spaces`},
	{"synced memory", "dev: true\nsync-always: true\n", 2, "--sync-always needs --data"},
	{"long path of a socket", "dev: true\nhandoff-socket: /" + strings.Repeat("x", 107) + "\n", 2, "--handoff-socket has 108 bytes, at most 99 are possible: it is a Unix socket"},
	{"embedded NATS beside others", "dev: true\nnats: nats://n\nnats-listen: 127.0.0.1:0\nbackends: {servers: {a: {url: 'nats:a'}}}\n", 3, "--nats-listen and --nats exclude each other"},
	{"address of the embedded NATS", "dev: true\nbackends: {servers: {a: {url: 'nats:a'}}}\nnats-listen: localhost\n", 3, `--nats-listen "localhost": address localhost: missing port in address`},
	{"embedded NATS for everyone", "dev: true\nbackends: {servers: {a: {url: 'nats:a'}}}\nnats-listen: :4222\n", 3, "--nats-listen :4222 is no loopback address: give --nats-user and --nats-password"},
	{"user without a password", "dev: true\nbackends: {servers: {a: {url: 'nats:a'}}}\nnats-listen: :4222\nnats-user: b\n", 4, "--nats-user and --nats-password belong together"},
	{"short password for NATS", "dev: true\nbackends: {servers: {a: {url: 'nats:a'}}}\nnats-listen: :4222\nnats-user: b\nnats-password: sevenup\n", 5, "--nats-password has 7 bytes, must have at least 8"},
	{"name of the gateway", "dev: true\nbackends: {servers: {a: {url: 'nats:a'}}}\nnats-listen: :4222\nnats-user: roost\nnats-password: eight bytes\n", 4, "--nats-user roost is the gateway itself"},
	{"password for no listener", "dev: true\nnats-user: b\nnats-password: eight bytes\n", 2, "are for --nats-listen; those of other servers stand in their URLs"},
	{"embedded NATS for nobody", "dev: true\nnats-listen: 127.0.0.1:0\n", 2, "--nats-listen is for backends on NATS, and none has a url like nats:shop"},

	// Limits.
	{"no time at all", "dev: true\nstale-timeout: 0s\n", 2, "--stale-timeout is 0s, must be at least 100ms"},
	{"pong after ping", "dev: true\npong-timeout: 30s\n", 2, "--pong-timeout (30s) must be below --ping-interval (25s)"},
	{"ping before pong", "dev: true\nping-interval: 5s\n", 2, "--pong-timeout (8s) must be below --ping-interval (5s)"},
	{"rare pings with a rate", "dev: true\nmessage-rate: 10\nping-interval: 2m\n", 3, "--ping-interval is 2m0s, must be at most 1m0s with --message-rate"},
	{"rebalance alone", "dev: true\nrebalance: true\n", 2, "--rebalance needs --nats"},
	{"rate of rebalance", "dev: true\nrebalance-rate: 0\n", 2, "--rebalance-rate is 0, must be 1 to 1000000"},
	{"threshold of rebalance", "dev: true\nrebalance-threshold: 95\n", 2, "--rebalance-threshold is 95, must be 5 to 90"},
	{"time of a drain", "dev: true\ndrain-time: -1s\n", 2, "--drain-time is -1s, must be at least 0s"},
	{"time of a drain, too long", "dev: true\ndrain-time: 25h\n", 2, "--drain-time is 25h0m0s, must be at most 24h0m0s"},
	{"rate of upgrades", "dev: true\nupgrade-rate: -1\n", 2, "--upgrade-rate is -1, must be 0 (no limit) to 1000000"},
	{"rate of an address", "dev: true\naddress-rate: -1\n", 2, "--address-rate is -1, must be 0 (no limit) to 1000000"},
	{"handshakes", "dev: true\nmax-handshakes: -1\n", 2, "--max-handshakes is -1, must be 0 (no limit) to 1000000"},
	{"backlog of upgrades", "dev: true\nupgrade-backlog: 11s\n", 2, "--upgrade-backlog (11s) must be at most --handshake-timeout (10s)"},
	{"no backlog of upgrades", "dev: true\nupgrade-backlog: 0s\n", 2, "--upgrade-backlog is 0s, must be at least 100ms"},
	{"rate", "dev: true\nmessage-rate: 99999\n", 2, "--message-rate is 99999, must be 0 (no limit) to 16000"},
	{"no channels", "dev: true\nmax-channels: 0\n", 2, "--max-channels is 0, must be above 0"},
	{"length of names", "dev: true\nmax-channel-length: 256\n", 2, "--max-channel-length is 256, must be 1 to 255 bytes"},
	{"message size", "dev: true\nmax-message: -1\n", 2, "--max-message is -1, must be 0 (the default) or more bytes"},
	{"tails", "dev: true\ntail-bytes: 0\n", 2, "--tail-bytes is 0, must be above 0 bytes"},
	{"loops", "dev: true\nloops: 999\n", 2, "--loops is 999, must be 0 (one for two cores) to 256"},
	{"socket buffer", "dev: true\nsend-buffer: -1\n", 2, "--send-buffer is -1, must be 0 (the kernel's choice) or more bytes"},

	// Channels.
	{"no mapping of channels", "dev: true\nchannels: [a]\n", 2, "channels: must be names with values"},
	{"unknown part of channels", "dev: true\nchannels:\n  namespace:\n    a: {}\n", 3, `unknown name "namespace", did you mean "namespaces"?`},
	{"unknown option of a namespace", "dev: true\nchannels:\n  namespaces:\n    a:\n      histori-size: 1\n", 5, `unknown name "histori-size", did you mean "history-size"?`},
	{"namespace twice", "dev: true\nchannels:\n  namespaces:\n    a: {}\n    b: {}\n    a: {}\n", 6, `"a" is there already, in line 4`},
	{"option twice", "dev: true\nchannels:\n  default:\n    delta: true\n    delta: true\n", 5, `"delta" is there already, in line 4`},
	{"number of a namespace", "dev: true\nchannels:\n  default:\n    publish-rate: many\n", 4, `publish-rate: "many" must be a whole number`},
	{"neither true nor false in a namespace", "dev: true\nchannels:\n  default:\n    presence: on-demand\n", 4, `presence: "on-demand" must be true or false`},
	{"duration in a namespace without a unit", "dev: true\nchannels:\n  default:\n    history-size: 1\n    history-ttl: 300\n", 5, "history-ttl: 300 needs a unit, as in 300s"},
	{"no duration in a namespace", "dev: true\nchannels:\n  default:\n    history-ttl: 1 day\n", 4, `history-ttl: "1 day" is no time, must be like 500ms, 10s or 24h`},
	{"name of a namespace", "dev: true\nchannels:\n  namespaces:\n    'a b': {}\n", 4, `namespace "a b": a name is 1 to 64 of A-Z a-z 0-9 _ . -`},
	{"history without its time", "dev: true\nchannels:\n  namespaces:\n    a:\n      delta: true\n      history-size: 1\n", 6, "history-size (1) and history-ttl (0s) must both be set"},
	{"time without a history", "dev: true\nchannels:\n  default:\n    history-ttl: 1h\n", 4, "history-size (0) and history-ttl (1h0m0s) must both be set"},
	{"endless history", "dev: true\nchannels:\n  default:\n    history-ttl: 1h\n    history-size: 100001\n", 5, "history-size is 100001, must be 0 to 100000"},
	{"recovery without history", "dev: true\nchannels:\n  default:\n    force-recovery: true\n", 4, "recovery and positioning need history-size and history-ttl"},
	{"recovery mode", "dev: true\nchannels:\n  default:\n    recovery-mode: all\n", 4, `recovery-mode is "all", must be "stream" or "cache"`},
	{"publications below 0", "dev: true\nchannels:\n  default:\n    publish-rate: -1\n", 4, "publish-rate is -1, must be 0 (no limit) or more"},
	{"subscribers below 0", "dev: true\nchannels:\n  default:\n    subscriptions-per-channel: -1\n", 4, "subscriptions-per-channel is -1, must be 0 (no limit) or more"},
	{"regex", "dev: true\nchannels:\n  namespaces:\n    a:\n      channel-regex: '[a-z'\n", 5, "channel-regex: error parsing regexp: missing closing ]"},
	{"personal namespace", "dev: true\nchannels:\n  personal: true\n  personal-namespace: c\n", 4, `personal-namespace "c" is not among the namespaces`},
	{"two who decide", "dev: true\nchannels:\n  default:\n    allow-publish-for-client: true\n    publish-backend: a\nbackends: {servers: {a: {url: 'http://x'}}}\n", 5, "publish-backend and allow-publish-for-client"},
	{"unknown backend of a namespace", "dev: true\nchannels:\n  namespaces:\n    a:\n      subscribe-backend: b\n", 5, `namespace "a": subscribe-backend: backend "b" is not configured`},

	// Backends.
	{"unknown setting of a backend", "dev: true\nbackends:\n  servers:\n    a:\n      url: http://x\n      time-out: 1s\n", 6, `unknown name "time-out", did you mean "timeout"?`},
	{"list of backends", "dev: true\nbackends:\n  servers:\n    - url: http://x\n", 4, "servers: must be names with values"},
	{"no list of rules", "dev: true\nbackends:\n  rpc: shop\n", 3, "rpc: must be a list"},
	{"backend's scheme", "dev: true\nbackends:\n  servers:\n    a:\n      url: ftp://x\n", 5, `backend "a": url has scheme "ftp", must be http, https or nats`},
	{"backend without url", "dev: true\nbackends:\n  servers:\n    a:\n      timeout: 1s\n", 4, `backend "a": url has scheme "", must be http, https or nats`},
	{"backend's host", "dev: true\nbackends:\n  servers:\n    a: {url: 'http:///roost'}\n", 4, "has no host, must be like http://127.0.0.1:3000/roost"},
	{"backend's port", "dev: true\nbackends:\n  servers:\n    a: {url: 'http://x:99999'}\n", 4, "url has port 99999, must be 1 to 65535"},
	{"password of a backend", "dev: true\nbackends:\n  servers:\n    a: {url: 'http://ann:hunter2@x'}\n", 4, "url has a user or password in it: send such as a header"},
	{"NATS backend without NATS", "dev: true\nbackends:\n  servers:\n    a:\n      url: nats:stock\n", 5, "nats:stock needs --nats"},
	{"NATS wildcard", "dev: true\nnats: nats://n\nbackends:\n  servers:\n    a: {url: 'nats:stock.*'}\n", 5, "url must be nats: and the beginning of subjects"},
	{"gateways' subjects", "dev: true\nnats: nats://n\nbackends:\n  servers:\n    a: {url: 'nats:roost'}\n", 5, "roost is used by gateways or NATS among themselves"},
	{"gateways' subjects of another prefix", "dev: true\nnats: nats://n\nnats-prefix: shop\nbackends:\n  servers:\n    a: {url: 'nats:shop.ch.1'}\n", 6, "choose another subject, such as nats:shop.rpc"},
	{"inboxes of NATS", "dev: true\nnats: nats://n\nbackends:\n  servers:\n    a: {url: 'nats:_INBOX'}\n", 5, "_INBOX is used by gateways or NATS"},
	{"headers over NATS", "dev: true\nnats: nats://n\nbackends:\n  servers:\n    a:\n      headers: {X-A: b}\n      url: nats:stock\n", 7, "are for http and https, not for nats"},
	{"timeout of a backend", "dev: true\nbackends:\n  servers:\n    a:\n      url: http://x\n      timeout: 2m\n", 6, "timeout is 2m0s, must be 0 (1s) to 1m"},
	{"timeout of a backend without a unit", "dev: true\nbackends:\n  servers:\n    a:\n      url: http://x\n      timeout: 5\n", 6, "timeout: 5 needs a unit, as in 5s"},
	{"retries", "dev: true\nbackends:\n  servers:\n    a:\n      url: http://x\n      retries: 11\n", 6, "retries is 11, must be 0 (none) to 10"},
	{"concurrency", "dev: true\nbackends:\n  servers:\n    a:\n      url: http://x\n      concurrency: -1\n", 6, "concurrency is -1, must be 0 (128) to 100000"},
	{"size of an answer", "dev: true\nbackends:\n  servers:\n    a:\n      url: http://x\n      max-answer: -1\n", 6, "max-answer is -1, must be 0 (1048576) to 67108864 bytes"},
	{"header's name", "dev: true\nbackends:\n  servers:\n    a:\n      url: http://x\n      headers:\n        X-A: b\n        'X B': c\n", 8, `header "X B": that is no name of a header`},
	{"header's value", "dev: true\nbackends:\n  servers:\n    a:\n      url: http://x\n      headers:\n        X-A: \"hunter2\\r\\n\"\n", 7, `header "X-A": its value has a line break`},
	{"header of the gateway", "dev: true\nbackends:\n  servers:\n    a:\n      url: http://x\n      headers: {Host: y}\n", 6, `header "Host" is the gateway's to set`},
	{"rule for no backend", "dev: true\nbackends:\n  servers: {a: {url: 'http://x'}}\n  rpc:\n    - {method: a, backend: a}\n    - method: '*'\n      backend: b\n", 7, `rpc rule 2: backend "b" is not configured, of which there are: a`},
	{"rule behind another", "dev: true\nbackends:\n  servers: {a: {url: 'http://x'}}\n  rpc:\n    - {method: '*', backend: a}\n    - {method: a, backend: a}\n", 6, `method "a" never gets here, since rule 1 ("*") takes it`},
	{"rule's pattern", "dev: true\nbackends:\n  servers: {a: {url: 'http://x'}}\n  rpc:\n    - {method: 'a*b', backend: a}\n", 5, `method "a*b" must be a name`},
	{"event for no backend", "dev: true\nbackends:\n  disconnect: a\n", 3, `disconnect: backend "a" is not configured, of which there are: none`},
	{"refresh by no backend", "dev: true\nbackends:\n  servers: {a: {url: 'http://x'}}\n  refresh: b\n", 4, `refresh: backend "b" is not configured, of which there are: a`},
	{"refresh of subscriptions by no backend", "dev: true\nchannels:\n  namespaces:\n    a:\n      presence: true\n      sub-refresh-backend: b\n", 6, `namespace "a": sub-refresh-backend: backend "b" is not configured`},
	{"two who decide on subscriptions", "dev: true\nchannels:\n  default:\n    allow-subscribe-for-client: true\n    subscribe-backend: a\nbackends: {servers: {a: {url: 'http://x'}}}\n", 5, "subscribe-backend and allow-subscribe-for-client"},
	{"header of a connection", "dev: true\nbackends:\n  servers: {a: {url: 'http://x'}}\n  headers:\n    - Cookie\n    - Upgrade\n", 6, `headers: "Upgrade" is about the client's own connection`},
	{"header that is none", "dev: true\nbackends:\n  servers: {a: {url: 'http://x'}}\n  headers: ['X Y']\n", 4, `headers: "X Y" is no name of a header`},
	{"bounds of no events", "dev: true\nbackends:\n  events: {max-age: 1h}\n", 3, "events: neither disconnect nor unsubscribe names a backend"},
	{"bound of events", "dev: true\nbackends:\n  servers: {a: {url: 'http://x'}}\n  disconnect: a\n  events:\n    max-age: 1ms\n", 6, "max-age is 1ms, must be 0s (24h), or 1s to 8760h"},
	{"connect with anonymous clients", "memory: true\nallow-anonymous: true\nbackends:\n  servers: {a: {url: 'http://x'}}\n  connect: a\n", 5, "connect and --allow-anonymous both decide"},
	{"connect with upgrade", "memory: true\nhmac-secret-key: s\nupgrade-auth: true\nbackends:\n  servers: {a: {url: 'http://x'}}\n  connect: a\n", 6, "connect is never asked with --upgrade-auth"},

	// Raw routes.
	{"unknown setting of a raw route", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    pth: /x\n", 7, `unknown name "pth", did you mean "path"?`},
	{"name of a raw route", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  'a b': {backend: a}\n", 5, `raw route "a b": a name is`},
	{"raw route without a backend", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b: {messages: text}\n", 5, `raw route "b": backend: is missing: name one of backends`},
	{"raw route for no backend", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    path: /b\n    backend: c\n", 7, `raw route "b": backend "c" is not configured, of which there are: a`},
	{"path of a raw route", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    path: /b/\n", 7, `path: "/b/" must be like /mqtt`},
	{"path of the gateway", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    path: /echo\n", 7, "path: /echo is the gateway's own"},
	{"path of another raw route", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b: {backend: a, path: /d}\n  c:\n    backend: a\n    path: /d\n", 8, `path: /d is that of route "b" already`},
	{"kind of messages", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    messages: all\n", 7, `messages: "all" is none of any, text, binary`},
	{"auth of a raw route", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    auth: maybe\n", 7, `auth: "maybe" is none of token, none, backend`},
	{"raw route without a key", "dev: true\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    auth: token\n", 6, `raw route "b": auth: token needs a key`},
	{"subprotocol twice", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    subprotocols: [mqtt, mqtt]\n", 7, `subprotocols: "mqtt" is no name of a subprotocol, or is there twice`},
	{"header to show", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    headers: ['a:']\n", 7, `headers: "a:" is no name of a header`},
	{"content type", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    content-type: x/\n", 7, `content-type: "x/" must be like application/json`},
	{"content type over NATS", "dev: true\nnats: nats://n\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'nats:a'}}}\nraw:\n  b:\n    backend: a\n    content-type: text/plain\n", 8, "content-type is for backends over HTTP, and a is on NATS"},
	{"size of raw messages", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    max-message: -1\n", 7, "max-message: is -1, must be 0 (the default) or more bytes"},
	{"connections to a raw route", "dev: true\nhmac-secret-key: s\nbackends: {servers: {a: {url: 'http://x'}}}\nraw:\n  b:\n    backend: a\n    user-connections: -1\n", 7, "user-connections: is -1, must be 0"},
}

// TestKinds holds every kind to one problem that names the line, the setting and what
// would be right, and repeats no password.
func TestKinds(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Files(t, dir, "a.test", time.Now().Add(time.Hour))
	_, other := testcert.Files(t, dir, "b.test", time.Now().Add(time.Hour))
	files := map[string]string{"CERT": cert, "KEY": key, "OTHER": other}
	names := map[string]bool{}
	for _, k := range kinds {
		if names[k.kind] {
			t.Errorf("%s is there twice", k.kind)
		}
		names[k.kind] = true
		t.Run(k.kind, func(t *testing.T) {
			text := k.file
			for name, path := range files {
				text = strings.ReplaceAll(text, name, path)
			}
			c, err := load(t, text)
			if err != nil {
				t.Fatal(err)
			}
			problems := c.Problems()
			if len(problems) != 1 {
				t.Fatalf("%d problems, want one: %v", len(problems), problems)
			}
			got := problems[0].Error()
			_, got, placed := strings.Cut(got, "roost.yaml:")
			if k.line == 0 {
				got = problems[0].Error()
			} else if at := fmt.Sprintf("%d: ", k.line); !strings.HasPrefix(got, at) {
				t.Errorf("not in line %d: %v", k.line, problems[0])
			}
			if placed != (k.line > 0) || !strings.Contains(got, k.want) {
				t.Errorf("%q, want %q", got, k.want)
			}
			if strings.Contains(got, "hunter2") {
				t.Errorf("%q repeats a secret", got)
			}
		})
	}
}

// TestAllAtOnce: each mistake of a file is told, in the order of the lines, whatever else is wrong.
func TestAllAtOnce(t *testing.T) {
	c, err := load(t, `loops: 999
memory: true
backends:
  servers:
    a: {url: 'ftp://x'}
    b:
      url: nats:x
      time-out: 1s
  rpc: [{method: '*', backend: c}]
  message: a
channels:
  default: {history-size: 1, publish-rate: -1}
  namespaces:
    n: {subscribe-backend: d}
max-channels: 0
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"1: --loops", "5: backends: backend \"a\"", "7: backends: backend \"b\"", "8: unknown name", "9: backends: rpc rule 1", "12: channels default: history-size",
		"12: channels default: publish-rate", "14: namespace \"n\"", "15: --max-channels", "no client could connect"}
	problems := c.Problems()
	if len(problems) != len(want) {
		t.Fatalf("%d problems, want %d: %v", len(problems), len(want), problems)
	}
	for i, p := range problems {
		text := p.Error()
		if _, after, ok := strings.Cut(text, "roost.yaml:"); ok {
			text = after
		}
		if !strings.HasPrefix(text, want[i]) {
			t.Errorf("problem %d is %q, want %q", i+1, text, want[i])
		}
	}
}

// TestPlaces: what holds is blamed, be it of the command line, the environment or the file.
func TestPlaces(t *testing.T) {
	const file = "dev: true\nmax-channels: 0\nbackends:\n  message: a\n"
	t.Setenv("ROOST_LOOPS", "999")
	t.Setenv("ROOST_BACKENDS", "{\"message\":\n \"b\"}")
	c, err := load(t, file, "--max-channels=-1")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"ROOST_LOOPS: --loops is 999", "ROOST_BACKENDS:1: backends: message: backend \"b\"", "--max-channels is -1"}
	problems := c.Problems()
	if len(problems) != len(want) {
		t.Fatal(problems)
	}
	for i := range want {
		if !strings.HasPrefix(problems[i].Error(), want[i]) {
			t.Errorf("problem %d is %q, want %q", i+1, problems[i], want[i])
		}
	}
}
