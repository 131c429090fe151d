package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"roost/proto/client"
)

// outcome is what came of a call; Count says what each means.
type outcome uint8

const (
	outcomeOK outcome = iota
	outcomeError
	outcomeDisconnect
	outcomeBusy
	outcomeTimeout
	outcomeCanceled
	outcomeUnreachable
	outcomeBroken
	outcomeStatus
	outcomeRedirect
	outcomeType
	outcomeEmpty
	outcomeLarge
	outcomeGarbage
	outcomeNobody
	outcomeMethod
	outcomes // how many there are
)

var outcomeNames = [outcomes]string{"ok", "error", "disconnect", "busy", "timeout", "canceled", "unreachable", "broken",
	"status", "redirect", "type", "empty", "large", "garbage", "nobody", "method"}

func (o outcome) String() string { return outcomeNames[o] }

// isFault says whether whoever runs the backend should hear of it.
func (o outcome) isFault() bool {
	return o > outcomeDisconnect && o != outcomeCanceled && o != outcomeMethod
}

// reply is what a client gets for an outcome that the backend did not choose.
func (o outcome) reply() error {
	switch o {
	case outcomeBusy:
		return client.ErrTooManyRequests
	case outcomeNobody:
		return client.ErrNotAvailable
	case outcomeMethod:
		return client.ErrMethodNotFound
	}
	return client.ErrInternal
}

// fault is why there is no answer, or none that can be used.
type fault struct {
	outcome outcome
	cause   error
}

func (f *fault) Error() string { return f.cause.Error() }
func (f *fault) Unwrap() error { return f.cause }

// lost makes a fault of an error of the transport: o, unless the call's time was over.
func lost(ctx context.Context, o outcome, err error) error {
	var late interface{ Timeout() bool } // as net.Error and context.DeadlineExceeded have it
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &late) && late.Timeout():
		o = outcomeTimeout
	case ctx.Err() != nil:
		o = outcomeCanceled
	}
	return &fault{o, err}
}

const (
	logPause = time.Second // between two lines about the same backend
	logText  = 300         // bytes of an error's text, which may quote what the backend sent
)

func clip(text string) string {
	if len(text) <= logText {
		return text
	}
	return text[:logText] + "…"
}

// quiet keeps a backend that fails all the time from filling the log.
type quiet struct {
	mu    sync.Mutex
	last  time.Time
	count int // kept back since
}

// pass says whether a line may be logged, and how many were not since the last one.
func (q *quiet) pass(now time.Time) (kept int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.last.IsZero() && now.Sub(q.last) < logPause {
		q.count++
		return 0, false
	}
	kept, q.count, q.last = q.count, 0, now
	return kept, true
}
