package hub

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/protocol"

	"roost/conn"
	"roost/poller"
	"roost/proto/client"
	"roost/proto/ws"
)

// peer is a client of the test server and what it has received.
type peer struct {
	Client
	net   net.Conn
	in    *bufio.Reader
	ready chan struct{}
}

func (p *peer) HubClient() *Client { return &p.Client }

// sessions hands the server's end of a connection to the peer that dialed it.
type sessions struct{ next chan *peer }

func (s sessions) Open(c *conn.Conn) {
	p := <-s.next
	p.Conn = c
	c.SetSession(p)
	close(p.ready)
}
func (sessions) Message(*conn.Conn, ws.Opcode, []byte)       {}
func (sessions) Close(*conn.Conn, conn.Reason, ws.CloseCode) {}

func startPeers(t *testing.T, count, loops int) []*peer {
	t.Helper()
	h := sessions{make(chan *peer)}
	srv, err := conn.New(conn.Options{
		Poller: poller.Options{Loops: loops},
		Routes: []*conn.Route{{Path: "/", Handler: h}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
	})
	addr, err := srv.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*peer, count)
	for i := range all {
		p := &peer{ready: make(chan struct{})}
		if p.net, err = net.Dial("tcp", addr.String()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.net.Close() })
		fmt.Fprintf(p.net, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		h.next <- p
		p.in = bufio.NewReader(p.net)
		if resp, err := http.ReadResponse(p.in, nil); err != nil || resp.StatusCode != 101 {
			t.Fatal(resp, err)
		}
		<-p.ready
		all[i] = p
	}
	return all
}

// read returns the payload of the next frame.
func (p *peer) read(t *testing.T) []byte {
	t.Helper()
	_ = p.net.SetReadDeadline(time.Now().Add(10 * time.Second))
	var head [2]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		t.Fatal(err)
	}
	n := int(head[1])
	if n == 126 {
		var b [2]byte
		if _, err := io.ReadFull(p.in, b[:]); err != nil {
			t.Fatal(err)
		}
		n = int(binary.BigEndian.Uint16(b[:]))
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(p.in, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// offset returns the offset of the next publication.
func (p *peer) offset(t *testing.T) uint64 {
	t.Helper()
	var r struct {
		Push struct {
			Pub struct{ Offset uint64 }
		}
	}
	if b := p.read(t); json.Unmarshal(b, &r) != nil || r.Push.Pub.Offset == 0 {
		t.Fatalf("no publication: %s", b)
	}
	return r.Push.Pub.Offset
}

func newHub(lost func(*Client, string)) *Hub {
	return New(Options{Follow: func(string) {}, Unfollow: func(string) {}, Lost: lost})
}

func publish(h *Hub, ch *Channel, offset uint64) Verdict {
	return h.Publish(ch, offset, "e", nil, func([]byte) *Frame {
		pub := &protocol.Publication{Offset: offset, Data: []byte("1")}
		return &Frame{Frame: client.NewPublicationFrame(ch.Name(), ch.ID(), pub, nil), Offset: offset, Epoch: "e", Source: pub}
	})
}

// onLoop runs f on the peer's loop and waits for it.
func (p *peer) onLoop(f func()) {
	done := make(chan struct{})
	p.Conn.Loop().Post(func() { f(); close(done) })
	<-done
}

// join subscribes p and returns the offset after which it is served.
func (p *peer) join(t *testing.T, h *Hub, history *Position) (j Joined, ok bool) {
	ch := h.Acquire("c")
	if r := p.Reserve(ch, Positioned, 10); r != ReservedNow {
		t.Fatal("not reserved:", r)
	}
	p.onLoop(func() { j, ok = ch.Join(&p.Client, Positioned, history, 0) })
	return j, ok
}

func (p *peer) leave(ch *Channel) { p.onLoop(func() { ch.Leave(&p.Client) }) }

// Clients that come and go while publications are under way get exactly what was
// published from their join on, in order, however the slices fall.
func TestMembersComeAndGo(t *testing.T) {
	const publications = 300
	all := startPeers(t, 60, 2)
	h := newHub(nil)
	ch := h.Acquire("c") // keeps the channel
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range publications {
			if v := publish(h, ch, uint64(i+1)); v == Gap || v == Known {
				t.Error("publication", i+1, "was", v)
			}
		}
	})
	for _, p := range all {
		wg.Go(func() {
			time.Sleep(rand.N(3 * time.Millisecond))
			for {
				offset, epoch, known := ch.Position()
				p.onLoop(func() { ch.Wait(p.Conn.Loop()) })
				if !known {
					epoch = "e"
				}
				j, ok := p.join(t, h, &Position{offset, epoch})
				if !ok {
					p.leave(ch)
					continue
				}
				next := j.Offset + 1
				if len(j.Between) > 0 && (j.Between[0].Offset != offset+1 || j.Between[len(j.Between)-1].Offset != j.Offset) {
					t.Error("what lies between is not whole")
				}
				stop := next + rand.Uint64N(publications)
				for ; next <= min(stop, publications); next++ {
					if got := p.offset(t); got != next {
						t.Errorf("got %d, want %d", got, next)
						return
					}
				}
				p.leave(ch)
				return
			}
		})
	}
	wg.Wait()
	h.Release(ch)
	if h.Channels.Load() != 0 || h.Subscriptions.Load() != 0 || h.Channel("c") != nil {
		t.Error("the hub is not empty:", h.Channels.Load(), h.Subscriptions.Load())
	}
}

// The parts of a list (served, not served, newcomers) keep their members when one of
// them leaves in the middle of a delivery.
func TestRemoveKeepsParts(t *testing.T) {
	all := startPeers(t, 9, 1)
	for from := 0; from <= 9; from++ {
		for to := from; to <= 9; to++ {
			for i := range 9 {
				h := newHub(nil)
				ch := h.Acquire("c")
				x := &list{ch: ch, loop: all[0].Conn.Loop(), during: &during{from: from, to: to}}
				for at, p := range all {
					p.subs = []sub{{ch: ch, at: uint32(at), flags: live}}
					x.members = append(x.members, member{conn: p.Conn.Handle()})
				}
				all[0].onLoop(func() { x.remove(i) })
				want := func(lo, hi int) (w []poller.Handle) {
					for at := lo; at < hi; at++ {
						if at != i {
							w = append(w, all[at].Conn.Handle())
						}
					}
					return w
				}
				for _, part := range [][4]int{{0, from, 0, x.from}, {from, to, x.from, x.to}, {to, 9, x.to, len(x.members)}} {
					var got []poller.Handle
					for at := part[2]; at < part[3]; at++ {
						got = append(got, x.members[at].conn)
					}
					w := want(part[0], part[1])
					slices.Sort(got)
					slices.Sort(w)
					if !slices.Equal(got, w) {
						t.Fatalf("from %d to %d remove %d: part %v is %v, want %v", from, to, i, part, got, w)
					}
				}
				for at, p := range all {
					if at != i && x.members[p.subs[0].at].conn != p.Conn.Handle() {
						t.Fatalf("from %d to %d remove %d: member %d does not know its place", from, to, i, at)
					}
				}
			}
		}
	}
}

func TestGapAndReset(t *testing.T) {
	p := startPeers(t, 1, 1)[0]
	var lost []string
	h := newHub(func(cl *Client, ch string) { lost = append(lost, ch) })
	p.onLoop(func() { h.Acquire("c").Wait(p.Conn.Loop()) })
	if j, ok := p.join(t, h, &Position{7, "e"}); !ok || j.Offset != 7 {
		t.Fatal(j, ok)
	}
	ch := h.Channel("c")
	for _, c := range []struct {
		offset uint64
		want   Verdict
	}{{7, Known}, {9, Gap}, {8, Delivered}, {8, Known}, {9, Delivered}} {
		if got := publish(h, ch, c.offset); got != c.want {
			t.Errorf("offset %d: %d, want %d", c.offset, got, c.want)
		}
	}
	for want := uint64(8); want < 10; want++ {
		if got := p.offset(t); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	h.Reset(ch)
	p.onLoop(func() {})
	if !slices.Equal(lost, []string{"c"}) {
		t.Error("lost:", lost)
	}
}

func TestUsers(t *testing.T) {
	h := newHub(nil)
	a1, a2, a3, b := &Client{User: "a"}, &Client{User: "a"}, &Client{User: "a"}, &Client{User: "b"}
	for _, c := range []*Client{a1, a2, a3, b} {
		h.Add(c)
	}
	check := func(want ...*Client) {
		t.Helper()
		got := h.ByUser("a")
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("missing %p in %v", w, got)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d clients, want %d", len(got), len(want))
		}
	}
	check(a1, a2, a3)
	h.Remove(a1)
	check(a2, a3)
	h.Remove(a1) // twice does no harm
	check(a2, a3)
	h.Remove(a3)
	check(a2)
	h.Remove(a2)
	check()
	if n := h.Users.Load(); n != 1 {
		t.Error("users:", n)
	}
}
