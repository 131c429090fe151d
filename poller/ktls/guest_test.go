//go:build linux && ktlsguest

package ktls

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// These tests need a kernel with its tls module: make ktls-guest runs them in a QEMU guest.

// kernelSession is a session that the kernel carries, with its client.
type kernelSession struct {
	*os.File // the server's descriptor, non-blocking, read edge-triggered by Go's poller
	client   *tls.Conn
	raw      *carried // the client's record layer, for records that crypto/tls never writes
}

// open makes a session with the kernel; first is what the client sends along with its Finished.
func open(t *testing.T, c sessionCase, first string) kernelSession {
	t.Helper()
	server, config := c.configs(t)
	h, done := start(t, Options{Config: server})
	l := listen(t)
	go accept(t, l, h, 1, c.head)
	var s secrets
	config.KeyLogWriter = &s
	client := dial(t, l, config)
	if _, err := client.Write([]byte(first)); err != nil {
		t.Fatal(err)
	}
	o := <-done
	if o.err != nil {
		t.Fatal(o.err)
	}
	if o.Fallback != nil {
		t.Fatal("the kernel does not carry the session")
	}
	f := os.NewFile(uintptr(o.FD), "session")
	t.Cleanup(func() { _ = f.Close() })
	records := client.NetConn().(*recordConn)
	k := keys{}
	if c.version == tls.VersionTLS13 {
		var err error
		if k, err = s.keys(c.version, c.suite, nil, 0); err != nil {
			t.Fatal(err)
		}
		k.read, k.write = k.write, k.read
		if first != "" {
			k.write.seq = 1
		}
	}
	return kernelSession{f, client, &carried{records.Conn, k}}
}

// read reads until n bytes have come or the session ends, the way its owner must.
func (s kernelSession) read(t *testing.T, n int) ([]byte, error) {
	t.Helper()
	var got []byte
	b := make([]byte, 64<<10)
	for controls := 0; len(got) < n; {
		n, err := s.Read(b)
		got = append(got, b[:max(n, 0)]...)
		switch {
		case errors.Is(err, unix.EIO):
			if controls++; controls > 8 {
				t.Fatal("EIO again and again")
			}
			raw, _ := s.SyscallConn()
			var end error
			if err := raw.Control(func(fd uintptr) { n, end = Control(int(fd), b) }); err != nil {
				t.Fatal(err)
			}
			got = append(got, b[:n]...)
			if end != nil {
				return got, end
			}
		case err != nil:
			return got, err
		}
	}
	return got, nil
}

// TestGuestSessions echoes sizes up to 1 MiB through every kind of session, and ends it in order.
func TestGuestSessions(t *testing.T) {
	for _, c := range sessionCases(t) {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, c, "first")
			if got, err := s.read(t, 5); string(got) != "first" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			for _, size := range []int{1, 16 << 10, 16<<10 + 1, 1 << 20} {
				echoThrough(t, s, size)
			}
			if err := s.client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := s.read(t, 1); len(got) != 0 || err != io.EOF {
				t.Fatalf("after close_notify %d bytes, %v; want EOF", len(got), err)
			}
			// The stream is half closed: what is pending still goes out, then our own close_notify.
			if _, err := s.Write([]byte("last")); err != nil {
				t.Fatal(err)
			}
			raw, _ := s.SyscallConn()
			var alert error
			if err := raw.Control(func(fd uintptr) { alert = Alert(int(fd), CloseNotify) }); err != nil || alert != nil {
				t.Fatal(err, alert)
			}
			if got, err := io.ReadAll(s.client); string(got) != "last" || err != nil {
				t.Fatalf("the client read %q, %v", got, err)
			}
		})
	}
}

func echoThrough(t *testing.T, s kernelSession, size int) {
	t.Helper()
	sent := make([]byte, size)
	_, _ = rand.Read(sent)
	failed := make(chan error, 1)
	go func() { _, err := s.client.Write(sent); failed <- err }()
	got, err := s.read(t, size)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes: the server read %d, %v", size, len(got), err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	go func() { _, err := s.Write(got); failed <- err }()
	back := make([]byte, size)
	if _, err := io.ReadFull(s.client, back); err != nil || !bytes.Equal(back, sent) {
		t.Fatalf("%d bytes came back wrong, %v", size, err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

var plain13 = sessionCase{version: tls.VersionTLS13, suite: tls.TLS_AES_128_GCM_SHA256, head: 1}

// TestGuestHostile: whatever comes that is no data ends the session with an error that says what it was.
func TestGuestHostile(t *testing.T) {
	record := func(kind byte, p ...byte) func(kernelSession) error {
		return func(s kernelSession) error { return s.raw.writeRecord(kind, p) }
	}
	bytesOf := func(p ...byte) func(kernelSession) error {
		return func(s kernelSession) error { _, err := s.raw.Write(p); return err }
	}
	for _, c := range []struct {
		name string
		send func(kernelSession) error
		want string
	}{
		{"KeyUpdate", record(recordHandshake, 24, 0, 0, 1, 0), ErrHandshakeMessage.Error()},
		{"fatal alert", record(recordAlert, 2, 80), "internal error"},
		{"half an alert", record(recordAlert, 1), "type 21 with 1 bytes"},
		{"alert without end", record(recordAlert, make([]byte, 5000)...), "type 21 with"},
		{"unknown type", record(99, 1, 2, 3), "type 99"},
		{"bad MAC", bytesOf(append([]byte{recordData, 3, 3, 0, 40}, make([]byte, 40)...)...), unix.EBADMSG.Error()},
		{"bad version", bytesOf(append([]byte{recordData, 9, 9, 0, 40}, make([]byte, 40)...)...), unix.EINVAL.Error()},
		{"too long", bytesOf(append([]byte{recordData, 3, 3, 0xff, 0xff}, make([]byte, 40)...)...), unix.EMSGSIZE.Error()},
		{"too short", bytesOf(append([]byte{recordData, 3, 3, 0, 2}, make([]byte, 40)...)...), unix.EBADMSG.Error()},
		{"clear text", bytesOf([]byte("GET / HTTP/1.1\r\nHost: ktls.test\r\n\r\n")...), unix.EINVAL.Error()},
		{"close_notify", record(recordAlert, 1, 0), "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, plain13, "first")
			if err := s.raw.writeRecord(recordData, []byte("good")); err != nil {
				t.Fatal(err)
			}
			if err := c.send(s); err != nil {
				t.Fatal(err)
			}
			got, err := s.read(t, 100)
			if string(got) != "firstgood" || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, then %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestGuestEmptyRecords: records without data, which TLS allows, neither end nor hold up the stream.
func TestGuestEmptyRecords(t *testing.T) {
	s := open(t, plain13, "first")
	for range 100 {
		if err := s.raw.writeRecord(recordData, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.raw.writeRecord(recordData, []byte("last")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.read(t, 9); string(got) != "firstlast" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestGuestHalfRecord: epoll tells of half a record once if it is edge-triggered, and of the rest again.
func TestGuestHalfRecord(t *testing.T) {
	s := open(t, plain13, "")
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(ep) }()
	events := make([]unix.EpollEvent, 1)
	wakeUps := func(fd int) (n int) { // until nothing comes for a while
		for {
			got, err := unix.EpollWait(ep, events, 200)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if got == 0 || n > 10 {
				return n
			}
			n++
			if m, err := unix.Read(fd, make([]byte, 100)); m > 0 || !errors.Is(err, unix.EAGAIN) {
				t.Errorf("read of half a record: %d, %v", m, err)
			}
		}
	}
	if err := raw.Control(func(fd uintptr) {
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET&0xffffffff, Fd: int32(fd)}
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, int(fd), &event); err != nil {
			t.Fatal(err)
		}
		_, _ = s.raw.Write([]byte{recordData, 3, 3})
		if n := wakeUps(int(fd)); n > 2 {
			t.Errorf("%d wake-ups for half a header", n)
		}
		_, _ = s.raw.Write(append([]byte{0, 40}, make([]byte, 39)...))
		if n := wakeUps(int(fd)); n > 2 {
			t.Errorf("%d wake-ups for half a body", n)
		}
		_, _ = s.raw.Write([]byte{0})
		if n, err := unix.EpollWait(ep, events, 5000); n != 1 {
			t.Errorf("the end of the record: %d events, %v", n, err)
		}
		if _, err := unix.Read(int(fd), make([]byte, 100)); !errors.Is(err, unix.EBADMSG) {
			t.Errorf("the whole record: %v", err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// TestGuestProbe: the cloud kernel has all the ciphers.
func TestGuestProbe(t *testing.T) {
	found, err := probe()
	if err != nil || len(found) != 6 {
		t.Errorf("found %v, %v; want 3 ciphers for 2 versions", found, err)
	}
	if slowGCM() {
		t.Error("aesni_intel is loaded, yet AES-GCM is said to be slow")
	}
}

// TestGuestPeerGone: a client that left before its keys were set is an error, no fallback.
func TestGuestPeerGone(t *testing.T) {
	l := listen(t)
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	_, _ = server.Read(make([]byte, 1)) // waits for the reset
	k := keys{version: tls.VersionTLS13, cipher: cipherAES128GCM}
	k.read = traffic{key: make([]byte, 16), iv: make([]byte, ivSize)}
	k.write = k.read
	if _, err := install(server, k); !errors.Is(err, unix.ENOTCONN) || errors.Is(err, errNoULP) {
		t.Errorf("install: %v, want ENOTCONN", err)
	}
}

// TestGuestWaitAll: the flag that keeps io_uring from leaving a send half done is refused here.
func TestGuestWaitAll(t *testing.T) {
	s := open(t, plain13, "")
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for flags, want := range map[int]error{
		unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL:                    nil,
		unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL | unix.MSG_WAITALL: unix.EOPNOTSUPP,
	} {
		var sendErr error
		if err := raw.Control(func(fd uintptr) { sendErr = unix.Send(int(fd), []byte("x"), flags) }); err != nil || !errors.Is(sendErr, want) {
			t.Errorf("send with flags %#x: %v, %v; want %v", flags, err, sendErr, want)
		}
	}
}
