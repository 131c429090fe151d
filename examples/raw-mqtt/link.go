package main

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	patience    = 5 * time.Second // for the broker to accept, to take bytes and to say goodbye
	pendingMost = 4 << 20         // bytes of a client that wait for the broker
	chunk       = 32 << 10        // bytes of the broker in one message to a client
)

// link is one client's connection to the broker.
type link struct {
	reply string        // beginning of the subjects that reach the client
	wake  chan struct{} // holds one while there is something to do

	mu      sync.Mutex
	pending []byte // what waits to be written
	ended   bool   // after pending there is no more
}

func newLink(reply string) *link { return &link{reply: reply, wake: make(chan struct{}, 1)} }

// put queues what the client sent, and says whether there is room.
func (l *link) put(data []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending)+len(data) > pendingMost {
		return false
	}
	l.pending = append(l.pending, data...)
	l.signal()
	return true
}

// finish says that the client sends no more.
func (l *link) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.signal()
}

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// carry brings bytes to the broker and back until one of both ends, and says why.
func (l *link) carry(nc *nats.Conn, broker string) *end {
	c, err := net.DialTimeout("tcp", broker, patience)
	if err != nil {
		return endAway
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.bring(nc, c)
	}()
	why := l.write(c.(*net.TCPConn), done)
	_ = c.Close()
	<-done // whatever the broker said comes before the close
	return why
}

// write writes what the client sends.
func (l *link) write(c *net.TCPConn, done <-chan struct{}) *end {
	var data []byte
	for {
		select {
		case <-done:
			return endNormal
		case <-l.wake:
		}
		l.mu.Lock()
		data, l.pending = l.pending, data[:0]
		ended := l.ended
		l.mu.Unlock()
		_ = c.SetWriteDeadline(time.Now().Add(patience)) // Write tells
		if _, err := c.Write(data); errors.Is(err, os.ErrDeadlineExceeded) {
			return endSlow
		} else if err != nil {
			return endNormal
		}
		if cap(data) > chunk {
			data = nil // a burst is over
		}
		if ended {
			// The broker reads to the end before it closes, so that a client which said
			// goodbye is not taken for lost.
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if c.CloseWrite() == nil {
				<-done
			}
			return nil
		}
	}
}

// bring takes what the broker says to the client.
func (l *link) bring(nc *nats.Conn, c net.Conn) {
	buffer := make([]byte, chunk)
	for {
		n, err := c.Read(buffer)
		if n > 0 && nc.Publish(l.reply+".binary", buffer[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}
