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

// Request is a message that others sent to a subject of a service.
type Request struct {
	Subject string
	Data    []byte // the service may keep it
	reply   func([]byte) error
}

// Reply answers; once. Without effect where nobody waits for an answer. Errors: ErrUnavailable, ErrTooLarge.
func (r *Request) Reply(data []byte) error {
	err := r.reply(data)
	if err == nil || errors.Is(err, nats.ErrMsgNoReply) {
		return nil
	}
	return unavailable("reply", err)
}

// Answer has f called with each message on a subject, one after the other: f must not block. Of those
// who answer with the same queue, if it is not empty, each message reaches one. When Answer returns,
// NATS knows of it, and after stop nothing more comes. From behind a Listener only such come whose answers
// do not go to subjects of brokers. Errors: ErrUnavailable.
func (b *Broker) Answer(subject, queue string, f func(*Request)) (stop func(), err error) {
	hear := func(m *nats.Msg) {
		if b.opts.Listen.Address != "" && Internal(b.opts.Prefix, m.Reply) {
			b.server.log.Errorf("a service asks on %s for an answer where it may not publish itself, and gets none: give its connection an inbox prefix below its own subject", m.Subject)
			return
		}
		f(&Request{m.Subject, m.Data, m.Respond})
	}
	var sub *nats.Subscription
	if queue == "" {
		sub, err = b.nc.Subscribe(subject, hear)
	} else {
		sub, err = b.nc.QueueSubscribe(subject, queue, hear)
	}
	if err == nil {
		err = errors.Join(sub.SetPendingLimits(-1, livePending), b.nc.FlushTimeout(requestTimeout))
	}
	if err != nil {
		return nil, unavailable("answer "+subject, err)
	}
	return func() {
		if err := sub.Unsubscribe(); err != nil && !b.closed.Load() && !errors.Is(err, nats.ErrConnectionClosed) {
			b.log.Warn("a service could not stop to listen", "subject", subject, "error", err)
		}
	}, nil
}

// Tell sends a message to all that listen on a subject, at most once. Errors: ErrUnavailable.
func (b *Broker) Tell(subject string, data []byte) error {
	if !b.nc.IsConnected() {
		return unavailable("tell", nats.ErrDisconnected)
	}
	if err := b.nc.Publish(subject, data); err != nil {
		return unavailable("tell", err)
	}
	return nil
}

// Prefix returns that of all subjects.
func (b *Broker) Prefix() string { return b.opts.Prefix }

// Alone tells whether NATS is embedded, so that there is no other process at it, unless Listen let it in.
func (b *Broker) Alone() bool { return b.server != nil }

// Generation goes up whenever messages from others may have been missed.
func (b *Broker) Generation() uint64 { return b.gen.Load() }
