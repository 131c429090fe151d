package emulation

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roost/auth"
	"roost/broker"
	"roost/conn"
	"roost/gateway"
	"roost/poller"
)

const (
	secret   = "secret"
	patience = 30 * time.Second
)

// testGateway is a node on a free port with a broker in memory, open to all.
type testGateway struct {
	*gateway.Node
	t         *testing.T
	emulation *Server
	conns     *conn.Server
	addr      string
	down      func() // as at SIGTERM; at the end of the test if not before
}

// settings of a test, with defaults of start.
type settings struct {
	node      gateway.Options
	conns     conn.Options
	emulation Options
}

func start(t *testing.T, change func(*settings)) *testGateway {
	t.Helper()
	v, err := auth.New(auth.Options{HMACSecret: secret})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.NewTextHandler(t.Output(), nil))
	o := settings{
		node:      gateway.Options{Auth: v, AllowAnonymous: true, Version: "test", Broker: broker.Options{Memory: true}, Channels: gateway.Channels{Default: gateway.Open()}, Logger: quiet},
		conns:     conn.Options{Poller: poller.Options{Loops: 2}, Logger: quiet},
		emulation: Options{MaxClients: 100, MaxMessage: 64 << 10, RequestTimeout: patience, Logger: quiet},
	}
	if change != nil {
		change(&o)
	}
	n, err := gateway.New(o.node)
	if err != nil {
		t.Fatal(err)
	}
	o.emulation.Node, o.emulation.Route, o.emulation.AllowedOrigins = n, n.Route().Path, o.conns.AllowedOrigins
	g := &testGateway{Node: n, t: t, emulation: New(o.emulation)}
	o.conns.Routes, o.conns.HandPaths, o.conns.Hand = []*conn.Route{n.Route()}, Paths, g.emulation.Hand
	if g.conns, err = conn.New(o.conns); err != nil {
		t.Fatal(err)
	}
	n.Start(g.conns)
	g.emulation.Start(g.conns.Dial)
	var stopped atomic.Bool
	g.down = func() {
		if stopped.Swap(true) {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		n.Dismiss()
		_ = g.conns.Shutdown(ctx)
		_ = g.emulation.Shutdown(ctx)
		_ = n.Shutdown(ctx)
		v.Close()
	}
	t.Cleanup(g.down)
	addr, err := g.conns.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = "http://" + addr.String()
	return g
}

// token is one of a user, or of nobody for "".
func token(t *testing.T, user string) string {
	t.Helper()
	if user == "" {
		return ""
	}
	text, err := auth.SignConnect(secret, auth.Connect{User: user}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func connectCommand(t *testing.T, user string) string {
	return `{"id":1,"connect":{"token":"` + token(t, user) + `"}}`
}

// do sends a request without following anything; headers are "Name: value".
func (g *testGateway) do(method, path string, body io.Reader, headers ...string) *http.Response {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, g.addr+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// answer is status and body of a whole response.
func (g *testGateway) answer(res *http.Response) (status int, body string) {
	g.t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// emulated is a client with JSON.
type emulated struct {
	t             *testing.T
	g             *testGateway // to post to
	res           *http.Response
	in            *bufio.Reader
	events        bool
	session, node string
	client        string
	id            int
}

// open begins a stream, whose status must be 200.
func (g *testGateway) open(transport, connect string, headers ...string) *emulated {
	g.t.Helper()
	c := &emulated{t: g.t, g: g, events: transport == gateway.TransportSSE, id: 1}
	if c.events {
		c.res = g.do(http.MethodGet, PathSSE+"?cf_connect="+url.QueryEscape(connect), nil, headers...)
	} else {
		c.res = g.do(http.MethodPost, PathHTTPStream, strings.NewReader(connect), headers...)
	}
	if c.res.StatusCode != http.StatusOK {
		_, body := g.answer(c.res)
		g.t.Fatalf("%s: %d %s", transport, c.res.StatusCode, body)
	}
	c.in = bufio.NewReader(c.res.Body)
	return c
}

// connected is open with the reply to the connect command.
func (g *testGateway) connected(transport, user string, headers ...string) *emulated {
	g.t.Helper()
	c := g.open(transport, connectCommand(g.t, user), headers...)
	m := c.next()
	if m.Connect == nil {
		g.t.Fatalf("%+v is no reply to connect", m)
	}
	c.session, c.node, c.client = m.Connect.Session, m.Connect.Node, m.Connect.Client
	return c
}

type message struct {
	ID    int
	Error *struct{ Code int }
	Push  *struct {
		Channel    string
		Pub        *struct{ Data json.RawMessage }
		Disconnect *disconnected
		Subscribe  *struct{}
	}
	Connect *struct{ Client, Session, Node string }
}

type disconnected struct {
	Code   int
	Reason string
}

// line returns the next message as it came, io.EOF at the end of the response.
func (c *emulated) line() (string, error) {
	text, err := c.in.ReadString('\n')
	if err != nil || !c.events {
		return strings.TrimSuffix(text, "\n"), err
	}
	empty, err := c.in.ReadString('\n')
	data, ok := strings.CutPrefix(strings.TrimSuffix(text, "\n"), "data: ")
	if err == nil && (!ok || empty != "\n") {
		err = fmt.Errorf("no event: %q %q", text, empty)
	}
	return data, err
}

// next returns the next message that is no ping.
func (c *emulated) next() (m message) {
	c.t.Helper()
	for {
		text, err := c.line()
		if err != nil {
			c.t.Fatal("read: ", err)
		}
		if text == "{}" {
			c.post("{}")
			continue
		}
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			c.t.Fatalf("%q: %v", text, err)
		}
		return m
	}
}

// ends wants a disconnect and then the end.
func (c *emulated) ends(code int) {
	c.t.Helper()
	m := c.next()
	if m.Push == nil || m.Push.Disconnect == nil || m.Push.Disconnect.Code != code || m.Push.Disconnect.Reason == "" {
		c.t.Fatalf("%+v is no disconnect with %d", m, code)
	}
	if text, err := c.line(); !errors.Is(err, io.EOF) {
		c.t.Fatalf("after the disconnect: %q, %v", text, err)
	}
}

func postBody(node, session, data string) []byte {
	b, err := json.Marshal(map[string]string{"node": node, "session": session, "data": data})
	if err != nil {
		panic(err) // strings can be encoded
	}
	return b
}

// post sends commands and wants 204.
func (c *emulated) post(data string) {
	c.t.Helper()
	status, body := c.g.answer(c.g.do(http.MethodPost, PathEmulation, bytes.NewReader(postBody(c.node, c.session, data))))
	if status != http.StatusNoContent {
		c.t.Fatalf("post: %d %s", status, body)
	}
}

// command posts one and returns its reply; pushes before it are dropped.
func (c *emulated) command(cmd string) message {
	c.t.Helper()
	c.id++
	c.post(fmt.Sprintf(`{"id":%d,%s`, c.id, cmd[1:]))
	for {
		if m := c.next(); m.ID == c.id {
			return m
		}
	}
}

// ok is a command that must succeed.
func (c *emulated) ok(cmd string) {
	c.t.Helper()
	if m := c.command(cmd); m.Error != nil {
		c.t.Fatalf("%s: error %d", cmd, m.Error.Code)
	}
}

func (g *testGateway) publish(ch, data string) {
	g.t.Helper()
	if _, err := g.Publish(g.t.Context(), &gateway.PublishRequest{Channel: ch, Data: json.RawMessage(data)}); err != nil {
		g.t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: ", what)
		}
	}
}
