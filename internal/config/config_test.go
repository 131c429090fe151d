package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// load parses a command line with a file, "" for none.
func load(t *testing.T, file string, args ...string) (*Config, error) {
	t.Helper()
	var c struct{ Config }
	if file != "" {
		path := filepath.Join(t.TempDir(), "roost.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	_, err := parser(t, &c).Parse(args)
	return &c.Config, err
}

func TestPrecedence(t *testing.T) {
	const file = "max-channels: 3\nping-interval: 40s\nallowed-origins: [https://a.example, 'https://b.example/?a,b']\ndeflate: false\napi-key: one,key\n"
	t.Setenv("ROOST_MAX_CHANNELS", "4")
	t.Setenv("ROOST_HMAC_SECRET_KEY", "from the environment")
	c, err := load(t, file, "--dev")
	if err != nil || len(c.Problems()) > 0 {
		t.Fatal(err, c.Problems())
	}
	if c.MaxChannels != 4 {
		t.Errorf("max-channels is %d, want 4 of the environment", c.MaxChannels)
	}
	if c.PingInterval != 40*time.Second || c.Deflate || c.HMACSecretKey != "from the environment" || c.PongTimeout != 8*time.Second {
		t.Errorf("%+v", c)
	}
	if want := []string{"https://a.example", "https://b.example/?a,b"}; !slices.Equal(c.AllowedOrigins, want) {
		t.Errorf("allowed-origins %q, want %q", c.AllowedOrigins, want)
	}
	if want := []string{"one,key"}; !slices.Equal(c.APIKey, want) {
		t.Errorf("api-key %q, want %q", c.APIKey, want)
	}
	if c, err = load(t, file, "--dev", "--max-channels", "5", "--deflate"); err != nil || c.MaxChannels != 5 || !c.Deflate {
		t.Errorf("max-channels is %d, want 5 of the flag; deflate %v; %v", c.MaxChannels, c.Deflate, err)
	}
}

func TestConfigFromEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roost.yaml")
	if err := os.WriteFile(path, []byte("{\"max-channels\": 7, \"channels\": {\"default\": {\"presence\": true}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ROOST_CONFIG", path)
	c, err := load(t, "", "--dev")
	if err != nil || c.MaxChannels != 7 || !c.Channels.Default.Presence {
		t.Errorf("%+v, %v", c, err)
	}
	if o := c.Gateway(); o.Channels.Default.AllowPublishForAnonymous {
		t.Error("--dev opens channels that the file describes")
	}
	t.Setenv("ROOST_CHANNELS", `{"namespaces": {"news": {"history-size": 10, "history-ttl": "1h"}}}`)
	c, err = load(t, "", "--dev")
	if err != nil || len(c.Problems()) > 0 || c.Channels.Default.Presence || c.Channels.Namespaces["news"].HistoryTTL != time.Hour {
		t.Errorf("channels %+v, %v, %v", c.Channels, err, c.Problems())
	}
}

func TestDevOpens(t *testing.T) {
	c, err := load(t, "max-channels: 9\n", "--dev")
	if o := c.Gateway(); err != nil || !o.Channels.Default.AllowPublishForAnonymous || !o.AllowAnonymous || !o.Broker.Memory {
		t.Errorf("%+v, %v", o, err)
	}
	c, err = load(t, "", "--dev", "--data", t.TempDir())
	if o := c.Gateway(); err != nil || o.Broker.Memory {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestProblems has files with one or more mistakes each, and what must be said.
func TestProblems(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		want []string
	}{
		"unknown name":            {"dev: true\nmax-chanels: 3\n", []string{`roost.yaml:2: unknown name "max-chanels", did you mean "max-channels"?`}},
		"underscores":             {"max_channels: 3\n", []string{`1: unknown name "max_channels", did you mean "max-channels"?`}},
		"nothing near":            {"volume: 11\n", []string{`1: unknown name "volume"`}},
		"not for files":           {"config: x\nhelp: true\n", []string{`1: unknown name "config"`, `2: unknown name "help"`}},
		"twice":                   {"loops: 1\nloops: 2\n", []string{`2: "loops" is there already, in line 1`}},
		"no number":               {"loops: many\nworkers: [1]\n", []string{"1: loops: ", `"many"`, "2: workers: must be a plain value"}},
		"no duration":             {"ping-interval: 25\n", []string{"1: ping-interval: ", `"25"`}},
		"not of the list":         {"log-level: loud\n", []string{`1: log-level: "loud" is none of debug, info, warn, error`}},
		"nested list":             {"allowed-origins: [[a]]\n", []string{"1: allowed-origins: must be a list of plain values"}},
		"mapping for a value":     {"address: {a: b}\n", []string{"1: address: must be a plain value"}},
		"no mapping":              {"- a\n", []string{"1: must be names with values"}},
		"no YAML":                 {"a: [\n", []string{"roost.yaml: yaml:"}},
		"unknown channel option":  {"channels:\n  default:\n    presense: true\n", []string{`3: unknown name "presense", did you mean "presence"?`}},
		"unknown part":            {"channels:\n  namespace:\n    a: {}\n", []string{`2: unknown name "namespace", did you mean "namespaces"?`}},
		"in a namespace":          {"channels:\n  namespaces:\n    a:\n      histori-size: 1\n", []string{`4: unknown name "histori-size", did you mean "history-size"?`}},
		"option twice":            {"channels:\n  default:\n    delta: true\n    delta: true\n", []string{`4: "delta" is there already, in line 3`}},
		"duration without unit":   {"channels:\n  default:\n    history-ttl: 300\n", []string{"3: 300 needs a unit, as in 300s"}},
		"type in channels":        {"channels:\n  default:\n    history-size: many\n", []string{"roost.yaml:3: cannot unmarshal"}},
		"list for channels":       {"channels: [a]\n", []string{"roost.yaml:1: cannot unmarshal"}},
		"bad name of a namespace": {"channels:\n  namespaces:\n    'a b': {}\n", []string{`namespace "a b"`}},
		"two namespaces": {"channels:\n  namespaces:\n    a: {history-size: 1}\n    b: {recovery-mode: all}\n  personal-namespace: c\n",
			[]string{`namespace "a": history-size (1)`, `namespace "b": recovery-mode is "all"`}},
		"in a backend":         {"backends:\n  servers:\n    a:\n      time-out: 1s\n", []string{`4: unknown name "time-out", did you mean "timeout"?`}},
		"in a rule":            {"backends:\n  rpc:\n    - metod: x\n", []string{`3: unknown name "metod", did you mean "method"?`}},
		"backend without unit": {"backends: {servers: {a: {url: 'http://x', timeout: 5}}}\n", []string{"1: 5 needs a unit, as in 5s"}},
		"wrong backends": {"backends:\n  servers:\n    a: {url: 'ftp://x'}\n    b: {url: 'nats:x'}\n  rpc: [{method: '*', backend: c}]\n",
			[]string{`backends: backend "a": `, `backend "b": nats:x needs --nats`, `backend "c"`}},
		"raw": {"hmac-secret-key: x\nbackends: {servers: {a: {url: 'nats:a'}}}\nraw:\n  'a b': {backend: a}\n  b: {path: /b/, backend: c, messages: all, auth: maybe, max-message: -1, user-connections: -1}\n" +
			"  c: {subprotocols: [mqtt, mqtt], headers: ['a:'], content-type: x/, path: /echo}\n  d: {backend: a, content-type: text/plain, path: /d}\n  e: {backend: a, path: /d}\n",
			[]string{`raw route "a b": a name is`, `raw route "b": path: "/b/" must be`, `raw route "b": backend "c" is not configured`, `raw route "b": messages: "all" is none of any, text, binary`,
				`raw route "b": auth: "maybe"`, `raw route "b": max-message: is -1`, `raw route "b": user-connections: is -1`, `raw route "c": backend: is missing`, `raw route "c": subprotocols: "mqtt"`,
				`raw route "c": headers: "a:"`, `raw route "c": content-type: "x/"`, `raw route "c": path: /echo is the gateway's own`, `raw route "d": content-type is for backends over HTTP`, `raw route "e": path: /d is that of route "d"`}},
		"raw without key": {"raw: {a: {backend: b}}\n", []string{`raw route "a": auth: token needs a key`, "no client could connect"}},
		"in a raw route":  {"raw:\n  a:\n    pth: /x\n", []string{`3: unknown name "pth", did you mean "path"?`}},
		"personal":        {"channels: {personal-namespace: c}\n", []string{`personal-namespace "c"`}},
		"no key":          {"dev: false\n", []string{"no client could connect", "--hmac-secret-key", "ROOST_HMAC_SECRET_KEY", "--jwks-url", "no place for data", "ROOST_DATA"}},
		"keys": {"rsa-public-key: a\necdsa-public-key: b\ned25519-public-key: c\njwks-url: ftp://x\n",
			[]string{"RSA public key", "ECDSA public key", "Ed25519 public key", "--jwks-url"}},
		"empty key":      {"api-key: ['']\n", []string{"--api-key is empty"}},
		"short password": {"admin-password: sevenup\n", []string{"--admin-password has 7 bytes, must have at least 8"}},
		"upgrade auth":   {"upgrade-auth: true\n", []string{"--upgrade-auth needs a key"}},
		"two stores":     {"memory: true\ndata: /\n", []string{"exclude each other"}},
		"data in a file": {"data: /dev/null/x\n", []string{"--data: "}},
		"replicas":       {"nats-replicas: 3\n", []string{"--nats-replicas needs --nats"}},
		"addresses":      {"address: localhost\ninternal-address: 127.0.0.1:99999\n", []string{"--address", "missing port", "--internal-address", "invalid port"}},
		"numbers": {"max-channels: 0\nmax-channel-length: 256\nrecovery-limit: -1\nuser-connections: -1\ntail-bytes: 0\nstale-timeout: 0s\npong-timeout: 30s\n",
			[]string{"--max-channels is 0", "--max-channel-length is 256", "--recovery-limit is -1", "--user-connections is -1", "--tail-bytes is 0", "--stale-timeout is 0s", "--pong-timeout (30s)"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load(t, test.file)
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, p := range c.Problems() {
				text += p.Error() + "\n"
			}
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("does not say %q:\n%s", want, text)
				}
			}
		})
	}
}

func TestBadChannelsInEnvironment(t *testing.T) {
	t.Setenv("ROOST_CHANNELS", `{"default": {"presense": true}}`)
	c, err := load(t, "", "--dev")
	if p := c.Problems(); err != nil || len(p) != 1 || p[0].Error() != `ROOST_CHANNELS:1: unknown name "presense", did you mean "presence"?` {
		t.Errorf("%v, %v", p, err)
	}
}

// TestExample reads the example of docs/configuration.md.
func TestExample(t *testing.T) {
	_, example, _ := strings.Cut(pageHead, "\n    # roost.yaml\n")
	example, _, _ = strings.Cut(example, "\n\n")
	c, err := load(t, strings.ReplaceAll(example, "\n    ", "\n")[4:])
	if err != nil || len(c.Problems()) > 0 || c.Channels.Namespaces["chat"].HistoryTTL != 24*time.Hour {
		t.Errorf("%v, %v, %+v", err, c.Problems(), c.Channels)
	}
}

func TestNoFile(t *testing.T) {
	c, err := load(t, "", "--dev", "--config", "/nowhere/roost.yaml")
	if err != nil || len(c.Problems()) != 1 || !strings.Contains(c.Problems()[0].Error(), "/nowhere/roost.yaml") {
		t.Errorf("%v, %v", c.Problems(), err)
	}
}

func TestEmptyFile(t *testing.T) {
	for _, file := range []string{"\n", "# nothing\n", "null\n", "address:\nchannels:\n"} {
		if c, err := load(t, file, "--dev"); err != nil || len(c.Problems()) > 0 || c.Address != "127.0.0.1:8000" {
			t.Errorf("%q: %v, %v", file, err, c.Problems())
		}
	}
}

// TestEnvironment holds every flag to ROOST_ and its name.
func TestEnvironment(t *testing.T) {
	var c struct {
		Config
		Own string `env:"-"`
	}
	for _, f := range parser(t, &c).Model.Flags {
		want := []string{"ROOST_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))}
		if f.Name == "help" || f.Name == "own" {
			want = nil
		}
		if !slices.Equal(f.Envs, want) {
			t.Errorf("--%s has %q, want %q", f.Name, f.Envs, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Setenv("ROOST_HMAC_SECRT_KEY", "x")
	t.Setenv("ROOST_PORT_8000_TCP", "tcp://10.0.0.1:8000") // from Kubernetes
	t.Setenv("ROOST_SERVICE_HOST", "10.0.0.1")
	c, err := load(t, "")
	want := []string{`the environment has ROOST_HMAC_SECRT_KEY, which means nothing, did you mean "ROOST_HMAC_SECRET_KEY"?`}
	if err != nil || !slices.Equal(c.Warnings, want) {
		t.Errorf("%q, %v", c.Warnings, err)
	}
}

func FuzzFile(f *testing.F) {
	for _, seed := range []string{"", "a: b", "channels: {default: {history-ttl: 1s}}", "loops: &a 1\nworkers: *a\n", "x: &x [*x]", "channels: &c {namespaces: *c}",
		"allowed-origins: [a, b]", "? [a]\n: b", "api-key: !!binary aGVsbG8="} {
		f.Add(seed)
	}
	flags := map[string]*kong.Flag{}
	for _, flag := range parser(f, &struct{ Config }{}).Model.Flags {
		flags[flag.Name] = flag
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c Config
		in := file{path: "x", flags: flags, values: map[string]any{}}
		in.parsed([]byte(text), &c)
		if len(in.problems) == 0 {
			_ = c.Channels.Validate()
			_ = c.Backends.Validate()
		}
	})
}
