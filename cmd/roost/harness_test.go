//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"roost/internal/proctest"
	"roost/proto/ws"
)

const patience = proctest.Patience

var eventually = proctest.Eventually

// testVersion is what the binary under test was built as.
const testVersion = "v0.0.0-test"

// roost is the path of the binary under test.
var roost string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if roost = os.Getenv("ROOST_TEST_BINARY"); roost != "" { // where there is no compiler
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "roost-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if roost, err = proctest.Build(dir, "roost", ".", "-ldflags", "-X main.version="+testVersion); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// instance is a running `roost serve --dev`.
type instance struct {
	*proctest.Process
	t        *testing.T
	operator *http.Client // keeps its connection to the internal address

	address, internal, page string
}

func onFreePorts(flags ...string) []string {
	return append([]string{"serve", "--dev", "--address", "127.0.0.1:0", "--internal-address", "127.0.0.1:0"}, flags...)
}

// start runs a gateway until the test ends.
func start(t *testing.T, flags ...string) *instance {
	t.Helper()
	return launch(t, exec.Command(roost, onFreePorts(flags...)...))
}

func launch(t *testing.T, cmd *exec.Cmd) *instance {
	t.Helper()
	p, err := proctest.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	g := &instance{Process: p, t: t, operator: &http.Client{Transport: &http.Transport{}, Timeout: patience}}
	t.Cleanup(func() {
		g.operator.CloseIdleConnections()
		g.Kill()
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", g.Log.String())
		}
	})
	eventually(t, func() error {
		select {
		case <-g.Ended:
			t.Fatal("the gateway ended before it was ready")
		default:
		}
		log := g.Log.String() // of which this is the last line before
		if !strings.HasSuffix(g.Out.String(), "\n") || !strings.Contains(log, "msg=ready") && !strings.Contains(log, `"msg":"ready"`) {
			return errors.New("not ready")
		}
		return nil
	})
	at := proctest.Fields(g.Out.String())
	g.address, g.internal, g.page = at["address"], at["internal"], at["page"]
	return g
}

// end sends a signal, after which the process must end with code 0.
func (g *instance) end(sig os.Signal) {
	g.t.Helper()
	if err := g.Cmd.Process.Signal(sig); err != nil {
		g.t.Fatal(err)
	}
	select {
	case <-g.Ended:
	case <-time.After(patience):
		g.t.Fatalf("still there %v after %v", patience, sig)
	}
	if code := g.Cmd.ProcessState.ExitCode(); code != 0 {
		g.t.Errorf("exit code %d after %v, want 0", code, sig)
	}
}

// get asks the internal address.
func (g *instance) get(path string) (status int, body string) {
	g.t.Helper()
	return g.answer(g.operator.Get("http://" + g.internal + path))
}

// answer reads what the internal address answered.
func (g *instance) answer(res *http.Response, err error) (status int, body string) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// metrics returns all samples by name and labels, as in `roost_closed_total{reason="http"}`.
func (g *instance) metrics() map[string]float64 {
	g.t.Helper()
	status, body := g.get("/metrics")
	if status != http.StatusOK {
		g.t.Fatalf("/metrics: status %d: %s", status, body)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			g.t.Fatalf("/metrics: %q: %v", line, err)
		}
		samples[line[:at]] = value
	}
	return samples
}

// client is one WebSocket connection.
type client struct {
	conn       net.Conn
	in         *bufio.Reader
	extensions string // as the gateway agreed to
}

// message is a frame from the gateway; a compressed one is inflated.
type message struct {
	op         ws.Opcode
	compressed bool
	payload    []byte
}

const offerDeflate = "Sec-WebSocket-Extensions: permessage-deflate"

// upgradeRequest is a right one; more header lines come without CRLF.
func upgradeRequest(address, path string, headers ...string) string {
	lines := append([]string{"GET " + path + " HTTP/1.1", "Host: " + address, "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// tcp opens a connection to the clients' address and sends first.
func (g *instance) tcp(first string) *client {
	g.t.Helper()
	conn, err := net.DialTimeout("tcp", g.address, patience)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	_, _ = io.WriteString(conn, first) // reading says why it failed
	return &client{conn: conn, in: bufio.NewReader(conn)}
}

// status reads the response to an upgrade request.
func (c *client) status() (int, error) {
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, err
	}
	c.extensions = res.Header.Get("Sec-WebSocket-Extensions")
	return res.StatusCode, nil
}

// upgraded opens a WebSocket to path.
func (g *instance) upgraded(path string, headers ...string) *client {
	g.t.Helper()
	c := g.tcp(upgradeRequest(g.address, path, headers...))
	if status, err := c.status(); err != nil || status != http.StatusSwitchingProtocols {
		g.t.Fatalf("upgrade to %s: status %d, %v", path, status, err)
	}
	return c
}

var maskingKey = [4]byte{0x12, 0x34, 0x56, 0x78}

func masked(op ws.Opcode, payload []byte) []byte {
	return ws.AppendMaskedFrame(nil, op, maskingKey, payload)
}

// send errors show when the answer is read.
func (c *client) send(op ws.Opcode, payload []byte) { _, _ = c.conn.Write(masked(op, payload)) }

func (c *client) sendCompressed(op ws.Opcode, payload []byte) error {
	packed, err := ws.AppendDeflated(nil, payload)
	if err != nil {
		return err
	}
	b := masked(op, packed)
	b[0] |= 0x40 // RSV1, RFC 7692 section 7.2.1
	_, err = c.conn.Write(b)
	return err
}

func (c *client) read() (message, error) {
	var head [8]byte
	if _, err := io.ReadFull(c.in, head[:2]); err != nil {
		return message{}, err
	}
	m := message{op: ws.Opcode(head[0] & 0x0f), compressed: head[0]&0x40 != 0}
	length, wide := uint64(head[1]), 0
	switch length {
	case 126:
		wide = 2
	case 127:
		wide = 8
	}
	if wide > 0 {
		clear(head[:])
		if _, err := io.ReadFull(c.in, head[8-wide:]); err != nil {
			return message{}, err
		}
		length = binary.BigEndian.Uint64(head[:])
	}
	m.payload = make([]byte, length)
	_, err := io.ReadFull(c.in, m.payload)
	if err == nil && m.compressed {
		m.payload, err = ws.AppendInflated(nil, m.payload, 1<<20)
	}
	return m, err
}

// expect reads one message.
func (c *client) expect(op ws.Opcode, payload string) error {
	m, err := c.read()
	if err == nil && (m.op != op || string(m.payload) != payload) {
		err = fmt.Errorf("opcode %d %.60q, want opcode %d %.60q", m.op, m.payload, op, payload)
	}
	return err
}

// echo sends a text and wants it back.
func (c *client) echo(text string) error {
	c.send(ws.OpText, []byte(text))
	return c.expect(ws.OpText, text)
}

// expectClose reads a close frame with the code and answers it; then the gateway must end the stream.
func (c *client) expectClose(code ws.CloseCode) error {
	m, err := c.read()
	if err != nil {
		return err
	}
	if m.op != ws.OpClose || len(m.payload) < 2 || ws.CloseCode(binary.BigEndian.Uint16(m.payload)) != code {
		return fmt.Errorf("opcode %d %q, want close %d", m.op, m.payload, code)
	}
	c.send(ws.OpClose, m.payload[:2])
	if _, err := c.in.ReadByte(); err != io.EOF {
		return fmt.Errorf("after the closing handshake: %v, want the end of the stream", err)
	}
	return c.conn.Close()
}
