//go:build linux && !portable

package conn

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"roost/poller/ktls"
)

func carryTLS() ktls.Options {
	return ktls.Options{NoKernel: !kernelTLS, Config: &tls.Config{Certificates: []tls.Certificate{testCertificate()}}}
}

// halves sends everything in two parts, so that records are cut in the middle.
type halves struct{ net.Conn }

func (h halves) Write(b []byte) (int, error) {
	n, err := h.Conn.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	time.Sleep(100 * time.Microsecond)
	m, err := h.Conn.Write(b[len(b)/2:])
	return n + m, err
}

// TestTLSCarried: clients of a TLS address go from server to server: those that have sent nothing
// yet, and, where the kernel carries the records, those that talk, in the middle of records and
// messages.
func TestTLSCarried(t *testing.T) {
	const address = "127.0.0.1:0"
	old := carryServer(t)
	addr, err := old.ListenTLS(address, carryTLS())
	if err != nil {
		t.Fatal(err)
	}
	silent := dialTCP(t, addr)
	stop := make(chan struct{})
	var all sync.WaitGroup
	var talking []*tls.Conn
	if kernelTLS {
		for _, path := range []string{"/moving", "/echo", "/moving", "/echo"} {
			c := tls.Client(halves{dialTCP(t, addr)}, &tls.Config{InsecureSkipVerify: true})
			talking = append(talking, c)
			upgradeOver(t, c, path)
			all.Go(func() {
				if err := (&talker{c, path}).talk(stop); err != nil {
					t.Error(err)
				}
			})
		}
	}
	eventually(t, "all are there", func() bool { return old.Poller().Live() == 1+len(talking) })
	for round := range 4 {
		next := carryServer(t)
		if err := next.Secure(address, carryTLS()); err != nil {
			t.Fatal(err)
		}
		done, err := take(t, old, next, nil)
		if err != nil || done.Conns != 1+len(talking) {
			t.Fatalf("round %d: %+v, %v", round, done, err)
		}
		if s := old.Stats().TLS.Kernel; s != 0 {
			t.Errorf("round %d: the old server counts %d sessions", round, s)
		}
		old = next
		time.Sleep(20 * time.Millisecond)
	}
	if n := old.Stats().TLS.Kernel; n != int64(len(talking)) {
		t.Errorf("%d sessions are counted, want %d", n, len(talking))
	}
	c := tls.Client(silent, &tls.Config{InsecureSkipVerify: true})
	upgradeOver(t, c, "/echo")
	close(stop)
	all.Wait()
	for _, c := range talking {
		if err := c.CloseWrite(); err != nil { // close_notify
			t.Error(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("after the end of the client's side: %v", err)
		}
	}
}

// TestTLSRefused: a server that has no such address refuses a client of it, which stays.
func TestTLSRefused(t *testing.T) {
	old := carryServer(t)
	addr, err := old.ListenTLS("127.0.0.1:0", carryTLS())
	if err != nil {
		t.Fatal(err)
	}
	silent := dialTCP(t, addr)
	eventually(t, "it is there", func() bool { return old.Poller().Live() == 1 })
	if _, err := take(t, old, carryServer(t), nil); err == nil {
		t.Fatal("a server without TLS has taken it")
	}
	upgradeOver(t, tls.Client(silent, &tls.Config{InsecureSkipVerify: true}), "/echo")
}

// TestTLSAgain: every ListenTLS has its own options, though the address is written alike.
func TestTLSAgain(t *testing.T) {
	s := carryServer(t)
	if err := s.Secure("127.0.0.1:0", carryTLS()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.ListenTLS("127.0.0.1:0", carryTLS()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.tls.handshakers); n != 2 {
		t.Errorf("%d addresses have their own handshakes, want 2", n)
	}
}

func upgradeOver(t *testing.T, c net.Conn, path string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, upgradeRequest(path)); err != nil {
		t.Fatal(err)
	}
	if err := readHead(c); err != nil {
		t.Fatal(err)
	}
}
