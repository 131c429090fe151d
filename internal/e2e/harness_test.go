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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/internal/proctest"
)

const patience = proctest.Patience

var eventually = proctest.Eventually

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
		g.Kill()
	}
	return code
}

func build(name, pkg string) (string, error) { return proctest.Build(workDir, name, pkg) }

// await returns the first line of standard output, once it is there.
func await(p *proctest.Process) (string, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if line, _, whole := strings.Cut(p.Out.String(), "\n"); whole {
			return line, nil
		}
		select {
		case <-p.Ended:
			return "", fmt.Errorf("%v: %v\n%s", p.Cmd.Args, p.Cmd.ProcessState, p.Log.String())
		default:
		}
	}
	return "", fmt.Errorf("%v is not ready after %v\n%s", p.Cmd.Args, patience, p.Log.String())
}

// startExample runs one of examples/ until the test ends, and returns what it says after "ready".
func startExample(t testing.TB, name string, args ...string) (*proctest.Process, string) {
	t.Helper()
	path, err := build(name, "roost/examples/"+name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := proctest.Start(exec.Command(path, args...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	line, err := await(p)
	if err != nil {
		t.Fatal(err)
	}
	return p, strings.TrimPrefix(line, "ready ")
}

// gateway is a running `roost serve`.
type gateway struct {
	*proctest.Process
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
	p, err := proctest.Start(cmd)
	if err != nil {
		return nil, err
	}
	line, err := await(p)
	if err != nil {
		p.Kill()
		return nil, err
	}
	at := proctest.Fields(line)
	return &gateway{Process: p, flags: flags, address: at["address"], internal: at["internal"]}, nil
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
		g.Kill()
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", tail(g.Log.String(), 8<<10))
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
