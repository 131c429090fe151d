package loadtest

import (
	"errors"
	"time"
)

// How sessions of clients lose their connections and come back.

// absence is a session without a connection.
type absence struct {
	due     int64 // Unix ns
	session uint32
}

// The delays after which sessions try again whose return has failed, as those of centrifuge-js.
const (
	minRetry = 500 * time.Millisecond
	maxRetry = 20 * time.Second
)

func (x *clients) gone(c *client, lost bool) {
	s := &x.sessions[c.session]
	s.open = false
	if p := x.w.phase; lost || x.w.Scenario != Reconnect || p < measuring || p >= finished {
		return
	}
	s.cut = x.w.now
	x.leave(c.session, x.w.Away)
}

// leave has a session come back after a time.
func (x *clients) leave(s uint32, after time.Duration) {
	x.away, x.first = append(x.away, absence{x.w.now + int64(after), s}), 0
}

// random returns a duration below limit.
func (x *clients) random(limit time.Duration) time.Duration {
	return time.Duration(x.w.draw() % uint64(max(limit, 1)))
}

// failed has a session that wanted to come back try again: as SDKs do, and not before the server wants it.
func (x *clients) failed(c *client, cause error) (expected bool) {
	s := c.session
	if c.state != stateJoining { // it had no session yet
		if len(x.back) == 0 {
			return false
		}
		s, x.back = x.back[0], x.back[1:]
	} else if !x.sessions[s].known {
		return false
	}
	tries := &x.sessions[s].tries
	wait := min(maxRetry, minRetry+x.random(min(maxRetry, minRetry<<*tries)))
	*tries = min(*tries+1, 10)
	var later *unavailable
	if expected = errors.As(cause, &later); expected {
		x.w.stats.PutOff++
		wait = max(wait, later.after+x.random(time.Second)) // it is told in whole seconds
	}
	x.leave(s, wait)
	return expected
}

// cut ends an open session's connection without a word.
func (x *clients) cut(s uint32) {
	if x.sessions[s].open {
		x.w.stats.Cuts++
		x.w.cut(&x.w.clients[x.sessions[s].slot])
	}
}

// due cuts sessions at random and brings back those that have been away for long enough.
func (x *clients) due() (next int64) {
	w := x.w
	if w.Scenario != Reconnect || w.phase < measuring || w.phase >= finished {
		return 0
	}
	if w.Churn > 0 && w.phase == measuring {
		goal := int64(w.Churn * time.Duration(w.now-x.start).Seconds())
		for ; x.churns < goal; x.churns++ {
			x.cut(uint32(w.draw() % uint64(len(x.sessions))))
		}
		next = w.now + int64(time.Second/100)
	}
	if x.first <= w.now && x.bringBack() {
		next = earlier(next, w.now) // their connects are due
	}
	if len(x.away) > 0 {
		next = earlier(next, x.first)
	}
	return next
}

// bringBack has those come back whose time it is. It reports whether there are any.
func (x *clients) bringBack() (some bool) {
	kept := x.away[:0]
	x.first = 0
	for _, a := range x.away {
		if a.due <= x.w.now {
			x.back = append(x.back, a.session)
			x.w.wanted++
			some = true
			continue
		}
		kept = append(kept, a)
		x.first = earlier(x.first, a.due)
	}
	x.away = kept
	return some
}
