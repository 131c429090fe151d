package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/auth"
	"roost/broker"
	"roost/conn"
	"roost/poller"
)

const secret = "secret"

// testNode is a node on a free port with a broker in memory.
type testNode struct {
	*Node
	t    *testing.T
	addr string
	stop func()
}

func start(t *testing.T, change func(*Options)) *testNode {
	t.Helper()
	v, err := auth.New(auth.Options{HMACSecret: secret})
	if err != nil {
		t.Fatal(err)
	}
	open := Open()
	opts := Options{
		Auth: v, AllowAnonymous: true, Version: "test",
		Broker:   broker.Options{Memory: true},
		Channels: Channels{Default: open, Namespaces: map[string]Namespace{"closed": {}, "live": {AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true, AllowPublishForClient: true, AllowPublishForAnonymous: true}}},
	}
	if change != nil {
		change(&opts)
	}
	n, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := conn.New(conn.Options{Poller: poller.Options{Loops: 2}, Routes: n.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	n.Start(srv)
	stop := sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		n.Dismiss()
		_ = srv.Shutdown(ctx)
		_ = n.Shutdown(ctx)
	})
	t.Cleanup(stop)
	addr, err := srv.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &testNode{n, t, addr.String(), stop}
}

// raw is a client that sends and sees frames as they are.
type raw struct {
	t      *testing.T
	conn   net.Conn
	in     *bufio.Reader
	queued []json.RawMessage // messages of a frame not returned yet
	id     uint32
}

func (n *testNode) dial(query string, headers ...string) *raw {
	n.t.Helper()
	r, resp := n.request(query, headers...)
	if resp.StatusCode != 101 {
		n.t.Fatal(resp)
	}
	return r
}

// request is dial that may be refused; headers are lines.
func (n *testNode) request(query string, headers ...string) (*raw, *http.Response) {
	n.t.Helper()
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	fmt.Fprintf(c, "GET /connection/websocket%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
		query, strings.Join(append(headers, ""), "\r\n"))
	r := &raw{t: n.t, conn: c, in: bufio.NewReader(c)}
	resp, err := http.ReadResponse(r.in, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return r, resp
}

// connected is a client of a user, "" for nobody.
func (n *testNode) connected(user string) *raw {
	n.t.Helper()
	r := n.dial("")
	token := ""
	if user != "" {
		var err error
		if token, err = auth.SignConnect(secret, auth.Connect{User: user}, time.Hour); err != nil {
			n.t.Fatal(err)
		}
	}
	r.ok(`{"connect":{"token":"` + token + `"}}`)
	return r
}

// write sends one text frame, masked with zeros.
func (r *raw) write(text string) {
	r.t.Helper()
	head := []byte{0x81}
	switch n := len(text); {
	case n < 126:
		head = append(head, 0x80|byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
	}
	if _, err := r.conn.Write(append(append(head, 0, 0, 0, 0), text...)); err != nil {
		r.t.Fatal(err)
	}
}

// closed is a close frame seen by read.
type closed struct {
	code   uint16
	reason string
}

// read returns the next message, answering pings, or the close.
func (r *raw) read() (json.RawMessage, *closed) {
	r.t.Helper()
	for len(r.queued) == 0 {
		_ = r.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		var head [2]byte
		if _, err := io.ReadFull(r.in, head[:]); err != nil {
			r.t.Fatal("read:", err)
		}
		n := int64(head[1])
		if n >= 126 {
			b := make([]byte, 2+6*(n-126))
			if _, err := io.ReadFull(r.in, b); err != nil {
				r.t.Fatal(err)
			}
			n = 0
			for _, x := range b {
				n = n<<8 | int64(x)
			}
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r.in, b); err != nil {
			r.t.Fatal(err)
		}
		if head[0] == 0x88 {
			return nil, &closed{binary.BigEndian.Uint16(b), string(b[2:])}
		}
		for line := range strings.SplitSeq(string(b), "\n") {
			if line == "{}" {
				r.write("{}")
				continue
			}
			r.queued = append(r.queued, json.RawMessage(line))
		}
	}
	m := r.queued[0]
	r.queued = r.queued[1:]
	return m, nil
}

// message is a reply or push, as far as tests look at it.
type message struct {
	ID    uint32
	Error *struct {
		Code    uint32
		Message string
	}
	Push *struct {
		ID          int64
		Channel     string
		Pub         *pub
		Join, Leave *struct{ Info info }
		Unsubscribe *struct{ Code uint32 }
		Subscribe   *json.RawMessage
		Refresh     *json.RawMessage
		Message     *struct{ Data json.RawMessage }
	}
	Connect *struct {
		Client  string
		Ping    int
		Pong    bool
		Expires bool
		TTL     int
		Subs    map[string]subscribed
	}
	Subscribe *subscribed
	Publish   *json.RawMessage
	RPC       *struct{ Data json.RawMessage }
	Presence  *struct{ Presence map[string]info }
	History   *struct {
		Publications []pub
		Offset       uint64
		Epoch        string
	}
	Refresh *json.RawMessage
}

type subscribed struct {
	Expires                                   bool
	TTL                                       int
	Recoverable, Positioned, Recovered, Delta bool
	WasRecovering                             bool `json:"was_recovering"`
	Offset                                    uint64
	Epoch                                     string
	ID                                        int64
	Publications                              []pub
}

type pub struct {
	Data   json.RawMessage
	Offset uint64
	Delta  bool
	Info   *info
	Tags   map[string]string
}

type info struct {
	User, Client string
	ConnInfo     json.RawMessage `json:"conn_info"`
}

func (r *raw) next() message {
	r.t.Helper()
	b, end := r.read()
	if end != nil {
		r.t.Fatalf("closed with %d %q", end.code, end.reason)
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		r.t.Fatalf("%s: %v", b, err)
	}
	return m
}

// command sends a command with the next id and returns its reply; pushes before it go
// to skipped.
func (r *raw) command(cmd string) (reply message, pushes []message) {
	r.t.Helper()
	r.id++
	r.write(fmt.Sprintf(`{"id":%d,%s`, r.id, cmd[1:]))
	for {
		m := r.next()
		if m.ID == r.id {
			return m, pushes
		}
		if m.ID != 0 {
			r.t.Fatalf("reply to %d, want %d", m.ID, r.id)
		}
		pushes = append(pushes, m)
	}
}

// ok is a command that must succeed.
func (r *raw) ok(cmd string) message {
	r.t.Helper()
	m, _ := r.command(cmd)
	if m.Error != nil {
		r.t.Fatalf("%s: error %d %s", cmd, m.Error.Code, m.Error.Message)
	}
	return m
}

// fails is a command that must be answered an error.
func (r *raw) fails(cmd string, code uint32) (text string) {
	r.t.Helper()
	m, _ := r.command(cmd)
	if m.Error == nil || m.Error.Code != code {
		r.t.Errorf("%s: %+v, want error %d", cmd, m.Error, code)
		return ""
	}
	return m.Error.Message
}

// ends wants the connection to be closed with a code.
func (r *raw) ends(code uint16) {
	r.t.Helper()
	for {
		m, end := r.read()
		if end == nil {
			r.t.Logf("before the close: %s", m)
			continue
		}
		if end.code != code {
			r.t.Errorf("closed with %d %q, want %d", end.code, end.reason, code)
		}
		return
	}
}

// publication wants the next message to be a publication.
func (r *raw) publication(ch string) pub {
	r.t.Helper()
	for {
		m := r.next()
		if m.Push == nil || m.Push.Join != nil || m.Push.Leave != nil {
			continue
		}
		if m.Push.Pub == nil || m.Push.Channel != ch {
			r.t.Fatalf("%+v is no publication of %s", m.Push, ch)
		}
		return *m.Push.Pub
	}
}

func (n *testNode) publish(ch, data string) *PublishResult {
	n.t.Helper()
	p, err := n.Publish(context.Background(), &PublishRequest{Channel: ch, Data: json.RawMessage(data)})
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}
