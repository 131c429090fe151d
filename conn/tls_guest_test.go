//go:build linux && !portable && ktlsguest

package conn

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"hash"
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
	"roost/poller/ktls"
	"roost/proto/ws"
)

const (
	kernelTLS      = true
	carriedBy      = outcomeKernel
	clearTextAlert = tls.AlertError(10) // unexpected_message

	idleClients = 1000
	playEnv     = "ROOST_PLAY" // address and kind for the child that plays the clients
)

// TestGuestPlay is no test but the clients of TestGuestIdle, in a process of their own.
func TestGuestPlay(t *testing.T) {
	var addr, how string
	if _, err := fmt.Sscan(os.Getenv(playEnv), &addr, &how); err != nil {
		return
	}
	held := make([]*client, idleClients)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < idleClients; i += 8 {
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				if how == "tls" {
					nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}})
				}
				held[i] = wrap(t, nc)
				held[i].raw(upgradeRequest("/"))
				held[i].response("GET")
				held[i].raw(text("x"))
				held[i].expect(ws.OpText, "x")
			}
		})
	}
	wg.Wait()
	fmt.Println("connected")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(held)
}

// TestGuestIdle: a thousand clients; in the user-space heap one with TLS weighs what a plain one does.
func TestGuestIdle(t *testing.T) {
	// The clients answer no pings, and an emulated processor takes its time.
	s, plainAddr := one(t, true, &hooks{message: echo}, func(o *Options) { o.PingInterval, o.HandshakeTimeout = -1, patience })
	secureAddr, err := s.ListenTLS("127.0.0.1:0", ktls.Options{MaxPerAddress: idleClients, Timeout: patience,
		Config: &tls.Config{Certificates: []tls.Certificate{testCertificate()}}})
	if err != nil {
		t.Fatal(err)
	}
	wave := func(addr, how string) float64 {
		child := exec.Command("/proc/self/exe", "-test.run", "^TestGuestPlay$")
		child.Env = append(os.Environ(), playEnv+"="+addr+" "+how)
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
		if st := s.Stats(); line != "connected\n" || st.Open != idleClients || how == "tls" && st.TLS.Kernel != idleClients {
			t.Errorf("%s: %q, %d open, %d carried by the kernel", how, line, st.Open, st.TLS.Kernel)
		}
		alive := proctest.LiveHeap()
		_ = input.Close()
		_ = child.Wait()
		eventually(t, "all have gone", func() bool { return s.Stats().Poller.Open == 0 })
		return float64(alive-proctest.LiveHeap()) / idleClients
	}
	wave(plainAddr, "plain") // makes room in the tables
	plain, secure := wave(plainAddr, "plain"), wave(secureAddr.String(), "tls")
	t.Logf("user heap per idle client: plain %.0f B, kernel TLS %.0f B; io_uring %v", plain, secure, s.Poller().IOUring())
	if secure > plain+100 {
		t.Error("a TLS client weighs over 100 B more than a plain one")
	}
}

// TestGuestHalfRecord: half a record keeps no loop busy.
func TestGuestHalfRecord(t *testing.T) {
	s, addr := secure(t, true, &hooks{message: echo}, ktls.Options{})
	c := connectTLS(t, addr)
	c.raw(text("whole"))
	c.expect(ws.OpText, "whole")
	before := s.Stats().Poller.Reads
	_, _ = c.stream.(*tls.Conn).NetConn().Write([]byte{23, 3, 3})
	eventually(t, "the loop has looked", func() bool { return s.Stats().Poller.Reads > before })
	time.Sleep(300 * time.Millisecond) // in which a loop that spins reads 24,000 times
	if n := s.Stats().Poller.Reads - before; n > 4 {
		t.Errorf("%d reads for half a record", n)
	}
	_ = c.Close()
	noRelays(t, s)
}

// TestGuestCrowd: clients that send and are sent to at the same time, through batches of the ring.
func TestGuestCrowd(t *testing.T) {
	s, addr := secure(t, true, &hooks{message: echo}, ktls.Options{MaxPerAddress: 64})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			c := connectTLS(t, addr)
			for n := range 30 {
				m := strings.Repeat(string(rune('a'+i%26)), 1+n*n*i)
				c.raw(text(m))
				c.expect(ws.OpText, m)
			}
			c.raw(closing(ws.CloseNormal))
			c.expectClose(ws.CloseNormal)
		})
	}
	wg.Wait()
	outcome(t, s, outcomeKernel, 32)
	st := s.Stats()
	t.Logf("%d reads, %d sends, %d enters of the ring", st.Poller.Reads, st.Poller.Sends, st.Poller.Enters)
	for _, r := range []string{"write_error", "read_error", "tls_record"} {
		if st.Closed[r] > 0 {
			t.Errorf("%d connections ended by %s", st.Closed[r], r)
		}
	}
}

// records13 writes records of TLS 1.3 that crypto/tls never does (RFC 8446, 5.2 and 7.3).
type records13 struct {
	t    *testing.T
	to   net.Conn
	aead cipher.AEAD
	iv   []byte
	seq  uint64
}

// hostile is a connected client that can send any record; it has sent so many of data.
func hostile(t *testing.T, addr string) (*client, *records13) {
	t.Helper()
	var log bytes.Buffer
	nc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &log, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	c := wrap(t, nc)
	c.raw(upgradeRequest("/"))
	c.response("GET")
	var secret []byte
	for line := range strings.Lines(log.String()) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, _ = hex.DecodeString(f[2])
		}
	}
	h := func() hash.Hash { return sha256.New() }
	if len(secret) == 48 {
		h = func() hash.Hash { return sha512.New384() }
	}
	expand := func(label string, n int) []byte {
		info := append([]byte{0, byte(n), byte(6 + len(label))}, "tls13 "+label+"\x00"...)
		b, err := hkdf.Expand(h, secret, string(info), n)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r := &records13{t: t, to: nc.NetConn(), iv: expand("iv", 12), seq: 1}
	switch suite := nc.ConnectionState().CipherSuite; suite {
	case tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384:
		block, err := aes.NewCipher(expand("key", map[uint16]int{tls.TLS_AES_128_GCM_SHA256: 16, tls.TLS_AES_256_GCM_SHA384: 32}[suite]))
		if err == nil {
			r.aead, err = cipher.NewGCM(block)
		}
		if err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatalf("the suite is %s", tls.CipherSuiteName(suite))
	}
	return c, r
}

// write sends one record, encrypted.
func (r *records13) write(kind byte, p ...byte) {
	inner := append(p, kind)
	head := []byte{23, 3, 3, byte((len(inner) + 16) >> 8), byte(len(inner) + 16)}
	nonce := bytes.Clone(r.iv)
	for i := range 8 {
		nonce[11-i] ^= byte(r.seq >> (8 * i))
	}
	r.seq++
	if _, err := r.to.Write(r.aead.Seal(head, nonce, inner, head)); err != nil {
		r.t.Error(err)
	}
}

// TestGuestHostile: what comes that is no data ends this connection alone, counted by why, without a loop that spins.
func TestGuestHostile(t *testing.T) {
	raw := func(p ...byte) func(*records13) { return func(r *records13) { _, _ = r.to.Write(p) } }
	record := func(kind byte, p ...byte) func(*records13) { return func(r *records13) { r.write(kind, p...) } }
	const alert, handshake = 21, 22
	cases := []struct {
		name, label string
		send        func(*records13)
	}{
		{"KeyUpdate", "tls_record", record(handshake, 24, 0, 0, 1, 0)},
		{"fatal alert", "tls_record", record(alert, 2, 80)},
		{"warning alert", "tls_record", record(alert, 1, 90)},
		{"half an alert", "tls_record", record(alert, 1)},
		{"unknown type", "tls_record", record(99, 1, 2, 3)},
		{"close_notify in a message", "peer_gone", func(r *records13) { r.write(23, 0x81, 0x85, 1, 2); r.write(alert, 1, 0) }},
		{"bad MAC", "tls_record", raw(append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...)...)},
		{"bad version", "tls_record", raw(append([]byte{23, 9, 9, 0, 40}, make([]byte, 40)...)...)},
		{"too long", "tls_record", raw(append([]byte{23, 3, 3, 0xff, 0xff}, make([]byte, 40)...)...)},
		{"too short", "tls_record", raw(append([]byte{23, 3, 3, 0, 2}, make([]byte, 40)...)...)},
		{"clear text", "tls_record", raw([]byte("GET / HTTP/1.1\r\n\r\n")...)},
	}
	bothWays(t, func(t *testing.T, inline bool) {
		s, addr := secure(t, inline, &hooks{message: echo}, ktls.Options{MaxPerAddress: 64})
		other := connectTLS(t, addr)
		want := map[string]uint64{}
		for _, c := range cases {
			client, r := hostile(t, addr)
			r.write(23, []byte(text("fine"))...)
			client.expect(ws.OpText, "fine")
			before := s.Stats().Poller.Reads
			c.send(r)
			want[c.label]++
			eventually(t, c.name+": "+c.label, func() bool { return s.Stats().Closed[c.label] == want[c.label] })
			_ = client.Close()
			time.Sleep(100 * time.Millisecond) // in which a loop that spins reads 8,000 times
			if n := s.Stats().Poller.Reads - before; n > 12 {
				t.Errorf("%s: %d reads", c.name, n)
			}
			other.raw(text("still here"))
			other.expect(ws.OpText, "still here")
		}
		_ = other.Close()
		noRelays(t, s)
	})
}
