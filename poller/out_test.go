package poller

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestOutqAgainstBuffer does random things to a queue and to a bytes.Buffer.
func TestOutqAgainstBuffer(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		in := newStream(seed)
		q, model := outqPool.Get().(*outq), []byte(nil)
		for range 300 {
			switch k := r.IntN(6); k {
			case 0, 1:
				p := in.next(1 + r.IntN(copyMax))
				q.copyIn(p[:len(p)/3], p[len(p)/3:])
				model = append(model, p...)
				clear(p) // a copy was queued
			case 2:
				p := in.next(1 + r.IntN(6000))
				q.share(p)
				model = append(model, p...)
			case 3:
				if r.IntN(5) == 0 {
					p := in.next(1 + r.IntN(100))
					q.shareFirst(p)
					model = append(bytes.Clone(p), model...)
				}
			default:
				if n := r.IntN(1 + 2*len(model)/(k-2)); n <= len(model) {
					q.advance(n)
					model = model[n:]
				}
			}
			if q.pending != len(model) || !bytes.Equal(q.bytes(), model) {
				t.Fatalf("seed %d: queue holds %d bytes, want %d, or others", seed, q.pending, len(model))
			}
			n := 0
			for _, s := range q.appendSegs(nil, 3, 4096) {
				if !bytes.Equal(s, model[n:n+len(s)]) {
					t.Fatalf("seed %d: segments are not the queue", seed)
				}
				n += len(s)
			}
			if len(model) > 0 && n == 0 {
				t.Fatalf("seed %d: no segments of a queue that is not empty", seed)
			}
		}
		q.recycle()
	}
}

// TestOutqNeverEmpty writes through a queue that is never drained to the end.
func TestOutqNeverEmpty(t *testing.T) {
	q := outqPool.Get().(*outq)
	p := make([]byte, 3000)
	for range 10 {
		q.share(p)
	}
	for range 100_000 {
		q.share(p)
		q.advance(len(p))
	}
	if q.pending != 10*len(p) || cap(q.segs) > 100 {
		t.Fatalf("%d bytes pending in %d places", q.pending, cap(q.segs))
	}
}

func TestRecycledQueueKeepsNothing(t *testing.T) {
	q := &outq{}
	q.share(make([]byte, 10))
	q.copyIn([]byte("abc"), nil)
	segs := q.segs[:cap(q.segs)]
	q.recycle()
	for _, s := range segs {
		if s != nil {
			t.Fatal("a recycled queue keeps a frame alive")
		}
	}
	if q.pending != 0 || q.tail || len(q.buf) != 0 || q.head != 0 {
		t.Fatalf("recycled: %+v", q)
	}
}
