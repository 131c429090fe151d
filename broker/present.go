package broker

import (
	"context"
	"hash/maphash"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// present are the channels that may have records in one stream of the embedded server,
// by a hash of their names. Nobody else writes there, so what is not among them has
// none, and the server need not be asked: most channels never have a publication, and
// each question leaves some 400 B in the server's caches of subjects.
type present struct {
	mu    sync.RWMutex
	names map[uint64]struct{} // nil: not known
}

var presentSeed = maphash.MakeSeed()

// load learns what the stream holds.
func (p *present) load(ctx context.Context, s jetstream.Stream, subjects string, name func(subject string) (string, bool)) error {
	names := make(map[uint64]struct{})
	if s.CachedInfo().State.Msgs > 0 {
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(subjects))
		if err != nil {
			return err
		}
		for subject := range info.State.Subjects {
			if ch, ok := name(subject); ok {
				names[maphash.String(presentSeed, ch)] = struct{}{}
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for h := range p.names { // a stream is opened again after it was forgotten
		names[h] = struct{}{}
	}
	p.names = names
	return nil
}

// add notes a channel before its first record is stored.
func (p *present) add(ch string) {
	h := maphash.String(presentSeed, ch)
	p.mu.RLock()
	_, there := p.names[h]
	known := p.names != nil
	p.mu.RUnlock()
	if there || !known {
		return
	}
	p.mu.Lock()
	p.names[h] = struct{}{}
	p.mu.Unlock()
}

// lacks tells that a channel surely has no record.
func (p *present) lacks(ch string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.names == nil {
		return false
	}
	_, there := p.names[maphash.String(presentSeed, ch)]
	return !there
}

// absent tells that a channel surely has no history.
func (b *Broker) absent(k key) bool {
	s := &b.streams[k.class][shardOf(k.name)%historyStreams]
	return b.server != nil && s.opened.Load() && s.present.lacks(k.name)
}
