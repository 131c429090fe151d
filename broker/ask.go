package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// noResponders says that nobody listens on a subject.
type noResponders string

func (s noResponders) Error() string {
	return fmt.Sprintf("broker: nobody listens on NATS subject %q", string(s))
}
func (noResponders) NoResponders() bool { return true }

// Ask sends a request to another service on a NATS subject, and returns its answer. It
// waits until ctx ends, which must have a deadline. Errors: ErrUnavailable, ErrTooLarge,
// ctx's, or one whose method NoResponders() bool says true: nobody listens.
func (b *Broker) Ask(ctx context.Context, subject string, data []byte) ([]byte, error) {
	switch {
	case b.closed.Load():
		return nil, unavailable("ask", ErrClosed)
	case !b.nc.IsConnected():
		return nil, unavailable("ask", nats.ErrDisconnected)
	}
	m, err := b.nc.RequestWithContext(ctx, subject, data)
	switch {
	case err == nil:
		return m.Data, nil
	case errors.Is(err, nats.ErrNoResponders):
		return nil, noResponders(subject)
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, ErrTooLarge
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, unavailable("ask", err)
}
