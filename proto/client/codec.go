package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/centrifugal/protocol"

	"roost/proto/ws"
)

// Encoding of a connection's messages.
type Encoding uint8

const (
	JSON     Encoding = iota // text frames, messages separated by \n
	Protobuf                 // binary frames, a varint length before each message
)

// Opcode is that of the frames which carry the encoding.
func (e Encoding) Opcode() ws.Opcode {
	if e == Protobuf {
		return ws.OpBinary
	}
	return ws.OpText
}

// Decoding errors.
var (
	ErrEmpty     = errors.New("client: empty frame")
	ErrMalformed = errors.New("client: malformed frame")
)

// Decode calls f for each command of a frame until it returns an error, which Decode
// then returns. Its own are ErrEmpty and, after the commands before it, ErrMalformed.
// Strings of a JSON command point into the frame and are valid as long as that; payloads
// are copies. The number of commands is bounded by the size of the frame alone.
func Decode(enc Encoding, frame []byte, f func(*protocol.Command) error) error {
	if len(frame) == 0 {
		return ErrEmpty
	}
	typ := protocol.TypeJSON
	if enc == Protobuf {
		typ = protocol.TypeProtobuf
	}
	dec := protocol.GetCommandDecoder(typ, frame)
	defer func() {
		_ = dec.Reset(nil) // the pool must not hold on to the frame
		protocol.PutCommandDecoder(typ, dec)
	}()
	for {
		cmd, err := dec.Decode()
		if err != nil && (cmd == nil || err != io.EOF) {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if ferr := f(cmd); ferr != nil || err == io.EOF {
			return ferr
		}
	}
}

// Kind says which request a command holds; ok is false unless it is exactly one.
func Kind(cmd *protocol.Command) (name string, ok bool) {
	count := 0
	for _, k := range []struct {
		name string
		set  bool
	}{
		{"connect", cmd.Connect != nil}, {"subscribe", cmd.Subscribe != nil}, {"unsubscribe", cmd.Unsubscribe != nil},
		{"publish", cmd.Publish != nil}, {"presence", cmd.Presence != nil}, {"presence_stats", cmd.PresenceStats != nil},
		{"history", cmd.History != nil}, {"ping", cmd.Ping != nil}, {"rpc", cmd.Rpc != nil}, {"send", cmd.Send != nil},
		{"refresh", cmd.Refresh != nil}, {"sub_refresh", cmd.SubRefresh != nil},
	} {
		if k.set {
			name = k.name
			count++
		}
	}
	return name, count == 1
}

// AppendReply appends a reply and its framing to the frame in dst. Payloads that are no
// JSON go to JSON clients as strings, in base64 if they are no text. After an error dst
// is what it was.
func AppendReply(dst []byte, enc Encoding, r *protocol.Reply) ([]byte, error) {
	if enc == Protobuf {
		n := r.SizeCF()
		out := slices.Grow(binary.AppendUvarint(dst, uint64(n)), n)
		out = out[:len(out)+n]
		if _, err := r.MarshalToSizedBufferCF(out[len(out)-n:]); err != nil {
			return dst, fmt.Errorf("client: encode reply: %w", err)
		}
		return out, nil
	}
	b, err := encodeJSON(r)
	if err != nil {
		if b, err = encodeJSON(presentable(r)); err != nil {
			return dst, fmt.Errorf("client: encode reply: %w", err)
		}
	}
	if len(dst) > 0 {
		dst = append(dst, '\n')
	}
	return append(dst, b...), nil
}

// AppendPush appends a push: a reply without id.
func AppendPush(dst []byte, enc Encoding, p *protocol.Push) ([]byte, error) {
	return AppendReply(dst, enc, &protocol.Reply{Push: p})
}

// Ping is what a server sends, and the pong it gets back, by encoding.
var Ping = [2][]byte{JSON: []byte("{}"), Protobuf: {0}}

// IsPong tells whether a frame is the answer to a ping and nothing else.
func IsPong(enc Encoding, frame []byte) bool { return string(frame) == string(Ping[enc]) }

// Skip returns what a frame holds after its first count messages, which have been
// decoded.
func Skip(enc Encoding, frame []byte, count int) []byte {
	for range count {
		if enc == JSON {
			end := bytes.IndexByte(frame, '\n')
			if end < 0 {
				return nil
			}
			frame = frame[end+1:]
			continue
		}
		size, n := binary.Uvarint(frame)
		if n <= 0 || size > uint64(len(frame)-n) {
			return nil
		}
		frame = frame[n+int(size):]
	}
	return frame
}
