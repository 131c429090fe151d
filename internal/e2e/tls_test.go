//go:build linux

package e2e

import (
	"crypto/tls"
	"os"
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
