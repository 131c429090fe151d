//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must come; it says nothing about how soon
// it should.
const patience = 30 * time.Second

// loopback is where everything listens: as connections come from 127.0.0.1, none of them
// takes the port of a server that is to start again.
const loopback = "127.77.0.1"

const apiKey = "key of the tests"

// Built once for all tests, by the first that needs it.
var (
	workDir     string
	roostBinary = sync.OnceValues(func() (string, error) {
		if path := os.Getenv("ROOST_E2E_BINARY"); path != "" {
			return path, nil
		}
		return build("roost", "roost/cmd/roost")
	})
	natsBinary = sync.OnceValues(func() (string, error) { return build("nats-server", "github.com/nats-io/nats-server/v2") })
)

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	var err error
	if workDir, err = os.MkdirTemp("", "roost-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(workDir)
	code := m.Run()
	if g := shared.running; g != nil {
		g.kill()
	}
	return code
}

func build(name, what string) (path string, err error) {
	path = filepath.Join(workDir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", path, what)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as scripts/build.sh
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", what, err, out)
	}
	return path, nil
}

// eventually waits until holds returns nil.
func eventually(t testing.TB, holds func() error) {
	t.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		pause = min(2*pause, 20*time.Millisecond)
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", patience, err)
		}
	}
}

// output collects what a process prints while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// process is one that the tests started.
type process struct {
	cmd      *exec.Cmd
	out, log output
	ended    chan struct{}
}

func run(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // ProcessState tells
		close(p.ended)
	}()
	return p, nil
}

// kill ends the process at once, as a crash would, and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// await returns the first line of standard output, once it is there.
func (p *process) await() (string, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if line, _, whole := strings.Cut(p.out.String(), "\n"); whole {
			return line, nil
		}
		select {
		case <-p.ended:
			return "", fmt.Errorf("%v: %v\n%s", p.cmd.Args, p.cmd.ProcessState, p.log.String())
		default:
		}
	}
	return "", fmt.Errorf("%v is not ready after %v\n%s", p.cmd.Args, patience, p.log.String())
}

// gateway is a running `roost serve`.
type gateway struct {
	*process
	address, internal string
	flags             []string
}

// again starts the gateway once more, after it was killed.
func (g *gateway) again(t testing.TB) *gateway {
	t.Helper()
	next, err := launchAt(g.address, g.internal, g.flags)
	if err != nil {
		t.Fatal(err)
	}
	next.endWith(t)
	return next
}

// launch starts a gateway with a configuration in YAML.
func launch(config string, flags ...string) (*gateway, error) {
	f, err := os.CreateTemp(workDir, "*.yaml")
	if err != nil {
		return nil, err
	}
	if _, err = io.WriteString(f, config); err == nil {
		err = f.Close()
	}
	if err != nil {
		return nil, err
	}
	return launchAt(loopback+":0", loopback+":0", append([]string{"--config", f.Name()}, flags...))
}

// launchAt starts a gateway where another was.
func launchAt(address, internal string, flags []string) (*gateway, error) {
	roost, err := roostBinary()
	if err != nil {
		return nil, err
	}
	args := append([]string{"serve", "--address", address, "--internal-address", internal}, flags...)
	cmd := exec.Command(roost, args...)
	cmd.Env = append(os.Environ(), "ROOST_API_KEY="+apiKey)
	p, err := run(cmd)
	if err != nil {
		return nil, err
	}
	line, err := p.await()
	if err != nil {
		p.kill()
		return nil, err
	}
	g := &gateway{process: p, flags: flags}
	for _, field := range strings.Fields(line) {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "address":
			g.address = value
		case "internal":
			g.internal = value
		}
	}
	return g, nil
}

// start runs a gateway until the test ends.
func start(t testing.TB, config string, flags ...string) *gateway {
	t.Helper()
	g, err := launch(config, flags...)
	if err != nil {
		t.Fatal(err)
	}
	g.endWith(t)
	return g
}

func (g *gateway) endWith(t testing.TB) {
	t.Cleanup(func() {
		g.kill()
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", tail(g.log.String(), 8<<10))
		}
	})
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// shared is a gateway for all tests that do not mind others.
var shared struct {
	once    sync.Once
	running *gateway
	err     error
}

func sharedGateway(t testing.TB) *gateway {
	t.Helper()
	shared.once.Do(func() { shared.running, shared.err = launch(configuration, "--memory") })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.running
}

func (g *gateway) url() string { return "ws://" + g.address + "/connection/websocket" }

// operator asks the internal address; its connections are kept.
var operator = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// apiError is an error of the server API.
type apiError struct {
	Code    uint32 `json:"code"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// api calls a method of the server API; result may be nil.
func (g *gateway) api(method string, params, result any) error {
	body, err := json.Marshal(params)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+g.internal+"/api/"+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-API-Key", apiKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := operator.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d: %.200s", method, res.StatusCode, b)
	}
	var answer struct {
		Error  *apiError       `json:"error"`
		Result json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return fmt.Errorf("%s: %w: %.200s", method, err, b)
	}
	switch {
	case answer.Error != nil:
		return answer.Error
	case answer.Result == nil:
		return fmt.Errorf("%s: neither a result nor an error: %.200s", method, b)
	case result == nil:
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

type object = map[string]any

// must calls a method that has to succeed.
func (g *gateway) must(t testing.TB, method string, params, result any) {
	t.Helper()
	if err := g.api(method, params, result); err != nil {
		t.Fatalf("%s %v: %v", method, params, err)
	}
}

type position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

// publish publishes JSON through the server API.
func (g *gateway) publish(t testing.TB, channel string, data any) (p position) {
	t.Helper()
	g.must(t, "publish", object{"channel": channel, "data": data}, &p)
	return p
}

// metrics returns all samples by name and labels, as in `roost_closed_total{reason="http"}`.
func (g *gateway) metrics(t testing.TB) map[string]float64 {
	t.Helper()
	res, err := operator.Get("http://" + g.internal + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: status %d, %v", res.StatusCode, err)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if samples[line[:at]], err = strconv.ParseFloat(line[at+1:], 64); err != nil {
			t.Fatalf("/metrics: %q: %v", line, err)
		}
	}
	return samples
}

// sum adds the samples of a metric whose labels contain part.
func sum(samples map[string]float64, name, part string) (total float64) {
	for k, v := range samples {
		if metric, labels, _ := strings.Cut(k, "{"); metric == name && strings.Contains(labels, part) {
			total += v
		}
	}
	return total
}

// ready tells whether the gateway says that it is.
func (g *gateway) ready() error {
	res, err := operator.Get("http://" + g.internal + "/ready")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}
