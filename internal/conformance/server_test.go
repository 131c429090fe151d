package conformance

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/flate"
)

// What the reference server is set to.
const (
	refMaxMessage = 16 << 20
	refHandshake  = 4 * time.Second
	refIdle       = 4 * time.Second
)

// refServer is a strict echo server, slow and plain, with faults to switch on:
// each must make the suites fail. It shares only the inflater with them.
type refServer struct {
	faults map[string]bool // the name of what it does not do or does wrong
	idle   time.Duration   // pings after half of it, ends after all
	ln     net.Listener
	wg     sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]bool
}

func startServer(t testing.TB, idle time.Duration, faults ...string) (url string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &refServer{faults: map[string]bool{}, idle: idle, ln: ln, conns: map[net.Conn]bool{}}
	for _, f := range faults {
		s.faults[f] = true
	}
	s.wg.Go(s.accept)
	t.Cleanup(func() {
		ln.Close()
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return "ws://" + ln.Addr().String() + "/echo"
}

func (s *refServer) accept() {
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			c := &refConn{refServer: s, Conn: conn, tcp: conn.(*net.TCPConn)}
			c.r = bufio.NewReader(c)
			c.serve()
			conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

type refConn struct {
	*refServer
	net.Conn
	tcp  *net.TCPConn
	r    *bufio.Reader
	open bool // upgraded, and not yet closing: the idle deadline holds

	deflate    bool
	windowBits int
	writer     *flate.Writer
	packed     bytes.Buffer
}

// Read is the connection's, with the idle deadline.
func (c *refConn) Read(b []byte) (int, error) {
	for pinged := false; ; pinged = true {
		if c.open {
			c.SetReadDeadline(time.Now().Add(c.idle / 2))
		}
		n, err := c.Conn.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !c.open || pinged {
			return n, err
		}
		c.Write([]byte{0x89, 0})
	}
}

// linger ends the connection so that what was written arrives.
func (c *refConn) linger() {
	if c.faults["no linger"] {
		// What a close with unread input does, also when none has arrived yet.
		c.tcp.SetLinger(0)
		return
	}
	c.open = false
	c.tcp.CloseWrite()
	c.SetReadDeadline(time.Now().Add(time.Second))
	if c.faults["keep TCP"] {
		time.Sleep(time.Second)
	}
	io.Copy(io.Discard, c.Conn)
}

func (c *refConn) serve() {
	status, extra := c.upgrade()
	if status == 0 {
		return
	}
	if status != 101 {
		fmt.Fprintf(c, "HTTP/1.1 %d No\r\nConnection: close\r\nContent-Length: 0\r\n%s\r\n", status, extra)
		c.linger()
		return
	}
	c.open = true
	code, reason := c.frames()
	if code > 0 && !c.faults["no close frame"] {
		body := closeBody(uint16(code), reason)
		if code == noCode {
			body = nil
		}
		c.Write(c.frame(opClose, false, body))
	}
	if code > 0 && c.faults["keep TCP"] {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		c.open = false
		io.Copy(io.Discard, c.Conn)
		return
	}
	if code >= 0 {
		c.linger()
	}
}

// upgrade reads the head and answers it when it is right; otherwise it returns
// the status to refuse it with, 0 to end without a word.
func (c *refConn) upgrade() (status int, extra string) {
	c.SetReadDeadline(time.Now().Add(refHandshake))
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		b, err := c.r.ReadByte()
		switch {
		case err != nil:
			return 0, ""
		case len(head) == 0 && (b < 'A' || b > 'Z'):
			return 400, ""
		case len(head) == maxHead:
			return 431, ""
		}
		head = append(head, b)
		if c.faults["deadline moves"] {
			c.SetReadDeadline(time.Now().Add(refHandshake))
		}
	}
	lines := strings.Split(string(head[:len(head)-4]), "\r\n")
	headers, ok := c.parse(lines[1:])
	if !ok {
		return 400, ""
	}
	if status, extra := c.check(strings.Split(lines[0], " "), headers); status != 0 {
		return status, extra
	}
	sum := sha1.Sum([]byte(headers["sec-websocket-key"][0] + acceptGUID))
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), c.negotiate(headers["sec-websocket-extensions"]))
	c.SetReadDeadline(time.Time{})
	return 101, ""
}

func (c *refConn) parse(lines []string) (map[string][]string, bool) {
	headers := map[string][]string{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsAny(name, " \t") || strings.ContainsRune(value, 0) {
			if c.faults["any header"] {
				continue
			}
			return nil, false
		}
		name = strings.ToLower(name)
		headers[name] = append(headers[name], strings.TrimSpace(value))
	}
	return headers, true
}

func (c *refConn) check(request []string, headers map[string][]string) (status int, extra string) {
	has := func(name, token string) bool {
		return strings.Contains(strings.ToLower(strings.Join(headers[name], ",")), token)
	}
	if len(request) != 3 {
		return 400, ""
	}
	if _, err := url.ParseRequestURI(request[1]); err != nil {
		return 400, ""
	}
	key := headers["sec-websocket-key"]
	switch {
	case request[2] != "HTTP/1.1":
		return 505, ""
	case request[0] != "GET" && !c.faults["any method"]:
		return 405, ""
	case len(headers["host"]) != 1 && !c.faults["any host"]:
		return 400, ""
	case len(headers["content-length"])+len(headers["transfer-encoding"]) > 0:
		return 400, ""
	case request[1] != "/echo":
		return 404, ""
	case !has("upgrade", "websocket"), !has("connection", "upgrade"):
		return 400, ""
	case !slices.Equal(headers["sec-websocket-version"], []string{"13"}) && !c.faults["any version"]:
		return 426, "Sec-WebSocket-Version: 13\r\n"
	case len(headers["origin"]) > 0 && headers["origin"][0] == "http://evil.example":
		return 403, ""
	}
	if raw, err := base64.StdEncoding.DecodeString(strings.Join(key, ",")); (err != nil || len(raw) != 16) && !c.faults["any key"] {
		return 400, ""
	}
	return 0, ""
}

// negotiate takes the first offer, without context takeover on either side.
func (c *refConn) negotiate(offers []string) string {
	if len(offers) == 0 || c.faults["no deflate"] {
		return ""
	}
	first, _, _ := strings.Cut(offers[0], ",")
	c.deflate, c.windowBits = true, maxWindowBits
	answer := "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	if strings.Contains(first, "server_max_window_bits=9") {
		answer += "; server_max_window_bits=9"
		c.windowBits = 9
	}
	if c.windowBits == maxWindowBits || c.faults["window broken"] {
		c.writer, _ = flate.NewWriter(&c.packed, flate.BestSpeed)
	} else {
		c.writer, _ = flate.NewWriterWindow(&c.packed, 512)
	}
	return "Sec-WebSocket-Extensions: " + answer + "\r\n"
}

// frame is a server's frame.
func (c *refConn) frame(op byte, rsv bool, payload []byte) []byte {
	if c.faults["long lengths"] {
		return append(binary.BigEndian.AppendUint64([]byte{0x80 | op, 127}, uint64(len(payload))), payload...)
	}
	b := appendHeader(nil, op, true, map[bool]byte{true: rsv1}[rsv], false, uint64(len(payload)))
	return append(b, payload...)
}

// refMessage is the message that has begun.
type refMessage struct {
	op      byte
	packed  bool
	payload []byte
	checked int // bytes known to be UTF-8
}

// frames echoes until the end and returns the code of the close frame to send,
// 0 to end without one, -1 when the client's end is broken.
func (c *refConn) frames() (code int, reason string) {
	var m refMessage
	for {
		var b [8]byte
		if _, err := io.ReadFull(c.r, b[:2]); err == io.EOF {
			return 0, ""
		} else if err != nil {
			return -1, ""
		}
		fin, rsv, op, length := b[0]&0x80 != 0, b[0]>>4&7, b[0]&15, uint64(b[1]&0x7F)
		if label := c.headerFault(fin, rsv, op, length, b[1]&0x80 != 0, m.op); label != "" && !c.faults[label] {
			return 1002, label
		}
		if length > 125 {
			extended := 2
			if length == 127 {
				extended = 8
			}
			if _, err := io.ReadFull(c.r, b[8-extended:]); err != nil {
				return -1, ""
			}
			clear(b[:8-extended])
			length = binary.BigEndian.Uint64(b[:])
			if length < 126 || extended == 8 && length <= 0xFFFF {
				return 1002, "length"
			}
		}
		if length+uint64(len(m.payload)) > refMaxMessage || length > refMaxMessage {
			return 1009, ""
		}
		var key [4]byte
		if _, err := io.ReadFull(c.r, key[:]); err != nil {
			return -1, ""
		}
		if op >= opClose {
			payload := make([]byte, length)
			if _, err := io.ReadFull(c.r, payload); err != nil {
				return -1, ""
			}
			mask(payload, binary.LittleEndian.Uint32(key[:]))
			if code := c.control(op, payload); code != 0 {
				return code, ""
			}
			continue
		}
		if op != opContinuation {
			m = refMessage{op: op, packed: rsv == rsv1 && c.deflate}
		}
		if code := c.data(&m, length, binary.LittleEndian.Uint32(key[:]), fin); code != 0 {
			return code, ""
		}
		if fin {
			if code := c.echo(&m); code != 0 {
				return code, ""
			}
			m = refMessage{}
		}
	}
}

// headerFault names what is wrong with a header; the name is the fault that
// overlooks it.
func (c *refConn) headerFault(fin bool, rsv, op byte, length uint64, masked bool, open byte) string {
	switch {
	case !masked:
		return "unmasked"
	case rsv != 0 && !(rsv == rsv1 && c.deflate && (op == opText || op == opBinary)):
		return "rsv"
	case op > opBinary && op < opClose || op > opPong:
		return "opcode"
	case op >= opClose && !fin:
		return "fragmented control"
	case op >= opClose && length > 125:
		return "long control"
	case op == opContinuation && open == 0:
		return "stray continuation"
	case (op == opText || op == opBinary) && open != 0:
		return "interleaved"
	}
	return ""
}

func (c *refConn) control(op byte, payload []byte) int {
	switch {
	case op == opPing && !c.faults["no pong"]:
		c.Write(c.frame(opPong, false, payload))
	case op == opClose && len(payload) == 0:
		return noCode
	case op == opClose && len(payload) == 1:
		return 1002
	case op == opClose:
		code := int(binary.BigEndian.Uint16(payload))
		known := code >= 1000 && code < 1015 && code != 1004 && code != 1005 && code != 1006
		if !known && (code < 3000 || code > 4999) && !c.faults["any close code"] {
			return 1002
		}
		if !utf8.Valid(payload[2:]) {
			return 1007
		}
		return code
	}
	return 0
}

// data takes length bytes as they come and checks text on the way.
func (c *refConn) data(m *refMessage, length uint64, key uint32, fin bool) int {
	buf := make([]byte, min(length, 64<<10))
	for pos := uint64(0); pos < length; {
		n, err := c.r.Read(buf[:min(uint64(len(buf)), length-pos)])
		if err != nil {
			return -1
		}
		for i := range n {
			buf[i] ^= byte(key >> (8 * ((pos + uint64(i)) & 3)))
		}
		pos += uint64(n)
		m.payload = append(m.payload, buf[:n]...)
		if m.op == opText && !m.packed && !c.faults["late utf8"] && !c.faults["no utf8"] && !m.check(false) {
			return 1007
		}
	}
	if m.op == opText && !m.packed && fin && !c.faults["no utf8"] && !m.check(true) {
		return 1007
	}
	return 0
}

func (m *refMessage) check(whole bool) bool {
	for m.checked < len(m.payload) {
		rest := m.payload[m.checked:]
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 {
			return !whole && !utf8.FullRune(rest)
		}
		m.checked += size
	}
	return true
}

func (c *refConn) echo(m *refMessage) int {
	payload := m.payload
	if m.packed {
		// What ends inside a block has no end-of-block code before the tail;
		// bytes left over mean the tail was swallowed as data.
		src := bytes.NewReader(append(slices.Clone(payload), inflateTail...))
		out, err := io.ReadAll(io.LimitReader(flate.NewReader(src), refMaxMessage+1))
		switch {
		case len(out) > refMaxMessage:
			return 1009
		case err != nil:
			return 1002
		case m.op == opText && !utf8.Valid(out):
			return 1007
		}
		payload = out
	}
	op := m.op
	if c.faults["text for binary"] {
		op = opText
	}
	if c.faults["corrupt"] && len(payload) > 1000 {
		payload = slices.Clone(payload)
		payload[len(payload)/2] ^= 1
	}
	if c.faults["pong before echo"] {
		c.Write(c.frame(opPong, false, nil))
	}
	if !c.deflate {
		c.Write(c.frame(op, false, payload))
		return 0
	}
	c.packed.Reset()
	if !c.faults["takeover broken"] {
		c.writer.Reset(&c.packed)
	}
	c.writer.Write(payload)
	c.writer.Flush()
	c.Write(c.frame(op, true, bytes.TrimSuffix(c.packed.Bytes(), []byte{0, 0, 0xFF, 0xFF})))
	return 0
}
