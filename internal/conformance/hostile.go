package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// attack is one hostile case. It says in its error what the client saw.
type attack struct {
	name string
	do   func(h *hostile) error
	off  string // why the options leave it out; "" when they do not
}

// hostile is what an attack works with.
type hostile struct {
	target  target
	o       Options
	timeout time.Duration
}

// Outcomes of RunHostile, counted in Counts.
const (
	Passed  Class = "PASSED"
	Skipped Class = "SKIPPED"
)

// RunHostile sends the server at url what no honest client sends, and reports
// each answer that is not the exact status or close code expected, each
// connection left open, and each time a bystander on the same server was
// disturbed. It must be called from the test's goroutine.
//
// Cases that weigh on the whole server (aborts, floods, memory) run after the
// others, one at a time.
func RunHostile(t testing.TB, url string, o Options) Counts {
	t.Helper()
	o = o.withDefaults()
	target, err := parseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{target: target, o: o, timeout: o.Timeout}
	by, err := h.newBystander()
	if err != nil {
		t.Fatalf("bystander: %v", err)
	}
	defer by.close()
	began := time.Now()
	counts := Counts{}
	play := func(attacks []attack, width int) {
		attacks = slices.DeleteFunc(attacks, func(a attack) bool { return !o.selects(a.name) })
		errs := make([]error, len(attacks))
		inParallel(width, len(attacks), func(i int) {
			if attacks[i].off == "" {
				errs[i] = errors.Join(h.watched(attacks[i], width == 1), by.check(attacks[i].name))
			}
		})
		for i, a := range attacks {
			switch {
			case a.off != "":
				counts[Skipped]++
				t.Logf("%s left out: %s", a.name, a.off)
			case errs[i] != nil:
				counts[Failed]++
				t.Errorf("%s: %v", a.name, errs[i])
			default:
				counts[Passed]++
			}
		}
	}
	play(h.attacks(), o.Parallel)
	play(h.heavyAttacks(), 1)
	t.Logf("hostile: %d cases in %v: %v", counts[Passed]+counts[Failed]+counts[Skipped],
		time.Since(began).Round(time.Millisecond), counts)
	return counts
}

func (h *hostile) attacks() []attack {
	return slices.Concat(h.frameAttacks(), h.textAttacks(), h.limitAttacks(), h.closeAttacks(), h.deflateAttacks(),
		h.headAttacks(), h.slowHeadAttacks(), h.streamAttacks())
}

// watched runs the attack and, when it runs alone, holds the server's memory
// to its bound while it does.
func (h *hostile) watched(a attack, alone bool) error {
	if !alone || h.o.Memory == nil {
		return a.do(h)
	}
	before, err := h.o.Memory()
	if err != nil {
		return fmt.Errorf("conformance: read memory: %w", err)
	}
	done, peak := make(chan struct{}), make(chan int64)
	go func() {
		top := before
		for {
			if now, err := h.o.Memory(); err == nil {
				top = max(top, now)
			}
			select {
			case <-done:
				peak <- top
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	err = a.do(h)
	close(done)
	if grown := <-peak - before; grown > h.o.MemoryBound {
		err = errors.Join(err, fmt.Errorf("the server grew by %d KiB, bound %d KiB", grown>>10, h.o.MemoryBound>>10))
	}
	return err
}

// bystander is a connection that behaves, next to those that do not.
type bystander struct {
	p    *peer
	wait time.Duration
	turn sync.Mutex // one check at a time

	writing sync.Mutex
	got     chan event // all but pings, which are answered as they come
}

func (h *hostile) newBystander() (*bystander, error) {
	p, err := h.open()
	if err != nil {
		return nil, err
	}
	b := &bystander{p: p, wait: h.timeout, got: make(chan event, 1)}
	go func() {
		defer close(b.got)
		for ev := range p.events {
			if ev.op == opPing {
				// A failed write is followed by the event that says why.
				_ = b.send(frame{op: opPong, payload: ev.payload})
				continue
			}
			b.got <- ev
		}
	}()
	// It lives as long as the suite and has no deadline of its own.
	return b, p.conn.SetDeadline(time.Time{})
}

func (b *bystander) close() { b.p.close() }

func (b *bystander) send(f frame) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	return b.p.send(f.append(nil), 0)
}

// check sends a message and wants it back.
func (b *bystander) check(message string) error {
	b.turn.Lock()
	defer b.turn.Unlock()
	if err := b.send(text(message)); err != nil {
		return fmt.Errorf("bystander: %w", err)
	}
	select {
	case got := <-b.got:
		if !sameEvent(got, gotText(message)) {
			return fmt.Errorf("bystander: saw %v, expected its message back", got)
		}
		return nil
	case <-time.After(b.wait):
		return fmt.Errorf("bystander: no echo within %v", b.wait)
	}
}

// open makes an upgraded connection; extra lines go into the head.
func (h *hostile) open(extra ...string) (*peer, error) {
	p, err := h.dial()
	if err != nil {
		return nil, err
	}
	if _, err := p.upgrade(h.target.head(extra...)); err != nil {
		p.close()
		return nil, err
	}
	p.start()
	return p, nil
}

func (h *hostile) dial() (*peer, error) { return dial(context.Background(), h.target, h.timeout) }

// expect wants exactly these events next; pings are answered and passed over.
func (p *peer) expect(wait time.Duration, want ...event) error {
	for _, w := range want {
		got, ok := p.nextButPing(wait)
		switch {
		case !ok:
			return fmt.Errorf("nothing, expected %v", w)
		case got.err != nil || !sameEvent(got, w):
			return fmt.Errorf("saw %v, expected %v", got, w)
		}
	}
	return nil
}

// nextButPing is next, but answers pings and passes over them.
func (p *peer) nextButPing(wait time.Duration) (event, bool) {
	ev, ok := p.next(wait)
	for ok && ev.op == opPing {
		// A failed write is followed by the event that says why.
		_ = p.send(frame{op: opPong, payload: ev.payload}.append(nil), 0)
		ev, ok = p.next(wait)
	}
	return ev, ok
}

// expectClose wants a close frame with one of the codes, no data before it, and
// then the end of TCP, without the client's answer when silent.
func (p *peer) expectClose(wait time.Duration, silent bool, codes ...int) error {
	ev, ok := p.next(wait)
	for ok && ev.op == opPing { // unanswered: the last frame sent may be half a one
		ev, ok = p.next(wait)
	}
	switch {
	case !ok:
		return fmt.Errorf("no close within %v, expected %v", wait, codes)
	case ev.op != opClose:
		return fmt.Errorf("saw %v, expected close %v", ev, codes)
	case !slices.Contains(codes, ev.code):
		return fmt.Errorf("saw %v, expected close %v", ev, codes)
	}
	if !silent {
		_ = p.send(frame{op: opClose, payload: closeBody(1000, "")}.append(nil), 0)
	}
	return p.expectEnd(wait)
}

// expectEnd wants TCP to end, and nothing before.
func (p *peer) expectEnd(wait time.Duration) error {
	ev, ok := p.next(wait)
	switch {
	case !ok:
		return fmt.Errorf("TCP still open after %v", wait)
	case ev.err == nil:
		return fmt.Errorf("saw %v, expected the end of TCP", ev)
	}
	return expectFIN(ev.err)
}

// refused is an attack on a fresh connection that must be answered with a close
// frame, nothing before it, and the end of TCP. The bytes need not end a frame.
func refused(name string, codes []int, bytes ...[]byte) attack {
	return attack{name: name, do: func(h *hostile) error {
		p, err := h.open()
		if err != nil {
			return err
		}
		defer p.close()
		if err := p.send(slices.Concat(bytes...), 0); err != nil {
			return err
		}
		return p.expectClose(h.timeout, false, codes...)
	}}
}

// answered is an attack by a request head, which must be answered with the
// status and the end of TCP.
func (h *hostile) answered(name, head string, statuses ...int) attack {
	return attack{name: name, do: func(h *hostile) error {
		p, err := h.dial()
		if err != nil {
			return err
		}
		defer p.close()
		if _, err := io.WriteString(p.conn, head); err != nil {
			return err
		}
		_, err = p.expectStatus(statuses...)
		return err
	}}
}

// expectStatus reads a whole response that refuses, and the FIN after it.
func (p *peer) expectStatus(statuses ...int) (*http.Response, error) {
	res, err := p.response()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(statuses, res.StatusCode) {
		return nil, fmt.Errorf("status %s, expected %v", res.Status, statuses)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("read body of status %d: %w", res.StatusCode, err)
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	_, err = p.reader.ReadByte()
	if err == nil {
		return nil, errors.New("saw more than the response, expected the end of TCP")
	}
	return res, expectFIN(err)
}

// expectFIN wants TCP to end with FIN. RST would say that the server closed the
// socket on unread input; on most systems that costs the client what it has not
// read yet, the last frame or the response (RFC 6455 §7.1.1, RFC 9112 §9.6).
func expectFIN(end error) error {
	if errors.Is(end, io.EOF) {
		return nil
	}
	return fmt.Errorf("saw %w, expected FIN", end)
}

// headWith is a right head in which the line that begins with prefix is
// replaced by lines; none takes it out.
func (t target) headWith(prefix string, lines ...string) string {
	var out []string
	for _, line := range strings.Split(strings.TrimSuffix(t.head(), "\r\n\r\n"), "\r\n") {
		if strings.HasPrefix(line, prefix) {
			out = append(out, lines...)
			continue
		}
		out = append(out, line)
	}
	return strings.Join(out, "\r\n") + "\r\n\r\n"
}
