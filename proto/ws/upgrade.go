package ws

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// acceptGUID is appended to the key before hashing (RFC 6455 section 1.3).
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// keySize is the length of a Sec-WebSocket-Key: 16 bytes in base64.
const keySize = 24

// Upgrade is what a valid upgrade request asks for.
type Upgrade struct {
	Key       string   // Sec-WebSocket-Key
	Protocols []string // subprotocols offered, most wanted first
	Deflate   bool     // an acceptable permessage-deflate offer was made
	// WindowBits bounds the window of what we compress for this client to 1<<WindowBits bytes, 8 to 15, where Deflate
	// is accepted; 0 where there is no offer. See Prepared.FrameWindow.
	WindowBits uint8

	boundWindow bool // the offer has server_max_window_bits, so the answer must
}

// CheckUpgrade validates the request (RFC 6455 section 4.2.1) and reads its offers. Errors are *HandshakeError.
// The origin is CheckOrigin's matter. An extension offer that cannot be accepted, or does not parse, is declined and
// never an error (RFC 7692 section 5.1).
func CheckUpgrade(r *http.Request) (Upgrade, error) {
	if r.Method != http.MethodGet {
		return Upgrade{}, &HandshakeError{Status: http.StatusMethodNotAllowed, Label: LabelMethod,
			Detail: fmt.Sprintf("the method is %.20s; a WebSocket upgrade is a GET", r.Method),
			Header: http.Header{"Allow": {"GET"}}}
	}
	if !hasToken(r.Header["Upgrade"], "websocket") {
		return Upgrade{}, &HandshakeError{Status: http.StatusUpgradeRequired, Label: LabelNotUpgrade,
			Detail: "the request has no Upgrade: websocket header; connect with a WebSocket client",
			Header: http.Header{"Upgrade": {"websocket"}}}
	}
	if !hasToken(r.Header["Connection"], "upgrade") {
		return Upgrade{}, badRequest(LabelNotUpgrade,
			"the Connection header does not name Upgrade; a proxy may have removed it")
	}
	if v := r.Header["Sec-Websocket-Version"]; len(v) != 1 || v[0] != "13" {
		return Upgrade{}, &HandshakeError{Status: http.StatusUpgradeRequired, Label: LabelVersion,
			Detail: "Sec-WebSocket-Version must be 13",
			Header: http.Header{"Sec-WebSocket-Version": {"13"}, "Upgrade": {"websocket"}}}
	}
	keys := r.Header["Sec-Websocket-Key"]
	if len(keys) != 1 {
		return Upgrade{}, badRequest(LabelKey, "the request has %d Sec-WebSocket-Key headers; send one", len(keys))
	}
	if !validKey(keys[0]) {
		return Upgrade{}, badRequest(LabelKey, "Sec-WebSocket-Key is %.40q; it must be 16 bytes in base64", keys[0])
	}
	u := Upgrade{Key: keys[0]}
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(line, ",") {
			if p = strings.Trim(p, " \t"); p == "" {
				continue // RFC 9110 section 5.6.1: empty list elements do not count
			}
			if !IsToken(p) {
				return Upgrade{}, badRequest(LabelProtocols, "Sec-WebSocket-Protocol has %.40q, which is no token", p)
			}
			u.Protocols = append(u.Protocols, p)
		}
	}
	if offers := r.Header["Sec-Websocket-Extensions"]; len(offers) > 0 {
		u.chooseDeflate(strings.Join(offers, ","))
	}
	return u, nil
}

// hasToken looks for a token in comma-separated lists, whatever its case.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for t := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.Trim(t, " \t"), token) {
				return true
			}
		}
	}
	return false
}

func validKey(key string) bool {
	if len(key) != keySize {
		return false
	}
	var out [18]byte
	n, err := base64.StdEncoding.Decode(out[:], []byte(key))
	return err == nil && n == 16
}

// AcceptKey is the Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2).
func AcceptKey(key string) string { return string(appendAccept(nil, key)) }

func appendAccept(dst []byte, key string) []byte {
	var room [keySize + len(acceptGUID)]byte
	sum := sha1.Sum(append(append(room[:0], key...), acceptGUID...))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// AppendUpgradeResponse appends the 101 response. protocol is the chosen subprotocol, one of u.Protocols, or ""
// for none. deflate accepts the permessage-deflate offer; it has no effect where u.Deflate is not set.
func AppendUpgradeResponse(dst []byte, u *Upgrade, protocol string, deflate bool) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: "...)
	dst = appendAccept(dst, u.Key)
	if protocol != "" {
		dst = append(dst, "\r\nSec-WebSocket-Protocol: "...)
		dst = append(dst, protocol...)
	}
	if deflate && u.Deflate {
		dst = append(dst, "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "+
			"client_no_context_takeover"...)
		if u.boundWindow {
			dst = append(dst, "; server_max_window_bits="...)
			dst = strconv.AppendInt(dst, int64(u.WindowBits), 10)
		}
	}
	return append(dst, "\r\n\r\n"...)
}
