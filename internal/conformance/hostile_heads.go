package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxHead is the size of a request head that may be refused with 431.
const maxHead = 8 << 10

// headAttacks are upgrade requests that must be refused with exactly one of the
// statuses, and one that must not.
func (h *hostile) headAttacks() []attack {
	t := h.target
	var list []attack
	add := func(name, head string, statuses ...int) {
		list = append(list, h.answered("head/"+name, head, statuses...))
	}
	key := func(name string, lines ...string) {
		add("key "+name, t.headWith("Sec-WebSocket-Key", lines...), http.StatusBadRequest)
	}
	key("missing")
	key("empty", "Sec-WebSocket-Key:")
	key("of 15 bytes", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j")
	key("of 17 bytes", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU=")
	key("not base64", "Sec-WebSocket-Key: !!!!IHNhbXBsZSBub25jZQ==")
	key("twice", "Sec-WebSocket-Key: "+sampleKey, "Sec-WebSocket-Key: "+sampleKey)

	add("HTTP/1.0", strings.Replace(t.head(), "HTTP/1.1", "HTTP/1.0", 1), 400, 426, 505)
	add("HTTP/2.0 in text", strings.Replace(t.head(), "HTTP/1.1", "HTTP/2.0", 1), 400, 505)
	add("no version of HTTP", strings.Replace(t.head(), " HTTP/1.1", "", 1), 400)
	add("POST", strings.Replace(t.head(), "GET", "POST", 1), 400, 405)
	add("no Host", t.headWith("Host:"), 400)
	add("two Hosts", t.headWith("Host:", "Host: "+t.host, "Host: other.example"), 400)
	add("no Upgrade", t.headWith("Upgrade:"), 400, 426)
	add("Upgrade to something else", t.headWith("Upgrade:", "Upgrade: h2c"), 400, 426)
	add("no Connection", t.headWith("Connection:"), 400, 426)
	add("unknown path", strings.Replace(t.head(), "GET "+t.path, "GET /no/such/route", 1), 404)

	add("body by Content-Length", t.head("Content-Length: 5")+"hello", 400)
	add("body by Transfer-Encoding", t.head("Transfer-Encoding: chunked")+"0\r\n\r\n", 400)
	add("both kinds of body", t.head("Content-Length: 5", "Transfer-Encoding: chunked")+"0\r\n\r\n", 400)
	add("header without a colon", t.head("no colon here"), 400)
	add("header with a space in its name", t.head("X Y: 1"), 400)
	add("space before the colon", t.headWith("Host:", "Host : "+t.host), 400)
	add("NUL in a header", t.head("X-Nul: a\x00b"), 400)
	add("bad escape in the path", strings.Replace(t.head(), "GET "+t.path, "GET /%zz", 1), 400)
	add("control bytes", "\x00\x01\x02\x03\r\n\r\n", 400)
	// A record of TLS, as a client sends that was told https by mistake.
	add("TLS ClientHello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+strings.Repeat("r", 64), 400)
	add("8 KiB and more, ended", t.head("X-Long: "+strings.Repeat("x", maxHead)), 431)
	add("8 KiB and more, never ended", strings.TrimSuffix(t.head(), "\r\n")+strings.Repeat("X-Many: 1\r\n", maxHead/11+2), 431)
	add("64 KiB in one line", "GET /"+strings.Repeat("x", 64<<10), 431)
	return append(list, h.versionAttack("8", "Sec-WebSocket-Version: 8"), h.versionAttack("missing"),
		h.versionAttack("not a number", "Sec-WebSocket-Version: x"), h.originAttack(), h.bigBodyAttack(), h.oddHead("head/odd but right", oddHead(t)),
		// RFC 9112 §5.2: a server refuses a folded header, or unfolds it.
		h.oddHead("head/folded header", t.head("X-Folded: one", " two"), http.StatusBadRequest))
}

// versionAttack wants 426 and the version that would do (RFC 6455 §4.4).
func (h *hostile) versionAttack(name string, lines ...string) attack {
	return attack{name: "head/version " + name, do: func(h *hostile) error {
		p, err := h.dial()
		if err != nil {
			return err
		}
		defer p.close()
		if _, err := io.WriteString(p.conn, h.target.headWith("Sec-WebSocket-Version", lines...)); err != nil {
			return err
		}
		res, err := p.expectStatus(http.StatusUpgradeRequired)
		if err != nil {
			return err
		}
		if got := res.Header.Get("Sec-WebSocket-Version"); got != "13" {
			return fmt.Errorf("426 with Sec-WebSocket-Version %q, expected 13", got)
		}
		return nil
	}}
}

func (h *hostile) originAttack() attack {
	a := h.answered("head/refused Origin", h.target.head("Origin: "+h.o.BadOrigin), http.StatusForbidden)
	if h.o.BadOrigin == "" {
		a.off = "Options.BadOrigin is not set"
	}
	return a
}

// bigBodyAttack sends much behind a head that is refused: the status must
// arrive although the server does not read that.
func (h *hostile) bigBodyAttack() attack {
	return attack{name: "head/refused with unread input behind it", do: func(h *hostile) error {
		p, err := h.dial()
		if err != nil {
			return err
		}
		defer p.close()
		b := append([]byte(h.target.headWith("Sec-WebSocket-Key")), bytes.Repeat([]byte("x"), 512<<10)...)
		if err := p.send(b, 64<<10); err != nil && !ended(err) {
			return err
		}
		_, err = p.expectStatus(http.StatusBadRequest)
		return err
	}}
}

// oddHead is right: tokens and names in any case, lists, spaces.
func oddHead(t target) string {
	head := t.headWith("Upgrade:", "UPGRADE:   WebSocket  ")
	head = strings.Replace(head, "Connection: Upgrade", "connection: keep-alive,  uPgRaDe", 1)
	return strings.Replace(head, "Sec-WebSocket-Key", "sec-websocket-KEY", 1)
}

// oddHead sends a head that must lead to a working connection, or be refused
// with one of the statuses.
func (h *hostile) oddHead(name, head string, statuses ...int) attack {
	return attack{name: name, do: func(h *hostile) error {
		p, err := h.dial()
		if err != nil {
			return err
		}
		defer p.close()
		if _, err := io.WriteString(p.conn, head); err != nil {
			return err
		}
		start, err := p.reader.Peek(len("HTTP/1.1 101"))
		if err != nil {
			return err
		}
		if len(statuses) > 0 && !bytes.HasSuffix(start, []byte("101")) {
			_, err := p.expectStatus(statuses...)
			return err
		}
		if _, err := p.accepted(); err != nil {
			return err
		}
		p.start()
		if err := p.send(text("odd").append(nil), 0); err != nil {
			return err
		}
		return p.expect(h.timeout, gotText("odd"))
	}}
}

// slowHeadAttacks come to the server's handshake deadline from both sides.
func (h *hostile) slowHeadAttacks() []attack {
	deadline := h.o.HandshakeDeadline
	list := []attack{
		{name: "slow/byte by byte, in time", do: func(h *hostile) error {
			p, err := h.dial()
			if err != nil {
				return err
			}
			defer p.close()
			if err := p.send([]byte(h.target.head()), 1); err != nil {
				return err
			}
			_, err = p.accepted()
			return err
		}},
		{name: "slow/never a byte", do: func(h *hostile) error { return h.cutOff("") }},
		{name: "slow/head never finished", do: func(h *hostile) error { return h.cutOff(h.target.head()[:40]) }},
		{name: "slow/a byte now and then", do: func(h *hostile) error { return h.dripped(deadline) }},
	}
	if deadline == 0 {
		for i := range list[1:] {
			list[1+i].off = "Options.HandshakeDeadline is not set"
		}
	}
	return list
}

// cutOff sends the beginning of a head and wants the connection to end, with
// 408 or without a word, by the deadline plus the case's timeout.
func (h *hostile) cutOff(beginning string) error {
	p, err := h.dial()
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.conn.SetDeadline(time.Now().Add(h.o.HandshakeDeadline + h.timeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(p.conn, beginning); err != nil {
		return err
	}
	return p.endsWith408()
}

func (p *peer) endsWith408() error {
	b, err := io.ReadAll(p.reader)
	if err != nil && !ended(err) {
		return fmt.Errorf("TCP still open: %w", err)
	}
	if len(b) > 0 && !bytes.HasPrefix(b, []byte("HTTP/1.1 408 ")) {
		return fmt.Errorf("saw %s, expected 408 or nothing", preview(b))
	}
	return nil
}

// dripped sends a byte every tenth of the deadline: progress must not move it.
func (h *hostile) dripped(deadline time.Duration) error {
	p, err := h.dial()
	if err != nil {
		return err
	}
	defer p.close()
	limit := time.Now().Add(deadline + h.timeout)
	if err := p.conn.SetDeadline(limit); err != nil {
		return err
	}
	end := make(chan error, 1)
	go func() { end <- p.endsWith408() }()
	head := h.target.head("X-Fill: " + strings.Repeat("x", 4000))
	for i := range len(head) {
		_, werr := io.WriteString(p.conn, head[i:i+1])
		select {
		case err := <-end:
			return err
		case <-time.After(deadline / 10):
		}
		if werr != nil {
			return <-end
		}
	}
	return errors.New("the whole head was sent; the deadline is too long for this case")
}

// finish ends the client's half of the connection (FIN) and keeps reading.
func (p *peer) finish() error {
	tcp, ok := p.conn.(*net.TCPConn)
	if !ok {
		return errors.New("conformance: not a TCP connection")
	}
	return tcp.CloseWrite()
}

// reset ends the connection with RST: the server finds out when it writes or polls.
func (p *peer) reset() {
	if tcp, ok := p.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the end is a FIN, which the server must bear as well
	}
	p.conn.Close()
}

// streamAttacks are right frames in ways no library sends them.
func (h *hostile) streamAttacks() []attack {
	var many []byte
	var back []event
	for i := range 1000 {
		s := fmt.Sprintf("message %d", i)
		many = text(s).append(many)
		back = append(back, gotText(s))
	}
	short := slices.Concat(part(opText, true, "frag").append(nil), ping("p").append(nil),
		part(opContinuation, false, "ment").append(nil))
	var crumbs []byte
	crumbs = part(opBinary, true, "").append(crumbs)
	for range 20000 {
		crumbs = part(opContinuation, true, "").append(crumbs)
	}
	crumbs = part(opContinuation, false, "end").append(crumbs)
	return []attack{
		{name: "stream/first frame with the head", do: func(h *hostile) error { return h.pipelined(many[:len(text("message 0").append(nil))], back[:1]) }},
		{name: "stream/thousand frames with the head", do: func(h *hostile) error { return h.pipelined(many, back) }},
		{name: "stream/thousand frames in one write", do: func(h *hostile) error { return h.exchange(many, 0, back...) }},
		{name: "stream/byte by byte", do: func(h *hostile) error { return h.exchange(short, 1, gotPong("p"), gotText("fragment")) }},
		{name: "stream/twenty thousand empty fragments", do: func(h *hostile) error {
			return h.exchange(crumbs, 0, event{op: opBinary, payload: []byte("end")})
		}},
		{name: "stream/FIN after messages", do: func(h *hostile) error {
			p, err := h.open()
			if err != nil {
				return err
			}
			defer p.close()
			if err := errors.Join(p.send(many, 0), p.finish(), p.expect(h.timeout, back...)); err != nil {
				return err
			}
			return p.expectEndMaybeClosed(h.timeout)
		}},
		{name: "stream/FIN inside a frame", do: func(h *hostile) error {
			p, err := h.open()
			if err != nil {
				return err
			}
			defer p.close()
			if err := errors.Join(p.send(begun(opText, true, 0, 100), 0), p.finish()); err != nil {
				return err
			}
			return p.expectEndMaybeClosed(h.timeout)
		}},
	}
}

// expectEndMaybeClosed wants the end of TCP, after a close frame or without:
// to a client that will send nothing more a server may say good-bye.
func (p *peer) expectEndMaybeClosed(wait time.Duration) error {
	ev, ok := p.next(wait)
	if ok && ev.op == opClose {
		ev, ok = p.next(wait)
	}
	if !ok || !ended(ev.err) {
		return fmt.Errorf("saw %v, expected the end of TCP", ev)
	}
	return nil
}

// pipelined sends frames in the same write as the head.
func (h *hostile) pipelined(b []byte, back []event) error {
	p, err := h.dial()
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.send(append([]byte(h.target.head()), b...), 0); err != nil {
		return err
	}
	if _, err := p.accepted(); err != nil {
		return err
	}
	p.start()
	return p.expect(h.timeout, back...)
}
