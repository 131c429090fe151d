package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	scriptTimeout = 10 * time.Second  // for a scripted case
	bulkTimeout   = 120 * time.Second // for cases 9, 12 and 13
	dropTimeout   = 3 * time.Second   // for the server to end TCP after the closing handshake
	seenLimit     = 20                // events kept for the report
)

// session plays one case on one connection.
type session struct {
	c        Case
	p        *peer
	received []event
	seen     []string
	deadline time.Time
	pongs    []byte // owed while the script is inside a pause, perhaps inside a frame
	pausing  bool

	closedByClient bool // our close frame came first, or we gave up
	serverClose    int  // code of the server's close frame, noCode when it had none, 0 before
	serverClosed   bool
	dropped        bool // we had to end TCP
	end            error
	fault          string // why the case cannot be OK, whatever was received
}

// Run plays c against the echo server at url (ws://host:port/path).
// It returns when the connection has ended, at most after some two minutes.
func Run(ctx context.Context, url string, c Case) Result {
	return run(ctx, url, c, scriptTimeout)
}

func run(ctx context.Context, url string, c Case, timeout time.Duration) Result {
	began := time.Now()
	if c.bulk != nil {
		own := *c.bulk // the run's compression state goes in here
		c.bulk, timeout = &own, max(timeout, bulkTimeout)
	}
	s := &session{c: c, deadline: began.Add(timeout)}
	class := Failed
	if err := s.open(ctx, url, timeout); err != nil {
		s.fault = err.Error()
	} else {
		defer s.p.close()
		stop := context.AfterFunc(ctx, s.p.close)
		defer stop()
		if c.bulk != nil {
			class = s.playBulk()
		} else {
			s.play()
			class = s.behavior()
		}
	}
	r := Result{Case: c, Behavior: class, Seen: s.seen, Took: time.Since(began)}
	s.judge(&r)
	return r
}

func (s *session) open(ctx context.Context, url string, timeout time.Duration) error {
	t, err := parseTarget(url)
	if err != nil {
		return err
	}
	if s.p, err = dial(ctx, t, timeout+dropTimeout); err != nil {
		return err
	}
	var extra, offers []string
	if s.c.bulk != nil && len(s.c.bulk.offers) > 0 {
		offers = s.c.bulk.offers
		extra = []string{"Sec-WebSocket-Extensions: " + strings.Join(offers, ", ")}
	}
	extensions, err := s.p.upgrade(t.head(extra...))
	if err == nil {
		var terms deflateTerms
		if terms, s.p.deflate, err = parseTerms(extensions, offers); err == nil && s.p.deflate {
			err = s.c.bulk.agree(terms)
		}
	}
	if err != nil {
		s.p.close()
		return err
	}
	s.p.start()
	return nil
}

// play runs the script and then waits for the connection's end.
func (s *session) play() {
	for _, step := range s.c.steps {
		if s.end != nil || s.serverClosed {
			break
		}
		if step.pause > 0 {
			s.pause(step)
			continue
		}
		if step.closes {
			s.closedByClient = true
		}
		// A failed write means the server has left; what it said before
		// that is still to be read.
		if err := s.p.send(step.data, step.chop); err != nil {
			break
		}
	}
	s.finish()
}

func (s *session) pause(step step) {
	s.pausing = true
	defer func() { s.pausing = false }()
	over := time.Now().Add(step.pause)
	for s.end == nil && !s.serverClosed {
		ev, ok := s.p.next(time.Until(over))
		if !ok {
			s.record(event{op: opPause, payload: []byte(step.label)})
			return
		}
		s.absorb(ev)
	}
}

// finish takes what comes until TCP ends, and ends it when the server does not.
func (s *session) finish() {
	s.sendPongs()
	for s.end == nil {
		until := s.deadline
		if s.serverClosed {
			until = time.Now().Add(dropTimeout)
		}
		ev, ok := s.p.next(time.Until(until))
		if !ok {
			s.giveUp()
			return
		}
		s.absorb(ev)
	}
}

func (s *session) giveUp() {
	s.dropped = true
	if !s.serverClosed {
		s.closedByClient = true
	}
	s.note("(nothing more; dropped by the client)")
	s.p.close()
}

// absorb takes one event and answers what the protocol wants answered.
func (s *session) absorb(ev event) {
	switch {
	case ev.err != nil:
		s.note(ev.String())
		s.end = ev.err
		if errors.Is(ev.err, errViolation) {
			s.fault = ev.err.Error()
			s.closedByClient = true
		}
	case s.serverClosed:
		s.fault = "a frame after the server's close frame: " + ev.String()
		s.note(ev.String())
	case ev.op == opClose:
		s.note(ev.String())
		s.serverClosed, s.serverClose = true, ev.code
		if !s.closedByClient {
			var body []byte
			if ev.code != noCode {
				body = closeBody(uint16(ev.code), "")
			}
			// A server that has already left needs no answer.
			_ = s.p.send(frame{op: opClose, payload: body}.append(nil), 0)
		}
	case ev.op == opPing:
		s.note(ev.String())
		s.pongs = frame{op: opPong, payload: ev.payload}.append(s.pongs)
		if !s.pausing {
			s.sendPongs()
		}
	default:
		s.record(ev)
		if s.c.closing.byClient && !s.c.keepOpen && !s.closedByClient && s.matches(s.c.ok) {
			s.sendClose()
		}
	}
}

func (s *session) sendPongs() {
	_ = s.p.send(s.pongs, 0) // a failed write is followed by the event that says why
	s.pongs = nil
}

func (s *session) sendClose() {
	s.closedByClient = true
	_ = s.p.send(frame{op: opClose, payload: closeBody(s.c.closing.codes[0], "")}.append(nil), 0)
}

func (s *session) record(ev event) {
	s.received = append(s.received, ev)
	if ev.op == opPause {
		s.note("pause " + string(ev.payload) + " ran out")
		return
	}
	s.note(ev.String())
}

func (s *session) note(what string) {
	if len(s.seen) < seenLimit {
		s.seen = append(s.seen, what)
	}
}

func (s *session) matches(want []event) bool {
	if len(s.received) != len(want) {
		return false
	}
	for i := range want {
		if !sameEvent(s.received[i], want[i]) {
			return false
		}
	}
	return true
}

func (s *session) behavior() Class {
	switch {
	case s.fault != "":
		return Failed
	case s.matches(s.c.ok):
		return OK
	case s.c.loose && s.matches(s.c.nonStrict):
		return NonStrict
	}
	return Failed
}

// judge decides on the close and says why, in the order Autobahn does.
func (s *session) judge(r *Result) {
	want := s.c.closing
	allowed := s.serverClose == 0 || s.serverClose == noCode
	for _, code := range want.codes {
		allowed = allowed || s.serverClose == int(code)
	}
	switch {
	case s.p == nil:
		r.Close, r.Why = Failed, "never open"
	case want.byClient != s.closedByClient:
		r.Close, r.Why = Failed, "the connection was closed by the wrong end"
	case want.clean && !s.serverClosed:
		r.Close, r.Why = Unclean, "TCP ended without the server's close frame"
	case !allowed:
		r.Close, r.Why = WrongCode, fmt.Sprintf("close code %d, not one of %v", s.serverClose, want.codes)
		if want.decides {
			r.Behavior = Failed
		}
	case s.dropped:
		r.Close, r.Why = FailedByClient, "the server did not end the TCP connection"
	default:
		r.Close = OK
	}
	if s.fault != "" {
		r.Why = strings.TrimSpace(s.fault + "; " + r.Why)
	} else if r.Behavior == Failed && r.Why == "" {
		r.Why = "what was received is no expected outcome"
	}
	if s.c.informational && s.p != nil {
		r.Behavior, r.Close = Informational, Informational
	}
}
