package broker

import (
	"testing"
	"time"

	"roost/internal/pack"
)

// What is known of keys ends with their window, and goes to the next broker.
func TestKeyMemory(t *testing.T) {
	var m, next keyMemory
	m.init()
	now := time.Now()
	ch := key{"ch", 1}
	m.add(keyHash{1}, Position{1, "e"}, now.Add(-keyWindow-time.Second).UnixMilli())
	m.add(keyHash{2}, Position{2, "e"}, now.UnixMilli())
	if _, found, complete := m.look(ch, keyHash{1}); found || complete {
		t.Errorf("an old key: found %v, complete %v", found, complete)
	}
	if pos, found, _ := m.look(ch, keyHash{2}); !found || pos != (Position{2, "e"}) {
		t.Errorf("a key: %v at %+v", found, pos)
	}
	m.read(ch)
	if _, found, complete := m.look(ch, keyHash{3}); found || !complete {
		t.Errorf("after a look: found %v, complete %v", found, complete)
	}
	m.doubt(ch)
	if _, _, complete := m.look(ch, keyHash{3}); complete {
		t.Error("in doubt it knows all")
	}
	m.read(ch)
	m.since = now.Add(-2 * keyWindow)
	if _, _, complete := m.look(key{"other", 1}, keyHash{3}); !complete || len(m.loaded) > 0 {
		t.Errorf("after the window: complete %v, and %d channels", complete, len(m.loaded))
	}
	next.init()
	r := pack.NewReader(m.append(nil))
	if err := next.inherit(r); err != nil || r.Len() > 0 {
		t.Fatalf("error %v, %d bytes are left", err, r.Len())
	}
	if pos, found, _ := next.look(ch, keyHash{2}); !found || pos != (Position{2, "e"}) || len(next.known) != 1 {
		t.Errorf("inherited: %v at %+v, %d keys", found, pos, len(next.known))
	}
	if _, _, complete := next.look(ch, keyHash{3}); !complete {
		t.Error("inherited, and it does not know all")
	}
}

// A broker that crashed, or whose acknowledgement was lost, finds the key of a record that is there.
func TestKeyInDoubt(t *testing.T) {
	b, _ := start(t, Options{Dir: t.TempDir()})
	o := kept
	o.IdempotencyKey = "k"
	first := publish(t, b, "ch", "a", o)
	publish(t, b, "ch", "b", kept)
	b.keys.mu.Lock()
	clear(b.keys.known)
	b.keys.order = nil
	b.keys.mu.Unlock()
	b.keys.doubt(key{"ch", classOf(kept.HistorySize)})
	pos, suppressed, err := b.Publish(t.Context(), "ch", Publication{Data: []byte("a")}, o)
	if err != nil || !suppressed || pos != first {
		t.Errorf("%+v, suppressed %v, error %v; want %+v", pos, suppressed, err, first)
	}
}
