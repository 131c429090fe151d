//go:build linux && !portable && ktlsguest

package gateway

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/internal/proctest"
	"roost/internal/testcert"
	"roost/poller/ktls"
	"roost/proto/ws"
)

// This test needs a kernel with its tls module: make ktls-guest runs it in a QEMU guest.

const (
	guestClients = 1000
	guestEnv     = "ROOST_PLAY" // address and kind for the child that plays the clients
)

// join connects and subscribes a client.
func join(nc net.Conn) error {
	_, _ = io.WriteString(nc, "GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	commands := `{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"all"}}`
	_, _ = nc.Write(ws.AppendMaskedFrame(nil, ws.OpText, [4]byte{1, 2, 3, 4}, []byte(commands)))
	var seen strings.Builder
	for b := make([]byte, 4096); !strings.Contains(seen.String(), `"id":2,"subscribe"`); {
		n, err := nc.Read(b)
		if err != nil {
			return fmt.Errorf("%w after %q", err, seen.String())
		}
		seen.Write(b[:n])
	}
	return nil
}

// TestGuestPlay is no test but the clients of TestGuestIdle, in a process of their own.
func TestGuestPlay(t *testing.T) {
	var addr, how string
	if _, err := fmt.Sscan(os.Getenv(guestEnv), &addr, &how); err != nil {
		return
	}
	held := make([]net.Conn, guestClients)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < guestClients; i += 8 {
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				if how == "tls" {
					nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}})
				}
				if err := join(nc); err != nil {
					t.Error(err)
				}
				held[i] = nc
			}
		})
	}
	wg.Wait()
	fmt.Println("connected")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(held)
}

// TestGuestIdle: a client of the gateway, connected and subscribed, weighs in the user-space heap with TLS what it does
// without.
func TestGuestIdle(t *testing.T) {
	n := start(t, func(o *Options) {
		o.Insecure, o.AllowAnonymous = true, true
		o.PingInterval, o.PongTimeout, o.StaleTimeout = time.Hour, time.Minute, time.Hour
	})
	certificate, key, err := testcert.New(time.Now().Add(time.Hour), "roost.test")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	secure, err := n.Server().ListenTLS("127.0.0.1:0", ktls.Options{MaxPerAddress: guestClients, Timeout: time.Minute,
		Config: &tls.Config{Certificates: []tls.Certificate{pair}}})
	if err != nil {
		t.Fatal(err)
	}
	wave := func(addr, how string) float64 {
		child := exec.Command("/proc/self/exe", "-test.run", "^TestGuestPlay$")
		child.Env = append(os.Environ(), guestEnv+"="+addr+" "+how)
		input, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		output, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		line, _ := bufio.NewReader(output).ReadString('\n')
		st := n.Stats()
		if kernel := n.Server().Stats().TLS.Kernel; line != "connected\n" || st.Clients != guestClients || st.Subscriptions != guestClients || how == "tls" && kernel != guestClients {
			t.Errorf("%s: %q, %d clients, %d subscriptions, %d carried by the kernel", how, line, st.Clients, st.Subscriptions, kernel)
		}
		time.Sleep(3 * time.Second) // turns that have nothing to do are given back
		alive := proctest.LiveHeap()
		_ = input.Close()
		_ = child.Wait()
		proctest.Eventually(t, func() error {
			if left := n.Server().Stats().Poller.Open; left > 0 {
				return fmt.Errorf("%d are left", left)
			}
			return nil
		})
		time.Sleep(3 * time.Second)
		return float64(alive-proctest.LiveHeap()) / guestClients
	}
	wave(n.addr, "plain") // makes room in the tables
	plain, with := wave(n.addr, "plain"), wave(secure.String(), "tls")
	t.Logf("user heap per connected and subscribed client: plain %.0f B, kernel TLS %.0f B", plain, with)
	if with > plain+100 {
		t.Error("a TLS client weighs over 100 B more than a plain one")
	}
}
