//go:build linux

package e2e

import (
	"fmt"
	"io"
	"testing"

	"github.com/centrifugal/protocol"

	"roost/proto/ws"
)

// impatient is a gateway that asks its clients often.
const impatient = `
allow-anonymous: true
hmac-secret-key: ` + secret + `
ping-interval: 1s
pong-timeout: 500ms
stale-timeout: 1s
` + channels

// Who answers pings stays, who does not is gone, and so is who never says who it is.
func TestPings(t *testing.T) {
	t.Parallel()
	g := start(t, impatient, "--memory")
	for _, binary := range []bool{false, true} {
		t.Run(fmt.Sprint("protobuf ", binary), func(t *testing.T) {
			t.Parallel()
			alive := g.rawClient(t, binary)
			if res, err := alive.connect(""); err != nil || res.Ping != 1 || !res.Pong {
				t.Fatalf("%v, %v", res, err)
			}
			for range 3 {
				b, err := alive.readFrame()
				if want := map[bool]string{false: "{}", true: "\x00"}[binary]; err != nil || string(b) != want {
					t.Fatalf("%q, %v, want a ping", b, err)
				}
				alive.send(&protocol.Command{})
			}
			if reply, err := alive.call(publishCommand(2, named(t, ""), "1")); err != nil || reply.Error != nil {
				t.Errorf("%v, %v", reply, err)
			}
			stale := g.rawClient(t, binary)
			if code, err := stale.end(); err != nil || code != 3502 {
				t.Errorf("without connect: %d, %v, want 3502", code, err)
			}
			mute := g.rawClient(t, binary)
			_, err := mute.connect("")
			for err == nil { // no answers
				_, err = mute.readFrame()
			}
			if c, ok := err.(*closed); !ok || c.code != 3012 {
				t.Errorf("without pongs: %v, want 3012", err)
			}
		})
	}
}

// Native ping frames instead of the protocol's pings, where the client asks for them.
func TestNativePings(t *testing.T) {
	t.Parallel()
	g := start(t, impatient, "--memory")
	for _, answers := range []bool{false, true} {
		t.Run(fmt.Sprint("answers ", answers), func(t *testing.T) {
			t.Parallel()
			r, err := dialAt(g.address, "/connection/websocket?cf_ws_frame_ping_pong=true", true)
			if err != nil {
				t.Fatal(err)
			}
			defer r.conn.Close()
			if res, err := r.connect(""); err != nil || res.Ping != 0 || res.Pong {
				t.Fatalf("%v, %v", res, err)
			}
			if !answers {
				_, err = r.readFrame() // passes over pings
				if c, ok := err.(*closed); !ok || c.code != 3012 {
					t.Errorf("without pongs: %v, want 3012", err)
				}
				return
			}
			for range 3 {
				var head [2]byte
				if _, err := io.ReadFull(r.in, head[:]); err != nil || ws.Opcode(head[0]&0x0f) != ws.OpPing {
					t.Fatalf("%x, %v, want a ping", head, err)
				}
				payload := make([]byte, head[1])
				if _, err := io.ReadFull(r.in, payload); err != nil {
					t.Fatal(err)
				}
				_, _ = r.conn.Write(ws.AppendMaskedFrame(nil, ws.OpPong, maskingKey, payload))
			}
		})
	}
}

// A client may ask for numbers instead of channel names in pushes, and gets them with
// JSON: with Protobuf there are SDKs that ask for what they do not understand then.
func TestNumericIDs(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g := sharedGateway(t)
		byID, byName := g.rawClient(t, binary), g.rawClient(t, binary)
		for _, r := range []*raw{byID, byName} {
			if _, err := r.connect(""); err != nil {
				t.Fatal(err)
			}
		}
		ids := map[int64]string{}
		names := []string{named(t, "") + "1", named(t, "") + "2"}
		for i, name := range names {
			cmd := subscribeCommand(uint32(i+2), name)
			if reply, err := byName.call(cmd); err != nil || reply.Error != nil || reply.Subscribe.Id != 0 {
				t.Fatal(reply, err)
			}
			cmd.Subscribe.Flag = 1
			reply, err := byID.call(cmd)
			if err != nil || reply.Error != nil || (reply.Subscribe.Id == 0) != binary {
				t.Fatal(reply, err)
			}
			ids[reply.Subscribe.Id] = name
		}
		if !binary && len(ids) != len(names) {
			t.Fatalf("%v", ids)
		}
		for _, name := range names {
			g.publish(t, name, name)
			reply, err := byID.next()
			if err != nil || !binary && (reply.Push.Channel != "" || ids[reply.Push.Id] != name) || binary && reply.Push.Channel != name {
				t.Errorf("%v, %v", reply, err)
			}
			reply, err = byName.next()
			if err != nil || reply.Push.Channel != name || reply.Push.Id != 0 {
				t.Errorf("%v, %v", reply, err)
			}
		}
	})
}

// A filter lets through what fits and nothing else; a bad one is refused.
func TestTagsFilter(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "")
		r := g.rawClient(t, binary)
		if _, err := r.connect(""); err != nil {
			t.Fatal(err)
		}
		bad := subscribeCommand(2, ch)
		bad.Subscribe.Tf = &protocol.FilterNode{Op: "xor"}
		if reply, err := r.call(bad); err != nil || reply.Error == nil || reply.Error.Code != 107 {
			t.Errorf("%v, %v, want error 107", reply, err)
		}
		cmd := subscribeCommand(3, ch)
		cmd.Subscribe.Tf = &protocol.FilterNode{Op: "and", Nodes: []*protocol.FilterNode{
			{Key: "lang", Cmp: "in", Vals: []string{"de", "fr"}}, {Key: "level", Cmp: "gte", Val: "3"}}}
		if reply, err := r.call(cmd); err != nil || reply.Error != nil {
			t.Fatal(reply, err)
		}
		for i, tags := range []object{nil, {"lang": "de"}, {"lang": "de", "level": "2"}, {"lang": "en", "level": "5"}, {"lang": "fr", "level": "10"}} {
			g.must(t, "publish", object{"channel": ch, "data": i, "tags": tags}, nil)
		}
		if reply, err := r.next(); err != nil || reply.Push.Pub == nil || string(reply.Push.Pub.Data) != "4" || reply.Push.Pub.Tags["lang"] != "fr" {
			t.Errorf("%v, %v, want the last only", reply, err)
		}
	})
}
