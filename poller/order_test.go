package poller

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
)

// record is one frame of the order tests: writer, number, filling.
func record(writer, number, size int) []byte {
	b := make([]byte, 12+size)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	binary.BigEndian.PutUint32(b[4:], uint32(writer))
	binary.BigEndian.PutUint32(b[8:], uint32(number))
	for i := 12; i < len(b); i++ {
		b[i] = byte(writer + number)
	}
	return b
}

// expectRecords reads whole frames and checks that each writer's come in order.
func expectRecords(r io.Reader, writers, each int) error {
	next := make([]int, writers)
	head := make([]byte, 12)
	for range writers * each {
		if _, err := io.ReadFull(r, head); err != nil {
			return fmt.Errorf("%v: %w", next, err)
		}
		size := int(binary.BigEndian.Uint32(head)) - 12
		w, n := int(binary.BigEndian.Uint32(head[4:])), int(binary.BigEndian.Uint32(head[8:]))
		if w >= writers || size < 0 || size > 1<<20 || n != next[w] {
			return fmt.Errorf("frame %d of writer %d, size %d, expected %v", n, w, size, next)
		}
		next[w]++
		body := make([]byte, size)
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		for _, b := range body {
			if b != byte(w+n) {
				return fmt.Errorf("frame %d of writer %d is torn", n, w)
			}
		}
	}
	return nil
}

func TestWritersKeepTheirOrder(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options, prepare func(*Poller)) {
		opened := make(chan *Conn, 1)
		p := launch(t, o, hooks{open: func(_ *Loop, c *Conn) { opened <- c }})
		prepare(p)
		nc, c := dialServed(t, listen(t, p), opened)
		const writers, each = 8, 150
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for n := range each {
					b := record(w, n, (w*n*37)%5000)
					switch {
					case w < 3:
						_, _ = c.Write(b[:12], b[12:])
					case w < 6:
						_, _ = c.WriteShared(b)
					case w == 6:
						c.Loop().Post(func() { _, _ = c.Loop().Push(c, b) })
					default:
						c.Loop().Post(func() { _, _ = c.Loop().Write(c, b[:12], b[12:], n%3 == 0) })
					}
				}
			})
		}
		if err := expectRecords(nc, writers, each); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	})
}

// TestBroadcast pushes to all connections from their loops while others write to
// them: frames stay whole and each source's in order.
func TestBroadcast(t *testing.T) {
	t.Run("500", func(t *testing.T) { broadcast(t, Options{}, func(*Poller) {}, 500) })
	eachVariant(t, func(t *testing.T, o Options, prepare func(*Poller)) { broadcast(t, o, prepare, 60) })
}

func broadcast(t *testing.T, o Options, prepare func(*Poller), clients int) {
	const rounds = 12
	opened := make(chan *Conn, clients)
	p := launch(t, o, hooks{open: func(_ *Loop, c *Conn) { opened <- c }})
	prepare(p)
	addr := listen(t, p)
	readers, conns := make([]*net.TCPConn, clients), make([]*Conn, clients)
	for i := range clients {
		readers[i], conns[i] = dialServed(t, addr, opened)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range rounds {
			frame := record(2, n, 700)
			for _, c := range conns {
				_, _ = c.WriteShared(frame)
			}
		}
	})
	for n := range rounds {
		frame, second := record(0, n, n*50), record(1, n, 10)
		for _, l := range p.Loops() {
			l.Post(func() {
				l.Each(0, clients, func(c *Conn) {
					_, _ = l.Push(c, frame)
					switch n % 3 {
					case 0:
						_, _ = l.Push(c, second)
					case 1:
						_, _ = c.Write(second[:4], second[4:])
					default:
						_, _ = l.Write(c, nil, second, false)
					}
				})
			})
		}
	}
	crowd(t, clients, func(i int) error { return expectRecords(readers[i], 3, rounds) })
	wg.Wait()
}
