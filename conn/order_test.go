package conn

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roost/proto/ws"
)

// turnState is a test's session: it notices calls that overlap.
type turnState struct {
	inside atomic.Int32
	next   int // message number expected
}

// TestOrder sends thousands of messages on several connections: each is handled in
// its order, never two of a connection at once, and answered in that order, before
// the close frame.
func TestOrder(t *testing.T) {
	const clients, messages = 8, 3000
	bothWays(t, func(t *testing.T, inline bool) {
		var overlaps, disorders atomic.Int32
		s, addr := one(t, inline, &hooks{
			open: func(c *Conn) { c.SetSession(new(turnState)) },
			message: func(c *Conn, op ws.Opcode, p []byte) {
				st := c.Session().(*turnState)
				if st.inside.Add(1) != 1 {
					overlaps.Add(1)
				}
				if n, err := strconv.Atoi(string(p)); err != nil || n != st.next {
					disorders.Add(1)
				}
				st.next++
				_ = c.Reply(op, p)
				st.inside.Add(-1)
			},
		}, func(o *Options) { o.Poller.Loops, o.Workers = 2, 3 })
		var wg sync.WaitGroup
		for range clients {
			c := connect(t, addr, "/")
			wg.Go(func() { // in small and large segments
				var b []byte
				for i := range messages {
					b = append(b, text(strconv.Itoa(i))...)
					if i%97 == 0 || i == messages-1 {
						if i == messages-1 {
							b = append(b, closing(ws.CloseNormal)...)
						}
						if _, err := c.Write(b); err != nil {
							t.Error(err)
							return
						}
						b = b[:0]
					}
				}
			})
			wg.Go(func() {
				for i := range messages {
					f, err := readFrame(c.br)
					if err != nil || string(f.payload) != strconv.Itoa(i) {
						t.Errorf("answer %d: %q, %v", i, f.payload, err)
						return
					}
				}
				if f, err := readFrame(c.br); err != nil || f.op != ws.OpClose {
					t.Errorf("after the answers: %v, %v", f, err)
				}
			})
		}
		wg.Wait()
		if overlaps.Load() > 0 || disorders.Load() > 0 {
			t.Errorf("%d overlaps, %d out of order", overlaps.Load(), disorders.Load())
		}
		if st := s.Stats(); st.MessagesIn != clients*messages || st.MessagesOut != clients*messages {
			t.Errorf("%d messages in, %d out, want %d each", st.MessagesIn, st.MessagesOut, clients*messages)
		}
	})
}

// TestOneSegment answers several frames of one segment in order, whatever the size.
func TestOneSegment(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		_, addr := one(t, inline, &hooks{message: echo})
		c := connect(t, addr, "/")
		want := []string{"a", repeat("b", 100), repeat("c", 5000), "d", repeat("e", 20_000), "", "f"}
		all := string(masked(ws.OpPing, []byte("p")))
		for _, s := range want {
			all += text(s)
		}
		c.raw(all)
		pongs := 0
		for _, s := range want {
			f := c.frame()
			if f.op == ws.OpPong {
				pongs++
				f = c.frame()
			}
			if string(f.payload) != s {
				t.Fatalf("got %.20q of %d bytes, want %.20q of %d", f.payload, len(f.payload), s, len(s))
			}
		}
		if pongs == 0 {
			c.expect(ws.OpPong, "p")
		}
	})
}

func TestLargeMessage(t *testing.T) {
	bothWays(t, func(t *testing.T, inline bool) {
		_, addr := one(t, inline, &hooks{message: echo}, func(o *Options) {
			o.MaxMessage, o.HardLimit = 16<<20, 64<<20
			o.SoftLimit = 64 << 20
		})
		c := connect(t, addr, "/")
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		go func() { _, _ = c.Write(masked(ws.OpBinary, big)) }()
		if f := c.frame(); f.op != ws.OpBinary || !bytes.Equal(f.payload, big) {
			t.Fatalf("got %d bytes of opcode %d back", len(f.payload), f.op)
		}
		c.raw(text("after"))
		c.expect(ws.OpText, "after")
	})
}

func TestPauseResume(t *testing.T) {
	var got atomic.Int32
	conns := make(chan *Conn, 1)
	_, addr := one(t, true, &hooks{
		open: func(c *Conn) { c.Pause(); conns <- c },
		message: func(c *Conn, op ws.Opcode, p []byte) {
			got.Add(1)
			echo(c, op, p)
		},
	}, func(o *Options) { o.Poller.Loops = 1 })
	c := connect(t, addr, "/")
	sc := receive(t, conns)
	c.raw(text("a"))
	other := connect(t, addr, "/") // its turn shows that the loop had the event of the first
	osc := receive(t, conns)
	osc.Resume()
	other.raw(text("b"))
	other.expect(ws.OpText, "b")
	if n := got.Load(); n != 1 {
		t.Errorf("%d messages, one of them while paused", n)
	}
	sc.Resume()
	c.expect(ws.OpText, "a")
}

// TestDeflate looks at prepared messages: compressed where it is agreed and fits the
// client's window, the same bytes for all.
func TestDeflate(t *testing.T) {
	long, short := repeat("roost ", 2000), repeat("x", 20)
	bothWays(t, func(t *testing.T, inline bool) {
		_, addr := one(t, inline, &hooks{message: func(c *Conn, op ws.Opcode, p []byte) {
			_ = c.SendPrepared(ws.NewPrepared(op, p))
			_ = c.Send(op, p)
			_ = c.Reply(op, p)
		}})
		for offer, deflated := range map[string]bool{
			"X-None: 1": false,
			"Sec-WebSocket-Extensions: permessage-deflate":                           true,
			"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9": false, // longer than the window
		} {
			c := connect(t, addr, "/", offer)
			c.raw(text(short) + text(long))
			for i := range 6 {
				f, want := c.frame(), short
				if i >= 3 {
					want = long
				}
				if f.deflated != (deflated && i >= 3) {
					t.Errorf("%s: frame %d deflated: %v", offer, i, f.deflated)
				}
				if f.deflated {
					f.payload, _ = ws.AppendInflated(nil, f.payload, 1<<20)
				}
				if string(f.payload) != want {
					t.Errorf("%s: frame %d has %d bytes, want %d", offer, i, len(f.payload), len(want))
				}
			}
		}
		// A window that is small but large enough, and an inbound compressed message.
		c := connect(t, addr, "/", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9")
		p, _ := ws.AppendDeflated(nil, []byte(repeat("a", 500)))
		in := masked(ws.OpText, p)
		in[0] |= 0x40
		c.raw(string(in))
		if f := c.frame(); !f.deflated {
			t.Error("500 bytes are not deflated for a window of 512")
		}
	})
}

func TestNoDeflate(t *testing.T) {
	_, addr := one(t, true, &hooks{message: echo}, func(o *Options) { o.NoDeflate = true })
	c := dial(t, addr)
	c.raw(upgradeRequest("/", "Sec-WebSocket-Extensions: permessage-deflate"))
	if resp := c.response(http.MethodGet); resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("answered with %s %v", resp.Status, resp.Header)
	}
}

// TestBurst lets exactly the burst through.
func TestBurst(t *testing.T) {
	for _, burst := range []int{1, 3, 10} {
		t.Run(fmt.Sprint(burst), func(t *testing.T) {
			s, addr := one(t, true, &hooks{message: echo}, func(o *Options) { // nothing comes back within the test
				o.MessageRate, o.MessageBurst, o.Poller.Tick = 1, burst, time.Minute
			})
			c := connect(t, addr, "/")
			c.raw(repeat(text("a"), burst+5))
			for range burst {
				c.expect(ws.OpText, "a")
			}
			c.expectClose(ws.ClosePolicy)
			if n := s.Stats().MessagesIn; n != uint64(burst) {
				t.Errorf("%d messages counted, want %d", n, burst)
			}
		})
	}
}
