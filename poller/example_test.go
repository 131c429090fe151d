package poller_test

import (
	"context"
	"fmt"
	"net"

	"roost/poller"
)

// upper answers with capitals. Its methods run on the loop and never block.
type upper struct{}

func (upper) Open(*poller.Conn) {}

func (upper) Data(c *poller.Conn, b []byte) {
	for i := range b { // the bytes are the loop's, and may be changed
		if b[i] >= 'a' && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	_, _ = c.Write(b, nil) // copies
}

func (upper) EOF(*poller.Conn) (wait bool)       { return false }
func (upper) Blocked(*poller.Conn, int)          {}
func (upper) Due(*poller.Conn)                   {}
func (upper) Closed(*poller.Conn, poller.Reason) {}

// A server of any protocol over TCP.
func Example() {
	p, err := poller.New(poller.Options{Handler: func(*poller.Loop) poller.Handler { return upper{} }})
	if err != nil {
		panic(err)
	}
	address, err := p.Listen("127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	c, err := net.Dial("tcp", address.String())
	if err != nil {
		panic(err)
	}
	fmt.Fprint(c, "hello\n")
	var answer string
	_, _ = fmt.Fscanln(c, &answer)
	fmt.Println(answer)
	_ = c.Close()
	fmt.Println(p.Stop(context.Background()))
	// Output:
	// HELLO
	// <nil>
}
