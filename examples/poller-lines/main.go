// Command poller-lines is a chat for telnet and nc on the event loops alone: no WebSocket, a
// protocol of lines over TCP, no goroutine per connection. What one says all others hear.
//
//	go run ./examples/poller-lines
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"

	"roost/poller"
)

const longest = 1024 // bytes of a line

// Why this program ends connections, for what counts them.
const (
	tooLong = poller.ReasonUser + iota
	tooSlow
)

// client is one connection. What of it the loop keeps must come first.
type client struct {
	poller.Conn
	line []byte // begun, but not ended
}

// lines is the handler of one loop; all its methods run on that loop, so it needs no lock.
type lines struct {
	loop    *poller.Loop
	room    *room
	clients map[*client]bool
}

// room is all loops.
type room struct{ loops []*lines }

// say brings a line to the clients of every loop, each on its own.
func (r *room) say(text []byte, by *client) {
	for _, l := range r.loops {
		l.loop.Post(func() {
			for c := range l.clients {
				if c != by {
					_, _ = c.WriteShared(text) // to many, without a copy; closed ones are gone soon
				}
			}
		})
	}
}

func (l *lines) of(pc *poller.Conn) *client { return pc.Session().(*client) }

// Open implements poller.Handler.
func (l *lines) Open(pc *poller.Conn) {
	l.clients[l.of(pc)] = true
	_, _ = pc.Write([]byte("Welcome. Say something.\n"), nil)
}

// Data implements poller.Handler. b is the loop's: what is kept is copied.
func (l *lines) Data(pc *poller.Conn, b []byte) {
	c := l.of(pc)
	for {
		line, rest, whole := bytes.Cut(b, []byte{'\n'})
		if len(c.line)+len(line) > longest {
			_, _ = pc.Write([]byte("That is too long.\n"), nil)
			pc.Finish(tooLong)
			return
		}
		c.line = append(c.line, line...)
		if !whole {
			return
		}
		l.room.say(append(c.line, '\n'), c)
		c.line, b = nil, rest
	}
}

// EOF implements poller.Handler: what is pending is written, then the connection is closed.
func (l *lines) EOF(*poller.Conn) (wait bool) { return false }

// Blocked implements poller.Handler: whoever takes nothing is not waited for.
func (l *lines) Blocked(pc *poller.Conn, pending int) {
	if pending > 1<<20 {
		pc.Cut(tooSlow)
	}
}

// Due implements poller.Handler: no deadlines here.
func (l *lines) Due(*poller.Conn) {}

// Closed implements poller.Handler.
func (l *lines) Closed(pc *poller.Conn, _ poller.Reason) { delete(l.clients, l.of(pc)) }

func main() {
	r := new(room)
	p, err := poller.New(poller.Options{
		New: func() *poller.Conn {
			c := new(client)
			c.SetSession(c)
			return &c.Conn
		},
		Handler: func(l *poller.Loop) poller.Handler {
			h := &lines{loop: l, room: r, clients: map[*client]bool{}}
			r.loops = append(r.loops, h)
			return h
		},
	})
	if err != nil {
		panic(err)
	}
	address, err := p.Listen("127.0.0.1:" + os.Getenv("PORT"))
	if err != nil {
		panic(err)
	}
	fmt.Println("ready nc", address.Addr(), address.Port())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
	_ = p.Stop(context.Background())
}
