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
		args = append(args, "--config", written(t, file))
	}
	_, err := parser(t, &c).Parse(args)
	return &c.Config, err
}

// written is the path of a file that holds text.
func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roost.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	const file = "max-channels: 3\nping-interval: 40s\nallowed-origins: [https://a.example, 'https://b.example']\ndeflate: false\napi-key: one,key\n"
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
	if want := []string{"https://a.example", "https://b.example"}; !slices.Equal(c.AllowedOrigins, want) {
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

// The node never refuses a call that a backend would take, nor gives up on it before that.
func TestCalls(t *testing.T) {
	for file, want := range map[string]int{
		"": 1024, "backends: {servers: {a: {url: 'http://x'}}}": 1024, "backends: {servers: {a: {url: 'http://x'}, b: {url: 'http://x', concurrency: 1000}}}": 5 * 1128,
	} {
		c, err := load(t, file+"\n", "--dev")
		if err != nil || len(c.Problems()) > 0 {
			t.Fatal(err, c.Problems())
		}
		if got := c.Gateway().MaxCalls; got != want {
			t.Errorf("%s: %d calls, want %d", file, got, want)
		}
	}
	c, err := load(t, "backends: {servers: {a: {url: 'http://x', timeout: 40s}}}\n", "--dev")
	if got := c.Gateway().CallTimeout; err != nil || got <= 40*time.Second {
		t.Errorf("%v, %v", got, err)
	}
}

// Backends at the embedded NATS may call sync if they log in, and only where it is offered.
func TestBackendsMayCallSync(t *testing.T) {
	const login = "nats-user: b\nnats-password: eight bytes\n"
	for text, want := range map[string][]string{
		login + "services: [sync]\n":                    {"roost.sync.*"},
		login + "services: [sync]\nnats-prefix: game\n": {"game.sync.*"},
		login:                nil,
		"services: [sync]\n": nil,
	} {
		c, err := load(t, "memory: true\nnats-listen: 127.0.0.1:0\n"+natsBackend+text)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.natsListener(); !slices.Equal(got.Publish, want) || !slices.Equal(got.Serve, []string{"a"}) {
			t.Errorf("%s: they may publish on %q, want %q, and subscribe to %q", text, got.Publish, want, got.Serve)
		}
	}
}
