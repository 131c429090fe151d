package backend

import (
	"context"
	"errors"
	"fmt"

	"roost/gateway"
	"roost/internal/setting"
	"roost/proto/client"
)

// told are the fields of events that a backend is told of after the fact.
type told struct {
	ID       string   `json:"id"`
	Time     int64    `json:"time"` // Unix milliseconds
	Channel  string   `json:"channel,omitempty"`
	Code     uint32   `json:"code"`
	Reason   string   `json:"reason"`
	Channels []string `json:"channels,omitempty"`
}

// disconnect implements gateway.Handlers.Disconnect.
func (s *Set) disconnect(ctx context.Context, e gateway.DisconnectEvent) error {
	t := &told{ID: e.ID, Time: e.Time, Code: e.Code, Reason: e.Reason, Channels: e.Channels}
	return s.tell(ctx, s.opts.Disconnect, &request{event: eventDisconnect, peer: &e.Peer, again: true, fields: t})
}

// unsubscribe implements gateway.Handlers.Unsubscribe.
func (s *Set) unsubscribe(ctx context.Context, e gateway.UnsubscribeEvent) error {
	t := &told{ID: e.ID, Time: e.Time, Code: e.Code, Reason: e.Reason, Channel: e.Channel}
	return s.tell(ctx, s.opts.Unsubscribe, &request{event: eventUnsubscribe, peer: &e.Peer, again: true, fields: t})
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
	for _, err := range c.Events.Problems() {
		all = append(all, setting.At(fmt.Errorf("events: %w", err), "events"))
	}
	if c.Events != (gateway.EventOptions{}) && c.Disconnect == "" && c.Unsubscribe == "" {
		all = append(all, setting.At(errors.New("events: neither disconnect nor unsubscribe names a backend, so there are none"), "events"))
	}
	return all
}
