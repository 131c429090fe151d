package broker

import (
	"context"
	"encoding/hex"
	"sync"
	"time"

	"roost/internal/pack"
)

// Idempotency keys of channels with history are ids of JetStream's messages. In a cluster its servers
// compare them. The embedded server would read all records of the last five minutes whenever it is
// opened, and clients wait for that in a takeover; so there this broker knows the keys. What it does
// not know after a crash it reads from the records of the one channel that is published to.

// keyHash is a channel and a key of it.
type keyHash [16]byte

func (k keyHash) String() string { return hex.EncodeToString(k[:]) }

// keyMemory knows the keys of the last keyWindow.
type keyMemory struct {
	mu     sync.Mutex
	known  map[keyHash]keyed
	order  []keyHash        // of known, about oldest first
	since  time.Time        // all that were taken after it are known,
	loaded map[key]struct{} // of these channels also those before,
	unsure map[key]struct{} // and of these perhaps not all
}

type keyed struct {
	pos Position
	at  int64 // Unix ms
}

func (m *keyMemory) init() {
	m.since = time.Now()
	m.known, m.loaded, m.unsure = make(map[keyHash]keyed), make(map[key]struct{}), make(map[key]struct{})
}

// look returns where the publication with a key is. complete is false if the channel's records have to
// be read first.
func (m *keyMemory) look(k key, id keyHash) (pos Position, found, complete bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.prune(now)
	if p, ok := m.known[id]; ok && p.at >= tooOld(now) {
		return p.pos, true, true
	}
	if _, ok := m.unsure[k]; ok {
		return pos, false, false
	}
	if _, ok := m.loaded[k]; ok {
		return pos, false, true
	}
	return pos, false, now.Sub(m.since) > keyWindow
}

// add notes a key that was taken.
func (m *keyMemory) add(id keyHash, pos Position, at int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[id]; !ok {
		m.order = append(m.order, id)
	}
	m.known[id] = keyed{pos, at}
}

// doubt notes that a key of a channel may have been taken, or not.
func (m *keyMemory) doubt(k key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unsure[k] = struct{}{}
}

// read notes that a channel's records have been looked at.
func (m *keyMemory) read(k key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.unsure, k)
	m.loaded[k] = struct{}{}
}

// prune forgets what is too old. Under mu.
func (m *keyMemory) prune(now time.Time) {
	n := 0
	for n < len(m.order) && m.known[m.order[n]].at < tooOld(now) {
		delete(m.known, m.order[n])
		n++
	}
	m.order = m.order[n:]
	if len(m.loaded) > 0 && now.Sub(m.since) > keyWindow {
		clear(m.loaded)
	}
}

func tooOld(now time.Time) int64 { return now.Add(-keyWindow).UnixMilli() }

// append encodes m for inherit.
func (m *keyMemory) append(dst []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prune(time.Now())
	since := m.since
	if len(m.unsure) > 0 {
		since = time.Now()
	}
	dst = pack.AppendInt(dst, since.UnixMilli())
	dst = pack.AppendUint(dst, uint64(len(m.order)))
	for _, id := range m.order {
		p := m.known[id]
		dst = append(dst, id[:]...)
		dst = pack.AppendUint(dst, p.pos.Offset)
		dst = pack.AppendString(dst, p.pos.Epoch)
		dst = pack.AppendInt(dst, p.at)
	}
	return dst
}

// inherit takes what append has written.
func (m *keyMemory) inherit(r *pack.Reader) error {
	m.since = time.UnixMilli(r.Int())
	for range r.Uint() {
		var id keyHash
		for i := range id {
			id[i] = r.Byte()
		}
		pos, at := Position{r.Uint(), r.String()}, r.Int()
		if r.Err() != nil {
			break
		}
		m.add(id, pos, at)
	}
	return r.Err()
}

// taken tells whether the attempt's key was taken, and where. With the channel's turn.
func (a *attempt) taken(ctx context.Context) (Position, bool, error) {
	m := &a.b.keys
	pos, found, complete := m.look(a.c.key, a.key)
	if found || complete {
		return pos, found, nil
	}
	items, err := a.b.readAfter(ctx, a.at, time.Now().Add(-keyWindow))
	if err != nil {
		return pos, false, err
	}
	for _, it := range items {
		id, r, ok := it.keyed()
		if ok {
			m.add(id, Position{r.Offset, r.Epoch}, r.Time)
		}
	}
	m.read(a.c.key)
	pos, found, _ = m.look(a.c.key, a.key)
	return pos, found, nil
}

// tookKey notes that the attempt's key, if it has one, is taken.
func (a *attempt) tookKey(pos Position) {
	if a.msgID != "" && a.b.server != nil {
		a.b.keys.add(a.key, pos, a.rec.Time)
	}
}

// keyed returns the key of a record that has one.
func (it *item) keyed() (id keyHash, r *record, ok bool) {
	if n, err := hex.Decode(id[:], []byte(it.msgID)); err != nil || n != len(id) {
		return id, nil, false
	}
	r, err := decodeRecord(it.data)
	return id, r, err == nil
}
