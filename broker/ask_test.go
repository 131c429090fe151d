package broker

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestAsk(t *testing.T) {
	s := natsServer(t, t.TempDir(), -1)
	b, _ := start(t, Options{URLs: []string{s.ClientURL()}})
	service, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	if _, err := service.Subscribe("svc.echo", func(m *nats.Msg) { _ = m.Respond(append([]byte("to "), m.Data...)) }); err != nil {
		t.Fatal(err)
	}
	if _, err := service.Subscribe("svc.mute", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if got, err := b.Ask(ctx, "svc.echo", []byte("you")); err != nil || string(got) != "to you" {
		t.Errorf("%q, %v", got, err)
	}
	var nobody interface{ NoResponders() bool }
	if _, err := b.Ask(ctx, "svc.none", nil); !errors.As(err, &nobody) || !nobody.NoResponders() {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := b.Ask(ctx, "svc.echo", bytes.Repeat([]byte("x"), 2<<20)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	short, end := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer end()
	if _, err := b.Ask(short, "svc.mute", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	for b.Ready() == nil {
		time.Sleep(time.Millisecond)
	}
	if _, err := b.Ask(ctx, "svc.echo", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("NATS away: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.Ask(ctx, "svc.echo", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("closed: %v", err)
	}
}
