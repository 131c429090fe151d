package broker

import (
	"errors"
	"testing"
)

func logged(t *testing.T, b *Broker, ch, data string, after uint64) Position {
	t.Helper()
	pos, _, err := b.Publish(t.Context(), ch, Publication{Data: []byte(data), Note: []byte("note " + data)}, PublishOptions{Kept: true, After: &after})
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

func readLog(t *testing.T, b *Broker, ch string) ([]*Publication, Position) {
	t.Helper()
	all, top, err := b.History(t.Context(), ch, HistoryQuery{Kept: true, Limit: -1})
	if err != nil {
		t.Fatal(err)
	}
	return all, top
}

// A log takes what follows on what its writer has seen, and nothing else.
func TestLog(t *testing.T) {
	dir := t.TempDir()
	b, _ := start(t, Options{Dir: dir})
	logged(t, b, "log", "a", 0)
	last := logged(t, b, "log", "b", 1)
	for _, after := range []uint64{0, 1, 3} {
		_, _, err := b.Publish(t.Context(), "log", Publication{}, PublishOptions{Kept: true, After: &after})
		if !errors.Is(err, ErrConflict) {
			t.Errorf("after %d of 2: %v", after, err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b, _ = start(t, Options{Dir: dir})
	all, top := readLog(t, b, "log")
	if len(all) != 2 || string(all[1].Data) != "b" || string(all[1].Note) != "note b" || top != last {
		t.Errorf("after a restart: %+v at %+v, was %+v", all, top, last)
	}
	logged(t, b, "log", "c", 2)
}

// The end of a log takes what was before it away, and it can begin again behind it.
func TestLogEnd(t *testing.T) {
	dir := t.TempDir()
	b, _ := start(t, Options{Dir: dir})
	logged(t, b, "log", "a", 0)
	logged(t, b, "log", "b", 1)
	two := uint64(2)
	if _, _, err := b.Publish(t.Context(), "log", Publication{Data: []byte("end")}, PublishOptions{Kept: true, After: &two, Last: true}); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"in memory", "from the disk"} {
		if all, top := readLog(t, b, "log"); len(all) != 1 || all[0].Offset != 3 || top.Offset != 3 {
			t.Errorf("%s: %d records, top %+v", how, len(all), top)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b, _ = start(t, Options{Dir: dir})
	}
	if pos := logged(t, b, "log", "again", 3); pos.Offset != 4 {
		t.Errorf("begun again at %+v", pos)
	}
}

// A log keeps its last records only.
func TestLogSize(t *testing.T) {
	b, _ := start(t, Options{Memory: true})
	for i := range uint64(KeptSize + 10) {
		logged(t, b, "log", "x", i)
	}
	all, top := readLog(t, b, "log")
	if len(all) != KeptSize || top.Offset != KeptSize+10 || all[0].Offset != 11 {
		t.Errorf("%d records from %d to %+v", len(all), all[0].Offset, top)
	}
}

func TestPages(t *testing.T) {
	dir := t.TempDir()
	b, _ := start(t, Options{Dir: dir})
	put := func(page, data string, expect *uint64) (uint64, error) {
		return b.PutPage(t.Context(), "a.b:c", page, []byte(data), expect)
	}
	first, err := put("0", "one", new(uint64))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put("0", "other", new(uint64)); !errors.Is(err, ErrConflict) {
		t.Errorf("a page that is there: %v", err)
	}
	second, err := put("0", "two", &first)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"p1", "p2", "p3"} {
		if _, err := put(page, page, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.PurgePage(t.Context(), "a.b:c", "p1"); err != nil {
		t.Fatal(err)
	}
	if err := b.PurgePage(t.Context(), "a.b:c", "p2"); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b, _ = start(t, Options{Dir: dir})
	for page, want := range map[string]string{"0": "two", "p1": "", "p2": "", "p3": "p3"} {
		p, err := b.GetPage(t.Context(), "a.b:c", page)
		if err != nil || string(p.Data) != want || (want == "") != (p.Seq == 0) || page == "0" && p.Seq != second {
			t.Errorf("page %s: %q at %d, %v", page, p.Data, p.Seq, err)
		}
	}
	if err := b.PurgePages(t.Context(), "a.b:c"); err != nil {
		t.Fatal(err)
	}
	if p, err := b.GetPage(t.Context(), "a.b:c", "0"); err != nil || p.Seq != 0 {
		t.Errorf("after a purge: %+v, %v", p, err)
	}
}

func TestAnswer(t *testing.T) {
	b, _ := start(t, Options{Memory: true})
	stop, err := b.Answer("roost.svc.x.*", "q", func(r *Request) {
		if err := r.Reply(append([]byte(r.Subject+" "), r.Data...)); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Ask(t.Context(), "roost.svc.x.1", []byte("hello"))
	if err != nil || string(got) != "roost.svc.x.1 hello" {
		t.Errorf("%q, %v", got, err)
	}
	if err := b.Tell("roost.svc.x.1", nil); err != nil {
		t.Error(err)
	}
	stop()
	var silent interface{ NoResponders() bool }
	if _, err := b.Ask(t.Context(), "roost.svc.x.1", nil); !errors.As(err, &silent) {
		t.Errorf("after stop: %v", err)
	}
}
