package sync

import "testing"

// Where the machine lost the end of a log, but not the page that was written later, the object goes on from the page.
func TestRewind(t *testing.T) {
	r := newRig(t, Config{})
	const doc = `{"type":"document","name":"d"}`
	r.do("open", doc)
	for range 300 {
		r.do("set", `{"type":"document","name":"d","data":"log"}`)
	}
	id := namedID(kindDocument, "d")
	p, err := r.b.GetPage(t.Context(), Channel(id), rootPage)
	if err != nil {
		t.Fatal(err)
	}
	o := &object{id: id, kind: kindDocument}
	if _, err := o.decodeRoot(p.Data); err != nil {
		t.Fatal(err)
	}
	o.event, o.revision, o.data = 400, 399, []byte(`"page"`)
	if _, err := r.b.PutPage(t.Context(), Channel(id), rootPage, o.encodeRoot(true, nil), &p.Seq); err != nil {
		t.Fatal(err)
	}
	r.forget()
	equal(t, "data", r.data(doc), `"page"`)
	w := r.do("set", `{"type":"document","name":"d","data":"after"}`)
	equal(t, "event", w["event"], 302)
	equal(t, "revision", w["revision"], 400)
	r.restart()
	equal(t, "data after a restart", r.data(doc), `"after"`)
}
