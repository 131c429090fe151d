//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"roost/proto/ws"
)

// configured starts a gateway with a file, on free ports.
func configured(t *testing.T, file string, flags ...string) *instance {
	t.Helper()
	args := append([]string{"serve", "--config", writeFile(t, file), "--address", "127.0.0.1:0", "--internal-address", "127.0.0.1:0"}, flags...)
	return launch(t, exec.Command(roost, args...))
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roost.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// api calls a method of the server API.
func (g *instance) api(key, method, body string) (status int, answer string) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, "http://"+g.internal+"/api/"+method, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("X-API-Key", key)
	return g.answer(g.operator.Do(r))
}

// ask sends a command and returns the line that answers.
func (c *client) ask(command string) (string, error) {
	c.send(ws.OpText, []byte(command))
	m, err := c.read()
	if err == nil && m.op != ws.OpText {
		err = fmt.Errorf("opcode %d %q", m.op, m.payload)
	}
	return string(m.payload), err
}

// connected opens a client of the client protocol.
func (g *instance) connected(token string) (*client, string) {
	g.t.Helper()
	c := g.upgraded("/connection/websocket")
	answer, err := c.ask(fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, token))
	if err != nil {
		g.t.Fatal(err)
	}
	return c, answer
}

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	g := start(t, "--data", dir, "--api-key", "one", "--api-key", "two")
	if strings.Contains(g.Out.String(), "api_key") || !strings.Contains(g.Log.String(), "dir="+dir) {
		t.Errorf("%s%s", g.Out.String(), g.Log.String())
	}
	c, _ := g.connected("")
	if answer, err := c.ask(`{"id":2,"subscribe":{"channel":"news"}}`); err != nil || !strings.Contains(answer, `"recoverable":true`) {
		t.Fatalf("%s, %v", answer, err)
	}
	for _, key := range []string{"", "three"} {
		if status, answer := g.api(key, "publish", `{"channel":"news","data":0}`); status != http.StatusUnauthorized {
			t.Errorf("key %q: %d %s", key, status, answer)
		}
	}
	for i, key := range []string{"one", "two"} {
		status, answer := g.api(key, "publish", fmt.Sprintf(`{"channel":"news","data":{"n":%d}}`, i+1))
		if status != http.StatusOK || !strings.Contains(answer, fmt.Sprintf(`"offset":%d`, i+1)) {
			t.Fatalf("%d %s", status, answer)
		}
		var m message
		for m.op = ws.OpPing; m.op == ws.OpPing || strings.Contains(string(m.payload), `"join"`); {
			var err error
			if m, err = c.read(); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.Contains(string(m.payload), fmt.Sprintf(`{"n":%d}`, i+1)) {
			t.Errorf("%s", m.payload)
		}
	}
	_, _ = c.ask(`{"id":3,"history":{"channel":"news:unknown"}}`)
	have := g.metrics()
	for sample, want := range map[string]float64{
		"roost_clients": 1, "roost_subscriptions": 1, "roost_channels": 1, "roost_publications_total": 2, "roost_broker_publish_seconds_count": 2,
		`roost_commands_total{kind="subscribe"}`: 1, `roost_command_errors_total{code="102"}`: 1, "roost_broker_up": 1,
		`roost_api_requests_total{code="0",method="publish"}`: 2, `roost_api_requests_total{code="101",method=""}`: 2,
		`roost_api_request_seconds_count{method="publish"}`: 2,
	} {
		if have[sample] != want {
			t.Errorf("%s is %v, want %v", sample, have[sample], want)
		}
	}
	g.end(syscall.SIGTERM)
	again := start(t, "--data", dir, "--api-key", "one")
	if status, answer := again.api("one", "history", `{"channel":"news","limit":-1}`); status != http.StatusOK || strings.Count(answer, `"n":`) != 2 {
		t.Errorf("after a restart: %d %s", status, answer)
	}
}

// TestSecure serves without --dev: who has no token stays out.
func TestSecure(t *testing.T) {
	const file = "hmac-secret-key: secret\nmemory: true\naudience: chat\nissuer: me\nlog-format: json\nchannels: {namespaces: {room: {allow-subscribe-for-client: true}}}\n"
	g := configured(t, file)
	if strings.Contains(g.Out.String(), "api_key") || !strings.Contains(g.Log.String(), "the server API refuses everyone") {
		t.Errorf("%s%s", g.Out.String(), g.Log.String())
	}
	for line := range strings.Lines(g.Log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	for _, path := range []string{"/echo", "/"} {
		if status, err := g.tcp(upgradeRequest(g.address, path)).status(); status != http.StatusNotFound {
			t.Errorf("%s: %d, %v", path, status, err)
		}
	}
	if status, _ := g.api("", "info", "{}"); status != http.StatusUnauthorized {
		t.Errorf("the API without keys: %d", status)
	}
	for _, token := range []string{"", "not.a.token"} {
		c := g.upgraded("/connection/websocket")
		c.send(ws.OpText, fmt.Appendf(nil, `{"id":1,"connect":{"token":%q}}`, token))
		if err := c.expectClose(3500); err != nil {
			t.Errorf("token %q: %v", token, err)
		}
	}
	code, token := run(t, "token", "--config", writeFile(t, file), "--user", "ann", "--info", `{"name":"Ann"}`)
	if code != 0 {
		t.Fatal(token)
	}
	c, answer := g.connected(strings.TrimSpace(token))
	if !strings.Contains(answer, `"connect":{"client":`) {
		t.Fatal(answer)
	}
	if answer, err := c.ask(`{"id":2,"subscribe":{"channel":"room:1"}}`); err != nil || !strings.Contains(answer, `"subscribe":{`) {
		t.Errorf("%s, %v", answer, err)
	}
	if answer, err := c.ask(`{"id":3,"subscribe":{"channel":"closed"}}`); err != nil || !strings.Contains(answer, `"code":103`) {
		t.Errorf("%s, %v", answer, err)
	}
	code, token = run(t, "token", "--config", writeFile(t, file), "--user", "ann", "--channel", "closed", "--ttl", "0s")
	if code != 0 {
		t.Fatal(token)
	}
	if answer, err := c.ask(fmt.Sprintf(`{"id":4,"subscribe":{"channel":"closed","token":%q}}`, strings.TrimSpace(token))); err != nil || strings.Contains(answer, "error") {
		t.Errorf("%s, %v", answer, err)
	}
}

func TestUpgradeAuth(t *testing.T) {
	g := configured(t, "hmac-secret-key: secret\nmemory: true\nupgrade-auth: true\ntoken-query: t\n")
	if status, err := g.tcp(upgradeRequest(g.address, "/connection/websocket?t=x")).status(); status != http.StatusUnauthorized {
		t.Errorf("status %d, %v", status, err)
	}
	_, token := run(t, "token", "--hmac-secret-key", "secret", "--user", "ann")
	if answer, err := g.upgraded("/connection/websocket?t=" + strings.TrimSpace(token)).ask(`{"id":1,"connect":{}}`); err != nil || !strings.Contains(answer, `"connect":{`) {
		t.Errorf("%s, %v", answer, err)
	}
}

// TestReady holds a gateway in its end with a client that does not answer.
func TestReady(t *testing.T) {
	t.Parallel()
	g := start(t)
	if status, body := g.get("/ready"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("%d %q", status, body)
	}
	silent := g.upgraded("/echo")
	polite, _ := g.connected("")
	if err := g.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := polite.expectClose(3001); err != nil {
		t.Error(err)
	}
	if m, err := silent.read(); err != nil || m.op != ws.OpClose {
		t.Errorf("%+v, %v", m, err)
	}
	if status, body := g.get("/ready"); status != http.StatusServiceUnavailable || body == "" {
		t.Errorf("while it stops: %d %q", status, body)
	}
	if status, _ := g.get("/health"); status != http.StatusOK {
		t.Errorf("while it stops, /health: %d", status)
	}
	silent.conn.Close()
	<-g.Ended
	if code := g.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestCheck(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	good := writeFile(t, "hmac-secret-key: secret\ndata: "+data+"\nchannels: {default: {presence: true}}\n")
	if code, out := run(t, "check", "--config", good, "--address", "127.0.0.1:1"); code != 0 || out != "the configuration is good\n" {
		t.Errorf("code %d, %s", code, out)
	}
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("check has made the data folder: %v", err)
	}
	if code, out := run(t, "check", "--dev", "--nats", "nats://127.0.0.1:1"); code != 0 {
		t.Errorf("code %d, %s", code, out)
	}
	bad := writeFile(t, `hmac-secret: secret
loops: 999
channels: {default: {presense: true, history-size: 1}}
nats-prefix: A.B
backends:
  servers:
    shop: {url: "localhost:3000"}
  disconnect: stock
`)
	for _, command := range []string{"check", "serve"} {
		code, out := run(t, command, "--config", bad)
		if code != 1 {
			t.Errorf("code %d", code)
		}
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		want := []string{`: 9 problems:`, `:1: unknown name "hmac-secret", did you mean "hmac-secret-key"?`, ":2: --loops is 999",
			`:3: unknown name "presense"`, ":3: channels default: history-size (1)", ":4: --nats-prefix: ", `:7: backends: backend "shop": url has scheme "localhost"`,
			`:8: backends: disconnect: backend "stock"`, "  no client could connect", "  there is no place for data"}
		if len(lines) != len(want) {
			t.Fatalf("%s says %d lines, want %d: %s", command, len(lines), len(want), out)
		}
		for i, line := range lines {
			if !strings.Contains(line, want[i]) {
				t.Errorf("line %d of %s is %q, want %q", i+1, command, line, want[i])
			}
		}
	}
	// What only shows when it is made.
	for args, want := range map[string]string{"--nats-prefix=A.B": "A.B", "--allowed-origins=[": "allowed origin"} {
		for _, command := range []string{"check", "serve"} {
			if code, out := run(t, command, "--dev", "--address=127.0.0.1:0", "--internal-address=127.0.0.1:0", args); code != 1 || !strings.Contains(out, want) {
				t.Errorf("%s %s: code %d, %s", command, args, code, out)
			}
		}
	}
}

func TestRefusedTokens(t *testing.T) {
	for _, test := range []struct {
		want string
		code int
		args []string
	}{
		{"--hmac-secret-key", 1, []string{"--user", "ann"}},
		{"--user", usageError, []string{"--hmac-secret-key", "x"}},
		{"--info is not JSON", 1, []string{"--hmac-secret-key", "x", "--user", "ann", "--info", "Ann"}},
		{"--ttl is -1s", 1, []string{"--hmac-secret-key", "x", "--user", "ann", "--ttl=-1s"}},
		{"no such file", 1, []string{"--config", "/nowhere", "--user", "ann"}},
	} {
		if code, out := run(t, append([]string{"token"}, test.args...)...); code != test.code || !strings.Contains(out, test.want) {
			t.Errorf("%q: code %d, %s", test.args, code, out)
		}
	}
}

// TestDeployed checks the configuration that is delivered, as systemd would have it.
func TestDeployed(t *testing.T) {
	t.Setenv("ROOST_HMAC_SECRET_KEY", "secret")
	if code, out := run(t, "check", "--config", "../../deploy/roost.yaml"); code != 0 {
		t.Errorf("code %d, %s", code, out)
	}
}
