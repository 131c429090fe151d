package backend

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	queueFactor = 4                     // calls that may wait, for each that may be under way
	retryPause  = 50 * time.Millisecond // before the first retry; twice as long before each next
)

// asker brings one request to a backend and returns its answer. Errors are *fault.
type asker interface {
	ask(ctx context.Context, q *request, body []byte) (raw []byte, err error)
	// retries says whether the request may be sent again after err.
	retries(q *request, err error) bool
	close()
}

// endpoint is one backend.
type endpoint struct {
	// Static after construction.
	Endpoint
	name  string
	asker asker
	slots chan struct{} // holds an element for each call under way
	aside chan struct{} // and those of callAside have one in here, too

	// Used by all calls.
	waiting atomic.Int64
	calls   [events][outcomes]atomic.Uint64
	quiet   quiet
}

func newEndpoint(name string, e Endpoint, ask Asker) *endpoint {
	n := &endpoint{Endpoint: e, name: name, slots: make(chan struct{}, e.Concurrency), aside: make(chan struct{}, max(1, e.Concurrency/2))}
	if subject := e.Subject(); subject != "" {
		n.asker = &natsAsker{asker: ask, prefix: subject, limit: e.MaxAnswer}
	} else {
		n.asker = newHTTPAsker(e)
	}
	return n
}

// ask waits for the call's turn, sends it within the endpoint's timeout and returns the
// answer. Errors are *fault.
func (e *endpoint) ask(ctx context.Context, q *request) ([]byte, error) {
	if err := e.acquire(ctx); err != nil {
		return nil, err
	}
	defer func() { <-e.slots }()
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	body := q.encode()
	for try := 0; ; try++ {
		raw, err := e.asker.ask(ctx, q, body)
		if err == nil || try >= e.Retries || !e.asker.retries(q, err) {
			return raw, err
		}
		select {
		case <-time.After(retryPause << try):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// acquire takes a slot. At most queueFactor calls for each slot wait for one.
func (e *endpoint) acquire(ctx context.Context) error {
	select {
	case e.slots <- struct{}{}:
		return nil
	default:
	}
	limit := int64(queueFactor * e.Concurrency)
	defer e.waiting.Add(-1)
	if e.waiting.Add(1) > limit {
		return &fault{outcomeBusy, fmt.Errorf("%d calls are under way and %d wait", e.Concurrency, limit)}
	}
	select {
	case e.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return &fault{outcomeCanceled, ctx.Err()}
	}
	return &fault{outcomeBusy, fmt.Errorf("the call's turn did not come: %w", ctx.Err())}
}

func (e *endpoint) stats() Stats {
	s := Stats{Backend: e.name, InFlight: len(e.slots), Waiting: int(e.waiting.Load())}
	for ev := range events {
		for o := range outcomes {
			if n := e.calls[ev][o].Load(); n > 0 {
				s.Calls = append(s.Calls, Count{ev.String(), o.String(), n})
			}
		}
	}
	return s
}
