//go:build linux && !portable

package poller

import (
	"bytes"
	"runtime"
	"syscall"

	"github.com/lesismal/nbio"
	"golang.org/x/sys/unix"
)

const (
	batchSegs   = 8        // buffers of one connection in a batch; more go by writev
	batchBytes  = 64 << 10 // bytes of one connection in a batch
	writeRounds = 16       // writev calls for one connection before others get their turn
)

// flusher writes what connections have pending. It is the only writer of its
// loop's descriptors. Loop goroutine only.
type flusher struct {
	loop  *Loop
	ring  *ring // nil: plain writes
	list  []*Conn
	spare []*Conn
	at    int // list[at:] is still to be flushed

	settling bool // submit goes through results: no entry may be added

	// The batch under construction: entry i of the ring belongs to conns[i].
	conns  []*Conn
	want   []int
	push   [][]byte // the frame of a pushed entry, nil for one from a queue
	msgs   []unix.Msghdr
	iovs   [][batchSegs]unix.Iovec
	segs   [][]byte
	joined []byte
	iov    []unix.Iovec
}

func (f *flusher) init(l *Loop) {
	f.loop = l
	f.segs = make([][]byte, 0, maxIovecs)
	f.iov = make([]unix.Iovec, 0, maxIovecs)
}

// useRing turns batching on.
func (f *flusher) useRing(r *ring) {
	f.ring = r
	f.conns = make([]*Conn, 0, sendBatch)
	f.want = make([]int, 0, sendBatch)
	f.push = make([][]byte, 0, sendBatch)
	f.msgs = make([]unix.Msghdr, sendBatch)
	f.iovs = make([][batchSegs]unix.Iovec, sendBatch)
}

// take swaps the dirty list out; under the loop's lock.
func (f *flusher) take(dirty *[]*Conn) []*Conn {
	d := *dirty
	*dirty = f.spare[:0]
	f.spare = nil
	return d
}

// run flushes the connections of dirty, and of what an earlier run left, up to
// the budget; then epoll gets its turn.
func (f *flusher) run(dirty []*Conn) {
	if f.at == len(f.list) {
		clear(f.list)
		f.spare, f.list, f.at = f.list[:0], dirty, 0
	} else {
		if f.at > len(f.list)/2 { // seldom enough that a long list is not copied again and again
			rest := copy(f.list, f.list[f.at:])
			clear(f.list[rest:])
			f.list, f.at = f.list[:rest], 0
		}
		f.list = append(f.list, dirty...)
		clear(dirty)
		f.spare = dirty[:0]
	}
	end := min(len(f.list), f.at+flushBudget)
	batch := f.loop.worthwhile(end - f.at)
	for ; f.at < end; f.at++ {
		f.one(f.list[f.at], batch)
	}
	f.submit()
	if f.at < len(f.list) {
		f.loop.ring()
	}
}

// worthwhile tells whether n connections are enough for a batch.
func (l *Loop) worthwhile(n int) bool {
	return l.flusher.ring != nil && (n >= ringWorthwhile || l.sys.always)
}

// one serves a dirty connection: end, resume, write.
func (f *flusher) one(c *Conn, batch bool) {
	if c.own&ownInBatch != 0 {
		f.submit() // what was pushed goes before what was queued after it
	}
	c.nb.Lock()
	flags := c.guarded
	c.guarded &^= isDirty | isResume
	pending := c.out != nil
	c.nb.Unlock()
	switch {
	case flags&isClosed != 0:
		return
	case flags&isCut != 0:
		f.loop.close(c, ReasonNone)
		return
	}
	if flags&isFinish != 0 && c.own&ownEnding == 0 {
		c.own |= ownEnding
		f.loop.setDue(c, f.loop.poller.lingerTicks)
	}
	if flags&isResume != 0 && c.own&ownPaused != 0 {
		c.own &^= ownPaused
		f.loop.later(c)
	}
	if !pending {
		if flags&isFinish != 0 {
			f.loop.finish(c)
		}
		return
	}
	if c.own&ownBlocked != 0 {
		return // EPOLLOUT brings it back
	}
	if batch && f.add(c) {
		return
	}
	f.write(c)
}

// add puts what c has pending into the batch, if it fits there.
func (f *flusher) add(c *Conn) bool {
	if f.ring == nil {
		return false // lost in this run
	}
	c.nb.Lock()
	segs := c.out.appendSegs(f.segs[:0], batchSegs+1, batchBytes)
	c.nb.Unlock()
	if len(segs) > batchSegs {
		return false
	}
	i, total := len(f.conns), 0
	for j, s := range segs {
		f.iovs[i][j].Base = &s[0]
		f.iovs[i][j].SetLen(len(s))
		total += len(s)
	}
	if len(segs) == 1 {
		f.ring.send(nbFD(&c.nb), segs[0], c.sendFlags())
	} else {
		f.msgs[i] = unix.Msghdr{Iov: &f.iovs[i][0]}
		f.msgs[i].SetIovlen(len(segs))
		f.ring.sendmsg(nbFD(&c.nb), &f.msgs[i], c.sendFlags())
	}
	f.entry(c, total, nil)
	return true
}

// entry completes an entry and keeps room for the next one.
func (f *flusher) entry(c *Conn, want int, push []byte) {
	c.own |= ownInBatch
	f.conns = append(f.conns, c)
	f.want = append(f.want, want)
	f.push = append(f.push, push)
	if f.ring.full() {
		f.submit()
	}
}

// submit sends the batch and settles every entry. The handler may be called; what
// it writes is queued.
func (f *flusher) submit() {
	if len(f.conns) == 0 || f.settling {
		return
	}
	f.settling = true
	results, err := f.ring.submit()
	runtime.KeepAlive(f.push)
	f.loop.count.enters++
	f.loop.count.sends += uint64(len(results))
	if err != nil {
		f.lose(err)
	}
	for i, c := range f.conns {
		f.conns[i] = nil
		c.own &^= ownInBatch
		if p := f.push[i]; p != nil {
			f.push[i] = nil
			f.pushed(c, p, results[i])
		} else if f.sent(c, f.want[i], results[i]) {
			c.requeue()
		}
	}
	clear(f.iovs[:len(f.conns)]) // they would keep frames alive
	f.conns, f.want, f.push = f.conns[:0], f.want[:0], f.push[:0]
	f.settling = false
}

// lose gives the ring up for good.
func (f *flusher) lose(err error) {
	f.ring.close()
	f.ring = nil
	f.loop.poller.ringLost(err)
}

// write writes what c has pending by plain calls until done or blocked.
func (f *flusher) write(c *Conn) {
	for range writeRounds {
		c.nb.Lock()
		f.segs = c.out.appendSegs(f.segs[:0], maxIovecs, maxWritev)
		c.nb.Unlock()
		n, want, errno := f.writeSegs(nbFD(&c.nb))
		f.loop.count.sends++
		if !f.sent(c, want, result(n, errno)) {
			return
		}
	}
	c.requeue()
}

// result is what a ring would say: bytes or a negative errno.
func result(n int, errno syscall.Errno) int32 {
	if errno != 0 {
		return -int32(errno)
	}
	return int32(n)
}

func (f *flusher) writeSegs(fd int) (n, want int, errno syscall.Errno) {
	defer clear(f.segs)
	if len(f.segs) == 1 {
		n, errno = f.loop.sys.write(fd, f.segs[0])
		return n, len(f.segs[0]), errno
	}
	f.iov = f.iov[:0]
	for _, s := range f.segs {
		v := unix.Iovec{Base: &s[0]}
		v.SetLen(len(s))
		f.iov = append(f.iov, v)
		want += len(s)
	}
	n, errno = f.loop.sys.writev(fd, f.iov)
	clear(f.iov)
	return n, want, errno
}

// sent settles a write of want bytes from c's queue. It reports whether there is
// more that can be written right away.
func (f *flusher) sent(c *Conn, want int, res int32) (more bool) {
	if res < 0 && !retryable(res) {
		f.loop.close(c, ReasonWriteError)
		return false
	}
	n := max(0, int(res))
	f.loop.count.bytesOut += uint64(n)
	c.nb.Lock()
	if c.guarded&isClosed != 0 {
		c.nb.Unlock()
		return false
	}
	q := c.out
	q.advance(n)
	pending, finish := q.pending, c.guarded&isFinish != 0
	if pending == 0 {
		c.out = nil
	}
	c.nb.Unlock()
	if pending == 0 {
		q.recycle()
		if finish {
			f.loop.finish(c)
		}
		return false
	}
	if n < want {
		f.block(c, pending, res)
		return false
	}
	return true
}

func retryable(res int32) bool {
	switch syscall.Errno(-res) {
	case syscall.EAGAIN, syscall.EINTR, syscall.ECANCELED, syscall.ENOBUFS, syscall.ENOMEM:
		return true
	}
	return false
}

// block waits for EPOLLOUT, or tries again in the next pass where the kernel was
// merely interrupted or short of memory, or its TLS stopped short of a full socket.
func (f *flusher) block(c *Conn, pending int, res int32) {
	if res < 0 && syscall.Errno(-res) != syscall.EAGAIN || res >= 0 && c.own&ownTLS != 0 {
		c.requeue()
		return
	}
	c.own |= ownBlocked
	f.loop.count.blocked++
	nbOnWritable(&c.nb, f.loop.onWritable)
	f.loop.handler.Blocked(c, pending)
}

// requeue marks c dirty again. Loop goroutine only.
func (c *Conn) requeue() {
	c.nb.Lock()
	c.queued(0)
}

// onWritable is called once for EPOLLOUT after block.
func (l *Loop) onWritable(nc *nbio.Conn, _ error) {
	c := connOf(nc)
	if c.loop == l && !c.isGone() {
		c.own &^= ownBlocked
		c.requeue()
	}
}

// Push writes a shared frame to c, at best straight from the frame by the current
// batch, without a queue. Nobody may change p any more. It is for sending one
// frame to many connections from a function given to Loop.Post. It returns the
// bytes pending on c. Loop goroutine only.
func (l *Loop) Push(c *Conn, p []byte) (pending int, err error) {
	f := &l.flusher
	if f.ring == nil || !l.inPass || l.sealed || f.settling || len(p) == 0 || c.own&(ownInBatch|ownBlocked|ownGone) != 0 {
		return c.WriteShared(p)
	}
	c.nb.Lock()
	if c.guarded&(isClosed|isFinish|isCut) != 0 {
		c.nb.Unlock()
		return 0, ErrClosed
	}
	free := c.out == nil
	c.nb.Unlock()
	if !free {
		return c.WriteShared(p)
	}
	f.ring.send(nbFD(&c.nb), p, c.sendFlags())
	f.entry(c, len(p), p)
	return 0, nil
}

// pushed settles a push: what was not written goes to the front of the queue,
// which other goroutines may have started meanwhile.
func (f *flusher) pushed(c *Conn, p []byte, res int32) {
	if res < 0 && !retryable(res) {
		f.loop.close(c, ReasonWriteError)
		return
	}
	n := max(0, int(res))
	f.loop.count.bytesOut += uint64(n)
	if n == len(p) {
		return
	}
	c.nb.Lock()
	if c.guarded&isClosed != 0 {
		c.nb.Unlock()
		return
	}
	q := c.queue()
	q.shareFirst(p[n:])
	pending := q.pending
	c.nb.Unlock()
	f.block(c, pending, res)
}

// Write is Conn.Write for the loop's goroutine: when nothing else is pending it
// writes large payloads straight from p, and small ones where so few connections
// write that a batch would gain nothing. more tells that further writes to c
// follow at once, which are then better joined.
func (l *Loop) Write(c *Conn, head, p []byte, more bool) (pending int, err error) {
	f := &l.flusher
	large := len(p) > copyMax
	if more || l.sealed || len(head)+len(p) == 0 || c.own&(ownBlocked|ownInBatch|ownGone) != 0 || !large && l.receiver.batching {
		return c.Write(head, p)
	}
	c.nb.Lock()
	busy := c.out != nil || c.guarded&(isClosed|isFinish|isCut) != 0
	c.nb.Unlock()
	if busy {
		return c.Write(head, p)
	}
	f.segs = f.segs[:0]
	if large && len(head) > 0 {
		f.segs = append(f.segs, head, p)
	} else if large {
		f.segs = append(f.segs, p)
	} else {
		f.joined = append(append(f.joined[:0], head...), p...)
		f.segs = append(f.segs, f.joined)
	}
	n, want, errno := f.writeSegs(nbFD(&c.nb))
	l.count.sends++
	res := result(n, errno)
	switch {
	case int(res) == want:
		l.count.bytesOut += uint64(n)
		return 0, nil
	case res < 0 && !retryable(res):
		c.Cut(ReasonWriteError)
		return 0, ErrClosed
	}
	n = max(0, int(res))
	l.count.bytesOut += uint64(n)
	rest := append(bytes.Clone(head[min(n, len(head)):]), p[max(0, n-len(head)):]...)
	c.nb.Lock()
	if c.guarded&isClosed != 0 {
		c.nb.Unlock()
		return 0, ErrClosed
	}
	// Others may have queued frames or finished the connection meanwhile; they
	// must not end up in the middle of this one.
	q := c.queue()
	q.shareFirst(rest)
	return c.queued(q.pending), nil
}

// FinishNow is Conn.Finish for the loop's goroutine: what is pending is written at
// once and, if all of it went out, our side is shut down without a further pass.
func (l *Loop) FinishNow(c *Conn, r Reason) {
	c.nb.Lock()
	pending := c.out != nil
	if c.reason == ReasonNone {
		c.reason = r
	}
	c.guarded |= isFinish
	c.nb.Unlock()
	if pending && !l.sealed && c.own&(ownBlocked|ownInBatch|ownGone) == 0 {
		l.flusher.write(c)
	}
	c.nb.Lock()
	pending = c.out != nil
	c.nb.Unlock()
	if pending || l.sealed || c.own&ownInBatch != 0 {
		c.Finish(r)
		return
	}
	l.finish(c)
}

// finish shuts our side down after the last write.
func (l *Loop) finish(c *Conn) {
	if c.own&(ownLinger|ownGone) != 0 {
		return
	}
	if c.own&ownTLS != 0 && !l.notify(c) {
		return
	}
	if c.own&ownEOF != 0 || unix.Shutdown(nbFD(&c.nb), unix.SHUT_WR) != nil {
		l.close(c, ReasonNone)
		return
	}
	c.own |= ownLinger | ownEnding
	c.own &^= ownPaused
	l.setDue(c, l.poller.lingerTicks)
	if l.reading != c { // else the read that is under way goes on
		l.later(c) // input that was left unread is thrown away
	}
}
