package conn

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roost/internal/proctest"
	"roost/proto/ws"
)

// numbered is a broadcast's message.
func numbered(i, size int) *ws.Prepared {
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b, uint32(i))
	return ws.NewPrepared(ws.OpBinary, b)
}

// TestBroadcastOrder sends in slices, over two loops, while clients come: everyone
// sees the messages in their order and without gaps from the first one on, those who
// were there before see all, and done is called once each.
func TestBroadcastOrder(t *testing.T) {
	const early, late, messages = 2500, 200, 20
	s, addr := one(t, true, new(hooks), func(o *Options) { o.Poller.Loops = 2 })
	crowd := rawCrowd(t, addr, early)
	var done [messages]atomic.Int32
	var left sync.WaitGroup
	left.Add(messages)
	joined := make(chan []*client)
	go func() {
		var cs []*client
		for range late {
			cs = append(cs, connect(t, addr, "/"))
		}
		joined <- cs
	}()
	for i := range messages {
		s.Broadcast(route(s), numbered(i, 100), func() {
			if done[i].Add(1) == 1 {
				left.Done()
			}
		})
	}
	left.Wait()
	for i, fd := range crowd {
		for n := range messages {
			if f, err := readFrame(fd); err != nil || int(binary.BigEndian.Uint32(f.payload)) != n {
				t.Fatalf("client %d: message %d is % x, %v", i, n, f.payload[:4], err)
			}
		}
	}
	late2 := receive(t, joined)
	onEveryLoop(t, s)
	s.Broadcast(route(s), numbered(messages, 100), nil)
	for _, c := range late2 {
		for next := -1; next != messages; {
			n := int(binary.BigEndian.Uint32(c.frame().payload))
			if next >= 0 && n != next+1 {
				t.Fatalf("message %d came after %d", n, next)
			}
			next = n
		}
	}
	for i := range done {
		if n := done[i].Load(); n != 1 {
			t.Errorf("done of message %d was called %d times", i, n)
		}
	}
}

// onEveryLoop waits until all loops have done what was posted to them.
func onEveryLoop(t *testing.T, s *Server) {
	for _, l := range s.Poller().Loops() {
		onLoop(t, l, func() {})
	}
}

// TestBroadcastRoutes: only the route's clients get it, once the loops have stopped
// done is still called.
func TestBroadcastRoutes(t *testing.T) {
	a, b := &Route{Path: "/a", Handler: new(hooks)}, &Route{Path: "/b", Handler: new(hooks), Inline: true}
	s, addr := launch(t, Options{Routes: []*Route{a, b}})
	ca, cb := connect(t, addr, "/a"), connect(t, addr, "/b")
	for r, want := range map[*Route]string{a: "for a", b: "for b"} {
		done := make(chan struct{})
		s.Broadcast(r, ws.NewPrepared(ws.OpText, []byte(want)), func() { close(done) })
		receive(t, done)
	}
	ca.expect(ws.OpText, "for a")
	cb.expect(ws.OpText, "for b")
	_, _ = ca.Close(), cb.Close()
	var calls atomic.Int32
	const more = 50
	for range more {
		s.Broadcast(a, ws.NewPrepared(ws.OpText, nil), func() { calls.Add(1) })
	}
	stopNow(s)
	s.Broadcast(a, ws.NewPrepared(ws.OpText, nil), func() { calls.Add(1) })
	if n := calls.Load(); n != more+1 {
		t.Errorf("done was called %d times, want %d", n, more+1)
	}
}

// TestBroadcastStalled: 10 of 50 never read. What waits for them is bounded, and
// shared, so the heap grows by the hard limit at most; the others lose nothing.
func TestBroadcastStalled(t *testing.T) {
	const clients, stalled, messages, size = 50, 10, 400, 60_000
	const mostGrowth = 40 << 20 // bytes
	s, addr := one(t, true, new(hooks), func(o *Options) {
		o.Poller.SendBuffer, o.SoftTime = 64<<10, time.Hour
	})
	var readers sync.WaitGroup
	received := make([]atomic.Int32, clients)
	for i := range clients {
		c := connect(t, addr, "/")
		if i < stalled {
			continue
		}
		readers.Go(func() {
			head := make([]byte, 8)
			for n := range messages {
				if _, err := io.ReadFull(c.br, head); err != nil || int(binary.BigEndian.Uint32(head[4:])) != n {
					t.Errorf("client %d: message %d starts % x, %v", i, n, head, err)
					return
				}
				if _, err := c.br.Discard(size - 4); err != nil {
					t.Error(err)
					return
				}
				received[i].Add(1)
			}
		})
	}
	before, most := proctest.LiveHeap(), int64(0)
	for n := range messages {
		s.Broadcast(route(s), numbered(n, size), nil)
		if n%10 == 9 { // the readers are waited for: they are no slow consumers
			for i := stalled; i < clients; i++ {
				eventually(t, "received", func() bool { return int(received[i].Load()) == n+1 || t.Failed() })
			}
			if n%50 == 49 {
				most = max(most, proctest.LiveHeap())
			}
		}
	}
	readers.Wait()
	if most > before+mostGrowth {
		t.Errorf("the heap grew by %d MiB, want up to %d", (most-before)>>20, mostGrowth>>20)
	}
	if n := s.Stats().Closed["slow_consumer"]; n != stalled {
		t.Errorf("%d slow consumers were cut, want %d", n, stalled)
	}
}
