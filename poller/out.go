package poller

import "sync"

const (
	copyMax    = 2 << 10 // frames up to this many bytes are copied and joined
	outBufKeep = 4 << 10 // a recycled buffer is at most this large
)

// outq is what waits to be written on one connection. A connection has one only
// while something is pending. Guarded by the connection's lock.
type outq struct {
	segs    [][]byte // in order; segs[head] may be partly written
	head    int
	pending int    // bytes
	buf     []byte // small frames are copied here; the last segment may be its tail
	tail    bool   // the last segment ends where buf ends, so it can grow
}

var outqPool = sync.Pool{New: func() any {
	return &outq{segs: make([][]byte, 0, 4), buf: make([]byte, 0, 512)}
}}

// copyIn queues a copy of a and b as if they were one.
func (q *outq) copyIn(a, b []byte) {
	n := len(a) + len(b)
	if cap(q.buf)-len(q.buf) < n {
		q.buf = make([]byte, 0, max(n, min(2*cap(q.buf), outBufKeep)))
		q.tail = false
	}
	start := len(q.buf)
	q.buf = append(append(q.buf, a...), b...)
	if q.tail {
		last := &q.segs[len(q.segs)-1]
		*last = q.buf[start-len(*last):]
	} else {
		q.segs = append(q.segs, q.buf[start:])
		q.tail = true
	}
	q.pending += n
}

// share queues p itself; nobody may change it any more.
func (q *outq) share(p []byte) {
	q.segs = append(q.segs, p)
	q.tail = false
	q.pending += len(p)
}

// shareFirst queues p before everything else; nothing is partly written then.
func (q *outq) shareFirst(p []byte) {
	q.segs = append(q.segs, nil)
	copy(q.segs[q.head+1:], q.segs[q.head:])
	q.segs[q.head] = p
	if len(q.segs) == q.head+1 {
		q.tail = false
	}
	q.pending += len(p)
}

// advance drops the first n bytes, which have been written.
func (q *outq) advance(n int) {
	q.pending -= n
	for n > 0 {
		s := q.segs[q.head]
		if n < len(s) {
			q.segs[q.head] = s[n:]
			return
		}
		n -= len(s)
		q.segs[q.head] = nil
		q.head++
	}
	switch {
	case q.head == len(q.segs):
		q.segs, q.head, q.tail = q.segs[:0], 0, false
		q.buf = q.buf[:0]
	case q.head > len(q.segs)/2: // or a queue that is never empty grows for ever
		rest := copy(q.segs, q.segs[q.head:])
		clear(q.segs[rest:])
		q.segs, q.head = q.segs[:rest], 0
	}
}

// appendSegs collects segments for one writev, bounded in number and bytes.
func (q *outq) appendSegs(dst [][]byte, maxSegs, maxBytes int) [][]byte {
	for _, s := range q.segs[q.head:] {
		if len(dst) == maxSegs || maxBytes <= 0 {
			break
		}
		dst = append(dst, s)
		maxBytes -= len(s)
	}
	return dst
}

// bytes returns a copy of all that is pending.
func (q *outq) bytes() []byte {
	b := make([]byte, 0, q.pending)
	for _, s := range q.segs[q.head:] {
		b = append(b, s...)
	}
	return b
}

// recycle gives an empty or abandoned queue back.
func (q *outq) recycle() {
	if cap(q.buf) > outBufKeep || cap(q.segs) > 64 {
		return
	}
	clear(q.segs[:cap(q.segs)])
	q.segs, q.head, q.pending, q.tail, q.buf = q.segs[:0], 0, 0, false, q.buf[:0]
	outqPool.Put(q)
}
