package ws

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// MaxHeadSize is the longest request head, in bytes, the empty line at its end included.
const MaxHeadSize = 8 << 10

// maxMethod bounds the request method, so that an endless token is refused early. The longest registered one has 17.
const maxMethod = 32

// HandshakeError says why a request does not become a WebSocket, as the HTTP response that tells so.
type HandshakeError struct {
	Status int         // of the HTTP response
	Label  string      // short and stable, for metrics and logs
	Detail string      // what is wrong, where, and what would be right; becomes the body
	Header http.Header // extra response headers, or nil
}

// Labels of HandshakeError.
const (
	LabelHeadTooBig  = "head_too_big" // 431
	LabelTLS         = "tls"          // 400: a TLS handshake on a plain port
	LabelMalformed   = "malformed"    // 400: no HTTP
	LabelHTTPVersion = "http_version" // 505: not HTTP/1.1
	LabelHost        = "host"         // 400: no Host, or several
	LabelBody        = "body"         // 400: a request with a body
	LabelMethod      = "method"       // 405: not GET
	LabelNotUpgrade  = "not_upgrade"  // 426 or 400: no upgrade to websocket
	LabelVersion     = "version"      // 426: not version 13
	LabelKey         = "key"          // 400: Sec-WebSocket-Key
	LabelProtocols   = "protocols"    // 400: Sec-WebSocket-Protocol
	LabelOrigin      = "origin"       // 403
)

// Error implements error.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("ws: handshake: %s (%d): %s", e.Label, e.Status, e.Detail)
}

// AppendResponse appends the whole HTTP/1.1 response, with Connection: close and the detail as a plain text body.
func (e *HandshakeError) AppendResponse(dst []byte) []byte {
	text := http.StatusText(e.Status)
	body := fmt.Sprintf("%d %s: %s\n", e.Status, text, e.Detail)
	dst = fmt.Appendf(dst, "HTTP/1.1 %d %s\r\n", e.Status, text)
	for name, values := range e.Header {
		for _, v := range values {
			dst = append(dst, name+": "+v+"\r\n"...)
		}
	}
	dst = append(dst, "Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"X-Content-Type-Options: nosniff\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, body...)
}

func badRequest(label, format string, args ...any) error {
	return &HandshakeError{Status: http.StatusBadRequest, Label: label, Detail: fmt.Sprintf(format, args...)}
}

// headReader is what net/http wants to read a request from.
type headReader struct {
	src bytes.Reader
	buf *bufio.Reader
}

var headReaders = sync.Pool{New: func() any {
	h := new(headReader)
	h.buf = bufio.NewReaderSize(&h.src, MaxHeadSize)
	return h
}}

// ParseHead parses the request head at the beginning of b with net/http and returns its length. n == 0 without an
// error asks for more bytes. Safe for concurrent use.
//
// Errors are *HandshakeError: 431 for a head above MaxHeadSize; 505 for any HTTP but 1.1, HTTP/1.0 among them, as
// RFC 6455 section 4.1 demands 1.1; 400 for TLS on a plain port, for what is no HTTP, for a missing or second Host,
// and for a request with a body, which would have to be read before the first frame. What can never become a request
// is refused at once, not at the end of the head. Lines end in CRLF; a bare LF or CR is refused.
func ParseHead(b []byte) (r *http.Request, n int, err error) {
	window := b[:min(len(b), MaxHeadSize)]
	end := bytes.Index(window, []byte("\r\n\r\n"))
	if end >= 0 {
		n = end + 4
		window = window[:n]
	}
	if err := checkHead(window); err != nil {
		return nil, 0, err
	}
	if n == 0 {
		if len(b) >= MaxHeadSize {
			return nil, 0, &HandshakeError{Status: http.StatusRequestHeaderFieldsTooLarge, Label: LabelHeadTooBig,
				Detail: fmt.Sprintf("the request head has no end within %d bytes; send fewer or shorter headers", MaxHeadSize)}
		}
		return nil, 0, nil
	}
	h := headReaders.Get().(*headReader)
	h.src.Reset(window)
	h.buf.Reset(&h.src)
	r, err = http.ReadRequest(h.buf)
	h.src.Reset(nil)
	headReaders.Put(h)
	switch {
	case err != nil && strings.Contains(err.Error(), "too many Host"):
		return nil, 0, badRequest(LabelHost, "the request has several Host headers; send one")
	case err != nil:
		return nil, 0, badRequest(LabelMalformed, "the request head does not parse: %.200s", err)
	case r.Host == "":
		return nil, 0, badRequest(LabelHost, "the request has no Host header; send one")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return nil, 0, badRequest(LabelBody, "the request has a body; an upgrade has none")
	}
	for name := range r.Header {
		if !IsToken(name) { // net/http's server refuses these itself; a blank before the colon is a smuggler's tool
			return nil, 0, badRequest(LabelMalformed, "%.40q is no header name", name)
		}
	}
	return r, n, nil
}

// checkHead judges the beginning of a head: no bytes to come can mend what it refuses.
func checkHead(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if b[0] == 0x16 {
		return badRequest(LabelTLS, "this is a TLS handshake, but the port speaks plain HTTP; connect with ws:// or http://")
	}
	for i, c := range b {
		if c == ' ' && i > 0 {
			break
		}
		if !isTokenByte(c) || i >= maxMethod {
			return badRequest(LabelMalformed, "byte %d is %q, which no HTTP method has there; begin with GET", i, c)
		}
	}
	for at := 0; ; {
		lf := bytes.IndexByte(b[at:], '\n')
		line := b[at:]
		if lf >= 0 {
			line = line[:lf]
		}
		if err := checkLine(line, at, lf >= 0); err != nil {
			return err
		}
		if at > 0 && len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			// RFC 9112 section 5.2; proxies disagree on what it means.
			return badRequest(LabelMalformed, "byte %d continues the line before; write each header in one line", at)
		}
		if lf < 0 {
			return nil
		}
		if at == 0 {
			if err := checkRequestLine(line[:len(line)-1]); err != nil {
				return err
			}
		}
		at += lf + 1
	}
}

// checkLine refuses control bytes and line ends other than CRLF. ended says that a LF follows line, which begins at
// byte at of the head.
func checkLine(line []byte, at int, ended bool) error {
	if ended && (len(line) == 0 || line[len(line)-1] != '\r') {
		return badRequest(LabelMalformed, "byte %d is a bare LF; lines end in CRLF", at+len(line))
	}
	for i, c := range line {
		if c == '\r' && i == len(line)-1 {
			break
		}
		if c < ' ' && c != '\t' || c == 0x7f {
			return badRequest(LabelMalformed, "byte %d is %#x, which no request head has there", at+i, c)
		}
	}
	return nil
}

// checkRequestLine looks at the HTTP version of a complete request line; net/http judges the rest.
func checkRequestLine(line []byte) error {
	version := string(line[bytes.LastIndexByte(line, ' ')+1:])
	if _, _, ok := http.ParseHTTPVersion(version); !ok {
		return badRequest(LabelMalformed, "the request line ends in %.20q; it must end in HTTP/1.1", version)
	}
	if version != "HTTP/1.1" {
		return &HandshakeError{Status: http.StatusHTTPVersionNotSupported, Label: LabelHTTPVersion,
			Detail: fmt.Sprintf("the request is %s; a WebSocket upgrade is HTTP/1.1", version)}
	}
	return nil
}

// isTokenByte reports whether c may be in a token (RFC 9110 section 5.6.2).
func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c != 0 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// IsToken reports whether s is a token (RFC 9110 section 5.6.2), as names of headers, cookies and subprotocols are.
func IsToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}
