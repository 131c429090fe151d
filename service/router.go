package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"roost/broker"
)

const (
	askTimeout = 2 * time.Second // of one try: above that the owner is taken for dead
	askPause   = 50 * time.Millisecond
)

// Router brings calls to whoever owns what they are about.
type Router struct {
	// Static.
	name   string
	b      *broker.Broker
	member *Member // of this process; nil if there is none
}

// NewRouter returns a router for a service. member is this process' instance, or nil.
func NewRouter(name string, b *broker.Broker, member *Member) *Router {
	return &Router{name: name, b: b, member: member}
}

// Do calls and returns the answer, which is JSON. It waits until ctx ends, which must have a deadline,
// while the object's owner is away. Errors are *Error. Any goroutine.
func (r *Router) Do(ctx context.Context, c *Call) ([]byte, error) {
	shard := ShardOf(c.Key)
	if r.member != nil && r.member.owns(shard) {
		return r.member.handle(ctx, c)
	}
	if r.b.Alone() {
		return nil, Unavailable
	}
	if c.ID == "" {
		c.ID = rand.Text() // or a second try might do it twice
	}
	body, err := c.encode()
	if err != nil {
		return nil, Errorf(codeInternal, "the call could not be encoded: %v", err)
	}
	for {
		answer, err := r.ask(ctx, shard, body)
		if err == nil {
			return decodeAnswer(answer)
		}
		if errors.Is(err, broker.ErrTooLarge) {
			return nil, Errorf(CodeTooLarge, "the call has %d bytes, more than NATS takes", len(body))
		}
		select {
		case <-time.After(askPause):
		case <-ctx.Done():
			return nil, Unavailable
		}
	}
}

func (r *Router) ask(ctx context.Context, shard int, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return r.b.Ask(ctx, ownerSubject(r.b, r.name, strconv.Itoa(shard)), body)
}

// ownerSubject is where the owner of a shard is asked.
func ownerSubject(b *broker.Broker, name, shard string) string {
	return fmt.Sprintf("%s.svc.%s.o.%s", b.Prefix(), name, shard)
}
