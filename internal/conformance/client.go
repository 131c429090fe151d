package conformance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// The key of RFC 6455 §1.3 and the accept value it must get.
const sampleKey = "dGhlIHNhbXBsZSBub25jZQ=="

const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// event is one thing the server did.
type event struct {
	op      byte   // opText, opBinary, opPing, opPong, opClose; 0 when err is set
	payload []byte // a close frame's: the reason
	packed  bool   // the message came with RSV1: payload is still compressed
	code    int    // close frames: the code, noCode when there was none
	err     error  // the connection's end, or an errViolation
}

const noCode = 1005

func (e event) String() string {
	switch {
	case e.err != nil:
		return e.err.Error()
	case e.op == opClose:
		return fmt.Sprintf("close %d %q", e.code, e.payload)
	}
	return fmt.Sprintf("%s %s", opName(e.op), preview(e.payload))
}

func opName(op byte) string {
	if name, ok := map[byte]string{opContinuation: "continuation", opText: "text", opBinary: "binary",
		opClose: "close", opPing: "ping", opPong: "pong"}[op]; ok {
		return name
	}
	return fmt.Sprintf("opcode %#x", op)
}

// preview shows a payload in at most some eighty characters.
func preview(b []byte) string {
	if len(b) <= 40 {
		return fmt.Sprintf("%d bytes %q", len(b), b)
	}
	return fmt.Sprintf("%d bytes %q…", len(b), b[:32])
}

// target is where a server listens, taken from its ws:// URL.
type target struct{ addr, host, path string }

func parseTarget(raw string) (target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, fmt.Errorf("conformance: parse URL: %w", err)
	}
	if u.Scheme != "ws" || u.Port() == "" {
		return target{}, fmt.Errorf("conformance: URL %q must be ws://host:port/path", raw)
	}
	return target{addr: u.Host, host: u.Host, path: u.RequestURI()}, nil
}

// head is a right upgrade request; extra lines are complete but for their CRLF.
func (t target) head(extra ...string) string {
	lines := append([]string{
		"GET " + t.path + " HTTP/1.1", "Host: " + t.host, "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: " + sampleKey, "Sec-WebSocket-Version: 13",
	}, extra...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// peer is the client end of one connection under test.
//
// Writes are the caller's; one goroutine reads, so that a server that echoes
// while it is still being written to can never block both ends.
type peer struct {
	conn    net.Conn
	reader  *bufio.Reader
	events  chan event
	deflate bool // set before start: RSV1 may mark messages

	mu   sync.Mutex // guards free
	free [][]byte   // message buffers handed back
}

// dial opens a TCP connection on which every read and write ends by timeout.
func dial(ctx context.Context, t target, timeout time.Duration) (*peer, error) {
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, fmt.Errorf("conformance: dial: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, fmt.Errorf("conformance: set deadline: %w", err)
	}
	return &peer{conn: conn, reader: bufio.NewReaderSize(conn, 64<<10), events: make(chan event, 256)}, nil
}

func (p *peer) close() { p.conn.Close() }

// response reads the answer to an upgrade request, with its body when it is no 101.
func (p *peer) response() (*http.Response, error) {
	res, err := http.ReadResponse(p.reader, &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, fmt.Errorf("conformance: read response: %w", err)
	}
	return res, nil
}

// upgrade sends head and checks the 101 (RFC 6455 §4.2.2); it returns the
// extensions the server chose.
func (p *peer) upgrade(head string) (extensions string, err error) {
	if _, err := io.WriteString(p.conn, head); err != nil {
		return "", fmt.Errorf("conformance: send head: %w", err)
	}
	return p.accepted()
}

// accepted reads the response to a right head and checks that it is a right 101.
func (p *peer) accepted() (extensions string, err error) {
	res, err := p.response()
	if err != nil {
		return "", err
	}
	sum := sha1.Sum([]byte(sampleKey + acceptGUID))
	switch {
	case res.StatusCode != http.StatusSwitchingProtocols:
		return "", fmt.Errorf("conformance: status %s instead of 101", res.Status)
	case !strings.EqualFold(res.Header.Get("Upgrade"), "websocket"):
		return "", violation("101 with Upgrade: %q", res.Header.Get("Upgrade"))
	case !strings.Contains(strings.ToLower(res.Header.Get("Connection")), "upgrade"):
		return "", violation("101 with Connection: %q", res.Header.Get("Connection"))
	case res.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]):
		return "", violation("101 with a wrong Sec-WebSocket-Accept %q", res.Header.Get("Sec-WebSocket-Accept"))
	}
	return strings.Join(res.Header.Values("Sec-WebSocket-Extensions"), ", "), nil
}

// start begins reading frames into p.events, which is closed after the event
// that carries the end of the connection.
func (p *peer) start() {
	go func() {
		defer close(p.events)
		var open message
		for {
			ev, err := p.read(&open)
			if err != nil {
				p.events <- event{err: err}
				return
			}
			if ev.op != 0 {
				p.events <- ev
			}
		}
	}()
}

// message is one that has begun and not ended.
type message struct {
	op      byte // 0: none
	packed  bool
	payload []byte
}

// read reads one frame. The event is empty (op 0) while a message goes on.
func (p *peer) read(open *message) (event, error) {
	h, err := readHeader(p.reader)
	if err != nil {
		return event{}, err
	}
	if h.op >= opClose {
		return p.readControl(h)
	}
	switch {
	case h.rsv&^rsv1 != 0, h.rsv != 0 && (!p.deflate || h.op == opContinuation):
		return event{}, violation("RSV bits %03b from the server", h.rsv)
	case h.op == opContinuation && open.op == 0:
		return event{}, violation("a continuation of nothing from the server")
	case h.op != opContinuation && open.op != 0:
		return event{}, violation("a new message inside another from the server")
	case uint64(len(open.payload))+h.length > maxSeen:
		return event{}, violation("a message over %d bytes from the server", maxSeen)
	}
	if h.op != opContinuation {
		*open = message{op: h.op, packed: h.rsv != 0, payload: p.buffer()}
	}
	have := len(open.payload)
	open.payload = append(open.payload, make([]byte, h.length)...)
	if _, err := io.ReadFull(p.reader, open.payload[have:]); err != nil {
		return event{}, err
	}
	if !h.fin {
		return event{}, nil
	}
	ev := event{op: open.op, payload: open.payload, packed: open.packed}
	*open = message{}
	if ev.op == opText && !ev.packed && !utf8.Valid(ev.payload) {
		return event{}, violation("text that is not UTF-8 from the server")
	}
	return ev, nil
}

func (p *peer) readControl(h header) (event, error) {
	if h.rsv != 0 {
		return event{}, violation("RSV bits on a control frame from the server")
	}
	ev := event{op: h.op, payload: make([]byte, h.length)}
	if _, err := io.ReadFull(p.reader, ev.payload); err != nil {
		return event{}, err
	}
	switch {
	case h.op != opClose:
		return ev, nil
	case h.length == 0:
		ev.code = noCode
		return ev, nil
	case h.length == 1:
		return event{}, violation("a close frame of one byte from the server")
	}
	ev.code = int(binary.BigEndian.Uint16(ev.payload))
	ev.payload = ev.payload[2:]
	if !utf8.Valid(ev.payload) {
		return event{}, violation("a close reason that is not UTF-8 from the server")
	}
	return ev, nil
}

// buffer returns an empty message buffer; release hands one back.
func (p *peer) buffer() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b
	}
	return nil
}

func (p *peer) release(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < 4 {
		p.free = append(p.free, b[:0])
	}
}

// next waits for the server's next act.
func (p *peer) next(wait time.Duration) (event, bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case ev, ok := <-p.events:
		return ev, ok
	case <-timer.C:
		return event{}, false
	}
}

// send writes b in chops of that many bytes, each in a write of its own;
// 0 is one write.
func (p *peer) send(b []byte, chop int) error {
	if chop <= 0 {
		chop = max(len(b), 1)
	}
	for len(b) > 0 {
		n := min(chop, len(b))
		if _, err := p.conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// ended tells whether err is a connection's end rather than a fault of ours or
// a deadline: the server closed or reset it.
func ended(err error) bool {
	var deadline net.Error
	return err != nil && !errors.Is(err, errViolation) && !(errors.As(err, &deadline) && deadline.Timeout())
}

func sameEvent(a, b event) bool {
	return a.op == b.op && a.code == b.code && bytes.Equal(a.payload, b.payload)
}
