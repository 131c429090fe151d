//go:build linux && !portable

package conn

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"roost/poller"
	"roost/proto/ws"
)

// moving counts the messages of a connection in its session, which goes with it.
type moving struct{}

type movingSession struct{ seen uint32 }

func (moving) Open(c *Conn) { c.SetSession(new(movingSession)) }

func (moving) Message(c *Conn, op ws.Opcode, p []byte) {
	s := c.Session().(*movingSession)
	s.seen++
	_ = c.Send(op, append(binary.BigEndian.AppendUint32(nil, s.seen), p...))
}

func (moving) Close(*Conn, Reason, ws.CloseCode) {}

func (moving) Leave(dst []byte, c *Conn) ([]byte, bool) {
	return binary.BigEndian.AppendUint32(dst, c.Session().(*movingSession).seen), true
}

func (moving) Arrive(c *Conn, state []byte) error {
	c.SetSession(&movingSession{binary.BigEndian.Uint32(state)})
	return nil
}

func carryServer(t testing.TB) *Server {
	t.Helper()
	s, err := New(Options{
		Poller: poller.Options{Loops: 2, Tick: 5 * time.Millisecond}, Logger: slog.New(slog.DiscardHandler),
		Routes: []*Route{
			{Path: "/moving", Handler: moving{}, Protocols: []string{"x"}},
			{Path: "/echo", Inline: true, Handler: &hooks{message: echo}},
			{Path: "/stays", Handler: &hooks{open: func(c *Conn) { c.SetSession(1) }, message: func(c *Conn, op ws.Opcode, p []byte) { _ = c.Send(op, p) }}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNow(s) })
	return s
}

// take carries all there is from one server to another.
func take(t testing.TB, from, to *Server, fail error) (Carried, error) {
	t.Helper()
	listening := from.Poller().Listening()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	from.Freeze()
	if err := from.Rest(ctx); err != nil {
		t.Fatal(err)
	}
	from.Seal()
	to.Await()
	if missing := to.Expect(from.Paths()); missing != nil {
		t.Fatal(missing)
	}
	done, err := from.Carry(func(records []byte, fds []int) error {
		if fail != nil {
			return fail
		}
		copied := bytes.Clone(records)
		defer clear(copied) // they are the caller's
		return to.Restore(copied, duplicate(fds))
	})
	if err != nil {
		from.Thaw()
		return done, err
	}
	for _, ln := range listening {
		to.Poller().Inherit(poller.Listening{Address: ln.Address, FDs: duplicate(ln.FDs)})
	}
	to.Begin(done.Generations)
	for _, ln := range listening {
		if _, secure := to.tls.secured[ln.Address]; secure {
			_, err = to.ListenTLS(ln.Address, carryTLS())
		} else {
			_, err = to.Listen(ln.Address)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	from.Release()
	return done, nil
}

func duplicate(fds []int) (all []int) {
	for _, fd := range fds {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		all = append(all, d)
	}
	return all
}

// talker sends messages in small parts, without a pause, and looks at what comes back.
type talker struct {
	conn net.Conn
	path string
}

func (k *talker) talk(stop <-chan struct{}) error {
	const window = 8
	r := rand.New(rand.NewPCG(1, uint64(len(k.path))))
	sent, got := uint32(0), uint32(0)
	for {
		over := false
		select {
		case <-stop:
			over = true
		default:
		}
		if over && got == sent {
			return nil
		}
		if !over && sent-got < window {
			sent++
			p := fmt.Appendf(nil, "%08d", sent)
			p = append(p, bytes.Repeat([]byte{'x'}, r.IntN(3000))...)
			frame := append(fragment(ws.OpBinary, p[:8], false), fragment(ws.OpContinuation, p[8:], true)...)
			for len(frame) > 0 {
				n := min(len(frame), 1+r.IntN(700))
				if _, err := k.conn.Write(frame[:n]); err != nil {
					return fmt.Errorf("after %d: %w", sent, err)
				}
				frame = frame[n:]
			}
			continue
		}
		_ = k.conn.SetReadDeadline(time.Now().Add(patience))
		f, err := readFrame(k.conn)
		op, p := f.op, f.payload
		if err != nil {
			return fmt.Errorf("%s: after %d of %d: %w", k.path, got, sent, err)
		}
		if op != ws.OpBinary {
			return fmt.Errorf("%s: opcode %d: %q", k.path, op, p)
		}
		got++
		if k.path == "/moving" {
			if n := binary.BigEndian.Uint32(p); n != got {
				return fmt.Errorf("the session counts %d, want %d", n, got)
			}
			p = p[4:]
		}
		if string(p[:8]) != fmt.Sprintf("%08d", got) {
			return fmt.Errorf("%s: got %q as number %d", k.path, p[:8], got)
		}
	}
}

// fragment is a masked frame that may not be the last of its message.
func fragment(op ws.Opcode, p []byte, last bool) []byte {
	b := masked(op, p)
	if !last {
		b[0] &^= 0x80
	}
	return b
}

// TestCarry: connections go from server to server while they talk, in the middle of frames
// and messages, and those that come meanwhile are accepted by the next one.
func TestCarry(t *testing.T) {
	old := carryServer(t)
	addr, err := old.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	start := func(path string) {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := io.WriteString(c, upgradeRequest(path)); err != nil {
			t.Error(err)
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if err := readHead(c); err != nil {
			t.Error(err)
			return
		}
		all.Go(func() {
			if err := (&talker{c, path}).talk(stop); err != nil {
				t.Error(err)
			}
		})
	}
	for range 12 {
		start("/moving")
		start("/echo")
	}
	half := dialTCP(t, addr) // has sent half of its request
	request := upgradeRequest("/echo")
	_, _ = io.WriteString(half, request[:40])
	handles := make(map[poller.Handle]bool)
	for round := range 6 {
		next := carryServer(t)
		for _, l := range old.Poller().Loops() {
			done := make(chan bool)
			l.Post(func() {
				l.Each(0, 1<<20, func(pc *poller.Conn) { handles[pc.Handle()] = true })
				close(done)
			})
			<-done
		}
		if _, err := take(t, old, next, errors.New("no")); err == nil {
			t.Fatal("a carry that failed")
		}
		time.Sleep(10 * time.Millisecond) // they go on
		var early sync.WaitGroup
		early.Go(func() { start("/echo") })
		done, err := take(t, old, next, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := 25 + round; done.Conns < want-1 {
			t.Errorf("round %d: %d connections were carried, want at least %d", round, done.Conns, want-1)
		}
		early.Wait()
		if n := old.Poller().Live(); n != 0 {
			t.Errorf("round %d: the old server has %d connections left", round, n)
		}
		old = next
	}
	_, _ = io.WriteString(half, request[40:])
	if err := readHead(half); err != nil {
		t.Error(err)
	}
	close(stop)
	all.Wait()
}

func dialTCP(t testing.TB, addr netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func readHead(c net.Conn) error {
	var head []byte
	for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); {
		if _, err := io.ReadFull(c, b); err != nil {
			return fmt.Errorf("%w after %q", err, head)
		}
		head = append(head, b...)
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		return fmt.Errorf("%q", head)
	}
	return nil
}

// TestCarryStays: a connection that cannot be carried is told to come back.
func TestCarryStays(t *testing.T) {
	old, next := carryServer(t), carryServer(t)
	addr, err := old.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, addr)
	_, _ = io.WriteString(c, upgradeRequest("/stays"))
	if err := readHead(c); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(masked(ws.OpText, []byte("hi"))) // Open is through when this is answered
	if f, err := readFrame(c); err != nil || string(f.payload) != "hi" {
		t.Fatalf("%q, %v", f.payload, err)
	}
	done, err := take(t, old, next, nil)
	if err != nil || done.Conns != 0 {
		t.Fatal(done, err)
	}
	if f, err := readFrame(c); err != nil || f.op != ws.OpClose || binary.BigEndian.Uint16(f.payload) != uint16(ws.CloseServiceRestart) {
		t.Errorf("%+v %v", f, err)
	}
}

// TestCarryAlone: a connection that has asked for nothing yet is carried though no other one ever had
// a beat, as its route may have.
func TestCarryAlone(t *testing.T) {
	var both [2]*Server
	for i := range both {
		s, err := New(Options{Logger: slog.New(slog.DiscardHandler), Routes: []*Route{
			{Path: "/echo", Handler: &hooks{message: echo}, Beat: func(*Conn) time.Duration { return time.Hour }},
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stopNow(s) })
		both[i] = s
	}
	addr, err := both[0].Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, addr)
	eventually(t, "it is there", func() bool { return both[0].Poller().Live() == 1 })
	if done, err := take(t, both[0], both[1], nil); err != nil || done.Conns != 1 {
		t.Fatal(done, err)
	}
	upgradeOver(t, c, "/echo")
}
