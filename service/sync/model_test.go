package sync

import (
	"context"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"roost/internal/syncmodel"
	"roost/service"
)

// size is how much of something a test has; the environment may ask for more.
func size(t *testing.T, name string, std int) int {
	text := os.Getenv(name)
	if text == "" {
		return std
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func caller(s func() *Service) syncmodel.Call {
	return func(ctx context.Context, op string, params []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		c := &service.Call{Caller: backendCaller, Op: op, Data: params}
		if err := Prepare(c); err != nil {
			return nil, refusal(err)
		}
		result, err := s().Router().Do(ctx, c)
		return result, refusal(err)
	}
}

func refusal(err error) error {
	var e *service.Error
	if errors.As(err, &e) {
		return &syncmodel.Refused{Code: e.Code, Message: e.Message, Temporary: e.Temporary}
	}
	return err
}

// Random operations of several clients, over restarts, come to what a simple model comes to; so do the
// events that a subscriber hears.
func TestModel(t *testing.T) {
	r := newRig(t, Config{})
	views := map[string]*syncmodel.View{}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	run := syncmodel.New(caller(func() *Service { return r.s }), 3, 4, seed)
	for _, o := range run.Objects {
		views[o.Name] = &syncmodel.View{}
	}
	hear := func() {
		for _, o := range run.Objects {
			for _, pub := range r.ears.heard(namedID(kinds[o.Type], o.Name)) {
				views[o.Name].Take(pub.Offset, pub.Data)
			}
		}
	}
	const rounds = 12
	for round := range rounds {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := run.Do(ctx, size(t, "ROOST_SYNC_OPERATIONS", 24_000)/rounds)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if round%3 == 2 {
			hear()
			r.restart()
		} else {
			r.forget()
		}
		read := func(op string, params []byte) ([]byte, error) {
			return caller(func() *Service { return r.s })(t.Context(), op, params)
		}
		var heard map[string]*syncmodel.View
		if round%3 == 2 {
			heard = views
		}
		if err := run.Compare(read, heard); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	t.Logf("%d operations", run.Operations())
}
