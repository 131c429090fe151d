//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// selfSigned writes a certificate and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"roost.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestTLS: the SDK over wss, in both encodings, with messages of many records, until the gateway stops in order.
func TestTLS(t *testing.T) {
	cert, key := selfSigned(t)
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
