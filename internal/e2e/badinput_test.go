//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
	"github.com/centrifugal/protocol"
)

func subscribeCommand(id uint32, channel string) *protocol.Command {
	return &protocol.Command{Id: id, Subscribe: &protocol.SubscribeRequest{Channel: channel}}
}

func publishCommand(id uint32, channel, data string) *protocol.Command {
	return &protocol.Command{Id: id, Publish: &protocol.PublishRequest{Channel: channel, Data: []byte(data)}}
}

// badInput is what a client sends, and the code of the close frame that it gets.
type badInput struct {
	name   string
	frames func(binary bool) [][]byte
	code   uint16
}

// both frames commands in the client's encoding, one frame each.
func both(cmds ...*protocol.Command) func(bool) [][]byte {
	return func(binary bool) (out [][]byte) {
		for _, c := range cmds {
			out = append(out, frame(binary, c))
		}
		return out
	}
}

// afterConnect sends a frame as it is once the client has connected.
func afterConnect(text, binaryFrame string) func(bool) [][]byte {
	return func(binary bool) [][]byte {
		if binary {
			return [][]byte{frame(binary, connectCommand(1, "")), []byte(binaryFrame)}
		}
		return [][]byte{frame(binary, connectCommand(1, "")), []byte(text)}
	}
}

const (
	badRequest   = 3501
	invalidToken = 3500
)

var badInputs = []badInput{
	{"subscribe before connect", both(subscribeCommand(1, "c")), badRequest},
	{"publish before connect", both(publishCommand(1, "c", "1")), badRequest},
	{"send before connect", both(&protocol.Command{Send: &protocol.SendRequest{Data: []byte("1")}}), badRequest},
	{"pong before connect", both(&protocol.Command{}), badRequest},
	{"empty first frame", func(bool) [][]byte { return [][]byte{nil} }, badRequest},
	{"empty frame", afterConnect("", ""), badRequest},
	{"second connect", both(connectCommand(1, ""), connectCommand(2, "")), badRequest},
	{"connect without id", both(connectCommand(0, "")), badRequest},
	{"subscribe without id", both(connectCommand(1, ""), subscribeCommand(0, "c")), badRequest},
	{"unsolicited pong", both(connectCommand(1, ""), &protocol.Command{}), badRequest},
	{"id alone", both(connectCommand(1, ""), &protocol.Command{Id: 2}), badRequest},
	{"send", both(connectCommand(1, ""), &protocol.Command{Send: &protocol.SendRequest{Data: []byte("1")}}), 3508},
	{"malformed", afterConnect(`{"id":2,"subscribe":{"channel":`, "\x05\x08\x02\x2a\x63"), badRequest},
	{"no object", afterConnect(`[1,2]`, "\x03\xff\xff\xff"), badRequest},
	{"a number", afterConnect(`17`, "\x80"), badRequest},
	{"null", afterConnect(`null`, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), badRequest},
	{"wrong type", afterConnect(`{"id":"two","subscribe":{"channel":1}}`, "\x04\x08\x02\x28\x01"), badRequest},
	{"negative id", afterConnect(`{"id":-2,"subscribe":{"channel":"c"}}`, "\x02\x0d\x01"), badRequest},
	{"wrong length", afterConnect(`{"id":2,"publish":{"channel":"c","data":}}`, "\x7f\x08\x02"), badRequest},
	{"unknown command", afterConnect(`{"id":2,"dance":{}}`, "\x05\x08\x02\x9a\x06\x00"), badRequest},
	{"garbage after a command", afterConnect(`{"id":2,"unsubscribe":{"channel":"c"}}`+"\n}{", "\x07\x08\x02\x32\x03\x0a\x01c\x09"), badRequest},
	{"deep nesting", afterConnect(`{"id":2,"publish":{"channel":"c","data":`+strings.Repeat("[", 60000), strings.Repeat("\x7a", 60000)), badRequest},
	{"token of nothing", both(connectCommand(1, "token")), invalidToken},
	{"after a failed connect", both(connectCommand(1, token(claims{"sub": "ann", "exp": 1})), subscribeCommand(2, "c")), badRequest},
}

// bystander is a client that must not notice what others do.
type bystander struct {
	*sdk
	channel string
	stop    chan struct{}
	done    sync.WaitGroup
	sent    int
	err     error
}

func (g *gateway) bystander(t testing.TB) *bystander {
	t.Helper()
	s, _ := g.connected(t, true, "bystander")
	b := &bystander{sdk: s, channel: named(t, "bystander"), stop: make(chan struct{})}
	s.subscribe(t, b.channel, centrifuge.SubscriptionConfig{})
	b.done.Go(func() {
		for {
			select {
			case <-b.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if b.err = g.api("publish", object{"channel": b.channel, "data": b.sent}, nil); b.err != nil {
				return
			}
			b.sent++
		}
	})
	return b
}

// undisturbed checks that the bystander has seen all, in order, on one connection.
func (b *bystander) undisturbed(t testing.TB) {
	t.Helper()
	close(b.stop)
	b.done.Wait()
	if b.err != nil || b.sent == 0 {
		t.Fatalf("%d publications, then %v", b.sent, b.err)
	}
	eventually(t, func() error {
		if n := len(b.all("publication", b.channel)); n < b.sent {
			return fmt.Errorf("%d of %d publications", n, b.sent)
		}
		return nil
	})
	for i, e := range b.all("publication", b.channel) {
		if e.data != fmt.Sprint(i) {
			t.Fatalf("publication %d is %s", i, e.data)
		}
	}
	if n := len(b.all("connected", "")); n != 1 {
		t.Errorf("the bystander connected %d times", n)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--memory")
	b := g.bystander(t)
	before := g.metrics(t)
	want := map[uint16]float64{}
	for _, c := range badInputs {
		for _, binary := range []bool{false, true} {
			r := g.rawClient(t, binary)
			for _, f := range c.frames(binary) {
				r.write(f)
			}
			if code, err := r.end(); err != nil || code != c.code {
				t.Errorf("%s, protobuf %v: closed with %d, %v; want %d", c.name, binary, code, err, c.code)
			}
			want[c.code]++
		}
	}
	b.undisturbed(t)
	after := g.metrics(t)
	for code, n := range want {
		label := fmt.Sprintf("%q", fmt.Sprint(code))
		if got := sum(after, disconnectsMetric, label) - sum(before, disconnectsMetric, label); got != n {
			t.Errorf("%s counts %v disconnects with %d, want %v", disconnectsMetric, got, code, n)
		}
	}
}

// disconnectsMetric counts connections ended by the gateway, by code.
const disconnectsMetric = "roost_disconnects_total"

// A text in a connection that speaks Protobuf, and the reverse.
func TestWrongEncoding(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		r := sharedGateway(t).rawClient(t, binary)
		r.write(frame(!binary, connectCommand(1, "")))
		if code, err := r.end(); err != nil || code != badRequest {
			t.Errorf("%d, %v", code, err)
		}
	})
}

// Unknown fields are no error: clients may be newer than the gateway.
func TestUnknownFields(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		r := sharedGateway(t).rawClient(t, binary)
		if _, err := r.connect(""); err != nil {
			t.Fatal(err)
		}
		ch := named(t, "")
		b := bytes.Replace(frame(false, subscribeCommand(2, ch)), []byte(`{"channel"`), []byte(`{"new":{"x":[1,null,"y"]},"channel"`), 1)
		if binary {
			b = frame(true, subscribeCommand(2, ch))[1:]
			b = append(b, 0xfa, 0x3f, 3, 'n', 'e', 'w') // field 1023, bytes
			b = append([]byte{byte(len(b))}, b...)
		}
		r.write(b)
		if reply, err := r.next(); err != nil || reply.Id != 2 || reply.Subscribe == nil {
			t.Errorf("%v, %v", reply, err)
		}
	})
}

// More subscribes in one batch than a client may have channels.
func TestTooManyChannels(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		const allowed, asked = 128, 10_000
		g := start(t, configuration, "--memory", "--max-message", "1048576")
		r := g.rawClient(t, binary)
		if _, err := r.connect(""); err != nil {
			t.Fatal(err)
		}
		var cmds []*protocol.Command
		for i := range asked {
			cmds = append(cmds, subscribeCommand(uint32(i+2), named(t, "")+fmt.Sprint(i)))
		}
		r.send(cmds...)
		ok, limited := 0, 0
		for seen := map[uint32]bool{}; len(seen) < asked; {
			reply, err := r.next()
			if err != nil {
				t.Fatalf("after %d replies: %v", len(seen), err)
			}
			if reply.Id == 0 {
				continue
			}
			if seen[reply.Id] {
				t.Fatalf("two replies to %d", reply.Id)
			}
			seen[reply.Id] = true
			switch e := reply.Error; {
			case e == nil:
				ok++
			case e.Code == 106:
				limited++
			default:
				t.Fatalf("error %d %s", e.Code, e.Message)
			}
		}
		if ok != allowed || limited != asked-allowed {
			t.Errorf("%d subscribed, %d over the limit; want %d and %d", ok, limited, allowed, asked-allowed)
		}
		if reply, err := r.call(publishCommand(20_000, named(t, "")+"0", "1")); err != nil || reply.Error != nil {
			t.Errorf("%v, %v", reply, err)
		}
	})
}

// Names that mean something to NATS, to terminals or to nobody are plain names.
func TestChannelNames(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g := sharedGateway(t)
		one, two := g.rawClient(t, binary), g.rawClient(t, binary)
		for _, r := range []*raw{one, two} {
			if _, err := r.connect(""); err != nil {
				t.Fatal(err)
			}
		}
		names := []string{"*", ">", "a.*", "a.>", "a.b", "a.b.c", ".", "..", "a..b", ".a", "a.", " ", "a b", "\t", "a\nb", "\r\n", "\x00", "\x01\x7f",
			"$SYS.>", "$JS.API.>", "/", "../..", "%2e", "\\", `"`, "'", "<b>", "&", "\u00e4", "\u4e16\u754c", "\U0001f600", "\U0010ffff", "e\u0301", "\u00e9",
			"\u202e", strings.Repeat("\U0001f600", 60)}
		id := uint32(1)
		for i, name := range names {
			names[i] = named(t, "") + name
			id++
			if reply, err := one.call(subscribeCommand(id, names[i])); err != nil || reply.Error != nil {
				t.Fatalf("subscribe %q: %v, %v", name, reply, err)
			}
		}
		for i, name := range names {
			id++
			if reply, err := two.call(publishCommand(id, name, fmt.Sprint(i))); err != nil || reply.Error != nil {
				t.Fatalf("publish %q: %v, %v", name, reply, err)
			}
			// Exactly one publication, in the channel named.
			reply, err := one.next()
			for err == nil && (reply.Push == nil || reply.Push.Pub == nil) {
				reply, err = one.next()
			}
			if err != nil || reply.Push.Channel != name || string(reply.Push.Pub.Data) != fmt.Sprint(i) || reply.Push.Pub.Offset != 1 {
				t.Fatalf("publication in %q: %v, %v", name, reply, err)
			}
			id++
			reply, err = two.call(&protocol.Command{Id: id, History: &protocol.HistoryRequest{Channel: name, Limit: -1}})
			if err != nil || reply.Error != nil || len(reply.History.Publications) != 1 {
				t.Fatalf("history of %q: %v, %v", name, reply, err)
			}
		}
		for _, name := range []string{"", strings.Repeat("x", 256), strings.Repeat("\U0001f600", 64)} {
			for _, cmd := range []*protocol.Command{subscribeCommand(0, name), publishCommand(0, name, "1"),
				{Presence: &protocol.PresenceRequest{Channel: name}}, {PresenceStats: &protocol.PresenceStatsRequest{Channel: name}},
				{History: &protocol.HistoryRequest{Channel: name}}, {SubRefresh: &protocol.SubRefreshRequest{Channel: name}}} {
				id++
				cmd.Id = id
				reply, err := one.call(cmd)
				if err != nil {
					t.Fatalf("%.20v: %v", cmd, err)
				}
				if e := reply.Error; e == nil || e.Code != 107 && cmd.SubRefresh == nil {
					t.Errorf("%.40v: %v, want error 107", cmd, e)
				}
			}
		}
	})
}

// The largest message passes, a larger one ends the connection and nothing else.
func TestMessageSize(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "")
		r := g.rawClient(t, binary)
		if _, err := r.connect(""); err != nil {
			t.Fatal(err)
		}
		data := func(n int) string { b, _ := json.Marshal(strings.Repeat("x", n)); return string(b) }
		if reply, err := r.call(publishCommand(2, ch, data(64<<10-200))); err != nil || reply.Error != nil {
			t.Errorf("%.200v, %v", reply, err)
		}
		r.send(publishCommand(3, ch, data(64<<10)))
		var c *closed
		if _, err := r.next(); !errors.As(err, &c) || c.code != 1009 {
			t.Errorf("%v, want close 1009", err)
		}
	})
}
