package loadtest

import (
	"math"
	"time"
)

// Pacer says when messages are to be sent. Latency is dated from Due, not from the moment the send happened,
// so that a stalled server cannot hide its delay by slowing the generator down ("coordinated omission": Gil
// Tene, wrk2; the two methods follow vegeta's pacer).
type Pacer interface {
	// Due is the intended time of message n (from 0), counted from the start.
	Due(n int64) time.Duration
	// Rate is the wanted messages per second at t after the start.
	Rate(t time.Duration) float64
}

// constantPacer spaces messages evenly. The unit is messages per second.
type constantPacer float64

func (p constantPacer) Due(n int64) time.Duration  { return seconds(float64(n) / float64(p)) }
func (p constantPacer) Rate(time.Duration) float64 { return float64(p) }

// rampPacer grows linearly from 0 to rate messages per second during ramp, then stays there.
type rampPacer struct {
	rate float64
	ramp time.Duration
}

// Due inverts the integral of Rate: n = rate·t²/(2·ramp) while growing.
func (p rampPacer) Due(n int64) time.Duration {
	ramp := p.ramp.Seconds()
	grown := p.rate * ramp / 2
	if float64(n) < grown {
		return seconds(math.Sqrt(2 * ramp * float64(n) / p.rate))
	}
	return seconds(ramp + (float64(n)-grown)/p.rate)
}

func (p rampPacer) Rate(t time.Duration) float64 {
	return p.rate * min(1, t.Seconds()/p.ramp.Seconds())
}

var _, _ Pacer = constantPacer(0), rampPacer{}

// newPacer returns nil for rate 0: closed loop.
func newPacer(rate float64, ramp time.Duration) Pacer {
	switch {
	case rate <= 0:
		return nil
	case ramp > 0:
		return rampPacer{rate, ramp}
	}
	return constantPacer(rate)
}

// seconds rounds up, so that a message is never due before its time; beyond the range of a Duration it is the
// largest one.
func seconds(s float64) time.Duration {
	ns := math.Ceil(s * 1e9)
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}
