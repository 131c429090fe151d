//go:build linux && ktlsguest

package ktls

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roost/poller"
)

const (
	idleClients = 1000
	childEnv    = "KTLS_CLIENTS" // address and kind for the child that plays the clients
)

func dialRaw(t *testing.T, l net.Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(playClients())
	}
	os.Exit(m.Run())
}

// playClients connects, exchanges one byte per client, says so, and keeps them until its input ends.
func playClients() int {
	var address, how string
	if _, err := fmt.Sscan(os.Getenv(childEnv), &address, &how); err != nil {
		fmt.Println(err)
		return 1
	}
	var wg sync.WaitGroup
	next := make(chan struct{}, idleClients)
	for range idleClients {
		next <- struct{}{}
	}
	close(next)
	held := make(chan net.Conn, idleClients)
	config := &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}}
	for range 8 {
		wg.Go(func() {
			for range next {
				c, err := net.Dial("tcp", address)
				if err == nil && how == "tls" {
					c = tls.Client(c, config)
				}
				if err == nil {
					_, err = c.Write([]byte("x"))
				}
				if err == nil {
					_, err = io.ReadFull(c, make([]byte, 1))
				}
				if err != nil {
					fmt.Println(err)
					return
				}
				held <- c
			}
		})
	}
	wg.Wait()
	fmt.Println("connected", len(held))
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(held)
	return 0
}

// echo answers with what came.
type echo struct{ loop *poller.Loop }

func (e *echo) Open(*poller.Conn)                  {}
func (e *echo) Data(c *poller.Conn, b []byte)      { _, _ = e.loop.Write(c, nil, b, false) }
func (e *echo) EOF(*poller.Conn) bool              { return false }
func (e *echo) Blocked(*poller.Conn, int)          {}
func (e *echo) Due(*poller.Conn)                   {}
func (e *echo) Closed(*poller.Conn, poller.Reason) {}

// onLoop makes a loop that echoes, a Handshaker that gives it its sessions, and what adopts a plain descriptor.
func onLoop(t *testing.T) (*poller.Poller, *Handshaker, func(fd int)) {
	// Sends through the ring carry MSG_WAITALL, which the kernel's TLS refuses: docs/adr/0009-kernel-tls.md.
	p, err := poller.New(poller.Options{Loops: 1, NoIOUring: true, Handler: func(l *poller.Loop) poller.Handler { return &echo{l} }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(context.Background()) })
	loop := p.Loops()[0]
	adopt := func(fd int) {
		loop.Post(func() {
			if err := loop.Adopt(poller.Detached{FD: fd}, new(poller.Conn), func(*poller.Conn) {}); err != nil {
				t.Error(err)
			}
		})
	}
	h, err := New(Options{Config: &tls.Config{Certificates: []tls.Certificate{certificate(t, 0)}}, MaxPerAddress: 1024,
		Done: func(s Session, err error) {
			if err != nil || s.Fallback != nil {
				t.Error("handshake:", err, s.Fallback)
				return
			}
			adopt(s.FD)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return p, h, adopt
}

// TestGuestLoop: a few clients send much and many small records through the loop at once, and get all of it back.
func TestGuestLoop(t *testing.T) {
	_, h, _ := onLoop(t)
	l := listen(t)
	const clients = 4
	go accept(t, l, h, clients, 1)
	var wg sync.WaitGroup
	for range clients {
		client := dial(t, l, &tls.Config{})
		if err := client.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		sent := make([]byte, 1<<20+1)
		_, _ = rand.Read(sent)
		wg.Go(func() {
			for rest := sent; len(rest) > 0; {
				n := min(len(rest), 1+len(rest)/7)
				if _, err := client.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
		})
		wg.Go(func() {
			back := make([]byte, len(sent))
			if n, err := io.ReadFull(client, back); err != nil || !bytes.Equal(back, sent) {
				t.Errorf("%d bytes came back, %v", n, err)
			}
		})
	}
	wg.Wait()
}

// TestGuestIdle: a thousand clients on a loop; in the user-space heap one with TLS weighs what a plain one does.
func TestGuestIdle(t *testing.T) {
	p, h, adopt := onLoop(t)
	wave := func(how string) float64 {
		l := listen(t)
		go func() {
			if how == "tls" {
				accept(t, l, h, idleClients, 0)
				return
			}
			for range idleClients {
				adopt(acceptPlain(t, l))
			}
		}()
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), childEnv+"="+l.Addr().String()+" "+how)
		input, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		output, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		child.Stderr = os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		line, _ := bufio.NewReader(output).ReadString('\n')
		if line != fmt.Sprintln("connected", idleClients) || p.Live() != idleClients {
			t.Errorf("%s: %q, live %d", how, line, p.Live())
		}
		alive := heap()
		_ = input.Close()
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
		for p.Live() > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		return float64(alive-heap()) / idleClients
	}
	plain, secure := wave("plain"), wave("tls")
	t.Logf("user heap per idle client: plain %.0f B, kernel TLS %.0f B", plain, secure)
	if secure > plain+100 {
		t.Error("a TLS client weighs over 100 B more than a plain one")
	}
}

func acceptPlain(t *testing.T, l net.Listener) int {
	c, err := l.Accept()
	if err != nil {
		t.Error(err)
		return -1
	}
	defer func() { _ = c.Close() }()
	fd := -1
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(s uintptr) { fd, _ = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
	}
	if err != nil || fd < 0 {
		t.Error("duplicate:", err)
	}
	return fd
}

// heap is what is alive, in bytes.
func heap() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
