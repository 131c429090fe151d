package backend

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"roost/gateway"
	"roost/proto/client"
)

// told is what only events have that a backend is told after the fact.
type told struct {
	id       string
	time     int64 // Unix milliseconds
	code     uint32
	reason   string
	channel  string
	channels []string
}

const toldNames = 96 // bytes for all that is not a text

func (t *told) size() int {
	n := toldNames + len(t.id) + len(t.reason) + len(t.channel)
	for _, ch := range t.channels {
		n += len(ch) + len(`"",`)
	}
	return n
}

func (t *told) append(b []byte) []byte {
	b = appendString(append(b, `,"id":`...), t.id)
	b = strconv.AppendInt(append(b, `,"time":`...), t.time, 10)
	if t.channel != "" {
		b = appendString(append(b, `,"channel":`...), t.channel)
	}
	b = strconv.AppendUint(append(b, `,"code":`...), uint64(t.code), 10)
	b = appendString(append(b, `,"reason":`...), t.reason)
	for i, ch := range t.channels {
		if i == 0 {
			b = append(b, `,"channels":[`...)
		} else {
			b = append(b, ',')
		}
		b = appendString(b, ch)
	}
	if len(t.channels) > 0 {
		b = append(b, ']')
	}
	return b
}

// disconnect implements gateway.Handlers.Disconnect.
func (s *Set) disconnect(ctx context.Context, e gateway.DisconnectEvent) error {
	t := &told{id: e.ID, time: e.Time, code: e.Code, reason: e.Reason, channels: e.Channels}
	return s.tell(ctx, s.opts.Disconnect, &request{event: eventDisconnect, peer: &e.Peer, again: true, told: t})
}

// unsubscribe implements gateway.Handlers.Unsubscribe.
func (s *Set) unsubscribe(ctx context.Context, e gateway.UnsubscribeEvent) error {
	t := &told{id: e.ID, time: e.Time, code: e.Code, reason: e.Reason, channel: e.Channel}
	return s.tell(ctx, s.opts.Unsubscribe, &request{event: eventUnsubscribe, peer: &e.Peer, again: true, told: t})
}

// tell brings an event to a backend. What the backend did not say itself is temporary:
// the event comes again.
func (s *Set) tell(ctx context.Context, name string, q *request) error {
	o, err := s.try(ctx, s.endpoints[name], q, func([]byte) error { return nil })
	if err != nil && o != outcomeError && o != outcomeDisconnect {
		return client.ErrInternal
	}
	return err
}

func (c Config) eventProblems() (all []error) {
	for _, e := range []struct{ event, backend string }{{"disconnect", c.Disconnect}, {"unsubscribe", c.Unsubscribe}} {
		if e.backend == "" {
			continue
		}
		if err := c.known(e.backend); err != nil {
			all = append(all, fmt.Errorf("%s: %w", e.event, err))
		}
	}
	for _, err := range c.Events.Problems() {
		all = append(all, fmt.Errorf("events: %w", err))
	}
	if c.Events != (gateway.EventOptions{}) && c.Disconnect == "" && c.Unsubscribe == "" {
		all = append(all, errors.New("events: neither disconnect nor unsubscribe names a backend, so there are none"))
	}
	return all
}
