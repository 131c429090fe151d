package loadtest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centrifugal/protocol"

	codec "roost/proto/client"
	"roost/proto/ws"
)

// gateway is a small server of the client protocol with an API, which misbehaves where a test sets so.
type gateway struct {
	// Static after start.
	forget  bool                                             // recovers nothing
	refuse  string                                           // a command it answers with error 103
	deliver func(seq int, frame []byte) [][]byte             // what a subscriber gets instead of a publication
	end     func(seq int) (code uint16)                      // closes subscribers with that code instead
	reply   func(seq int, r *protocol.Reply) *protocol.Reply // to publish; nil for none
	tokens  sync.Map                                         // seen in connect
	pongs   atomic.Int64

	// Guarded by mu.
	mu       sync.Mutex
	channels map[string]*fakeChannel
}

type fakeChannel struct {
	history []*protocol.Publication
	members map[*subscriber]bool
}

// subscriber is a connection. Writes are guarded by the gateway's mu.
type subscriber struct {
	net.Conn
	enc codec.Encoding
}

func (g *gateway) start(t *testing.T) (url, api string) {
	g.channels = map[string]*fakeChannel{}
	mux := http.NewServeMux()
	mux.HandleFunc("/connection/websocket", g.serve)
	mux.HandleFunc("POST /api/publish", g.publish)
	h := httptest.NewServer(mux)
	t.Cleanup(h.Close)
	return "ws" + strings.TrimPrefix(h.URL, "http") + "/connection/websocket", h.URL + "/api"
}

func (g *gateway) channel(name string) *fakeChannel {
	if g.channels[name] == nil {
		g.channels[name] = &fakeChannel{members: map[*subscriber]bool{}}
	}
	return g.channels[name]
}

func (g *gateway) publish(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Channel string
		Data    json.RawMessage
	}
	if r.Header.Get("X-API-Key") != "key" || json.NewDecoder(r.Body).Decode(&req) != nil {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	ch := g.channel(req.Channel)
	fmt.Fprintf(w, `{"result":{"offset":%d,"epoch":"e"}}`, g.spread(ch, req.Channel, req.Data).Offset)
}

// spread delivers a publication, as g misbehaves.
func (g *gateway) spread(ch *fakeChannel, name string, data []byte) *protocol.Publication {
	seq := len(ch.history)
	pub := &protocol.Publication{Data: protocol.Raw(data), Offset: uint64(seq + 1)}
	ch.history = append(ch.history, pub)
	for m := range ch.members {
		if g.end != nil && g.end(seq) != 0 {
			m.Write(ws.AppendClose(nil, ws.CloseCode(g.end(seq)), "as the test wants"))
			delete(ch.members, m)
			continue
		}
		frame, _ := codec.AppendPush(nil, m.enc, &protocol.Push{Channel: name, Pub: pub})
		frames := [][]byte{frame}
		if g.deliver != nil {
			frames = g.deliver(seq, frame)
		}
		for _, f := range frames {
			m.send(f)
		}
	}
	return pub
}

func (m *subscriber) send(frame []byte) {
	op := ws.OpText
	if m.enc == codec.Protobuf {
		op = ws.OpBinary
	}
	m.SetWriteDeadline(time.Now().Add(10 * time.Second))
	m.Write(ws.AppendFrame(nil, op, frame))
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	u, err := ws.CheckUpgrade(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	m := &subscriber{Conn: conn}
	if strings.Contains(r.Header.Get("Sec-WebSocket-Protocol"), "protobuf") {
		m.enc = codec.Protobuf
	}
	conn.Write(ws.AppendUpgradeResponse(nil, &u, "", false))
	defer g.leave(m)
	d, buf := &ws.Decoder{}, make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		for b := buf[:n]; len(b) > 0; {
			e, used, ok, err := d.Next(&ws.Limits{MaxFrame: 1 << 20, MaxMessage: 1 << 20}, false, b)
			if err != nil {
				return
			}
			b = b[used:]
			if ok && !g.frame(m, e) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (g *gateway) leave(m *subscriber) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ch := range g.channels {
		delete(ch.members, m)
	}
}

func (g *gateway) frame(m *subscriber, e ws.Event) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.Op == ws.OpClose {
		m.Write(ws.AppendClose(nil, e.Code, ""))
		return false
	}
	if codec.IsPong(m.enc, e.Payload) {
		g.pongs.Add(1)
		return true
	}
	var out []byte
	err := codec.Decode(m.enc, e.Payload, func(cmd *protocol.Command) error {
		if r := g.answer(m, cmd); r != nil {
			out, _ = codec.AppendReply(out, m.enc, r)
		}
		return nil
	})
	if err != nil {
		return false
	}
	if len(out) > 0 {
		m.send(out)
	}
	return true
}

func (g *gateway) answer(m *subscriber, cmd *protocol.Command) *protocol.Reply {
	r := &protocol.Reply{Id: cmd.Id}
	if name, _ := codec.Kind(cmd); name == g.refuse {
		r.Error = &protocol.Error{Code: 103, Message: "permission denied"}
		return r
	}
	if cmd.Connect != nil {
		g.tokens.Store(strings.Clone(cmd.Connect.Token), true)
		r.Connect = &protocol.ConnectResult{Client: "c", Ping: 25, Pong: true}
		m.send(codec.Ping[m.enc]) // a client that does not know it yet must not answer
		return r
	}
	if cmd.Rpc != nil {
		called(cmd, r)
		return r
	}
	if cmd.Publish != nil {
		seq := len(g.channel(strings.Clone(cmd.Publish.Channel)).history)
		g.spread(g.channel(cmd.Publish.Channel), strings.Clone(cmd.Publish.Channel), bytes.Clone(cmd.Publish.Data))
		r.Publish = &protocol.PublishResult{}
		if g.reply != nil {
			return g.reply(seq, r)
		}
		return r
	}
	s := cmd.Subscribe
	ch := g.channel(strings.Clone(s.Channel))
	ch.members[m] = true
	r.Subscribe = &protocol.SubscribeResult{Recoverable: true, Epoch: "e", Offset: uint64(len(ch.history))}
	if s.Recover && !g.forget && s.Epoch == "e" {
		r.Subscribe.Recovered, r.Subscribe.WasRecovering = true, true
		r.Subscribe.Publications = ch.history[s.Offset:]
	}
	return r
}

func protocolOptions(s Scenario, g *gateway, t *testing.T) Options {
	url, api := g.start(t)
	o := options(s, url)
	o.Timeout = 20 * time.Second
	o.Protocol, o.Channels, o.Subscriptions, o.Channel = "json", 1, 1, "load-"
	o.API, o.APIKey, o.Publishers, o.Cut = api, "key", 4, 1
	return o
}

func TestEveryScenarioOfTheClientProtocol(t *testing.T) {
	for _, c := range []struct {
		name     string
		scenario Scenario
		set      func(o *Options)
	}{
		{"clients", Clients, func(o *Options) {}},
		{"clients without a channel", Clients, func(o *Options) { o.Subscriptions, o.Channels = 0, 0 }},
		{"clients with channels of their own", Clients, func(o *Options) { o.Subscriptions, o.Channels = 3, 0 }},
		{"join", Join, func(o *Options) {}},
		{"join, two loops", Join, func(o *Options) { o.Threads, o.Channels = 2, 0 }},
		{"publish in rounds", Publish, func(o *Options) {}},
		{"publish in rounds, two processes", Publish, func(o *Options) { o.Processes, o.Channels, o.Subscriptions = 2, 5, 2 }},
		{"publish at a rate", Publish, func(o *Options) { o.Rate, o.Channels, o.Subscriptions = 5000, 7, 3 }},
		{"publish by time", Publish, func(o *Options) { o.Messages, o.Duration = 0, 50*time.Millisecond }},
		{"reconnect", Reconnect, func(o *Options) { o.Rate, o.Channels, o.Subscriptions = 2000, 3, 2 }},
		{"reconnect later", Reconnect, func(o *Options) { o.Rate, o.Away, o.Channels = 2000, 30*time.Millisecond, 0 }},
		{"reconnect at random", Reconnect, func(o *Options) { o.Rate, o.Churn, o.Abort, o.Threads = 2000, 200, true, 2 }},
	} {
		for _, protocol := range []string{"json", "protobuf"} {
			t.Run(c.name+"/"+protocol, func(t *testing.T) {
				g := &gateway{}
				o := protocolOptions(c.scenario, g, t)
				c.set(&o)
				o.Protocol = protocol
				r := mustRun(t, t.Context(), o)
				checkProtocol(t, &o, r)
			})
		}
	}
}

func checkProtocol(t *testing.T, o *Options, r *Result) {
	t.Helper()
	if !r.OK() {
		t.Fatalf("not OK: %+v %+v %+v %+v", r.Connections, r.Messages, r.Recovery, r.Errors)
	}
	if m := r.Messages; o.publishes() {
		if want := o.deliveries(m.Sent); m.Sent == 0 || o.Messages > 0 && m.Sent != o.Messages || m.Received != want || m.Expected != want {
			t.Errorf("messages %+v, want %d deliveries", m, want)
		}
	}
	switch v := r.Recovery; {
	case o.Scenario == Join:
		if r.Connections.Opened != o.Messages {
			t.Errorf("%d opened", r.Connections.Opened)
		}
	case o.Scenario != Reconnect:
		if v != nil || r.Connections.Opened != int64(o.Connections) {
			t.Errorf("%+v, %d opened", v, r.Connections.Opened)
		}
	case v.Cuts == 0 || v.Unrecovered != 0 || v.Recovered != v.Cuts*int64(o.Subscriptions) || v.Back == nil:
		t.Errorf("recovery %+v", v)
	case o.Churn == 0 && v.Cuts != int64(o.Connections):
		t.Errorf("%d cut", v.Cuts)
	}
}

func TestNoticesWhatGatewaysDoWrong(t *testing.T) {
	var kept []byte
	at := func(n int, wrong func(frame []byte) [][]byte) func(int, []byte) [][]byte {
		return func(seq int, frame []byte) [][]byte {
			if seq == n {
				return wrong(frame)
			}
			return [][]byte{frame}
		}
	}
	for _, c := range []struct {
		name string
		g    *gateway
		text string
	}{
		{"lost", &gateway{deliver: at(3, func([]byte) [][]byte { return nil })}, "publications skipped by the server"},
		{"lost at the end", &gateway{deliver: at(19, func([]byte) [][]byte { return nil })}, "had not arrived"},
		{"doubled", &gateway{deliver: at(3, func(f []byte) [][]byte { return [][]byte{f, f} })}, "for a second time"},
		{"late", &gateway{deliver: func(seq int, f []byte) [][]byte {
			if seq == 3 {
				kept = bytes.Clone(f)
				return nil
			} else if seq == 4 {
				return [][]byte{f, kept}
			}
			return [][]byte{f}
		}}, "for a second time"},
		{"changed", &gateway{deliver: at(3, func(f []byte) [][]byte {
			return [][]byte{bytes.Replace(f, []byte(`"},`), []byte(`?"},`), 1), bytes.Replace(f, []byte(`","offset"`), []byte(`x","offset"`), 1)}
		})}, "not the bytes that were published"},
		{"another channel", &gateway{deliver: at(3, func(f []byte) [][]byte { return [][]byte{bytes.Replace(f, []byte("load-0"), []byte("load-7"), 1)} })}, "has not subscribed to"},
		{"unsubscribed", &gateway{deliver: at(3, func(f []byte) [][]byte {
			return [][]byte{f, []byte(`{"push":{"channel":"load-0","unsubscribe":{"code":2000,"reason":"x"}}}`)}
		})}, "unsubscribed by the server with code 2000"},
		{"no protocol", &gateway{deliver: at(3, func([]byte) [][]byte { return [][]byte{[]byte(`hello`)} })}, "connection lost"},
		{"refused connect", &gateway{refuse: "connect"}, "connect: error 103: permission denied"},
		{"refused subscribe", &gateway{refuse: "subscribe"}, "subscribe: error 103: permission denied"},
		{"closed", &gateway{end: func(seq int) uint16 { return map[int]uint16{3: 3008}[seq] }}, "closed by the server with code 3008"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := protocolOptions(Publish, c.g, t)
			o.Messages, o.Connections, o.Rate, o.Timeout = 20, 1, 1000, 500*time.Millisecond
			r := mustRun(t, t.Context(), o)
			var texts []string
			for _, e := range r.Errors {
				texts = append(texts, e.Text)
			}
			if r.OK() || !strings.Contains(strings.Join(texts, "\n"), c.text) {
				t.Errorf("no %q: %q %+v", c.text, texts, r.Messages)
			}
		})
	}
}

// What the server says it could not recover is not missing, and is counted.
func TestToldLossIsNoLoss(t *testing.T) {
	o := protocolOptions(Reconnect, &gateway{forget: true}, t)
	o.Rate, o.Away = 1000, 50*time.Millisecond
	r := mustRun(t, t.Context(), o)
	if v := r.Recovery; !r.OK() || v.Unrecovered != 8 || v.Recovered != 0 || v.Told == 0 || v.Told+r.Messages.Received != r.Messages.Expected {
		t.Errorf("%+v %+v %+v", v, r.Messages, r.Errors)
	}
}

// A server may ask clients to come back.
func TestComesBackWhenClosedToDoSo(t *testing.T) {
	g := &gateway{end: func(seq int) uint16 { return map[int]uint16{30: 3011}[seq] }}
	o := protocolOptions(Reconnect, g, t)
	o.Rate, o.Cut = 1000, 0
	r := mustRun(t, t.Context(), o)
	if v := r.Recovery; !r.OK() || v.Closed != 8 || v.Cuts != 0 || v.Recovered != 8 {
		t.Errorf("%+v %+v %+v", v, r.Connections, r.Errors)
	}
}

// When a node dies its clients go to the next one. That may put them off, which is no failure, and they heed it.
func TestGoesToTheNextNode(t *testing.T) {
	g := &gateway{}
	o := protocolOptions(Reconnect, g, t)
	var mu sync.Mutex
	var conns []net.Conn // of the node that dies
	first := httptest.NewUnstartedServer(http.HandlerFunc(g.serve))
	first.Config.ConnState = func(c net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if s == http.StateHijacked {
			conns = append(conns, c)
		}
	}
	first.Start()
	var upgrades atomic.Int64
	next := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if upgrades.Add(1) <= 3 {
			w.Header().Set("retry-after", "0")
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		g.serve(w, r)
	}))
	t.Cleanup(next.Close)
	told := make(chan struct{})
	killer := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(told)
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
		_ = first.Listener.Close()
	}))
	t.Cleanup(killer.Close)
	host, port, _ := net.SplitHostPort(killer.Listener.Addr().String())
	o.URL, o.Next = "ws://"+first.Listener.Addr().String(), "ws://"+next.Listener.Addr().String()
	o.Run, o.Limit = fmt.Sprintf(`bash -c 'exec 3<>/dev/tcp/%s/%s; printf "GET / HTTP/1.0\r\n\r\n" >&3; cat <&3'`, host, port), time.Minute
	o.Rate = 1000
	r := mustRun(t, t.Context(), o)
	if v := r.Recovery; !r.OK() || v.Cuts != 8 || v.Recovered != 8 || v.PutOff != 3 || upgrades.Load() != 11 {
		t.Errorf("%+v %+v %+v, %d upgrades", v, r.Connections, r.Errors, upgrades.Load())
	}
	select {
	case <-told:
	default:
		t.Error("the command was not run")
	}
}

func TestWrongAPIKeySaysSo(t *testing.T) {
	o := protocolOptions(Publish, &gateway{}, t)
	o.APIKey, o.Timeout = "other", 300*time.Millisecond
	r := mustRun(t, t.Context(), o)
	if r.OK() || !strings.Contains(fmt.Sprint(r.Errors), "are --api and --api-key right?") {
		t.Errorf("%+v", r.Errors)
	}
}

func TestTokensNameUsers(t *testing.T) {
	g := &gateway{}
	o := protocolOptions(Clients, g, t)
	o.HMACSecret, o.Threads = "secret", 2
	r := mustRun(t, t.Context(), o)
	users := map[string]bool{}
	g.tokens.Range(func(k, _ any) bool {
		parts := strings.Split(k.(string), ".")
		if len(parts) != 3 {
			t.Fatalf("token %q", k)
		}
		users[parts[1]] = true
		return true
	})
	if !r.OK() || len(users) != o.Connections || r.Config.HMACSecret != "" {
		t.Errorf("%d users; the report keeps the secret: %v", len(users), r.Config.HMACSecret != "")
	}
}

func FuzzPush(f *testing.F) {
	f.Add([]byte(`{"push":{"channel":"a","pub":{"data":{"x":"\"}"},"offset":5}}}`), false)
	f.Add([]byte(`{"push":{"channel":"a","pub":{"data":"s","info":{"user":"u"},"tags":{"a":"b"}}}}`), false)
	f.Add([]byte(`{"push":{"channel":"a","join":{"info":{}}}}`), false)
	reply, _ := (&protocol.Reply{Push: &protocol.Push{Channel: "a", Pub: &protocol.Publication{Data: []byte("x"), Offset: 9}}}).MarshalCF()
	f.Add(reply, true)
	f.Add(binary.AppendUvarint(reply, 1<<40), true)
	f.Fuzz(func(t *testing.T, msg []byte, protobuf bool) {
		x := wire{protobuf}
		p, ok := x.push(msg)
		if !ok {
			return
		}
		r, err := x.reply(msg) // the library is the judge of what it understands
		if err != nil || r.Push == nil || r.Push.Pub == nil {
			return
		}
		if r.Push.Channel != string(p.channel) || !bytes.Equal(r.Push.Pub.Data, p.data) || r.Push.Pub.Offset != p.offset {
			t.Errorf("%q: got %q %q %d, want %q %q %d", msg, p.channel, p.data, p.offset, r.Push.Channel, r.Push.Pub.Data, r.Push.Pub.Offset)
		}
	})
}
