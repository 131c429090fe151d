//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"roost/internal/proctest"
	"roost/internal/testcert"
)

// upgradeTLS connects over TLS and returns the connection, upgraded, and the certificate's serial number.
func upgradeTLS(t *testing.T, addr, path string) (*tls.Conn, int64) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: "roost.test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, upgradeRequest(addr, path)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	return c, c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// echoed sends a masked text frame and reads it back.
func echoed(t *testing.T, c *tls.Conn) {
	t.Helper()
	if _, err := c.Write([]byte{0x81, 0x82, 0, 0, 0, 0, 'h', 'i'}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "\x81\x02hi" {
		t.Fatalf("% x, %v", b, err)
	}
}

// TestTLS: both kinds of address at once; a new certificate serves new clients and leaves the others alone, a bad one changes
// nothing; plain HTTP is told where it is; the figures are right.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	first := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	cert, key := testcert.Files(t, dir, "roost.test", first)
	g := start(t, "--tls-address", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--no-kernel-tls")
	secure := proctest.Fields(g.Out.String())["tls_address"]
	g.upgraded("/echo") // without TLS
	old, serial := upgradeTLS(t, secure, "/echo")
	if serial != first.Unix() {
		t.Errorf("serial number %d, want %d", serial, first.Unix())
	}
	echoed(t, old)
	res, err := http.Get("http://" + secure + "/")
	if err != nil || res.StatusCode != http.StatusBadRequest {
		t.Error("plain HTTP:", res, err)
	}
	if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if g.metrics()["roost_tls_reload_failures_total"] != 1 {
			return errors.New("the bad key was not noticed")
		}
		return nil
	})
	if _, serial := upgradeTLS(t, secure, "/echo"); serial != first.Unix() {
		t.Error("the bad pair changed what is served")
	}
	second := first.Add(time.Hour)
	testcert.Files(t, dir, "roost.test", second)
	eventually(t, func() error {
		if _, serial := upgradeTLS(t, secure, "/echo"); serial != second.Unix() {
			return errors.New("the old certificate is still served")
		}
		return nil
	})
	echoed(t, old)
	m := g.metrics()
	if got := m[fmt.Sprintf("roost_tls_certificate_not_after_seconds{file=%q}", cert)]; got != float64(second.Unix()) {
		t.Errorf("expires %v, want %d", got, second.Unix())
	}
	if m[`roost_tls_handshakes_total{outcome="fallback"}`] < 3 || m[`roost_tls_sessions{carrier="fallback"}`] < 1 {
		t.Error("handshakes and sessions are not counted")
	}
	g.end(os.Interrupt)
}

// TestTLSOnAddress: with certificates alone the address speaks TLS, and says so.
func TestTLSOnAddress(t *testing.T) {
	cert, key := testcert.Files(t, t.TempDir(), "roost.test", time.Now().Add(time.Hour))
	g := start(t, "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(g.page, "https://") {
		t.Errorf("the page is at %s", g.page)
	}
	c, _ := upgradeTLS(t, g.address, "/echo")
	echoed(t, c)
}

// TestCheckTLS: what is wrong is told before a start; what has expired is warned about.
func TestCheckTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := testcert.Files(t, dir, "roost.test", time.Now().Add(time.Hour))
	_, otherKey := testcert.Files(t, dir, "other.test", time.Now().Add(time.Hour))
	oldCert, oldKey := testcert.Files(t, dir, "old.test", time.Now().Add(-time.Hour))
	for _, c := range []struct{ flags, want string }{
		{"--tls-cert " + cert + " --tls-key " + key, "the configuration is good"},
		{"--tls-cert " + oldCert + " --tls-key " + oldKey, "expired"},
		{"--tls-cert " + cert, "each certificate needs its key"},
		{"--tls-key " + key, "each certificate needs its key"},
		{"--tls-cert " + cert + " --tls-key " + otherKey, "does not match"},
		{"--tls-cert " + dir + "/none --tls-key " + key, "no such file"},
		{"--tls-cert " + key + " --tls-key " + key, "certs:"},
		{"--tls-address 127.0.0.1:1", "needs certificates"},
		{"--tls-cert " + cert + " --tls-key " + key + " --tls-address nowhere", "--tls-address"},
		{"--acme-hosts chat.example.com --acme-accept-terms", "directory"},
		{"--acme-hosts chat.example.com --acme-dir " + dir, "--acme-accept-terms"},
		{"--acme-hosts *.example.com --acme-accept-terms --acme-dir " + dir, "wildcard"},
		{"--acme-dir " + dir, "without --acme-hosts"},
		{"--acme-hosts a.example.com --acme-accept-terms --acme-dir " + dir + " --acme-directory http://x", "https"},
		{"--max-tls-fallback=-1", "--max-tls-fallback"},
	} {
		out, _ := exec.Command(roost, append([]string{"check", "--dev"}, strings.Fields(c.flags)...)...).CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %s, want %q", c.flags, out, c.want)
		}
	}
}

// TestInternalTLS: the internal address by https, with a certificate that changes; the probe finds its way, and whoever
// leaves it open to others is warned.
func TestInternalTLS(t *testing.T) {
	dir := t.TempDir()
	first := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	cert, key := testcert.Files(t, dir, "roost.test", first)
	g := start(t, "--internal-tls-cert", cert, "--internal-tls-key", key)
	if g.internal == "" || !strings.Contains(g.Out.String(), "admin=https://"+g.internal+"/admin/") {
		t.Errorf("it said %s", g.Out.String())
	}
	pool := x509.NewCertPool()
	serial := func() int64 {
		pem, err := os.ReadFile(cert)
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "roost.test"}, DisableKeepAlives: true}}
		res, err := client.Get("https://" + g.internal + "/health")
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
		res.Body.Close()
		return res.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial(); n != first.Unix() {
		t.Errorf("serial number %d, want %d", n, first.Unix())
	}
	if res, err := http.Get("http://" + g.internal + "/health"); err == nil && res.StatusCode == http.StatusOK {
		t.Error("it speaks plain HTTP, too")
	}
	for _, flags := range [][]string{{"--internal-tls-cert", cert}, nil} {
		out, err := exec.Command(roost, append([]string{"health", "--internal-address", g.internal}, flags...)...).CombinedOutput()
		if ok := err == nil; ok != (flags != nil) {
			t.Errorf("health %v: %s, %v", flags, out, err)
		}
	}
	apiKey := proctest.Fields(g.Out.String())["api_key"]
	other, _ := testcert.Files(t, t.TempDir(), "roost.test", first.Add(time.Minute))
	for file, want := range map[string]string{cert: "serving: 0 of 0", other: "it has another certificate than"} {
		out, _ := exec.Command(roost, "drain", "--status", "--internal-address", g.internal, "--internal-tls-cert", file, "--api-key", apiKey).CombinedOutput()
		if !strings.Contains(string(out), want) {
			t.Errorf("drain --status: %s, want %s", out, want)
		}
	}
	second := first.Add(time.Hour)
	testcert.Files(t, dir, "roost.test", second)
	eventually(t, func() error {
		if serial() != second.Unix() {
			return errors.New("the old certificate is still served")
		}
		return nil
	})
	for flags, warned := range map[string]bool{"--internal-address=0.0.0.0:8001": true, "--internal-address=127.0.0.1:8001": false,
		"--internal-address=:8001 --internal-tls-cert=" + cert + " --internal-tls-key=" + key: false} {
		out, err := exec.Command(roost, append([]string{"check", "--dev"}, strings.Fields(flags)...)...).CombinedOutput()
		if err != nil || strings.Contains(string(out), "can be reached from other machines") != warned {
			t.Errorf("check %s: %s, %v", flags, out, err)
		}
	}
	g.end(os.Interrupt)
}
