package ktls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Constants of linux/tls.h and linux/tcp.h that x/sys does not have.
const (
	solTLS        = 282
	tlsTX         = 1
	tlsRX         = 2
	setRecordType = 1
	getRecordType = 2
	upperLayer    = "tls"
)

// errNoULP: the socket is as it was.
var errNoULP = errors.New("ktls: the kernel has no TLS for this socket (modprobe tls)")

// errRecord: what came has no business in a session.
var errRecord = errors.New("ktls: unexpected record")

// install puts the keys into the socket and returns a duplicate of its descriptor, non-blocking and close-on-exec. After
// errNoULP c is as it was, after any other error it is of no use.
func install(c net.Conn, k keys) (int, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return -1, errNoULP
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("ktls: descriptor of the connection: %w", err)
	}
	fd := -1
	if controlErr := raw.Control(func(s uintptr) {
		if err = setKeys(int(s), k); err != nil {
			return
		}
		if fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			err = fmt.Errorf("ktls: duplicate descriptor: %w", err)
		}
	}); controlErr != nil {
		return -1, fmt.Errorf("ktls: descriptor of the connection: %w", controlErr)
	}
	return fd, err
}

func setKeys(fd int, k keys) error {
	switch err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, upperLayer); {
	case errors.Is(err, unix.ENOTCONN):
		return fmt.Errorf("ktls: the peer has gone: %w", err)
	case err != nil:
		return fmt.Errorf("%w: %w", errNoULP, err)
	}
	if err := unix.SetsockoptString(fd, solTLS, tlsTX, string(k.info(k.write))); err != nil {
		return fmt.Errorf("ktls: set TLS_TX: %w", err)
	}
	if err := unix.SetsockoptString(fd, solTLS, tlsRX, string(k.info(k.read))); err != nil {
		return fmt.Errorf("ktls: set TLS_RX: %w", err)
	}
	return nil
}

// probe asks the kernel, on connections to itself, which versions and ciphers it takes. It returns an error if it takes
// none.
func probe() (supported, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("ktls: probe: %w", err)
	}
	defer func() { _ = l.Close() }()
	found := supported{}
	var first error
	for _, u := range suites {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			k := keys{version: version, cipher: u.cipher}
			if found[k.kind()] {
				continue
			}
			zero := traffic{key: make([]byte, u.keySize), iv: make([]byte, ivSize)}
			k.read, k.write = zero, zero
			if err := probeOne(l, k); err == nil {
				found[k.kind()] = true
			} else if first == nil {
				first = err
			}
		}
	}
	if len(found) == 0 {
		return nil, first
	}
	return found, nil
}

func probeOne(l net.Listener, k keys) error {
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return fmt.Errorf("ktls: probe: %w", err)
	}
	defer func() { _ = c.Close() }()
	peer, err := l.Accept()
	if err != nil {
		return fmt.Errorf("ktls: probe: %w", err)
	}
	defer func() { _ = peer.Close() }()
	fd, err := install(c, k)
	if fd >= 0 {
		_ = unix.Close(fd)
	}
	return err
}

// fastGCM are the drivers of the whole of AES-GCM in the processor's own instructions, as /proc/crypto calls them.
var fastGCM = regexp.MustCompile(`(?m)^driver\s*: (generic-gcm-(aesni|vaes)|gcm-aes-ce)`)

// slowGCM reports whether the kernel encrypts AES-GCM without its fast module: twice the CPU, three times the memory.
func slowGCM() bool {
	text, err := os.ReadFile("/proc/crypto")
	return err == nil && !fastGCM.Match(text)
}

// Control takes the record for which a read of a descriptor with kernel TLS failed with EIO. It returns
//   - io.EOF for close_notify: the peer sends no more, what is pending may still be written (RFC 8446, 6.1);
//   - a [tls.AlertError] for any other alert, and [ErrHandshakeMessage] for what the kernel cannot follow: the
//     connection cannot go on;
//   - nil for data or nothing: n bytes were put into b, and reading goes on.
//
// It does not block. b should hold some 1 KB.
func Control(fd int, b []byte) (n int, err error) {
	oob := make([]byte, unix.CmsgSpace(1))
	n, oobn, _, _, err := unix.Recvmsg(fd, b, oob, unix.MSG_DONTWAIT)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("ktls: receive record: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, fmt.Errorf("ktls: type of the record: %w", err)
	}
	kind := byte(recordData)
	for _, m := range messages {
		if m.Header.Level == solTLS && m.Header.Type == getRecordType && len(m.Data) > 0 {
			kind = m.Data[0]
		}
	}
	switch {
	case kind == recordData && n == 0 && len(messages) == 0:
		return 0, io.ErrUnexpectedEOF // the end of the stream without close_notify
	case kind == recordData:
		return n, nil
	case kind == recordAlert && n == 2:
		if CloseNotify == tls.AlertError(b[1]) {
			return 0, io.EOF
		}
		return 0, tls.AlertError(b[1])
	case kind == recordHandshake:
		return 0, ErrHandshakeMessage
	}
	return 0, fmt.Errorf("%w: type %d with %d bytes", errRecord, kind, n)
}

// Answer returns the alert (RFC 8446, 6.2) that tells the peer why its session ends, after a read or [Control] failed
// with err; false where there is nothing to tell.
func Answer(err error) (tls.AlertError, bool) {
	const unexpectedMessage, badRecordMAC, recordOverflow tls.AlertError = 10, 20, 22
	switch {
	case errors.Is(err, unix.EBADMSG):
		return badRecordMAC, true
	case errors.Is(err, unix.EMSGSIZE):
		return recordOverflow, true
	case errors.Is(err, unix.EINVAL) || errors.Is(err, ErrHandshakeMessage) || errors.Is(err, errRecord):
		return unexpectedMessage, true
	}
	return 0, false
}

// Alert sends an alert (RFC 8446, 6) on a descriptor with kernel TLS. It does not block: EAGAIN means that the socket is
// full and nothing was sent.
func Alert(fd int, a tls.AlertError) error {
	level := byte(2)
	if a == CloseNotify {
		level = 1
	}
	oob := make([]byte, unix.CmsgSpace(1))
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(oob)))
	h.Level, h.Type = solTLS, setRecordType
	h.SetLen(unix.CmsgLen(1))
	oob[unix.CmsgLen(0)] = recordAlert
	if err := unix.Sendmsg(fd, []byte{level, byte(a)}, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("ktls: send alert: %w", err)
	}
	return nil
}
