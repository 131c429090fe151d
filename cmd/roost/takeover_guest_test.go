//go:build linux && ktlsguest

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/internal/proctest"
	"roost/internal/testcert"
	"roost/proto/ws"
)

// secureClient is an SDK's connection over TLS, subscribed to the channel c.
func secureClient(t *testing.T, address string) *client {
	t.Helper()
	conn, _ := upgradeTLS(t, address, "/connection/websocket")
	_ = conn.SetDeadline(time.Time{})
	c := &client{conn: conn, in: bufio.NewReader(conn)}
	for i, command := range []string{`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"c"}}`} {
		c.send(ws.OpText, []byte(command))
		m, err := c.read()
		if err != nil || !strings.HasPrefix(string(m.payload), fmt.Sprintf(`{"id":%d,`, i+1)) || strings.Contains(string(m.payload), "error") {
			t.Fatalf("%s: %q, %v", command, m.payload, err)
		}
	}
	return c
}

// TestGuestTakeover: connections whose records the kernel carries go from one process to the next, and on to
// another. Some have a part of a frame on its way.
func TestGuestTakeover(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Files(t, dir, "roost.test", time.Now().Add(time.Hour))
	ports := proctest.FreePorts(t, "127.0.0.1", 3)
	secure := "127.0.0.1:" + ports[2]
	flags := []string{"serve", "--dev", "--data", filepath.Join(dir, "data"), "--address", "127.0.0.1:" + ports[0],
		"--internal-address", "127.0.0.1:" + ports[1], "--tls-address", secure, "--tls-cert", cert, "--tls-key", key, "--api-key", "k"}
	g := launch(t, exec.Command(roost, flags...))
	const count = 20
	var echoes []*tls.Conn
	var clients []*client
	for range count {
		c, _ := upgradeTLS(t, secure, "/echo")
		_ = c.SetDeadline(time.Time{})
		echoes = append(echoes, c)
		clients = append(clients, secureClient(t, secure))
	}
	for round := range 3 {
		if n := g.metrics()[`roost_tls_sessions{carrier="kernel"}`]; n != 2*count {
			t.Fatalf("round %d: the kernel carries %v sessions, want %d", round, n, 2*count)
		}
		frame := masked(ws.OpText, fmt.Append(nil, "round ", round))
		for i, c := range echoes {
			if _, err := c.Write(frame[:i%len(frame)]); err != nil {
				t.Fatal(err)
			}
		}
		next := launch(t, exec.Command(roost, append(flags, "--takeover")...))
		g.ends(t)
		g = next
		eventually(t, func() error { // it opens the socket for the next one when the old one has gone
			c, err := net.Dial("unix", filepath.Join(dir, "data", "roost.sock"))
			if err == nil {
				err = c.Close()
			}
			return err
		})
		for i, c := range echoes {
			_, err := c.Write(frame[i%len(frame):])
			m, readErr := (&client{conn: c, in: bufio.NewReader(c)}).read()
			if err != nil || readErr != nil || string(m.payload) != fmt.Sprint("round ", round) {
				t.Fatalf("round %d: echo %q, %v, %v", round, m.payload, err, readErr)
			}
		}
		g.publishes(t, round, clients)
	}
	for _, c := range echoes {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, func() error {
		if n := g.metrics()[`roost_tls_sessions{carrier="kernel"}`]; n != count {
			return fmt.Errorf("%v sessions are left, want %d", n, count)
		}
		return nil
	})
}

// ends waits for the end of the process, in order.
func (g *instance) ends(t *testing.T) {
	t.Helper()
	select {
	case <-g.Ended:
	case <-time.After(patience):
		t.Fatal("the old process is still there")
	}
	if code := g.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the old process: exit code %d", code)
	}
}

// publishes publishes n to the channel c, and wants the clients to get that.
func (g *instance) publishes(t *testing.T, n int, clients []*client) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+g.internal+"/api/publish", bytes.NewBufferString(fmt.Sprintf(`{"channel":"c","data":%d}`, n)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", "k")
	if status, body := g.answer(g.operator.Do(req)); status != http.StatusOK || strings.Contains(body, "error") {
		t.Fatalf("publish: %d %s", status, body)
	}
	for _, c := range clients {
		m, err := c.read()
		for ; err == nil && string(m.payload) == "{}"; m, err = c.read() { // a ping
			c.send(ws.OpText, m.payload)
		}
		if err != nil || !strings.Contains(string(m.payload), fmt.Sprintf(`"data":%d,`, n)) {
			t.Fatalf("publication %d: %q, %v", n, m.payload, err)
		}
	}
}
