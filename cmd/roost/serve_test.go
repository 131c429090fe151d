//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"roost/poller"
	"roost/proto/ws"
	"roost/web"
)

var readyLine = regexp.MustCompile(`^ready address=(127\.0\.0\.1:[1-9]\d*) internal=(127\.0\.0\.1:[1-9]\d*) api_key=[A-Z2-7]{26} admin=http://(127\.0\.0\.1:[1-9]\d*)/admin/ admin_password=[A-Z2-7]{26} page=http://(127\.0\.0\.1:[1-9]\d*)/\n$`)

func TestStart(t *testing.T) {
	g := start(t, "--loops", "2")
	match := readyLine.FindStringSubmatch(g.Out.String())
	if match == nil || match[1] != match[4] || match[2] != match[3] || match[1] == match[2] {
		t.Errorf("standard output %q is not the ready line alone", g.Out.String())
	}
	limit, err := poller.DescriptorLimit()
	if err != nil {
		t.Fatal(err)
	}
	log := g.Log.String()
	for _, want := range []string{`msg="gateway started"`, "version=" + testVersion, "loops=2 ", fmt.Sprintf("descriptor_limit=%d ", limit), "clients_at_most="} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	if withRing, without := strings.Contains(log, "io_uring=true"), strings.Contains(log, "io_uring is not available"); withRing == without {
		t.Errorf("the log does not tell whether io_uring is used:\n%s", log)
	}
}

func TestInternalAddress(t *testing.T) {
	g := start(t)
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/health":                        {200, "ok\n"},
		"/debug/pprof/":                  {200, "goroutine"},
		"/debug/pprof/goroutine?debug=1": {200, "goroutine profile:"},
		"/debug/pprof/heap?debug=1":      {200, "heap profile:"},
		"/debug/pprof/cmdline":           {200, "--dev"},
		"/":                              {404, ""},
		"/echo":                          {404, ""}, // nothing for clients here
	} {
		if status, body := g.get(path); status != want.status || !strings.Contains(body, want.body) {
			t.Errorf("%s: status %d, %.80q; want %d, %q", path, status, body, want.status, want.body)
		}
	}
}

func TestMetrics(t *testing.T) {
	g := start(t)
	before := g.metrics()
	if before["process_resident_memory_bytes"] <= 0 {
		t.Errorf("process_resident_memory_bytes is %v", before["process_resident_memory_bytes"])
	}
	stays, breaks := g.upgraded("/echo-pool"), g.upgraded("/echo")
	for range 3 {
		if err := stays.echo("hello"); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = breaks.conn.Write(ws.AppendFrame(nil, ws.OpText, []byte("unmasked")))
	if err := breaks.expectClose(ws.CloseProtocolError); err != nil {
		t.Fatal(err)
	}
	old := g.tcp(strings.Replace(upgradeRequest(g.address, "/echo"), "Version: 13", "Version: 8", 1))
	if status, err := old.status(); status != http.StatusUpgradeRequired {
		t.Fatalf("version 8: status %d, %v", status, err)
	}
	old.conn.Close()
	eventually(t, func() (err error) {
		now := g.metrics()
		for name, want := range map[string]float64{
			"roost_connections": 1, "roost_sockets": 1, "roost_sockets_accepted_total": 3, "roost_upgrades_total": 2,
			`roost_messages_total{direction="in"}`: 3, `roost_messages_total{direction="out"}`: 3,
			`roost_protocol_errors_total{kind="unmasked"}`: 1, `roost_handshake_errors_total{kind="version"}`: 1,
			`roost_closed_total{reason="protocol"}`: 1, `roost_closed_total{reason="handshake_refused"}`: 1,
		} {
			if got := now[name] - before[name]; got != want {
				err = errors.Join(err, fmt.Errorf("%s grew by %v, want %v", name, got, want))
			}
		}
		for _, name := range []string{`roost_bytes_total{direction="in"}`, `roost_bytes_total{direction="out"}`,
			`roost_io_operations_total{kind="read"}`, `roost_io_operations_total{kind="send"}`} {
			if now[name] <= before[name] {
				err = errors.Join(err, fmt.Errorf("%s did not move from %v", name, now[name]))
			}
		}
		return err
	})
}

func TestPage(t *testing.T) {
	g := start(t)
	web := web.Files()
	if len(web) == 0 {
		t.Fatal("the page has no files")
	}
	for path, file := range web {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodDelete} {
			status, header, body := g.ask(method, path)
			switch method {
			case http.MethodDelete:
				if status != http.StatusMethodNotAllowed || header.Get("Allow") != "GET, HEAD" {
					t.Errorf("%s %s: status %d, Allow %q", method, path, status, header.Get("Allow"))
				}
				continue
			case http.MethodHead:
				file.Body = nil
			}
			if status != http.StatusOK || header.Get("Content-Type") != file.ContentType || !bytes.Equal(body, file.Body) {
				t.Errorf("%s %s: status %d, %q, %d bytes; want 200, %q, %d bytes",
					method, path, status, header.Get("Content-Type"), len(body), file.ContentType, len(file.Body))
			}
		}
	}
	for path, want := range map[string]int{"/nothing": http.StatusNotFound, "/index.html/..": http.StatusNotFound, "/echo": http.StatusUpgradeRequired} {
		if status, _, body := g.ask(http.MethodGet, path); status != want || len(body) == 0 {
			t.Errorf("GET %s: status %d, %q; want %d with words", path, status, body, want)
		}
	}
}

// ask makes a plain HTTP request to the clients' address.
func (g *instance) ask(method, path string) (status int, h http.Header, body []byte) {
	g.t.Helper()
	c := g.tcp(method + " " + path + " HTTP/1.1\r\nHost: " + g.address + "\r\n\r\n")
	defer c.conn.Close()
	res, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	body, err = io.ReadAll(res.Body)
	if _, end := c.in.ReadByte(); err != nil || end != io.EOF {
		g.t.Errorf("%s %s: body %v, then %v; want the end of the stream", method, path, err, end)
	}
	return res.StatusCode, res.Header, body
}

func TestEchoRoutes(t *testing.T) {
	g := start(t)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, path := range []string{"/echo", "/echo-pool"} {
		plain, packed := g.upgraded(path), g.upgraded(path, offerDeflate)
		if plain.extensions != "" || !strings.HasPrefix(packed.extensions, "permessage-deflate") {
			t.Fatalf("%s: extensions %q and %q", path, plain.extensions, packed.extensions)
		}
		for _, payload := range [][]byte{nil, []byte("x"), all, bytes.Repeat(all, 4), bytes.Repeat(all, 300)} {
			plain.send(ws.OpBinary, payload)
			if err := plain.expect(ws.OpBinary, string(payload)); err != nil {
				t.Errorf("%s, %d bytes: %v", path, len(payload), err)
			}
			if err := packed.sendCompressed(ws.OpBinary, payload); err != nil {
				t.Fatal(err)
			}
			if m, err := packed.read(); err != nil || m.op != ws.OpBinary || !bytes.Equal(m.payload, payload) || m.compressed != (len(payload) > 1000) {
				t.Errorf("%s, %d bytes compressed: %d bytes, compressed %v, %v", path, len(payload), len(m.payload), m.compressed, err)
			}
		}
		if err := plain.echo("text, ὦ ξεῖν’"); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		var burst []byte
		for i := range 300 {
			burst = append(burst, masked(ws.OpText, fmt.Append(nil, i))...)
		}
		_, _ = plain.conn.Write(burst)
		for i := range 300 {
			if err := plain.expect(ws.OpText, fmt.Sprint(i)); err != nil {
				t.Fatalf("%s: message %d of a burst: %v", path, i, err)
			}
		}
	}
}

func TestNoDeflate(t *testing.T) {
	if c := start(t, "--no-deflate").upgraded("/echo", offerDeflate); c.extensions != "" {
		t.Errorf("agreed to %q", c.extensions)
	}
}

func TestBroadcast(t *testing.T) {
	g := start(t, "--loops", "2")
	elsewhere := g.upgraded("/echo")
	clients := []*client{g.upgraded("/broadcast", offerDeflate)}
	for range 9 {
		clients = append(clients, g.upgraded("/broadcast"))
	}
	long := strings.Repeat("to all of you; ", 100)
	for i, sender := range []*client{clients[0], clients[5]} {
		for _, text := range []string{"", "to all", long} {
			if i == 0 {
				if err := sender.sendCompressed(ws.OpText, []byte(text)); err != nil {
					t.Fatal(err)
				}
			} else {
				sender.send(ws.OpText, []byte(text))
			}
			for j, c := range clients {
				m, err := c.read()
				if err != nil || m.op != ws.OpText || string(m.payload) != text || m.compressed != (j == 0 && text == long) {
					t.Fatalf("client %d saw %+v, %v; want %.20q", j, m, err, text)
				}
			}
		}
	}
	clients[1].send(ws.OpBinary, []byte{0, 0xff})
	for j, c := range clients {
		if err := c.expect(ws.OpBinary, "\x00\xff"); err != nil {
			t.Errorf("client %d: %v", j, err)
		}
	}
	if err := elsewhere.echo("only mine"); err != nil {
		t.Errorf("a client of another route: %v", err)
	}
}

func TestStop(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			g := start(t)
			g.tcp("GET /echo HTTP/1.1\r\n") // must not hold the end up
			var clients []*client
			for range 20 {
				for _, path := range []string{"/echo", "/echo-pool", "/broadcast"} {
					clients = append(clients, g.upgraded(path))
				}
			}
			goodbyes := make(chan error, len(clients))
			for _, c := range clients {
				go func() { goodbyes <- c.expectClose(ws.CloseGoingAway) }()
			}
			g.end(sig)
			for range clients {
				if err := <-goodbyes; err != nil {
					t.Error(err)
				}
			}
			if log := g.Log.String(); !strings.Contains(log, "connections=60") || !strings.Contains(log, "msg=stopped") {
				t.Errorf("the log does not tell of the end:\n%s", log)
			}
		})
	}
}

// Clients that answer nothing, and one that does not even read, cannot hold the end up.
func TestStopWithSilentClients(t *testing.T) {
	t.Parallel()
	g := start(t)
	clients := []*client{g.upgraded("/echo"), g.upgraded("/echo-pool"), g.upgraded("/broadcast"), g.tcp("GET")}
	deaf := g.upgraded("/echo")
	_, _ = deaf.conn.Write(bytes.Repeat(masked(ws.OpBinary, make([]byte, 100_000)), 10))
	g.end(syscall.SIGTERM)
	for i, c := range clients[:3] {
		if m, err := c.read(); err != nil || m.op != ws.OpClose || !bytes.HasPrefix(m.payload, []byte{0x03, 0xe9}) {
			t.Errorf("client %d: %+v, %v; want close 1001", i, m, err)
		}
	}
}

func TestProfile(t *testing.T) {
	for kind, name := range map[string]string{"cpu": "cpu.pprof", "mem": "mem.pprof", "mutex": "mutex.pprof", "block": "block.pprof", "trace": "trace.out"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "profiles") // is made
			g := start(t, "--profile", kind, "--profile-dir", dir)
			c := g.upgraded("/echo-pool")
			if err := errors.Join(c.echo("hello"), c.conn.Close()); err != nil {
				t.Fatal(err)
			}
			g.end(syscall.SIGTERM)
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}
