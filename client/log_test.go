package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// bench is an object of a client without a connection: tests say what arrives, and what reading it answers.
type bench struct {
	t    *testing.T
	c    *Client
	x    *Object
	read func() (opened, error)

	mu   sync.Mutex
	told []string
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, c: New("ws://127.0.0.1:0", Options{})}
	t.Cleanup(b.c.Close)
	b.read = func() (opened, error) {
		t.Error("the object is read")
		return opened{}, errors.New("not expected")
	}
	b.open()
	return b
}

// open opens the object at event 5.
func (b *bench) open() {
	b.t.Helper()
	b.x = &Object{tell: b.tell}
	if err := b.c.use(b.x, answer(5, "e", "5")); err != nil {
		b.t.Fatal(err)
	}
	b.x.log.read = func(context.Context) (opened, error) { return b.read() }
}

func answer(event uint64, epoch, data string) *opened {
	var a opened
	a.Object.ID, a.Object.Revision, a.Channel = "m1", event, "sync:m1"
	a.Position.Event, a.Position.Epoch, a.Data = event, epoch, []byte(data)
	return &a
}

func (b *bench) tell(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := fmt.Sprintf("%s@%d", e.Type, e.Number)
	if e.Err != nil {
		text += " " + e.Err.Error()
	}
	b.told = append(b.told, text)
}

// update is an event of the log.
func (b *bench) update(n uint64) {
	b.x.log.add(step{pub: &centrifuge.Publication{Offset: n, Data: fmt.Appendf(nil, `{"type":"updated","data":%d,"revision":%d}`, n, n)}})
}

// subscribed tells of a subscription without recovery, at an event.
func (b *bench) subscribed(n uint64, epoch string) {
	b.x.log.add(step{subscribed: true, at: &centrifuge.StreamPosition{Offset: n, Epoch: epoch}})
}

// idle waits until all that arrived has been taken.
func (b *bench) idle() {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		b.x.log.mu.Lock()
		idle := !b.x.log.stepping
		b.x.log.mu.Unlock()
		if idle {
			return
		}
		if time.Now().After(end) {
			b.t.Fatal("what arrived is not taken")
		}
	}
}

func (b *bench) want(data, told string) {
	b.t.Helper()
	b.idle()
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := strings.Join(b.told, ", "); got != told {
		b.t.Errorf("told %q, want %q", got, told)
	}
	if got := string((&Document{b.x}).Data()); got != data {
		b.t.Errorf("the value is %s, want %s", got, data)
	}
}

func (b *bench) wantReady(want error) {
	b.t.Helper()
	b.idle()
	select {
	case <-b.x.log.ready:
		if b.x.log.err != want {
			b.t.Errorf("ready with %v, want %v", b.x.log.err, want)
		}
	default:
		b.t.Error("not ready")
	}
}

func TestEventsInOrder(t *testing.T) {
	b := newBench(t)
	b.subscribed(5, "e")
	b.wantReady(nil)
	b.update(5) // it is part of what was opened
	b.update(6)
	b.x.log.add(step{pub: &centrifuge.Publication{Offset: 7, Data: []byte(
		`{"type":"batch","actor":"ann","events":[{"type":"updated","data":1,"revision":7},{"type":"updated","data":2,"revision":7}]}`)}})
	b.x.log.add(step{pub: &centrifuge.Publication{Data: []byte(`{"type":"message","data":1}`)}})
	b.x.log.add(step{pub: &centrifuge.Publication{Offset: 8, Data: []byte(`no JSON`)}})
	b.want("2", "updated@6, updated@7, updated@7, message@7")
}

// What came between opening and following is read before the object is ready, and nobody is told.
func TestMissedBeforeReady(t *testing.T) {
	b := newBench(t)
	b.read = func() (opened, error) { return *answer(8, "e", "8"), nil }
	b.subscribed(8, "e")
	b.update(8)
	b.update(9)
	b.wantReady(nil)
	b.want("9", "updated@9")
}

// Each time that events were missed the object is read; what comes while it is waits, and is told once.
func TestMissedTwice(t *testing.T) {
	b := newBench(t)
	b.subscribed(5, "e")
	b.idle()
	reading, next := make(chan bool), make(chan *opened)
	b.read = func() (opened, error) {
		reading <- true
		return *<-next, nil
	}
	b.subscribed(300, "e")
	<-reading
	b.update(301)
	b.subscribed(700, "e") // again, while the object is read
	b.update(701)
	next <- answer(302, "e", "302")
	<-reading
	next <- answer(700, "e", "700")
	b.want("701", "snapshot@302, snapshot@700, updated@701")
}

// A subscription that missed nothing reads nothing; one at a log of another epoch does.
func TestNothingMissed(t *testing.T) {
	b := newBench(t)
	b.subscribed(5, "e")
	b.x.log.add(step{subscribed: true}) // recovered
	b.subscribed(4, "e")                // of a node that is behind
	b.want("5", "")
	b.read = func() (opened, error) { return *answer(3, "f", "3"), nil }
	b.subscribed(3, "f")
	b.update(4)
	b.want("4", "snapshot@3, updated@4")
}

func TestRefused(t *testing.T) {
	no := &Error{Code: CodeNoPermission, Message: "no permission"}
	t.Run("reading", func(t *testing.T) {
		b := newBench(t)
		b.subscribed(5, "e")
		b.idle()
		b.read = func() (opened, error) { return opened{}, no }
		b.subscribed(300, "e")
		b.update(301) // it would be behind a gap
		b.want("5", "refused@5 1403: no permission")
	})
	t.Run("the subscription", func(t *testing.T) {
		b := newBench(t)
		b.x.log.add(step{ends: no})
		b.wantReady(no)
		b.want("5", "")
	})
	t.Run("later", func(t *testing.T) {
		b := newBench(t)
		b.subscribed(5, "e")
		b.x.log.add(step{ends: no})
		b.want("5", "refused@5 1403: no permission")
		before := b.x.log
		b.open()
		if b.x.log == before {
			t.Error("what is opened again is not followed again")
		}
	})
	t.Run("by closing the client", func(t *testing.T) {
		b := newBench(t)
		b.subscribed(5, "e")
		b.x.log.add(step{ends: centrifuge.ErrClientClosed})
		b.want("5", "")
	})
}

// A removal is told once, whoever finds it out.
func TestRemoved(t *testing.T) {
	gone := &Error{Code: CodeUnknownObject}
	for name, arrives := range map[string]func(*bench){
		"event": func(b *bench) {
			b.x.log.add(step{pub: &centrifuge.Publication{Offset: 5, Data: []byte(`{"type":"updated","data":5}`)}})
			b.x.log.add(step{pub: &centrifuge.Publication{Offset: 6, Data: []byte(`{"type":"removed"}`)}})
			b.x.log.add(step{ends: gone})
		},
		"subscription": func(b *bench) { b.x.log.add(step{ends: gone}) },
		"reading": func(b *bench) {
			b.read = func() (opened, error) { return opened{}, gone }
			b.subscribed(9, "e")
			b.update(10)
			b.x.log.add(step{ends: gone})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.subscribed(5, "e")
			b.idle()
			arrives(b)
			b.idle()
			if got := strings.Join(b.told, ", "); got != "removed@5" && got != "removed@6" {
				t.Errorf("told %q", got)
			}
		})
	}
}

// Who has opened an object twice hears of it twice, until the last has closed it.
func TestShared(t *testing.T) {
	b := newBench(t)
	var other []string
	second := &Object{tell: func(e Event) { other = append(other, e.Type) }}
	if err := b.c.use(second, answer(5, "e", "5")); err != nil {
		t.Fatal(err)
	}
	b.subscribed(5, "e")
	b.update(6)
	b.want("6", "updated@6")
	second.Close()
	second.Close()
	b.update(7)
	b.want("7", "updated@6, updated@7")
	if len(other) != 1 {
		t.Errorf("the other was told %q", other)
	}
	b.x.Close()
	b.update(8)
	b.want("7", "updated@6, updated@7")
	if len(b.c.logs) > 0 || len(b.c.link.Subscriptions()) > 0 {
		t.Error("what is closed is followed")
	}
}

// An event may close its object.
func TestCloseFromEvent(t *testing.T) {
	b := newBench(t)
	b.subscribed(5, "e")
	b.x.tell = func(e Event) {
		b.tell(e)
		b.x.Close()
	}
	b.update(6)
	b.update(7)
	b.want("6", "updated@6")
}

// A write that waits for another's turn does so as long as its context lasts.
func TestTurn(t *testing.T) {
	b := newBench(t)
	b.x.log.turn <- struct{}{}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.x.Batch(ctx, Write{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a write in line: %v", err)
	}
}
