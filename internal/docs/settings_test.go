package docs

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"roost/loadtest"
)

var topKey = regexp.MustCompile(`^([a-z][a-z0-9-]*):(?: |$)`)

// foreignKeys are top keys of other programs' YAML.
var foreignKeys = []string{"groups", "services"}

// isConfig tells whether an example is a configuration of the gateway: YAML, marked so or not
// marked at all, whose top keys could all be settings.
func isConfig(b block) bool {
	if b.language != "" && b.language != "yaml" {
		return false
	}
	keys := 0
	for line := range strings.Lines(b.text) {
		line = strings.TrimRight(line, "\n")
		m := topKey.FindStringSubmatch(line)
		switch {
		case line == "", line[0] == ' ', line[0] == '#':
		case m == nil, slices.Contains(foreignKeys, m[1]):
			return false
		default:
			keys++
		}
	}
	return keys > 0
}

// checker runs `roost check`.
type checker struct {
	binary string
	dir    string // stands for /etc/roost and /var/lib/roost
	pem    []byte // a certificate and its key, for every file in /etc/roost
}

func newChecker(t testing.TB) *checker {
	t.Helper()
	return &checker{binary: binary(t, roostBin), dir: t.TempDir(), pem: pemFile(t)}
}

// pemFile is a certificate with its key.
func pemFile(t testing.TB) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"example.com"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
}

var configFile = regexp.MustCompile(`/etc/roost/[\w./-]+`)

// problems says what `roost check` finds in a configuration. An example may leave out where
// tokens and data come from, and name files in /etc/roost that are not here.
func (c *checker) problems(config string) []string {
	var keys map[string]any
	if err := yaml.Unmarshal([]byte(config), &keys); err != nil {
		return []string{err.Error()}
	}
	env := []string{"ROOST_HMAC_SECRET_KEY=a secret of the tests", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + c.dir}
	if !slices.ContainsFunc([]string{"data", "nats", "memory"}, func(k string) bool { _, ok := keys[k]; return ok }) {
		env = append(env, "ROOST_MEMORY=true")
	}
	for _, name := range configFile.FindAllString(config, -1) {
		path := filepath.Join(c.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return []string{err.Error()}
		}
		if err := os.WriteFile(path, c.pem, 0o600); err != nil {
			return []string{err.Error()}
		}
	}
	config = strings.NewReplacer("/etc/roost", filepath.Join(c.dir, "etc/roost"), "/var/lib/roost", filepath.Join(c.dir, "data")).Replace(config)
	file := filepath.Join(c.dir, "sample.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return []string{err.Error()}
	}
	cmd := exec.Command(c.binary, "check", "--config", file)
	cmd.Env = env
	var log bytes.Buffer
	cmd.Stderr = &log
	err := cmd.Run()
	// In a container the internal address is that of a network of its own.
	unsafe := strings.Count(log.String(), "can be reached from other machines and speaks plain HTTP")
	if err != nil || strings.Count(log.String(), "warning:") > unsafe {
		return []string{fmt.Sprintf("roost check: %v: %s", err, log.String())}
	}
	return nil
}

func TestConfigurations(t *testing.T) {
	c := newChecker(t)
	found := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			switch {
			case isConfig(b):
				found++
				for _, problem := range c.problems(b.text) {
					t.Errorf("%s%s\n%s", p.at(b.line), problem, b.text)
				}
			case b.language == "yaml":
				if err := parses(b.text); err != nil {
					t.Errorf("%s%v", p.at(b.line), err)
				}
			case strings.HasPrefix(b.text, "- scenario:"):
				if _, err := loadtest.ScenarioFile([]byte(b.text)); err != nil {
					t.Errorf("%s%v", p.at(b.line), err)
				}
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d configurations were found", found)
	}
	for _, problem := range c.problems(string(read(t, "deploy/roost.yaml"))) {
		t.Errorf("deploy/roost.yaml: %s", problem)
	}
}

// parses tells whether all documents of a text are YAML.
func parses(text string) error {
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var document yaml.Node
		if err := d.Decode(&document); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestConfigurationsAreChecked(t *testing.T) {
	c := newChecker(t)
	refuses(t, []wrong{
		{"# roost.yaml\nchannels:\n  namespaces:\n    chat: {presence: true}\n", ""},
		{"nats: [nats://127.0.0.1:4222]\nnats-replicas: 3\n", ""},
		{"data: /var/lib/roost\n", ""},
		{"max-mesage: 10\n", "max-message"},
		{"max-message: -1\n", "max-message is -1"},
		{"channels:\n  namespaces:\n    chat: {presense: true}\n", "presense"},
		{"channels:\n  namespaces:\n    chat: {force-recovery: true}\n", "history-size"},
		{"memory: true\ndata: /var/lib/roost\n", "exclude each other"},
		{"memory: [\n", "yaml"},
	}, c.problems)

	for text, want := range map[string]bool{
		"# roost.yaml\naddress: x\nchannels:\n  default: {}\n": true,
		"max-mesage: 10\n":               true,
		"groups:\n  - name: x\n":         false,
		"GET / HTTP/1.1\nHost: x\n":      false,
		"apiVersion: v1\nkind: Pod\n":    false,
		"- scenario: echo\n":             false,
		"curl http://127.0.0.1:8001/x\n": false,
	} {
		if isConfig(block{text: text}) != want {
			t.Errorf("whether this is a configuration: %v, want %v\n%s", !want, want, text)
		}
	}
	if isConfig(block{language: "json", text: "address: x\n"}) {
		t.Error("a block in JSON is taken for a configuration")
	}
}
