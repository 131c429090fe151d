//go:build !race

package sync

import (
	"fmt"
	"testing"

	"roost/internal/proctest"
)

// Objects that nobody uses take no memory but what NATS and the broker know of their logs: at most 300 B each. With
// ROOST_SYNC_WARM objects before, which fill what is bounded, the process that has made them is measured instead of the next.
func TestIdleObjects(t *testing.T) {
	r := newRig(t, Config{})
	r.ears.deaf = true
	open := func(from, to int) {
		for i := from; i < to; i++ {
			r.do("open", fmt.Sprintf(`{"type":"document","name":"idle %d","data":{"n":%d}}`, i, i))
		}
	}
	warm, objects := size(t, "ROOST_SYNC_WARM", 0), size(t, "ROOST_SYNC_OBJECTS", 40_000)
	open(0, warm) // what is bounded is full then
	if warm == 0 {
		open(0, 1000)
		r.restart()
	}
	r.forget()
	before := proctest.LiveHeap()
	open(warm, warm+objects)
	if warm == 0 {
		r.restart()
	}
	r.forget()
	each := (proctest.LiveHeap() - before) / int64(objects)
	t.Logf("%d B for each of %d objects", each, objects)
	if each > 300 {
		t.Errorf("%d B for each object, at most 300 are allowed", each)
	}
}
