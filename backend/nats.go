package backend

import (
	"context"
	"errors"
	"fmt"
	"regexp"
)

const maxSubject = 255 // bytes

// subjectTokens are letters, digits, - and _, with dots between: no wildcard, no space.
var subjectTokens = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func isSubject(s string) bool { return len(s) <= maxSubject && subjectTokens.MatchString(s) }

// natsAsker asks by NATS requests: an rpc on PREFIX.METHOD, any other event on PREFIX.
type natsAsker struct {
	asker  Asker
	prefix string
	limit  int64
}

func (a *natsAsker) ask(ctx context.Context, q *request, body []byte) ([]byte, error) {
	subject := a.prefix
	if q.event == eventRPC {
		subject += "." + q.method
		if !isSubject(subject) {
			return nil, &fault{outcomeMethod, errors.New("the method can be no NATS subject")}
		}
	}
	raw, err := a.asker.Ask(ctx, subject, body)
	var silent interface{ NoResponders() bool }
	switch {
	case errors.As(err, &silent) && silent.NoResponders():
		return nil, &fault{outcomeNobody, fmt.Errorf("nobody answers on %s: %w", subject, err)}
	case err != nil:
		return nil, lost(ctx, outcomeUnreachable, err)
	case int64(len(raw)) > a.limit:
		return nil, tooLarge(a.limit)
	}
	return raw, nil
}

// retries is never: NATS does not tell whether a request arrived.
func (a *natsAsker) retries(*request, error) bool { return false }

func (a *natsAsker) close() {}
