package broker

import (
	"context"
	"sync"
)

// gate holds publishers back while the store changes hands: they wait rather than fail.
type gate struct {
	mu    sync.Mutex
	held  chan struct{} // closed when those that wait may go on; nil while nobody has to
	idle  chan struct{} // closed when the last one has left; nil unless somebody waits for that
	under int
}

// enter waits until publishing is allowed, or ctx or the broker has ended.
func (g *gate) enter(ctx context.Context, ended <-chan struct{}) error {
	for {
		g.mu.Lock()
		held := g.held
		if held == nil {
			g.under++
			g.mu.Unlock()
			return nil
		}
		g.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return ErrClosed
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.under--; g.under == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Hold keeps publications waiting from now on, and returns when none is under way: NATS has them
// all, and after Watch the other nodes, too. ctx must have a deadline. After an error they go on.
func (b *Broker) Hold(ctx context.Context) error {
	err := b.gate.hold(ctx)
	if err == nil && b.server == nil {
		err = b.nc.FlushWithContext(ctx)
	}
	if err != nil {
		b.Unhold()
		return err
	}
	if b.server == nil && b.hold.watched() {
		b.fence(ctx)
	}
	return nil
}

func (g *gate) hold(ctx context.Context) error {
	g.mu.Lock()
	if g.held == nil {
		g.held = make(chan struct{})
	}
	if g.under == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unhold lets publications go on.
func (b *Broker) Unhold() {
	b.gate.mu.Lock()
	defer b.gate.mu.Unlock()
	if b.gate.held != nil {
		close(b.gate.held)
		b.gate.held = nil
	}
}
