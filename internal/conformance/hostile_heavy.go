package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"time"

	"github.com/klauspost/compress/flate"
)

const deflateOffer = "Sec-WebSocket-Extensions: permessage-deflate"

// deflateAttacks are compressed messages that are none, or far too much.
func (h *hostile) deflateAttacks() []attack {
	packed := func(op byte, more bool, b []byte) []byte {
		return frame{op: op, more: more, rsv: rsv1, payload: b}.append(nil)
	}
	invalid := []int{1002, 1007} // RFC 7692 names no code for what cannot be inflated
	hello := deflated([]byte("hello, hello, hello"))
	var list []attack
	refuse := func(name string, codes []int, bytes ...[]byte) {
		list = append(list, attack{name: "deflate/" + name, do: func(h *hostile) error {
			return h.deflateRefused(slices.Concat(bytes...), codes)
		}})
	}
	refuse("garbage", invalid, packed(opBinary, false, bytes.Repeat([]byte{0xFF}, 64)))
	refuse("ends inside a block", invalid, packed(opBinary, false, hello[:len(hello)/2]))
	refuse("a reference to before the message", invalid, packed(opBinary, false, []byte{0x02, 0x02, 0x00}))
	refuse("text that is not UTF-8", badPayload, packed(opText, false, deflated([]byte("caf\xc3("))))
	refuse("rsv1 on a continuation", protocolError, packed(opBinary, true, hello), begun(opContinuation, true, rsv1, 3))
	refuse("rsv1 on a ping", protocolError, begun(opPing, true, rsv1, 3))
	refuse("rsv2", protocolError, begun(opText, true, rsv2, 3))
	// Zeros shrink a thousandfold: the frames are well below the limit.
	bombs := []attack{
		{name: "deflate/bomb", do: func(h *hostile) error {
			return h.deflateRefused(packed(opBinary, false, deflated(make([]byte, 4*h.o.MaxMessage))), tooBig)
		}},
		{name: "deflate/bomb in fragments", do: func(h *hostile) error {
			bomb := deflated(make([]byte, 4*h.o.MaxMessage))
			return h.deflateRefused(slices.Concat(packed(opBinary, true, bomb[:len(bomb)/2]),
				part(opContinuation, false, string(bomb[len(bomb)/2:])).append(nil)), tooBig)
		}},
	}
	for _, bomb := range bombs {
		if h.o.MaxMessage == 0 {
			bomb.off = "Options.MaxMessage is not set"
		}
		list = append(list, bomb)
	}
	list = append(list,
		attack{name: "deflate/last block marked as such", do: func(h *hostile) error {
			var b bytes.Buffer
			w, err := flate.NewWriter(&b, flate.BestSpeed)
			if err != nil {
				return err
			}
			if _, err := w.Write([]byte("final")); err != nil {
				return err
			}
			// RFC 7692 §7.2.3.4: BFINAL may be set; a zero byte ends it.
			if err := w.Close(); err != nil {
				return err
			}
			return h.deflatedEcho(deflateOffer, packed(opText, false, append(b.Bytes(), 0)), "final")
		}},
		attack{name: "deflate/stored block", do: func(h *hostile) error {
			return h.deflatedEcho(deflateOffer, packed(opText, false, []byte{0, 6, 0, 0xF9, 0xFF, 's', 't', 'o', 'r', 'e', 'd', 0}), "stored")
		}},
		attack{name: "deflate/a window of 512 bytes, kept or declined", do: (*hostile).smallWindow})
	for i := range list {
		if !h.o.Deflate {
			list[i].off = "Options.Deflate is not set"
		}
	}
	return list
}

// deflateRefused wants a close frame in answer to b, with compression agreed on.
func (h *hostile) deflateRefused(b []byte, codes []int) error {
	p, err := h.open(deflateOffer)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.send(b, 0); err != nil {
		return err
	}
	return p.expectClose(h.timeout, false, codes...)
}

// deflated is payload compressed by itself, as a message's payload.
func deflated(payload []byte) []byte {
	d, err := newDeflater(deflateTerms{clientNoTakeover: true, clientBits: maxWindowBits})
	if err != nil {
		panic(err) // the level is a constant
	}
	out, err := d.deflate(payload)
	if err != nil {
		panic(err) // it writes to memory
	}
	return bytes.Clone(out)
}

// deflatedEcho sends the frame and wants the text back, compressed or not.
func (h *hostile) deflatedEcho(offer string, b []byte, want string) error {
	p, err := h.dial()
	if err != nil {
		return err
	}
	defer p.close()
	extensions, err := p.upgrade(h.target.head(offer))
	if err != nil {
		return err
	}
	terms, ok, err := parseTerms(extensions, []string{offer})
	if err != nil || !ok {
		return fmt.Errorf("permessage-deflate declined: %w", err)
	}
	p.deflate = true
	p.start()
	return p.inflatedEcho(h.timeout, terms, b, want)
}

func (p *peer) inflatedEcho(wait time.Duration, terms deflateTerms, b []byte, want string) error {
	if err := p.send(b, 0); err != nil {
		return err
	}
	ev, ok := p.nextButPing(wait)
	if !ok || ev.op != opText {
		return fmt.Errorf("saw %v, expected a text", ev)
	}
	got := ev.payload
	if ev.packed {
		var err error
		if got, err = newInflater(terms).inflate(ev.payload); err != nil {
			return err
		}
	}
	if string(got) != want {
		return fmt.Errorf("saw text %s, expected %s", preview(got), preview([]byte(want)))
	}
	return nil
}

// smallWindow offers only what a server must either decline or keep
// (RFC 7692 §7.1.2.1).
func (h *hostile) smallWindow() error {
	p, err := h.dial()
	if err != nil {
		return err
	}
	defer p.close()
	extensions, err := p.upgrade(h.target.head(deflateOffer + "; server_max_window_bits=9"))
	if err != nil {
		return err
	}
	terms, ok, err := parseTerms(extensions, []string{deflateOffer})
	if err != nil || !ok {
		return err // declined is right
	}
	if terms.serverBits > 9 {
		return fmt.Errorf("accepted the offer of a window of 9 bits with %q", extensions)
	}
	p.deflate = true
	p.start()
	text, _, _, _, _ := corpora()
	if size := h.o.MaxMessage; size > 0 {
		text = text[:min(int64(len(text)), size)]
	}
	b := frame{op: opText, rsv: rsv1, payload: deflated(text)}.append(nil)
	return p.inflatedEcho(h.timeout, terms, b, string(text))
}

// heavyAttacks weigh on the whole server; memory is watched while they run.
func (h *hostile) heavyAttacks() []attack {
	half := h.target.head()[:60]
	list := []attack{
		{name: "heavy/reset before a byte", do: func(h *hostile) error { return h.aborts("") }},
		{name: "heavy/reset inside the head", do: func(h *hostile) error { return h.aborts(half) }},
		{name: "heavy/reset right after the head", do: func(h *hostile) error { return h.aborts(h.target.head()) }},
		{name: "heavy/reset inside a frame", do: func(h *hostile) error {
			return h.aborts(h.target.head() + string(begun(opBinary, true, 0, 1000)) + "begun")
		}},
		{name: "heavy/ping flood that is read", do: (*hostile).pingFlood},
		{name: "heavy/ping flood that is not read", do: func(h *hostile) error {
			return h.unread(bytes.Repeat(frame{op: opPing, payload: make([]byte, 125)}.append(nil), 500))
		}},
		{name: "heavy/echoes that are not read", do: func(h *hostile) error {
			return h.unread(bytes.Repeat(frame{op: opBinary, payload: make([]byte, 4000)}.append(nil), 16))
		}},
		{name: "heavy/frames announced and not sent", do: (*hostile).announced},
		{name: "heavy/half a frame for ever", do: (*hostile).halfFrame},
	}
	last := &list[len(list)-1]
	if h.o.IdleDeadline == 0 {
		last.off = "Options.IdleDeadline is not set"
	}
	return list
}

// aborts makes Options.Aborts connections that send b and are reset.
func (h *hostile) aborts(b string) error {
	errs := make([]error, h.o.Aborts)
	inParallel(32, h.o.Aborts, func(i int) {
		p, err := h.dial()
		if err != nil {
			errs[i] = err
			return
		}
		_ = p.send([]byte(b), 0) // the server may be faster in ending it
		p.reset()
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the server took no more connections: %w", err)
	}
	return h.exchange(text("after the aborts").append(nil), 0, gotText("after the aborts"))
}

// pingFlood sends 20,000 pings at once and reads. RFC 6455 §5.5.3 lets a
// server answer only the latest of several; a server may also cut the flood
// with 1008. What it answers must be in order.
func (h *hostile) pingFlood() error {
	p, err := h.open()
	if err != nil {
		return err
	}
	defer p.close()
	const pings = 20000
	var flood []byte
	for i := range pings {
		flood = ping(fmt.Sprint(i)).append(flood)
	}
	sent := make(chan error, 1)
	go func() { sent <- p.send(flood, 64<<10) }()
	last := -1
	for last < pings-1 {
		ev, ok := p.next(h.timeout)
		switch {
		case ok && ev.op == opClose && ev.code == 1008:
			return nil
		case ok && ev.op == opPing: // the flood is sign of life enough
			continue
		}
		var number int
		if !ok || ev.op != opPong {
			return fmt.Errorf("saw %v after pong %d, expected pongs or close 1008", ev, last)
		}
		if _, err := fmt.Sscan(string(ev.payload), &number); err != nil || number <= last {
			return fmt.Errorf("pong %q after pong %d", ev.payload, last)
		}
		last = number
	}
	return <-sent
}

// unread sends block again and again without reading, until the server cuts the
// connection, lets no more in for a second, or has taken 256 MiB.
// What it must not do is to keep it all, which the memory bound shows.
func (h *hostile) unread(block []byte) error {
	p, err := h.dial()
	if err != nil {
		return err
	}
	defer p.reset()
	if _, err := p.upgrade(h.target.head()); err != nil {
		return err
	}
	for sent := 0; sent < 256<<20; sent += len(block) {
		if err := p.conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err := p.conn.Write(block); err != nil {
			var blocked net.Error
			if errors.As(err, &blocked) && blocked.Timeout() || ended(err) {
				return nil
			}
			return err
		}
	}
	return nil
}

// announced opens 200 connections with a header of the largest frame allowed
// and a little of its payload: the announcement alone must cost no memory.
func (h *hostile) announced() error {
	size := uint64(max(h.o.MaxMessage, math.MaxUint16))
	var peers []*peer
	defer func() {
		for _, p := range peers {
			p.reset()
		}
	}()
	for range 200 {
		p, err := h.open()
		if err != nil {
			return err
		}
		peers = append(peers, p)
		if err := p.send(append(begun(opBinary, true, 0, size), make([]byte, 1000)...), 0); err != nil {
			return err
		}
	}
	return h.exchange(text("meanwhile").append(nil), 0, gotText("meanwhile"))
}

// halfFrame begins a frame, never ends it and answers no ping: the server must
// cut it by its idle deadline.
func (h *hostile) halfFrame() error {
	p, err := h.open()
	if err != nil {
		return err
	}
	defer p.close()
	limit := h.o.IdleDeadline + h.timeout
	if err := p.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if err := p.send(append(begun(opBinary, true, 0, 1000), "half"...), 0); err != nil {
		return err
	}
	for {
		ev, ok := p.next(limit)
		switch {
		case !ok || ev.err != nil && !ended(ev.err):
			return fmt.Errorf("still open after %v: %v", limit, ev)
		case ev.err != nil:
			return nil
		case ev.op != opPing && ev.op != opClose:
			return fmt.Errorf("saw %v, expected pings, a close or the end", ev)
		}
	}
}
