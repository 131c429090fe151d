package broker

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// A record that was sent and not acknowledged may arrive at any time: what is stored then names the
// record it follows on, which is left out where none can be on its way.
func TestUnacknowledged(t *testing.T) {
	b, _ := start(t, Options{Dir: t.TempDir()})
	first := publish(t, b, "ch", "a", kept)
	class := classOf(kept.HistorySize)
	sh := b.shard("ch")
	c := b.pin(sh, key{"ch", class})
	defer sh.unpin(c)
	expect := func() *uint64 {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		return c.expect(true)
	}
	if last := expect(); last != nil {
		t.Errorf("all is acknowledged, and sequence %d is expected", *last)
	}
	if last := expect(); last == nil || *last != c.seq {
		t.Error("a record is under way, and nothing is expected")
	}
	late := record{Publication: Publication{Offset: first.Offset + 1, Epoch: first.Epoch, Data: []byte("late")}, kind: kindRecord, class: class, boot: b.boot}
	if _, err := b.store(t.Context(), b.place("ch", class).subject, late.append(nil), nil, "", 0); err != nil {
		t.Fatal(err)
	}
	if pos := publish(t, b, "ch", "b", kept); pos.Offset != first.Offset+2 {
		t.Errorf("behind a record that came late: %+v, the first was %+v", pos, first)
	}
	if last := expect(); last != nil {
		t.Errorf("all is acknowledged again, and sequence %d is expected", *last)
	}
}

// A removal of history is a record, too.
func TestUnacknowledgedMark(t *testing.T) {
	b, _ := start(t, Options{Dir: t.TempDir()})
	publish(t, b, "ch", "a", kept)
	if err := b.RemoveHistory(t.Context(), "ch"); err != nil {
		t.Fatal(err)
	}
	c := b.shard("ch").channels[key{"ch", classOf(kept.HistorySize)}]
	if c.expect(true) == nil {
		t.Error("behind a mark nothing is expected")
	}
	if pos := publish(t, b, "ch", "b", kept); pos.Offset != 2 {
		t.Errorf("position %+v", pos)
	}
}

// Where channels are stored stays as it was when a folder was made.
func TestStreamsOfFolder(t *testing.T) {
	dir := t.TempDir()
	marked := func() (m marker) {
		text, err := os.ReadFile(filepath.Join(dir, "state.json"))
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(`{"clean":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const channels = 100
	for round := 1; round <= 3; round++ {
		b, _ := start(t, Options{Dir: dir})
		if n := marked().Streams; n != historyStreams || b.parts != n {
			t.Fatalf("%d streams are in use, and %d noted", b.parts, n)
		}
		for i := range channels {
			if pos := publish(t, b, strconv.Itoa(i), "x", kept); pos.Offset != uint64(round) {
				t.Fatalf("round %d, channel %d: %+v", round, i, pos)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dir = t.TempDir()
	b, _ := start(t, Options{Dir: dir})
	if n := marked().Streams; n != embeddedStreams || b.parts != n {
		t.Errorf("in a new folder %d streams are in use, and %d noted", b.parts, n)
	}
}
