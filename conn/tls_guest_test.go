//go:build linux && !portable && ktlsguest

package conn

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
		alive := liveHeap()
		_ = input.Close()
		_ = child.Wait()
		eventually(t, "all have gone", func() bool { return s.Stats().Poller.Open == 0 })
		return float64(alive-liveHeap()) / idleClients
	}
	wave(plainAddr, "plain") // makes room in the tables
	plain, secure := wave(plainAddr, "plain"), wave(secureAddr.String(), "tls")
	t.Logf("user heap per idle client: plain %.0f B, kernel TLS %.0f B; io_uring %v", plain, secure, s.Poller().IOUring())
	if secure > plain+100 {
		t.Error("a TLS client weighs over 100 B more than a plain one")
	}
}

func liveHeap() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
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
