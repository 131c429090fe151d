//go:build linux

package e2e

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"roost/internal/testcert"
)

// TestTLS: the SDK over wss, in both encodings, with messages of many records, until the gateway stops in order.
func TestTLS(t *testing.T) {
	cert, key := testcert.Files(t, t.TempDir(), "roost.test", time.Now().Add(time.Hour))
	eachEncoding(t, func(t *testing.T, binary bool) {
		g := start(t, "", "--dev", "--tls-cert", cert, "--tls-key", key)
		config := centrifuge.Config{TLSConfig: &tls.Config{InsecureSkipVerify: true}}
		url := "wss://" + g.address + "/connection/websocket"
		ann, bob := newSDK(t, url, binary, config), newSDK(t, url, binary, config)
		for _, c := range []*sdk{ann, bob} {
			c.connect(t)
			c.subscribe(t, "news", centrifuge.SubscriptionConfig{})
		}
		for _, data := range []string{`"short"`, `"` + strings.Repeat("x", 40<<10) + `"`} {
			if _, err := ann.Publish(inTime(t), "news", []byte(data)); err != nil {
				t.Fatal(err)
			}
			bob.wantPublications(t, "news", data)
		}
		if err := g.Cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if e := bob.wait(t, "connecting", ""); e.code == 3001 {
			return
		}
		if e := bob.wait(t, "connecting", ""); e.code != 3001 {
			t.Errorf("told to come back with %d, want 3001", e.code)
		}
	})
}

// A client that has not sent its first byte when another process takes over the address of TLS gets
// through, and so do later ones. A configuration that does not speak TLS there is refused.
func TestTakeoverTLS(t *testing.T) {
	t.Parallel()
	cert, key := testcert.Files(t, t.TempDir(), "roost.test", time.Now().Add(time.Hour))
	data := filepath.Join(t.TempDir(), "data")
	g := start(t, "", "--dev", "--data", data, "--tls-cert", cert, "--tls-key", key)
	silent, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	time.Sleep(100 * time.Millisecond) // accepted, most likely; if not it waits in the queue, which must do, too
	if _, err := launchAt(loopback+":0", loopback+":0", []string{"--dev", "--data", data, "--takeover"}); err == nil || !strings.Contains(err.Error(), "whether they speak TLS") {
		t.Errorf("without TLS: %v", err)
	}
	g = g.succeed(t)
	c := tls.Client(silent, &tls.Config{InsecureSkipVerify: true})
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	late := newSDK(t, "wss://"+g.address+"/connection/websocket", false, centrifuge.Config{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	late.connect(t)
}
