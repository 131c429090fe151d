package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/centrifugal/protocol"
)

var encodings = []Encoding{JSON, Protobuf}

func typeOf(enc Encoding) protocol.Type {
	if enc == JSON {
		return protocol.TypeJSON
	}
	return protocol.TypeProtobuf
}

// commands encodes a frame with the library's encoders, as its Go client does.
func commands(t testing.TB, enc Encoding, cmds ...*protocol.Command) []byte {
	t.Helper()
	e := protocol.GetDataEncoder(typeOf(enc))
	defer protocol.PutDataEncoder(typeOf(enc), e)
	for _, c := range cmds {
		var b []byte
		var err error
		if enc == JSON {
			b, err = protocol.NewJSONCommandEncoder().Encode(c)
		} else { // its command encoder puts the length before the command by itself
			b, err = c.MarshalCF()
		}
		if err == nil {
			err = e.Encode(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return e.Finish()
}

// replies decodes a frame with the library's decoders.
func replies(t testing.TB, enc Encoding, frame []byte) (out []*protocol.Reply) {
	t.Helper()
	var d protocol.ReplyDecoder = protocol.NewJSONReplyDecoder(frame)
	if enc == Protobuf {
		d = protocol.NewProtobufReplyDecoder(frame)
	}
	for {
		r, err := d.Decode()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatalf("decode %q: %v", frame, err)
		}
		out = append(out, r)
	}
}

func all(enc Encoding, frame []byte) (out []*protocol.Command, err error) {
	err = Decode(enc, frame, func(c *protocol.Command) error {
		out = append(out, c)
		return nil
	})
	return out, err
}

func TestDecode(t *testing.T) {
	for _, enc := range encodings {
		var cmds []*protocol.Command
		for i := range 10_000 {
			cmds = append(cmds, &protocol.Command{Id: uint32(i + 1), Subscribe: &protocol.SubscribeRequest{Channel: fmt.Sprint("c", i)}})
		}
		got, err := all(enc, commands(t, enc, cmds...))
		if err != nil || len(got) != len(cmds) {
			t.Fatalf("%d: %d commands, %v", enc, len(got), err)
		}
		for i, c := range got {
			if c.Id != uint32(i+1) || c.Subscribe.Channel != fmt.Sprint("c", i) {
				t.Fatalf("%d: command %d is %v", enc, i, c)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	whole := commands(t, Protobuf, &protocol.Command{Id: 7, Publish: &protocol.PublishRequest{Channel: "news", Data: []byte("{}")}})
	for _, c := range []struct {
		name   string
		enc    Encoding
		frame  string
		before int // commands that come through first
		want   error
	}{
		{"empty", JSON, "", 0, ErrEmpty},
		{"empty", Protobuf, "", 0, ErrEmpty},
		{"no JSON", JSON, "hello", 0, ErrMalformed},
		{"cut JSON", JSON, `{"id":1,"connect":{`, 0, ErrMalformed},
		{"array", JSON, `[{"id":1}]`, 0, ErrMalformed},
		{"wrong type", JSON, `{"id":"one"}`, 0, ErrMalformed},
		{"negative id", JSON, `{"id":-1}`, 0, ErrMalformed},
		{"id too large", JSON, `{"id":4294967296}`, 0, ErrMalformed},
		{"second line bad", JSON, "{\"id\":1,\"ping\":{}}\n{", 1, ErrMalformed},
		{"line empty", JSON, "\n", 0, ErrMalformed},
		{"too deep", JSON, `{"id":1,"rpc":{"data":` + strings.Repeat("[", 100_000) + `}}`, 0, ErrMalformed},
		{"only a length", Protobuf, "\x05", 0, ErrMalformed},
		{"length cut", Protobuf, "\x80", 0, ErrMalformed},
		{"length overflows", Protobuf, strings.Repeat("\xff", 10) + "\x01", 0, ErrMalformed},
		{"command cut", Protobuf, string(whole[:len(whole)-1]), 0, ErrMalformed},
		{"second cut", Protobuf, string(whole) + string(whole[:3]), 1, ErrMalformed},
		{"group never ends", Protobuf, "\x01\x0b", 0, ErrMalformed},
		{"JSON", Protobuf, `{"id":1,"connect":{}}`, 0, ErrMalformed},
	} {
		t.Run(fmt.Sprint(c.name, c.enc), func(t *testing.T) {
			got, err := all(c.enc, []byte(c.frame))
			if !errors.Is(err, c.want) || len(got) != c.before {
				t.Errorf("%d commands, %v; want %d, %v", len(got), err, c.before, c.want)
			}
		})
	}
}

func TestDecodeStops(t *testing.T) {
	stop := errors.New("stop")
	for _, enc := range encodings {
		n := 0
		err := Decode(enc, commands(t, enc, &protocol.Command{Id: 1}, &protocol.Command{Id: 2}), func(*protocol.Command) error {
			n++
			return stop
		})
		if n != 1 || err != stop {
			t.Errorf("%d: %d calls, %v", enc, n, err)
		}
	}
}

func TestDecodeUnknown(t *testing.T) {
	got, err := all(JSON, []byte(`{"id":1,"fly":{"to":"moon"},"connect":{"wings":2}}`))
	if err != nil || len(got) != 1 || got[0].Connect == nil {
		t.Errorf("unknown fields: %v, %v", got, err)
	}
}

func TestKind(t *testing.T) {
	for _, c := range []struct {
		cmd  *protocol.Command
		want string
		ok   bool
	}{
		{&protocol.Command{}, "", false},
		{&protocol.Command{Id: 1}, "", false},
		{&protocol.Command{Connect: &protocol.ConnectRequest{}}, "connect", true},
		{&protocol.Command{Subscribe: &protocol.SubscribeRequest{}}, "subscribe", true},
		{&protocol.Command{Unsubscribe: &protocol.UnsubscribeRequest{}}, "unsubscribe", true},
		{&protocol.Command{Publish: &protocol.PublishRequest{}}, "publish", true},
		{&protocol.Command{Presence: &protocol.PresenceRequest{}}, "presence", true},
		{&protocol.Command{PresenceStats: &protocol.PresenceStatsRequest{}}, "presence_stats", true},
		{&protocol.Command{History: &protocol.HistoryRequest{}}, "history", true},
		{&protocol.Command{Ping: &protocol.PingRequest{}}, "ping", true},
		{&protocol.Command{Rpc: &protocol.RPCRequest{}}, "rpc", true},
		{&protocol.Command{Send: &protocol.SendRequest{}}, "send", true},
		{&protocol.Command{Refresh: &protocol.RefreshRequest{}}, "refresh", true},
		{&protocol.Command{SubRefresh: &protocol.SubRefreshRequest{}}, "sub_refresh", true},
		{&protocol.Command{Connect: &protocol.ConnectRequest{}, Send: &protocol.SendRequest{}}, "send", false},
	} {
		for _, enc := range encodings { // through the wire, as an empty request must survive it
			got, err := all(enc, commands(t, enc, c.cmd))
			if err != nil || len(got) != 1 {
				t.Fatalf("%s: %v, %v", c.want, got, err)
			}
			if name, ok := Kind(got[0]); name != c.want || ok != c.ok {
				t.Errorf("%d: got %q, %v, want %q, %v", enc, name, ok, c.want, c.ok)
			}
		}
	}
}

func TestPing(t *testing.T) {
	for _, enc := range encodings {
		if !IsPong(enc, Ping[enc]) || IsPong(enc, Ping[1-enc]) || IsPong(enc, nil) {
			t.Errorf("%d: the pong is not the one", enc)
		}
		b, err := AppendReply(nil, enc, &protocol.Reply{})
		if err != nil || !bytes.Equal(b, Ping[enc]) {
			t.Errorf("%d: an empty reply is %q, %v", enc, b, err)
		}
		got, err := all(enc, Ping[enc])
		if err != nil || len(got) != 1 {
			t.Fatalf("%d: a pong is %v, %v", enc, got, err)
		}
		if name, ok := Kind(got[0]); name != "" || ok || got[0].Id != 0 {
			t.Errorf("%d: a pong is a %q", enc, name)
		}
	}
}

// golden holds what goes over the wire, byte for byte.
var golden = []struct {
	name  string
	reply *protocol.Reply
	json  string
	proto string
}{
	{"error", &protocol.Reply{Id: 3, Error: ErrTooManyRequests.Proto()},
		`{"id":3,"error":{"code":111,"message":"too many requests","temporary":true}}`,
		"\x1b\x08\x03\x12\x17\x08\x6f\x12\x11too many requests\x18\x01"},
	{"connect", &protocol.Reply{Id: 1, Connect: &protocol.ConnectResult{Client: "c1", Version: "1", Ping: 25, Pong: true}},
		`{"id":1,"connect":{"client":"c1","version":"1","ping":25,"pong":true}}`,
		"\x0f\x08\x01\x2a\x0b\x0a\x02c1\x12\x011\x38\x19\x40\x01"},
	{"unsubscribe", &protocol.Reply{Id: 300, Unsubscribe: &protocol.UnsubscribeResult{}},
		`{"id":300,"unsubscribe":{}}`, "\x05\x08\xac\x02\x3a\x00"},
	{"publication", &protocol.Reply{Push: &protocol.Push{Channel: "news", Pub: &protocol.Publication{Data: []byte("{\n}"), Offset: 7}}},
		`{"push":{"channel":"news","pub":{"data":{},"offset":7}}}`,
		"\x11\x22\x0f\x12\x04news\x22\x07\x22\x03{\n}\x30\x07"},
	{"unsubscribed", &protocol.Reply{Push: &protocol.Push{Channel: "a",
		Unsubscribe: &protocol.Unsubscribe{Code: UnsubscribeExpired.Code, Reason: UnsubscribeExpired.Reason}}},
		`{"push":{"channel":"a","unsubscribe":{"code":2501,"reason":"expired"}}}`,
		"\x13\x22\x11\x12\x01a\x3a\x0c\x10\xc5\x13\x1a\x07expired"},
}

func TestGoldenReplies(t *testing.T) {
	for _, g := range golden {
		for enc, want := range map[Encoding]string{JSON: g.json, Protobuf: g.proto} {
			b, err := AppendReply(nil, enc, g.reply)
			if err != nil || string(b) != want {
				t.Errorf("%s: got %q, %v\nwant %q", g.name, b, err, want)
			}
		}
	}
}

func TestFraming(t *testing.T) {
	for _, enc := range encodings {
		var frame []byte
		for _, g := range golden {
			var err error
			if frame, err = AppendReply(frame, enc, g.reply); err != nil {
				t.Fatal(err)
			}
		}
		got := replies(t, enc, frame)
		if len(got) != len(golden) {
			t.Fatalf("%d: %d replies of %d", enc, len(got), len(golden))
		}
		for i, r := range got {
			one, err := AppendReply(nil, enc, r)
			want, _ := AppendReply(nil, enc, golden[i].reply)
			if err != nil || !bytes.Equal(one, want) {
				t.Errorf("%d: %s came back as %q, %v", enc, golden[i].name, one, err)
			}
		}
		if enc == JSON && bytes.Count(frame, []byte("\n")) != len(golden)-1 {
			t.Errorf("newlines other than between messages: %q", frame)
		}
	}
	b, err := AppendPush(nil, Protobuf, &protocol.Push{Message: &protocol.Message{Data: bytes.Repeat([]byte("x"), 300)}})
	if n, l := binary.Uvarint(b); err != nil || l != 2 || int(n) != len(b)-2 {
		t.Errorf("a length of %d in %d bytes before %d", n, l, len(b)-l)
	}
}

func TestRepliesThatAreNoJSON(t *testing.T) {
	text, raw, broken := []byte("plain"), []byte{0xff, 0}, []byte("\"\xff\"")
	pub := &protocol.Publication{Data: raw, Info: &protocol.ClientInfo{User: "u", ConnInfo: text, ChanInfo: []byte("{}")}}
	info := &protocol.ClientInfo{User: "u", ConnInfo: broken}
	const pubJSON = `{"data":"/wA=","info":{"user":"u","client":"","conn_info":"plain","chan_info":{}}}`
	for _, c := range []struct {
		name  string
		reply *protocol.Reply
		want  string
	}{
		{"push", &protocol.Reply{Push: &protocol.Push{Channel: "c", Pub: pub}}, `{"push":{"channel":"c","pub":` + pubJSON + `}}`},
		{"join", &protocol.Reply{Push: &protocol.Push{Join: &protocol.Join{Info: info}}}, `{"push":{"join":{"info":{"user":"u","client":"","conn_info":"Iv8i"}}}}`},
		{"leave", &protocol.Reply{Push: &protocol.Push{Leave: &protocol.Leave{Info: info}}}, `{"push":{"leave":{"info":{"user":"u","client":"","conn_info":"Iv8i"}}}}`},
		{"message", &protocol.Reply{Push: &protocol.Push{Message: &protocol.Message{Data: text}}}, `{"push":{"message":{"data":"plain"}}}`},
		{"subscribed", &protocol.Reply{Push: &protocol.Push{Subscribe: &protocol.Subscribe{Data: text}}}, `{"push":{"subscribe":{"data":"plain"}}}`},
		{"history", &protocol.Reply{Id: 2, History: &protocol.HistoryResult{Publications: []*protocol.Publication{pub}}}, `{"id":2,"history":{"publications":[` + pubJSON + `],"epoch":"","offset":0}}`},
		{"subscribe", &protocol.Reply{Id: 2, Subscribe: &protocol.SubscribeResult{Data: text, Publications: []*protocol.Publication{pub}}},
			`{"id":2,"subscribe":{"publications":[` + pubJSON + `],"data":"plain"}}`},
		{"connect", &protocol.Reply{Id: 2, Connect: &protocol.ConnectResult{Data: text, Subs: map[string]*protocol.SubscribeResult{"c": {Data: text}}}},
			`{"id":2,"connect":{"data":"plain","subs":{"c":{"data":"plain"}}}}`},
		{"presence", &protocol.Reply{Id: 2, Presence: &protocol.PresenceResult{Presence: map[string]*protocol.ClientInfo{"x": info}}},
			`{"id":2,"presence":{"presence":{"x":{"user":"u","client":"","conn_info":"Iv8i"}}}}`},
		{"rpc", &protocol.Reply{Id: 2, Rpc: &protocol.RPCResult{Data: broken}}, `{"id":2,"rpc":{"data":"Iv8i"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, _ := c.reply.MarshalCF()
			b, err := AppendReply(nil, JSON, c.reply)
			if err != nil {
				t.Fatal(err)
			}
			if len(replies(t, JSON, b)) != 1 || !utf8.Valid(b) {
				t.Errorf("no reply: %q", b)
			}
			if string(b) != c.want {
				t.Errorf("got  %s\nwant %s", b, c.want)
			}
			if after, _ := c.reply.MarshalCF(); !bytes.Equal(before, after) {
				t.Error("the reply itself was changed")
			}
		})
	}
}

func TestCodes(t *testing.T) {
	for code, comesBack := range map[uint32]bool{3000: true, 3499: true, 3500: false, 3999: false, 4000: true, 4499: true, 4500: false, 4999: false, 1000: false} {
		if d := (&Disconnect{Code: code}); d.Reconnect() != comesBack {
			t.Errorf("%d comes back: %v", code, !comesBack)
		}
	}
	var err error = ErrInternal
	var e *Error
	if !errors.As(fmt.Errorf("x: %w", err), &e) || e.Proto().Code != 100 || !e.Proto().Temporary || err.Error() != "100: internal server error" {
		t.Errorf("%v", err)
	}
	err = &DisconnectSlow
	if err.Error() != "disconnect 3008: slow" {
		t.Errorf("%v", err)
	}
}

func fuzzDecode(f *testing.F, enc Encoding) {
	for _, c := range []*protocol.Command{
		{Id: 1, Connect: &protocol.ConnectRequest{Token: "t", Data: []byte(`{"a":1}`), Subs: map[string]*protocol.SubscribeRequest{"c": {Recover: true}}}},
		{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "c", Tf: node("and", leaf("k", "in", "", "v"))}},
		{Send: &protocol.SendRequest{Data: []byte(`"x"`)}},
	} {
		b := commands(f, enc, c)
		f.Add(b)
		f.Add(b[:len(b)/2])
		f.Add(commands(f, enc, c, c))
	}
	f.Add([]byte{})
	f.Add(Ping[enc])
	f.Fuzz(func(t *testing.T, frame []byte) {
		n := 0
		err := Decode(enc, frame, func(c *protocol.Command) error {
			n++
			Kind(c)
			return nil
		})
		switch {
		case err == nil && n == 0:
			t.Error("neither a command nor an error")
		case len(frame) == 0 && err != ErrEmpty, len(frame) > 0 && err != nil && !errors.Is(err, ErrMalformed):
			t.Errorf("an error of another type: %v", err)
		}
	})
}

func FuzzDecodeJSON(f *testing.F)     { fuzzDecode(f, JSON) }
func FuzzDecodeProtobuf(f *testing.F) { fuzzDecode(f, Protobuf) }

// fuzzSkip holds Skip to what Decode says: after any number of its commands the rest holds the
// others, and ends in an error where the whole does.
func fuzzSkip(f *testing.F, enc Encoding) {
	publish := &protocol.Command{Id: 1, Publish: &protocol.PublishRequest{Channel: "c", Data: []byte(`"\n"`)}}
	large := &protocol.Command{Id: 1 << 31, Rpc: &protocol.RPCRequest{Data: []byte(`"` + strings.Repeat("x", 300) + `"`)}} // its size takes two bytes
	three := commands(f, enc, publish, large, publish)
	f.Add(three)
	f.Add(three[:len(three)-1])
	f.Add(append(slices.Clone(three), '\n'))
	f.Add(append(slices.Clone(three), 0))
	f.Add([]byte("\n\n{}"))
	f.Add([]byte{0x80})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, frame []byte) {
		decoded := func(frame []byte) (all []string, err error) {
			err = Decode(enc, frame, func(c *protocol.Command) error {
				b, err := c.MarshalCF()
				all = append(all, string(b))
				return err
			})
			return all, err
		}
		whole, err := decoded(frame)
		for k := range whole {
			rest, restErr := decoded(Skip(enc, frame, k))
			if !slices.Equal(rest, whole[k:]) || (err == nil) != (restErr == nil) {
				t.Fatalf("after %d of %q: %q, %v; want %q, %v", k, whole, rest, restErr, whole[k:], err)
			}
		}
		if rest := Skip(enc, frame, len(whole)); err == nil && len(rest) > 0 {
			t.Fatalf("%q is left behind all of %q", rest, whole)
		}
		if rest := Skip(enc, frame, len(frame)+1); len(rest) > 0 {
			t.Fatalf("%q is left", rest)
		}
	})
}

func FuzzSkipJSON(f *testing.F)     { fuzzSkip(f, JSON) }
func FuzzSkipProtobuf(f *testing.F) { fuzzSkip(f, Protobuf) }
