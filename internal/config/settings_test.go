package config

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"roost/internal/testcert"
)

const natsBackend = "backends: {servers: {a: {url: 'nats:a'}}}\n"

// samples has a value for every flag that is not its default, and what else must be in a
// file that check accepts it in.
var samples = map[string]struct{ value, with string }{
	"address":          {"127.0.0.1:9000", ""},
	"internal-address": {"127.0.0.1:9001", ""},
	"admin-password":   {"eight bytes", ""},
	"dev":              {"true", ""},

	"tls-address":       {"127.0.0.1:9443", "tls-cert: CERT\ntls-key: KEY\n"},
	"tls-cert":          {"CERT", "tls-key: KEY\n"},
	"tls-key":           {"KEY", "tls-cert: CERT\n"},
	"acme-hosts":        {"a.example.com", "acme-dir: /tmp/acme\nacme-accept-terms: true\n"},
	"acme-dir":          {"/tmp/acme", "acme-hosts: [a.example.com]\nacme-accept-terms: true\n"},
	"acme-email":        {"a@example.com", "acme-hosts: [a.example.com]\nacme-dir: /tmp/acme\nacme-accept-terms: true\n"},
	"acme-directory":    {"https://ca.example.com/dir", "acme-hosts: [a.example.com]\nacme-dir: /tmp/acme\nacme-accept-terms: true\n"},
	"acme-accept-terms": {"true", "acme-hosts: [a.example.com]\nacme-dir: /tmp/acme\n"},
	"no-kernel-tls":     {"true", ""},
	"max-tls-fallback":  {"7", ""},
	"internal-tls-cert": {"CERT", "internal-tls-key: KEY\n"},
	"internal-tls-key":  {"KEY", "internal-tls-cert: CERT\n"},

	"hmac-secret-key":    {"a secret", ""},
	"rsa-public-key":     {"RSA", ""},
	"ecdsa-public-key":   {"ECDSA", ""},
	"ed25519-public-key": {"ED25519", ""},
	"jwks-url":           {"https://id.example.com/keys", ""},
	"jwks-ttl":           {"10m", ""},
	"audience":           {"chat", ""},
	"issuer":             {"id", ""},
	"leeway":             {"5s", ""},
	"allow-anonymous":    {"true", ""},
	"upgrade-auth":       {"true", "hmac-secret-key: s\n"},
	"token-header":       {"X-Token", "upgrade-auth: true\nhmac-secret-key: s\n"},
	"token-cookie":       {"session", "upgrade-auth: true\nhmac-secret-key: s\n"},
	"token-query":        {"token", "upgrade-auth: true\nhmac-secret-key: s\n"},
	"allowed-origins":    {"https://a.example,*.b.example", ""},
	"insecure":           {"true", ""},
	"api-key":            {"a key", ""},

	"data":                 {"/tmp/roost", ""},
	"memory":               {"true", ""},
	"nats":                 {"nats://10.0.0.1:4222,10.0.0.2", ""},
	"handoff-socket":       {"/run/roost/roost.sock", ""},
	"nats-listen":          {"127.0.0.1:0", natsBackend},
	"nats-user":            {"b", "nats-listen: :4222\nnats-password: eight bytes\n" + natsBackend},
	"nats-password":        {"eight bytes", "nats-listen: :4222\nnats-user: b\n" + natsBackend},
	"nats-prefix":          {"shop", ""},
	"services":             {"sync", ""},
	"remote-services":      {"true", "nats: nats://10.0.0.1\n"},
	"sync-max-data":        {"1000", ""},
	"sync-max-items":       {"1000", ""},
	"sync-restricted":      {"true", ""},
	"sync-backends-create": {"true", ""},
	"nats-replicas":        {"3", "nats: nats://10.0.0.1\n"},
	"sync-always":          {"true", "data: /tmp/roost\n"},
	"tail-bytes":           {"1000", ""},
	"name":                 {"one", ""},
	"node-id":              {"one", ""},

	"ping-interval":       {"40s", ""},
	"pong-timeout":        {"5s", ""},
	"handshake-timeout":   {"3s", ""},
	"stale-timeout":       {"3s", ""},
	"expiry-grace":        {"3s", ""},
	"max-connections":     {"7", ""},
	"max-emulated":        {"7", ""},
	"user-connections":    {"7", ""},
	"max-channels":        {"7", ""},
	"max-channel-length":  {"7", ""},
	"max-message":         {"7", ""},
	"upgrade-rate":        {"7", ""},
	"drain-time":          {"30s", ""},
	"rebalance":           {"true", "nats: nats://n\n"},
	"rebalance-rate":      {"50", ""},
	"rebalance-threshold": {"30", ""},
	"address-rate":        {"7", ""},
	"upgrade-backlog":     {"3s", ""},
	"max-handshakes":      {"7", ""},
	"message-rate":        {"7", ""},
	"hard-limit":          {"7", ""},
	"recovery-limit":      {"7", ""},

	"loops":          {"3", ""},
	"workers":        {"3", ""},
	"no-io-uring":    {"true", ""},
	"send-buffer":    {"7000", ""},
	"receive-buffer": {"7000", ""},
	"deflate":        {"false", ""},
	"profile":        {"cpu", ""},
	"profile-dir":    {"/tmp", ""},
	"log-level":      {"debug", ""},
	"log-format":     {"json", ""},
}

// fill replaces what stands for files and keys.
func fill(t *testing.T) *strings.Replacer {
	t.Helper()
	cert, key := testcert.Files(t, t.TempDir(), "a.test", time.Now().Add(time.Hour))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecdsaKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edKey, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	return strings.NewReplacer("CERT", cert, "KEY", key, "ED25519", public(edKey), "ECDSA", public(ecdsaKey.Public()), "RSA", public(rsaKey.Public()))
}

// TestEverySetting sets each flag in its three ways: all mean the same, which is not the
// default, and check accepts it.
func TestEverySetting(t *testing.T) {
	full := fill(t)
	for _, f := range parser(t, &struct{ Config }{}).Model.Flags {
		if f.Name == "help" || f.Name == "config" {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			sample, ok := samples[f.Name]
			if !ok {
				t.Fatal("there is no sample of it")
			}
			value, base := full.Replace(sample.value), "memory: true\nallow-anonymous: true\n"
			switch {
			case f.Name == "memory", f.Name == "allow-anonymous":
				base = strings.Replace(base, f.Name+": true\n", "", 1)
			case f.Name == "dev":
				base = ""
			case f.Name == "data", f.Name == "nats", strings.Contains(sample.with, "data: "), strings.Contains(sample.with, "nats: "):
				base = "allow-anonymous: true\n"
			}
			base += full.Replace(sample.with)
			var listed any = value
			if f.IsSlice() {
				listed = strings.Split(value, ",")
			}
			line, err := yaml.Marshal(map[string]any{f.Name: listed})
			if err != nil {
				t.Fatal(err)
			}
			byFile := settingOf(t, f.Name, base+string(line))
			t.Setenv(envName(f.Name), value)
			byVariable := settingOf(t, f.Name, base)
			if err := os.Unsetenv(envName(f.Name)); err != nil {
				t.Fatal(err)
			}
			flag := "--" + f.Name + "=" + value
			if value == "false" {
				flag = "--no-" + f.Name
			}
			byFlag := settingOf(t, f.Name, base, flag)
			if !reflect.DeepEqual(byFile, byFlag) || !reflect.DeepEqual(byVariable, byFlag) {
				t.Errorf("the file gives %v, the environment %v, the flag %v", byFile, byVariable, byFlag)
			}
			standard := "hmac-secret-key: s\ndata: /tmp\n"
			if f.Name == "hmac-secret-key" || f.Name == "data" {
				standard = "dev: true\n"
			}
			if reflect.DeepEqual(byFlag, settingOf(t, f.Name, standard)) {
				t.Errorf("the sample %v is the default", byFlag)
			}
		})
	}
}

// settingOf is what a flag is in a configuration that check accepts.
func settingOf(t *testing.T, name, file string, args ...string) any {
	t.Helper()
	var c struct{ Config }
	k := parser(t, &c)
	_, err := k.Parse(append(args, "--config", written(t, file)))
	if problems := c.Problems(); err != nil || len(problems) > 0 {
		t.Fatalf("%v, %v\n%s", err, problems, file)
	}
	for _, f := range k.Model.Flags {
		if f.Name == name {
			return f.Target.Interface()
		}
	}
	t.Fatalf("no flag %s", name)
	return nil
}

// TestEverySettingIsUsed looks for each flag's field where the gateway is made of the
// configuration: one that is only read and checked would do nothing.
func TestEverySettingIsUsed(t *testing.T) {
	files, err := filepath.Glob("../../cmd/roost/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, file := range append(files, "config.go", "tls.go") {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(b)
	}
	for group := range reflect.TypeFor[Config]().Fields() {
		if _, embedded := group.Tag.Lookup("embed"); !embedded {
			continue
		}
		for field := range group.Type.Fields() {
			if !regexp.MustCompile(`\.` + field.Name + `\b`).MatchString(code.String()) {
				t.Errorf("%s.%s is used nowhere", group.Name, field.Name)
			}
		}
	}
}

// blockSamples have every key of the blocks, those that exclude each other in two of them.
var blockSamples = []string{`
channels:
  personal: true
  personal-namespace: a
  default: {presence: true}
  namespaces:
    a: {presence: true, join-leave: true, force-join-leave: true, history-size: 1, history-ttl: 1h, force-recovery: true, force-positioning: true,
      recovery-mode: cache, delta: true, tags-filter: true, allow-subscribe-for-client: true, allow-subscribe-for-anonymous: true,
      allow-publish-for-client: true, allow-publish-for-subscriber: true, allow-publish-for-anonymous: true,
      allow-presence-for-client: true, allow-presence-for-subscriber: true, allow-presence-for-anonymous: true,
      allow-history-for-client: true, allow-history-for-subscriber: true, allow-history-for-anonymous: true,
      allow-user-limited-channels: true, subscriptions-per-channel: 1, publish-rate: 1, channel-regex: "[a-z]+"}
`, `
channels:
  namespaces: {b: {subscribe-backend: a, publish-backend: a, sub-refresh-backend: a}}
backends:
  servers:
    a: {url: "http://x", timeout: 2s, concurrency: 1, headers: {X-A: b}, retries: 1, retry-rpc: true, max-answer: 1}
  rpc: [{method: "*", backend: a}]
  connect: a
  refresh: a
  headers: [Cookie]
  message: a
  disconnect: a
  unsubscribe: a
  events: {concurrency: 1, max-age: 1h, max-bytes: 2000000, max-waiting: 2000000, grace: 10s}
raw:
  a: {path: /a, backend: a, subprotocols: [b], messages: text, max-message: 1, auth: backend, user-connections: 1, headers: [Cookie],
    content-type: text/plain, no-events: true}
`}

// TestEveryBlockSetting reads every key of the blocks from the file and, as JSON, from the
// environment, to the same end, and check accepts it.
func TestEveryBlockSetting(t *testing.T) {
	set := map[string]bool{}
	for i, text := range blockSamples {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			const base = "memory: true\nhmac-secret-key: s\n"
			byFile, err := load(t, base+text)
			if err != nil || len(byFile.Problems()) > 0 {
				t.Fatal(err, byFile.Problems())
			}
			var blocks map[string]any
			if err := yaml.Unmarshal([]byte(text), &blocks); err != nil {
				t.Fatal(err)
			}
			for key, block := range blocks {
				b, err := json.Marshal(block)
				if err != nil {
					t.Fatal(err)
				}
				t.Setenv(envName(key), string(b))
			}
			byVariable, err := load(t, base)
			if err != nil || len(byVariable.Problems()) > 0 {
				t.Fatal(err, byVariable.Problems())
			}
			for _, key := range blockKeys {
				inFile, inVariable := byFile.block(key), byVariable.block(key)
				if !reflect.DeepEqual(inFile, inVariable) {
					t.Errorf("the file gives %+v, the environment %+v", inFile, inVariable)
				}
				noteSet(set, reflect.ValueOf(inFile).Elem())
			}
		})
	}
	for name, there := range set {
		if !there {
			t.Errorf("there is no sample of %s", name)
		}
	}
}

// noteSet notes every key of a block by its type, and whether it is set to anything.
func noteSet(set map[string]bool, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if key := v.Type().Field(i).Tag.Get("yaml"); key != "" && key != "-" {
				key = v.Type().Name() + "." + key
				set[key] = set[key] || !v.Field(i).IsZero()
				noteSet(set, v.Field(i))
			}
		}
	case reflect.Map:
		for i := v.MapRange(); i.Next(); {
			noteSet(set, i.Value())
		}
	case reflect.Slice:
		for i := range v.Len() {
			noteSet(set, v.Index(i))
		}
	}
}
