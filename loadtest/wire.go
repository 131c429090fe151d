package loadtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/centrifugal/protocol"
)

// wire is an encoding of the client protocol: JSON in text frames, one message a line, or Protobuf in binary
// frames, each message after its length.
type wire struct{ binary bool }

var errWire = errors.New("a frame that is not the client protocol")

// command appends a command to the frame in dst.
func (x wire) command(dst []byte, c *protocol.Command) []byte {
	if !x.binary {
		if len(dst) > 0 {
			dst = append(dst, '\n')
		}
		return c.AppendJSON(dst)
	}
	b, err := c.MarshalCF()
	if err != nil {
		panic(err) // the buffer is sized from the message itself
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// next cuts the first message off a frame that is not empty.
func (x wire) next(frame []byte) (msg, rest []byte, err error) {
	if !x.binary {
		msg, rest, _ = bytes.Cut(frame, []byte{'\n'})
		return msg, rest, nil
	}
	size, n := binary.Uvarint(frame)
	if n <= 0 || size > uint64(len(frame)-n) {
		return nil, nil, errWire
	}
	return frame[n : n+int(size)], frame[n+int(size):], nil
}

// ping reports whether msg is one; its answer is the same.
func (x wire) ping(msg []byte) bool {
	return x.binary && len(msg) == 0 || !x.binary && string(msg) == "{}"
}

func (x wire) pong() []byte {
	if x.binary {
		return []byte{0}
	}
	return []byte("{}")
}

// reply decodes a whole message. It shares no memory with msg.
func (x wire) reply(msg []byte) (*protocol.Reply, error) {
	msg = bytes.Clone(msg)
	if x.binary {
		r := &protocol.Reply{}
		return r, r.UnmarshalCF(msg)
	}
	r, err := protocol.NewJSONReplyDecoder(msg).Decode()
	if r == nil {
		return nil, errors.Join(errWire, err)
	}
	return r, nil // with the last message comes io.EOF
}

// push is a publication as most messages carry it. Its slices are the message's.
type push struct {
	channel, data []byte
	offset        uint64
}

// push decodes a publication without an allocation. What it does not know, or what was written in another way than
// servers do, is left to reply.
func (x wire) push(msg []byte) (p push, ok bool) {
	if x.binary {
		return protobufPush(msg)
	}
	return jsonPush(msg)
}

func jsonPush(msg []byte) (p push, ok bool) {
	body, found := bytes.CutPrefix(msg, []byte(`{"push":{`))
	for found && len(body) > 0 {
		var key, value []byte
		if key, value, body, found = member(body); !found {
			break
		}
		switch string(key) {
		case "channel":
			p.channel = bytes.Trim(value, `"`)
			if bytes.IndexByte(p.channel, '\\') >= 0 {
				return p, false
			}
		case "pub":
			if len(value) == 0 || value[0] != '{' {
				return p, false
			}
			ok = jsonPublication(value[1:], &p)
		default:
			return p, false
		}
	}
	return p, ok && found && len(p.channel) > 0
}

func jsonPublication(body []byte, p *push) bool {
	for len(body) > 0 {
		key, value, rest, ok := member(body)
		if !ok {
			return false
		}
		body = rest
		switch string(key) {
		case "data":
			p.data = value
		case "offset":
			n, err := strconv.ParseUint(string(value), 10, 64)
			if err != nil {
				return false
			}
			p.offset = n
		}
	}
	return p.data != nil
}

// member reads "key":value and the comma or brace after it from compact JSON. rest is empty after the last one.
func member(b []byte) (key, value, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, nil, false
	}
	end := bytes.IndexByte(b[1:], '"') + 1
	if end == 0 || end+1 >= len(b) || b[end+1] != ':' {
		return nil, nil, nil, false
	}
	key, b = b[1:end], b[end+2:]
	n := skip(b)
	if n <= 0 || n >= len(b) {
		return nil, nil, nil, false
	}
	value = b[:n]
	if value[0] <= ' ' || value[n-1] <= ' ' { // not compact
		return nil, nil, nil, false
	}
	switch b[n] {
	case ',':
		return key, value, b[n+1:], n+1 < len(b)
	case '}':
		return key, value, nil, true
	}
	return nil, nil, nil, false
}

// skip is the length of the JSON value that b begins with; 0 for none.
func skip(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return min(i+1, len(b))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return 0
}

// The fields of the protocol's Reply, Push and Publication that a push takes.
const (
	replyPush   = 4
	pushChannel = 2
	pushPub     = 4
	pubData     = 4
	pubOffset   = 6
)

func protobufPush(msg []byte) (p push, ok bool) {
	number, _, body, rest, ok := field(msg)
	if !ok || number != replyPush || len(rest) > 0 {
		return p, false
	}
	for len(body) > 0 {
		var value []byte
		if number, _, value, body, ok = field(body); !ok {
			return p, false
		}
		switch number {
		case pushChannel:
			p.channel = value
		case pushPub:
			for len(value) > 0 {
				var n uint64
				var inner []byte
				if number, n, inner, value, ok = field(value); !ok {
					return p, false
				}
				switch number {
				case pubData:
					p.data = inner
				case pubOffset:
					p.offset = n
				}
			}
		default:
			return p, false
		}
	}
	return p, p.data != nil && len(p.channel) > 0
}

// field reads one Protobuf field: varint or length-delimited, others are not ok.
func field(b []byte) (number, n uint64, value, rest []byte, ok bool) {
	tag, k := binary.Uvarint(b)
	if k <= 0 {
		return
	}
	n, l := binary.Uvarint(b[k:])
	if l <= 0 {
		return
	}
	b = b[k+l:]
	switch tag & 7 {
	case 0:
		return tag >> 3, n, nil, b, true
	case 2:
		if n <= uint64(len(b)) {
			return tag >> 3, 0, b[:n], b[n:], true
		}
	}
	return
}

// publication is what a payload of the publish and reconnect scenarios says. As JSON it is a string, so that both
// encodings carry it as it is: 40 hexadecimal digits and filler that depends on them.
type publication struct {
	run, channel, seq uint32
	due               int64 // Unix ns
}

// publicationSize is the smallest payload, in bytes.
const publicationSize = 2 + 40

func (p publication) offset() int { return message{p.run ^ p.channel, p.seq, p.due}.offset() }

func (p publication) append(dst, pattern []byte, size int) []byte {
	var b [20]byte
	binary.BigEndian.PutUint32(b[:], p.run)
	binary.BigEndian.PutUint32(b[4:], p.channel)
	binary.BigEndian.PutUint32(b[8:], p.seq)
	binary.BigEndian.PutUint64(b[12:], uint64(p.due))
	dst = hex.AppendEncode(append(dst, '"'), b[:])
	at := p.offset()
	return append(append(dst, pattern[at:at+size-publicationSize]...), '"')
}

// parsePublication is the inverse; false when data is not, byte for byte, what append made.
func parsePublication(data, pattern []byte, size int) (p publication, ok bool) {
	var b [20]byte
	if len(data) != size || size < publicationSize || data[0] != '"' || data[size-1] != '"' {
		return p, false
	}
	if _, err := hex.Decode(b[:], data[1:41]); err != nil {
		return p, false
	}
	p = publication{
		run: binary.BigEndian.Uint32(b[:]), channel: binary.BigEndian.Uint32(b[4:]),
		seq: binary.BigEndian.Uint32(b[8:]), due: int64(binary.BigEndian.Uint64(b[12:])),
	}
	at := p.offset()
	return p, bytes.Equal(data[41:size-1], pattern[at:at+size-publicationSize])
}

// tokenLife is how long a made token is good for.
const tokenLife = 24 * time.Hour

// token makes a connection token for user-N (RFC 7519, HS256).
func token(secret string, user uint32, now time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." +
		encode(fmt.Appendf(nil, `{"sub":"user-%d","iat":%d,"exp":%d}`, user, now.Unix(), now.Add(tokenLife).Unix()))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}
