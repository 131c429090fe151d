//go:build linux

package ktls

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
	_ "unsafe" // for linkname

	"golang.org/x/crypto/chacha20poly1305"
)

// crypto/tls lets nobody choose TLS 1.3 suites; these are what quic-go reaches for too.
//
//go:linkname suitesTLS13 crypto/tls.defaultCipherSuitesTLS13
var suitesTLS13 []uint16

//go:linkname suitesTLS13NoAES crypto/tls.defaultCipherSuitesTLS13NoAES
var suitesTLS13NoAES []uint16

// onlySuite makes crypto/tls know one suite of TLS 1.3 until the test ends.
func onlySuite(t *testing.T, id uint16) {
	a, b := suitesTLS13, suitesTLS13NoAES
	suitesTLS13, suitesTLS13NoAES = []uint16{id}, []uint16{id}
	t.Cleanup(func() { suitesTLS13, suitesTLS13NoAES = a, b })
}

// certificate is self-signed; extra bytes make it large.
func certificate(t *testing.T, extra int) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ktls.test"}, DNSNames: []string{"ktls.test"},
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		ExtraExtensions: []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, extra)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// carried is the record layer in user space, made from the same keys as the kernel's: it shows that they are right, and
// lets tests write records that crypto/tls never would.
type carried struct {
	net.Conn
	k keys
}

func aead(k keys, t traffic) cipher.AEAD {
	if k.cipher == cipherChaCha20Poly1305 {
		a, err := chacha20poly1305.New(t.key)
		if err != nil {
			panic(err)
		}
		return a
	}
	block, err := aes.NewCipher(t.key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

// explicit reports whether nonces travel in the records (RFC 5288, 3).
func (k keys) explicit() bool {
	return k.version == tls.VersionTLS12 && k.cipher != cipherChaCha20Poly1305
}

// nonce of the record t.seq (RFC 8446, 5.3; RFC 7905, 2).
func (k keys) nonce(t traffic) []byte {
	n := bytes.Clone(t.iv)
	if k.explicit() {
		binary.BigEndian.PutUint64(n[saltSize:], t.seq)
		return n
	}
	seq := binary.BigEndian.AppendUint64(nil, t.seq)
	for i, b := range seq {
		n[ivSize-8+i] ^= b
	}
	return n
}

// additional data of a record (RFC 8446, 5.2; RFC 5246, 6.2.3.3).
func (k keys) additional(seq uint64, kind byte, clear, sealed int) []byte {
	if k.version == tls.VersionTLS13 {
		return []byte{recordData, 3, 3, byte(sealed >> 8), byte(sealed)}
	}
	return append(binary.BigEndian.AppendUint64(nil, seq), kind, 3, 3, byte(clear>>8), byte(clear))
}

func (c *carried) writeRecord(kind byte, p []byte) error {
	a, outer, inner := aead(c.k, c.k.write), kind, p
	if c.k.version == tls.VersionTLS13 {
		outer, inner = recordData, append(bytes.Clone(p), kind)
	}
	nonce := c.k.nonce(c.k.write)
	var body []byte
	if c.k.explicit() {
		body = bytes.Clone(nonce[saltSize:])
	}
	body = append(body, a.Seal(nil, nonce, inner, c.k.additional(c.k.write.seq, kind, len(p), len(inner)+a.Overhead()))...)
	c.k.write.seq++
	_, err := c.Write(append([]byte{outer, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...))
	return err
}

func (c *carried) readRecord() (kind byte, p []byte, err error) {
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(c, header); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(header[3:]))
	if _, err := io.ReadFull(c, body); err != nil {
		return 0, nil, err
	}
	a := aead(c.k, c.k.read)
	nonce := c.k.nonce(c.k.read)
	if c.k.explicit() {
		copy(nonce[saltSize:], body)
		body = body[8:]
	}
	p, err = a.Open(nil, nonce, body, c.k.additional(c.k.read.seq, header[0], len(body)-a.Overhead(), len(body)))
	if err != nil {
		return 0, nil, err
	}
	c.k.read.seq++
	if c.k.version == tls.VersionTLS12 {
		return header[0], p, nil
	}
	return p[len(p)-1], p[:len(p)-1], nil
}

// outcome is what Options.Done was called with.
type outcome struct {
	Session
	err error
}

// accept lets h take n connections of l, each after some first bytes were read.
func accept(t *testing.T, l net.Listener, h *Handshaker, n, head int) {
	for range n {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		first := make([]byte, head)
		if _, err := io.ReadFull(c, first); err != nil {
			t.Error(err)
		}
		if err := h.Take(c, first); err != nil {
			t.Error(err)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// dial makes the client's handshake; the client takes no byte from the socket that belongs to no handshake record.
func dial(t *testing.T, l net.Listener, config *tls.Config) *tls.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	config.InsecureSkipVerify = true
	if config.ServerName == "" {
		config.ServerName = "ktls.test"
	}
	client := tls.Client(&recordConn{Conn: c}, config)
	if err := client.Handshake(); err != nil {
		t.Fatal("client's handshake:", err)
	}
	return client
}

// sessionCase is a kind of session that the kernel must carry.
type sessionCase struct {
	name           string
	version, suite uint16
	head           int
	server, client func(*tls.Config)
}

func sessionCases(t *testing.T) []sessionCase {
	fat := certificate(t, 40_000)
	clientCertificate := func(c *tls.Config) { c.Certificates = []tls.Certificate{fat} }
	demand := func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }
	curve := func(id tls.CurveID) func(*tls.Config) {
		return func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{id} }
	}
	protocols := func(names ...string) func(*tls.Config) { return func(c *tls.Config) { c.NextProtos = names } }
	var cases []sessionCase
	for id, u := range suites {
		version := uint16(tls.VersionTLS12)
		if id>>8 == 0x13 {
			version = tls.VersionTLS13
		} else if s := tls.CipherSuiteName(id); bytes.Contains([]byte(s), []byte("_RSA_")) {
			continue // the same keys, another certificate
		}
		cases = append(cases, sessionCase{name: fmt.Sprint(tls.CipherSuiteName(id), " ", u.keySize), version: version, suite: id, head: 1})
	}
	return append(cases,
		sessionCase{name: "no head", head: 0, version: tls.VersionTLS13, suite: tls.TLS_AES_128_GCM_SHA256},
		sessionCase{name: "a header and more", head: 70, version: tls.VersionTLS13, suite: tls.TLS_AES_128_GCM_SHA256},
		sessionCase{name: "hello retry", version: tls.VersionTLS13, suite: tls.TLS_AES_128_GCM_SHA256, server: curve(tls.CurveP384)},
		sessionCase{name: "post-quantum", version: tls.VersionTLS13, suite: tls.TLS_AES_128_GCM_SHA256, server: curve(tls.X25519MLKEM768)},
		sessionCase{name: "ALPN", version: tls.VersionTLS13, suite: tls.TLS_AES_128_GCM_SHA256, server: protocols("http/1.1"), client: protocols("h2", "http/1.1")},
		sessionCase{name: "no tickets", version: tls.VersionTLS13, suite: tls.TLS_AES_128_GCM_SHA256, server: func(c *tls.Config) { c.SessionTicketsDisabled = true }},
		sessionCase{name: "large client certificate", version: tls.VersionTLS13, suite: tls.TLS_AES_128_GCM_SHA256, server: demand, client: clientCertificate},
		sessionCase{name: "client certificate, TLS 1.2", version: tls.VersionTLS12, suite: tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, server: demand, client: clientCertificate},
	)
}

// configs of both sides.
func (c sessionCase) configs(t *testing.T) (server, client *tls.Config) {
	server = &tls.Config{Certificates: []tls.Certificate{certificate(t, 0)}}
	client = &tls.Config{MinVersion: c.version, MaxVersion: c.version,
		ClientSessionCache: tls.NewLRUClientSessionCache(1)} // without it no tickets come
	if c.version == tls.VersionTLS13 {
		onlySuite(t, c.suite)
	} else {
		client.CipherSuites = []uint16{c.suite}
	}
	if c.server != nil {
		c.server(server)
	}
	if c.client != nil {
		c.client(client)
	}
	return server, client
}
