package poller

import (
	"math"
	"testing"
	"time"
)

// TestDueWhileTheTableGrows: a deadline is seen within sweepParts ticks although
// the table grows at every tick, and across the wrap-around of the tick.
func TestDueWhileTheTableGrows(t *testing.T) {
	for _, start := range []uint32{1, math.MaxUint32 - 200, math.MaxInt32 - 100} {
		var s slots
		due, fired := map[*Conn]uint32{}, 0
		now := start
		for step := range uint32(400) {
			now = start + step
			for i := range 37 {
				if step >= 300 {
					break
				}
				c := new(Conn)
				s.add(c)
				at := now + 1 + uint32(i)
				if at == 0 {
					at = 1
				}
				s.at(c.slot).due = at
				due[c] = at
			}
			s.due(step%sweepParts, sweepParts, now, func(c *Conn) {
				at, ok := due[c]
				if late := int32(now - at); !ok || late < 0 || late > sweepParts {
					t.Fatalf("start %d step %d: fired %d ticks late, known: %v", start, step, late, ok)
				}
				delete(due, c)
				fired++
				if fired%3 == 0 {
					s.remove(c)
				}
			})
		}
		if len(due) != 0 || fired != 300*37 {
			t.Fatalf("start %d: %d fired, %d never", start, fired, len(due))
		}
	}
}

func TestHandleParts(t *testing.T) {
	h := makeHandle(maxLoops-1, 0xabcdef, math.MaxUint32)
	if h.loop() != maxLoops-1 || h.gen() != 0xabcdef || h.slot() != math.MaxUint32 {
		t.Fatalf("%x: loop %d, generation %x, slot %x", h, h.loop(), h.gen(), h.slot())
	}
	if h := makeHandle(0, 0x1000001, 2); h.gen() != 1 || h.loop() != 0 {
		t.Fatalf("%x: the generation must not spill into the loop", h)
	}
}

func TestOptionsValidate(t *testing.T) {
	handler := func(*Loop) Handler { return nil }
	for _, o := range []Options{
		{},
		{Handler: handler, Loops: -1},
		{Handler: handler, Loops: maxLoops + 1},
		{Handler: handler, SendBuffer: -1},
		{Handler: handler, ReceiveBuffer: -1},
		{Handler: handler, Tick: -1},
		{Handler: handler, Linger: -1},
		{Handler: handler, MaxConns: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("accepted: %+v", o)
		}
	}
	o := Options{Handler: handler}
	if err := o.validate(); err != nil || o.Loops < 1 || o.New == nil || o.Logger == nil {
		t.Fatalf("defaults: %v %+v", err, o)
	}
	for d, want := range map[time.Duration]uint32{0: 1, 1: 1, o.Tick: 1, o.Tick + 1: 2} {
		if got := o.Ticks(d); got != want {
			t.Errorf("%v is %d ticks, want %d", d, got, want)
		}
	}
}
