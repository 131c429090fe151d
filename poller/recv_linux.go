//go:build linux && !portable

package poller

import (
	"runtime"
	"syscall"
)

const (
	recvSize      = 2 << 10 // bytes read by one entry of a batch; more is read by plain calls
	directReads   = 64      // reads made at once before batching is tried again
	batchingTrust = 4       // small batches in a row that end batching
)

// receiver reads from many sockets by one io_uring enter. A batch of reads costs a
// pass more than reading at once, so it is used while enough connections have input
// at the same time. Loop goroutine only.
type receiver struct {
	loop     *Loop
	batching bool // input is read in passes, not at its event
	trust    int  // how far batching may be trusted: it ends below 0
	direct   int  // reads made at once since batching ended
	conns    []*Conn
	bufs     []byte // recvSize for each entry
}

func (r *receiver) init(l *Loop) {
	r.loop = l
	r.conns = make([]*Conn, 0, sendBatch)
	r.bufs = make([]byte, sendBatch*recvSize)
}

// ready is told of input. It reports whether the connection is to be read at once.
func (r *receiver) ready(c *Conn) bool {
	if r.batching || r.loop.sys.always {
		r.loop.later(c)
		return false
	}
	if r.direct++; r.direct >= directReads && r.loop.flusher.ring != nil {
		r.batching, r.trust = true, 0
	}
	return true
}

// judge ends a pass that found n connections with input.
func (r *receiver) judge(n int) {
	switch {
	case !r.batching || r.loop.sys.always:
	case n >= ringWorthwhile:
		r.trust = min(r.trust+1, batchingTrust)
	default:
		if r.trust--; r.trust < 0 {
			r.batching, r.direct = false, 0
		}
	}
}

// add puts a read into the batch.
func (r *receiver) add(c *Conn) {
	i := len(r.conns)
	c.own |= ownInBatch
	r.conns = append(r.conns, c)
	r.loop.flusher.ring.recv(nbFD(&c.nb), r.bufs[i*recvSize:(i+1)*recvSize])
	if len(r.conns) == sendBatch {
		r.run()
	}
}

// run reads the batch and hands the input out.
func (r *receiver) run() {
	if len(r.conns) == 0 {
		return
	}
	f := &r.loop.flusher
	results, err := f.ring.submit()
	runtime.KeepAlive(r.bufs)
	r.loop.count.enters++
	r.loop.count.reads += uint64(len(results))
	if err != nil {
		f.lose(err)
	}
	f.settling = true // results and buffers are in use
	for i, c := range r.conns {
		r.conns[i] = nil
		c.own &^= ownInBatch
		if !c.isGone() {
			r.received(c, r.bufs[i*recvSize:(i+1)*recvSize], results[i])
		}
	}
	f.settling = false
	r.conns = r.conns[:0]
}

// received deals with one result: bytes or a negative errno.
func (r *receiver) received(c *Conn, b []byte, res int32) {
	l := r.loop
	switch {
	case res < 0 && !retryable(res): // told once only
		if !l.failed(c, syscall.Errno(-res)) {
			return
		}
	case res > 0:
		l.input(c, b[:res])
		if int(res) < len(b) && c.own&ownTLS == 0 || c.isGone() || c.own&ownPaused != 0 {
			return
		}
	}
	l.read(c) // more input or the end of it: a plain read tells
}
