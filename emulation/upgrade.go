package emulation

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"time"

	"roost/proto/ws"
)

// key is that of all handshakes: its answer would prove nothing here.
const key = "cm9vc3QgZW11bGF0aW9uIQ=="

const maxRefusal = 4 << 10 // bytes of the body of a refused handshake that are passed on

// open makes a connection of the gateway for st and upgrades it. An error is what the
// gateway said instead.
func (st *stream) open(r *http.Request, transport string) *ws.HandshakeError {
	s := st.server
	remote, _ := netip.ParseAddrPort(r.RemoteAddr) // the zero value is no address
	pair, err := s.dial(remote)
	var none *os.SyscallError
	switch {
	case errors.As(err, &none):
		s.opts.Logger.Warn("a client by SSE or HTTP streaming was refused", "error", err)
		return refusal(http.StatusServiceUnavailable, "no_descriptors", "no room for a connection")
	case err != nil:
		s.opts.Logger.Info("a client by SSE or HTTP streaming was refused", "error", err)
		return refusal(http.StatusServiceUnavailable, "no_room", "no room for a connection")
	}
	st.pair, st.in = pair, bufio.NewReaderSize(pair, chunkSize)
	st.session = s.opts.Node.Emulate(transport, st.deliver)
	_ = st.pair.SetDeadline(time.Now().Add(s.opts.RequestTimeout + time.Second)) // the gateway's own comes first
	if _, err := st.pair.Write(st.upgrade(r)); err != nil {
		return refusal(http.StatusServiceUnavailable, "no_room", "the connection was not accepted")
	}
	res, err := http.ReadResponse(st.in, nil)
	if err != nil {
		return refusal(http.StatusServiceUnavailable, "no_room", "the connection was not accepted")
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return refused(res)
	}
	_ = st.pair.SetDeadline(time.Time{})
	return nil
}

// refused passes on what a handshake was answered instead.
func refused(res *http.Response) *ws.HandshakeError {
	defer res.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal)) // what came tells enough
	text := strings.TrimSpace(string(b))
	he := refusal(res.StatusCode, "handshake", "%s", strings.TrimPrefix(text, fmt.Sprintf("%d %s: ", res.StatusCode, http.StatusText(res.StatusCode))))
	he.Header = http.Header{}
	for name, values := range res.Header {
		switch name {
		case "Connection", "Content-Length", "Content-Type", "Date", "Upgrade":
		default:
			he.Header[name] = values
		}
	}
	return he
}

// upgrade is the request of a WebSocket client that sends what the client of r sent.
func (st *stream) upgrade(r *http.Request) []byte {
	h := make(http.Header, len(r.Header)+6)
	for name, values := range r.Header {
		if !strings.HasPrefix(name, "Sec-Websocket-") && !strings.HasPrefix(name, "Proxy-") && !ofConnection[name] {
			h[name] = values
		}
	}
	for _, list := range r.Header["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(textproto.TrimString(name))
		}
	}
	st.session.SetHeader(h)
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", "websocket")
	h.Set("Sec-WebSocket-Version", "13")
	h.Set("Sec-WebSocket-Key", key)
	if st.binary {
		h.Set("Sec-WebSocket-Protocol", "centrifuge-protobuf")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", st.target(r.URL), r.Host)
	_ = h.Write(&b) // a Buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}

// ofConnection are the headers of one connection, or of its request's body.
var ofConnection = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Connection": true, "Content-Encoding": true, "Content-Length": true, "Content-Type": true,
	"Expect": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// target is where the upgrade goes: with the query of u, in which there may be a token,
// but for what says how a WebSocket is to be used.
func (st *stream) target(u *url.URL) string {
	q := u.Query()
	for _, name := range []string{"cf_connect", "cf_protocol", "cf_ws_frame_ping_pong", "format"} {
		q.Del(name)
	}
	if len(q) == 0 {
		return st.server.opts.Route
	}
	return st.server.opts.Route + "?" + q.Encode()
}
