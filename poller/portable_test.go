//go:build !linux || portable

package poller

import (
	"runtime"
	"testing"
)

const (
	halfClose      = false
	canBlock       = true
	flatGoroutines = false
)

func checkLoop(testing.TB, *Loop) {}

func eachVariant(t *testing.T, test func(t *testing.T, o Options, prepare func(*Poller))) {
	test(t, Options{}, func(*Poller) {})
}

func TestPortableSaysWhatItCannot(t *testing.T) {
	opened := make(chan *Conn, 1)
	p := launch(t, Options{}, hooks{open: func(_ *Loop, c *Conn) { opened <- c }})
	_, c := dialServed(t, listen(t, p), opened)
	onLoop(t, c.Loop(), func() {
		if _, err := c.Loop().Detach(c); err == nil {
			t.Error("Detach must say that it is not supported")
		}
		if err := c.Loop().Adopt(Detached{}, new(Conn), func(*Conn) {}); err == nil {
			t.Error("Adopt must say that it is not supported")
		}
	})
	if _, err := DescriptorLimit(); err == nil || p.IOUring() {
		t.Error("there is neither a descriptor limit nor io_uring here")
	}
}

func TestPortableStop(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	reasons := make(chan Reason, 20)
	p := launch(t, Options{}, hooks{data: echo, closed: func(_ *Loop, _ *Conn, r Reason) { reasons <- r }})
	addr := listen(t, p)
	for i := range 20 {
		nc := dial(t, addr)
		if _, err := nc.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		expectBytes(t, nc, []byte{byte(i)})
	}
	stopNow(p)
	for range 20 {
		if r := receive(t, reasons); r != ReasonStopped {
			t.Fatalf("reason %d", r)
		}
	}
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
	if _, err := p.Listen("127.0.0.1:0"); err != ErrStopped {
		t.Fatalf("Listen after Stop: %v", err)
	}
}
