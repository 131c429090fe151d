package loadtest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"roost/proto/ws"
)

const (
	keyLength       = 24      // 16 bytes in base64 (RFC 6455 section 4.1)
	maxResponseHead = 8 << 10 // bytes
)

// mix is the finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// appendKey appends connection id's Sec-WebSocket-Key. It follows from seed, so that nobody has to store it.
func appendKey(dst []byte, seed uint64, id uint32) []byte {
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:], mix(seed+uint64(id)))
	binary.LittleEndian.PutUint64(raw[8:], mix(^seed+uint64(id)))
	return base64.StdEncoding.AppendEncode(dst, raw[:])
}

// unavailable is the answer of a server that wants its clients later.
type unavailable struct{ after time.Duration }

func (u *unavailable) Error() string {
	return fmt.Sprintf("upgrade refused: 503, with Retry-After: %.0f", u.after.Seconds())
}

// putOff tells after what time to come again, if the answer says so (RFC 9110 section 10.2.3, in seconds).
func putOff(status, fields string) (after time.Duration, ok bool) {
	if !strings.HasPrefix(status, "HTTP/1.1 503") {
		return 0, false
	}
	for line := range strings.SplitSeq(fields, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Retry-After") {
			seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
			return time.Duration(seconds) * time.Second, err == nil
		}
	}
	return 0, false
}

// parseResponse checks the answer to an upgrade request with that key (RFC 6455 section 4.1). n is the length of
// the head; 0 without error asks for more bytes. offered says that permessage-deflate was.
func parseResponse(b []byte, key string, offered bool) (n int, deflate bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > maxResponseHead {
			return 0, false, fmt.Errorf("upgrade: the response head is longer than %d bytes", maxResponseHead)
		}
		return 0, false, nil
	}
	status, fields, _ := strings.Cut(string(b[:end]), "\r\n")
	if after, ok := putOff(status, fields); ok {
		return 0, false, &unavailable{after}
	}
	if !strings.HasPrefix(status, "HTTP/1.1 101") {
		body, _, _ := strings.Cut(string(b[end+4:]), "\n")
		return 0, false, fmt.Errorf("upgrade refused: %.60q: %.160s; is the path of --url a WebSocket route?", status, strings.TrimSpace(body))
	}
	var upgrade, connection, accept, extensions string
	for _, line := range strings.Split(fields, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "upgrade":
			upgrade = value
		case "connection":
			connection = value
		case "sec-websocket-accept":
			accept = value
		case "sec-websocket-extensions":
			extensions = value
		}
	}
	switch {
	case !strings.EqualFold(upgrade, "websocket") || !strings.Contains(strings.ToLower(connection), "upgrade"):
		return 0, false, fmt.Errorf("upgrade: a 101 with Upgrade %.40q and Connection %.40q", upgrade, connection)
	case accept != ws.AcceptKey(key):
		return 0, false, fmt.Errorf("upgrade: Sec-WebSocket-Accept does not fit the key")
	case extensions == "":
		return end + 4, false, nil
	case !offered || !strings.HasPrefix(extensions, "permessage-deflate"):
		return 0, false, fmt.Errorf("upgrade: the server took an extension nobody offered: %.80q", extensions)
	case !strings.Contains(extensions, "server_no_context_takeover"):
		return 0, false, fmt.Errorf("upgrade: the server ignored server_no_context_takeover (RFC 7692 section 7.1.1.1): %.80q", extensions)
	}
	return end + 4, true, nil
}
