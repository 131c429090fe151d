package conformance

import (
	"bytes"
	"fmt"
	"time"
)

// bulk is a case of many or large messages, each sent when the one before has
// come back.
type bulk struct {
	op       byte
	length   int    // bytes per message
	count    int    // messages
	pattern  []byte // repeated to length; or, with deflate, a corpus walked through cyclically
	fragment int    // bytes per frame, 0: one frame
	chop     int    // bytes per write, 0: one write per message
	offers   []string

	deflater *deflater
	inflater *inflater
}

// agree prepares compression as negotiated, for the one run b belongs to.
func (b *bulk) agree(terms deflateTerms) (err error) {
	b.inflater = newInflater(terms)
	b.deflater, err = newDeflater(terms)
	return err
}

// payload is message number i. The result is new or shared, never changed.
func (b *bulk) payload(i int) []byte {
	if len(b.pattern) == 0 || b.length == 0 {
		return nil
	}
	if len(b.offers) == 0 {
		return bytes.Repeat(b.pattern, b.length/len(b.pattern)+1)[:b.length]
	}
	from := i * b.length % len(b.pattern)
	if to := from + b.length; to <= len(b.pattern) {
		return b.pattern[from:to]
	}
	return append(append([]byte(nil), b.pattern[from:]...), b.pattern[:b.length-(len(b.pattern)-from)]...)
}

// appendMessage adds payload in frames of at most b.fragment bytes.
func (b *bulk) appendMessage(dst, payload []byte) []byte {
	size := b.fragment
	if size == 0 {
		size = max(len(payload), 1)
	}
	f := frame{op: b.op}
	if b.deflater != nil {
		f.rsv = rsv1
	}
	for {
		n := min(size, len(payload))
		f.payload, f.more = payload[:n], n < len(payload)
		dst = f.append(dst)
		payload = payload[n:]
		if !f.more {
			return dst
		}
		f.op, f.rsv = opContinuation, 0
	}
}

// echo is a message as sent and as it came back. Where neither side keeps its
// window between messages, the same bytes again need no second look.
type echo struct{ sent, got []byte }

func (s *session) playBulk() Class {
	b := s.c.bulk
	if len(b.offers) > 0 && b.deflater == nil {
		s.fault = "the server declined permessage-deflate"
		s.sendClose()
		s.finish()
		return Unimplemented
	}
	known := map[int]*echo{} // by offset into the corpus
	var wire []byte
	for i := range b.count {
		plain := b.payload(i)
		slot := known[i*b.length%max(len(b.pattern), 1)]
		if slot == nil {
			slot = &echo{}
			known[i*b.length%max(len(b.pattern), 1)] = slot
		}
		out, err := b.packed(plain, slot)
		if err != nil {
			s.fault = err.Error()
			break
		}
		wire = b.appendMessage(wire[:0], out)
		if err := s.p.send(wire, b.chop); err != nil {
			s.fault = fmt.Sprintf("send message %d of %d: %v", i+1, b.count, err)
			break
		}
		if !s.takeEcho(plain, slot, i) {
			break
		}
	}
	if s.end == nil && !s.serverClosed {
		s.sendClose()
	}
	s.finish()
	if s.fault != "" {
		return Failed
	}
	return OK
}

func (b *bulk) packed(plain []byte, slot *echo) ([]byte, error) {
	if b.deflater == nil {
		return plain, nil
	}
	if slot.sent != nil {
		return slot.sent, nil
	}
	out, err := b.deflater.deflate(plain)
	if err == nil && !b.deflater.takeover {
		slot.sent = bytes.Clone(out)
	}
	return out, err
}

// takeEcho waits for message i to come back as it was.
func (s *session) takeEcho(plain []byte, slot *echo, i int) bool {
	for s.end == nil {
		ev, ok := s.p.next(time.Until(s.deadline))
		if !ok {
			s.fault = fmt.Sprintf("no echo of message %d of %d in time", i+1, s.c.bulk.count)
			return false
		}
		if ev.err != nil || ev.op >= opClose {
			s.absorb(ev)
			if s.serverClosed {
				break
			}
			continue
		}
		if err := s.c.bulk.compare(ev, plain, slot); err != nil {
			s.fault = fmt.Sprintf("message %d of %d: %v", i+1, s.c.bulk.count, err)
			return false
		}
		s.p.release(ev.payload)
		return true
	}
	s.fault = fmt.Sprintf("the server left at message %d of %d", i+1, s.c.bulk.count)
	return false
}

func (b *bulk) compare(ev event, plain []byte, slot *echo) error {
	if ev.op != b.op {
		return fmt.Errorf("conformance: echo is %s, not %s", opName(ev.op), opName(b.op))
	}
	got := ev.payload
	if ev.packed {
		if slot.got != nil && bytes.Equal(slot.got, got) {
			return nil
		}
		var err error
		if got, err = b.inflater.inflate(ev.payload); err != nil {
			return err
		}
		if b.inflater.terms.serverNoTakeover {
			slot.got = bytes.Clone(ev.payload)
		}
	}
	if !bytes.Equal(got, plain) {
		return fmt.Errorf("conformance: echo differs: %s instead of %s", preview(got), preview(plain))
	}
	return nil
}
