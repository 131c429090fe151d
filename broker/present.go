package broker

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"roost/internal/pack"
)

// present are the channels that may have records in one stream of the embedded server,
// by a hash of their names. Nobody else writes there, so what is not among them has
// none, and the server need not be asked: most channels never have a publication, and
// each question leaves some 400 B in the server's caches of subjects.
type present struct {
	mu    sync.RWMutex
	names map[uint64]struct{} // nil: not known
}

// presentHash is FNV-1a (RFC 9923), the same in every process. Who makes names collide has the server
// asked in vain, as for channels that have records.
func presentHash(name string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	return h
}

// append encodes the set for readPresent.
func (p *present) append(dst []byte) []byte {
	p.mu.RLock()
	defer p.mu.RUnlock()
	dst = pack.AppendUint(dst, uint64(len(p.names)))
	for h := range p.names {
		dst = pack.AppendUint(dst, h)
	}
	return dst
}

func readPresent(r *pack.Reader) map[uint64]struct{} {
	names := make(map[uint64]struct{})
	for range r.Uint() {
		if names[r.Uint()] = struct{}{}; r.Err() != nil {
			break
		}
	}
	return names
}

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
				names[presentHash(ch)] = struct{}{}
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
	h := presentHash(ch)
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
	_, there := p.names[presentHash(ch)]
	return !there
}

// absent tells that a channel surely has no history.
func (b *Broker) absent(k key) bool {
	s := &b.streams[k.class][b.part(k.name)]
	return b.server != nil && s.opened.Load() && s.present.lacks(k.name)
}
