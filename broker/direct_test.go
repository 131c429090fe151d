package broker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAskNode(t *testing.T) {
	a, b, _, rb := pair(t)
	stuck := make(chan struct{})
	rb.query = func(kind string, data []byte) ([]byte, error) {
		switch kind {
		case "no":
			return nil, errors.New("refused")
		case "stuck":
			<-stuck
		}
		return append([]byte("b"+kind), data...), nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, from := range []*Broker{a, b} {
		if got, err := from.AskNode(ctx, "b", "k", []byte("d")); err != nil || string(got) != "bkd" {
			t.Errorf("%s asks b: %q, %v", from.Node(), got, err)
		}
	}
	for _, id := range []string{"c", "", "*", ">", "a b", "b.", "\n"} {
		if got, err := a.AskNode(ctx, id, "k", nil); !errors.Is(err, ErrNoNode) {
			t.Errorf("node %q: %q, %v, want ErrNoNode", id, got, err)
		}
	}
	if got, err := a.AskNode(ctx, "b", "no", nil); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a refusal: %q, %v", got, err)
	}
	if got, err := a.AskNode(ctx, "b", "k", make([]byte, 2<<20)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("2 MiB: %q, %v", got, err)
	}
	soon, end := context.WithTimeout(ctx, 50*time.Millisecond)
	defer end()
	if got, err := a.AskNode(soon, "b", "stuck", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stuck node: %q, %v", got, err)
	}
	close(stuck)

	b.nc.Close() // dies without a word, and a has not noticed yet, or has
	if got, err := a.AskNode(ctx, "b", "k", nil); !errors.Is(err, ErrNoNode) {
		t.Errorf("a dead node: %q, %v, want ErrNoNode", got, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := a.AskNode(ctx, "b", "k", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after Close: %q, %v", got, err)
	}
}

// Alone, a node knows itself.
func TestAskNodeEmbedded(t *testing.T) {
	b, r := start(t, Options{Memory: true, Node: "a"})
	r.query = func(kind string, data []byte) ([]byte, error) { return data, nil }
	if got, err := b.AskNode(t.Context(), "a", "k", []byte("d")); err != nil || string(got) != "d" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := b.AskNode(t.Context(), "b", "k", nil); !errors.Is(err, ErrNoNode) {
		t.Errorf("%q, %v, want ErrNoNode", got, err)
	}
}
