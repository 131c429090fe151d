package loadtest

import "math/bits"

// window is which of a row of numbered messages have arrived: all below base, or given up on, and base+k where bit k
// of seen is set.
type window struct {
	base uint32
	seen uint64
}

// arrival is how a numbered message came.
type arrival uint8

const (
	fresh   arrival = iota
	late            // after one that was sent after it
	doubled         // for a second time, or more than 64 numbers late
)

// take notes the arrival of number n. skipped is how many numbers are given up on, as n is 64 or more ahead of them.
func (w *window) take(n uint32) (how arrival, skipped int64) {
	if n < w.base {
		return doubled, 0
	}
	if ahead := n - w.base; ahead >= 64 {
		slide := ahead - 63
		kept := w.seen >> min(slide, 64) // 64 shifts everything out
		skipped = int64(slide) - int64(bits.OnesCount64(w.seen)-bits.OnesCount64(kept))
		w.base, w.seen = w.base+slide, kept
	}
	bit := uint64(1) << (n - w.base)
	switch {
	case w.seen&bit != 0:
		return doubled, skipped
	case w.seen > bit:
		how = late
	}
	w.seen |= bit
	run := bits.TrailingZeros64(^w.seen)
	w.base, w.seen = w.base+uint32(run), w.seen>>run
	return how, skipped
}

// lacks is how many of the first total numbers have not arrived.
func (w *window) lacks(total uint32) int64 {
	return max(0, int64(total)-int64(w.base)-int64(bits.OnesCount64(w.seen)))
}
