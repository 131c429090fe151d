package sync

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"roost/service"
)

func TestDocument(t *testing.T) {
	r := newRig(t, Config{})
	const doc = `{"type":"document","name":"a"}`
	a := r.do("open", `{"type":"document","name":"a","data":{"x": 1}}`)
	if a["created"] != true || text(a["data"]) != `{"x":1}` || a["channel"] != Channel(namedID(kindDocument, "a")) {
		t.Errorf("created: %s", text(a))
	}
	w := r.do("set", `{"type":"document","name":"a","data":{"y":[1,2]},"if_revision":1}`)
	equal(t, "revision", w["revision"], 2)
	equal(t, "event", w["event"], 2)
	e := r.refused(backendCaller, CodeWrongRevision, "set", `{"type":"document","name":"a","data":{},"if_revision":1}`)
	if e.Revision == nil || *e.Revision != 2 || !strings.Contains(e.Message, "2") {
		t.Errorf("error of a wrong revision: %+v", e)
	}
	equal(t, "merged", r.do("merge", `{"type":"document","name":"a","data":{"z":"<&>","y":null}}`)["data"], map[string]any{"z": "<&>"})
	for _, how := range []string{"in memory", "from the store", "after a restart"} {
		equal(t, how, r.data(doc), `{"z":"\u003c\u0026\u003e"}`)
		switch how {
		case "in memory":
			r.forget()
		case "from the store":
			r.restart()
		}
	}
	h := r.do("history", `{"type":"document","name":"a"}`)["revisions"].([]any)
	if len(h) != 3 || text(h[1].(map[string]any)["data"]) != `{"y":[1,2]}` || text(h[2].(map[string]any)["data"]) != `{"x":1}` {
		t.Errorf("history: %s", text(h))
	}
	r.do("delete", doc)
	r.refused(backendCaller, CodeUnknownObject, "get", doc)
	again := r.do("open", doc)
	equal(t, "event of the new one", again["position"].(map[string]any)["event"], 5)
	equal(t, "data of the new one", again["data"], map[string]any{})
}

func TestMap(t *testing.T) {
	r := newRig(t, Config{})
	id := r.do("open", `{"type":"map","name":"m"}`)["object"].(map[string]any)["id"].(string)
	p := func(rest string) string { return fmt.Sprintf(`{"id":%q,%s}`, id, rest) }
	equal(t, "first", r.do("map.set", p(`"key":"k","data":{"a":1}`))["revision"], 2)
	r.refused(backendCaller, CodeItemExists, "map.insert", p(`"key":"k","data":2`))
	r.do("map.insert", p(`"key":"l","data":2`))
	r.do("map.merge", p(`"key":"k","data":{"b":2}`))
	r.refused(backendCaller, CodeInvalid, "map.merge", p(`"key":"l","data":{"b":2}`))
	r.refused(backendCaller, CodeWrongRevision, "map.set", p(`"key":"k","data":3,"if_revision":2`))
	r.refused(backendCaller, CodeWrongRevision, "map.set", p(`"key":"new","data":3,"if_revision":2`))
	r.do("map.set", p(`"key":"new","data":3,"if_revision":0`))
	r.do("map.delete", p(`"key":"l"`))
	r.refused(backendCaller, CodeUnknownItem, "map.delete", p(`"key":"l"`))
	r.forget()
	equal(t, "item", r.item(p(`"key":"k"`)), `{"a":1,"b":2}`)
	q := r.do("query", p(`"limit":1`))
	equal(t, "first page", len(q["items"].([]any)), 1)
	q = r.do("query", p(`"limit":1,"cursor":`+text(q["cursor"])))
	equal(t, "second page", q["items"].([]any)[0].(map[string]any)["key"], "new")
	if q["cursor"] != nil {
		t.Errorf("a cursor behind the last item: %v", q["cursor"])
	}
	r.do("delete", p(`"key":"new"`))
	equal(t, "count", r.do("get", fmt.Sprintf(`{"id":%q}`, id))["count"], 1)
}

func TestList(t *testing.T) {
	r := newRig(t, Config{MaxItems: 4})
	id := r.do("open", `{"type":"list"`+`,"mode":"create_new"}`)["object"].(map[string]any)["id"].(string)
	p := func(rest string) string { return fmt.Sprintf(`{"id":%q,%s}`, id, rest) }
	equal(t, "index", r.do("list.push", p(`"data":"a"`))["index"], 0)
	equal(t, "index of several", r.do("list.push", p(`"items":["b","c"]`))["index"], 1)
	r.do("list.set", p(`"index":1,"data":"B"`))
	r.do("list.delete", p(`"index":0`))
	r.refused(backendCaller, CodeUnknownItem, "list.set", p(`"index":0,"data":1`))
	r.refused(backendCaller, CodeBadIndex, "list.set", p(`"index":3,"data":1`))
	r.refused(backendCaller, CodeInvalid, "list.set", p(`"index":-1,"data":1`))
	equal(t, "index after a deletion", r.do("list.push", p(`"data":"d"`))["index"], 3)
	r.refused(backendCaller, CodeFull, "list.push", p(`"items":[1,2]`))
	r.forget()
	q := r.do("query", p(`"order":"desc","from":2,"bounds":"inclusive"`))
	items := q["items"].([]any)
	equal(t, "from 2 down", []any{items[0].(map[string]any)["data"], items[1].(map[string]any)["data"]}, []any{"c", "B"})
	q = r.do("query", p(`"from":1,"bounds":"exclusive"`))
	equal(t, "above 1", len(q["items"].([]any)), 2)
	b := r.do("batch", p(`"operations":[{"op":"list.delete","index":1},{"op":"list.push","data":5},{"op":"list.set","index":4,"data":6}]`))
	equal(t, "batch", b["results"], []any{map[string]any{}, map[string]any{"index": 4}, map[string]any{}})
	r.refused(backendCaller, CodeUnknownItem, "batch", p(`"operations":[{"op":"list.delete","index":2},{"op":"list.delete","index":2}]`))
	equal(t, "after a batch that failed", r.item(p(`"index":2`)), `"c"`)
	equal(t, "what the batch set", r.item(p(`"index":4`)), `6`)
}

// Subscribers hear one event after the other.
func TestEvents(t *testing.T) {
	r := newRig(t, Config{})
	id := r.do("open", `{"type":"map","name":"m"}`)["object"].(map[string]any)["id"].(string)
	p := func(rest string) string { return fmt.Sprintf(`{"id":%q,%s}`, id, rest) }
	if _, err := call(r.s, user("ann"), "map.set", p(`"key":"k","data":1,"ttl":60`)); err != nil {
		t.Fatal(err)
	}
	r.do("map.set", p(`"key":"k","data":2`))
	r.do("batch", p(`"operations":[{"op":"map.delete","key":"k"},{"op":"map.set","key":"l","data":3}]`))
	r.do("set_ttl", p(`"ttl":100`))
	r.do("delete", fmt.Sprintf(`{"id":%q}`, id))
	want := []string{
		`{"type":"created","object":{"id":"` + id + `","type":"map","name":"m","revision":1,`,
		`{"type":"item_added","key":"k","data":1,"revision":2,"date_expires":`,
		`{"type":"item_updated","key":"k","data":2,"previous":1,"revision":3,"date_expires":`,
		`{"type":"batch","date":`,
		`{"type":"ttl","date_expires":`,
		`{"type":"removed","revision":5,"reason":"user","date":`,
	}
	pubs := r.ears.heard(id)
	if len(pubs) != len(want) {
		t.Fatalf("%d events", len(pubs))
	}
	for i, pub := range pubs {
		if !strings.HasPrefix(string(pub.Data), want[i]) || pub.Offset != uint64(i+1) {
			t.Errorf("event %d: %s", pub.Offset, pub.Data)
		}
	}
	if !strings.Contains(string(pubs[1].Data), `"actor":"ann"`) {
		t.Errorf("who did it: %s", pubs[1].Data)
	}
	if !strings.Contains(string(pubs[3].Data), `"events":[{"type":"item_removed","key":"k","previous":2,"reason":"user"`) &&
		!strings.Contains(string(pubs[3].Data), `"events":[{"type":"item_removed","key":"k","previous":2,"revision":4,"reason":"user"`) {
		t.Errorf("batch: %s", pubs[3].Data)
	}
}

func TestStream(t *testing.T) {
	r := newRig(t, Config{})
	id := r.do("open", `{"type":"stream","name":"s"}`)["object"].(map[string]any)["id"].(string)
	r.do("stream.publish", `{"type":"stream","name":"s","data":{"x":1}}`)
	pubs := r.ears.heard(id)
	if last := pubs[len(pubs)-1]; last.Offset != 0 || !strings.Contains(string(last.Data), `"type":"message","data":{"x":1}`) {
		t.Errorf("message: %s at %d", last.Data, last.Offset)
	}
	r.refused(backendCaller, CodeWrongType, "set", `{"type":"stream","name":"s","data":1}`)
}

// A write with a key happens once, also if its second try comes after a restart.
func TestIdempotency(t *testing.T) {
	r := newRig(t, Config{})
	id := r.do("open", `{"type":"list","name":"l"}`)["object"].(map[string]any)["id"].(string)
	push := fmt.Sprintf(`{"id":%q,"data":1,"idempotency_key":"one"}`, id)
	first := r.do("list.push", push)
	for _, between := range []func(){func() {}, r.forget, r.restart, func() {
		for range 300 { // the record has left the log
			r.do("list.push", fmt.Sprintf(`{"id":%q,"data":2}`, id))
		}
		r.restart()
	}} {
		between()
		again := r.do("list.push", push)
		if again["duplicate"] != true || text(again["event"]) != text(first["event"]) || text(again["index"]) != text(first["index"]) {
			t.Errorf("first %s, again %s", text(first), text(again))
		}
	}
	equal(t, "items", r.do("get", fmt.Sprintf(`{"id":%q}`, id))["count"], 301)
}

// A second try of what makes an object, or removes it, is answered like the first.
func TestIdempotencyOfObjects(t *testing.T) {
	r := newRig(t, Config{})
	idOf := func(c service.Caller, key string) string {
		t.Helper()
		v, err := call(r.s, c, "open", fmt.Sprintf(`{"type":"map","mode":"create_new","idempotency_key":%q}`, key))
		if err != nil || v["created"] != true {
			t.Fatalf("open with key %q: %v, %v", key, v, err)
		}
		return v["object"].(map[string]any)["id"].(string)
	}
	first := idOf(user("ann"), "one")
	for _, again := range []func(){func() {}, r.forget, r.restart} {
		again()
		if id := idOf(user("ann"), "one"); id != first {
			t.Errorf("a second try made %s, the first %s", id, first)
		}
	}
	for _, other := range []string{idOf(user("bob"), "one"), idOf(user("ann"), "two"), idOf(service.Caller{}, "one"), idOf(backendCaller, "one"), idOf(user("ann"), "")} {
		if other == first {
			t.Error("another key, or another caller, got the same object")
		}
	}
	const named = `{"type":"map","name":"m","mode":"create_new","idempotency_key":"k"}`
	for range 2 {
		equal(t, "created", r.do("open", named)["created"], true)
	}
	r.refused(user("ann"), CodeObjectExists, "open", `{"type":"map","name":"m","mode":"create_new","idempotency_key":"other"}`)
	r.refused(user("ann"), CodeObjectExists, "open", fmt.Sprintf(`{"id":%q,"mode":"create_new"}`, first))

	const gone = `{"type":"map","name":"m","idempotency_key":"gone"}`
	removed := r.do("delete", gone)
	for _, again := range []func(){func() {}, r.forget, r.restart} {
		again()
		v := r.do("delete", gone)
		equal(t, "event", v["event"], removed["event"])
		equal(t, "duplicate", v["duplicate"], true)
	}
	r.refused(backendCaller, CodeUnknownObject, "delete", `{"type":"map","name":"m","idempotency_key":"another"}`)

	// A key tells those nothing who may not do what it was for.
	r.do("open", `{"type":"document","name":"d","restricted":true}`)
	r.do("set", `{"type":"document","name":"d","data":1,"idempotency_key":"s"}`)
	r.refused(user("bob"), CodeNoPermission, "set", `{"type":"document","name":"d","data":1,"idempotency_key":"s"}`)
}

func TestPermissions(t *testing.T) {
	r := newRig(t, Config{})
	const doc = `{"type":"document","name":"d"`
	ann, bob, nobody := user("ann"), user("bob"), user("")
	if _, err := call(r.s, ann, "open", doc+`,"restricted":true}`); err != nil {
		t.Fatal(err)
	}
	r.refused(bob, CodeNoPermission, "open", doc+`}`)
	r.refused(bob, CodeNoPermission, "get", doc+`}`)
	r.refused(nobody, CodeNoPermission, OpSubscribe, doc+`}`)
	r.refused(bob, CodeNoPermission, "grant", doc+`,"identity":"bob","read":true}`)
	if _, err := call(r.s, ann, "grant", doc+`,"identity":"bob","read":true}`); err != nil {
		t.Fatal(err)
	}
	r.forget()
	if _, err := call(r.s, bob, "get", doc+`}`); err != nil {
		t.Error(err)
	}
	r.refused(bob, CodeNoPermission, "set", doc+`,"data":1}`)
	r.refused(bob, CodeNoPermission, "delete", doc+`}`)
	if _, err := call(r.s, ann, "batch", doc+`,"operations":[{"op":"grant","identity":"*","read":true,"write":true},{"op":"revoke","identity":"bob"}]}`); err != nil {
		t.Fatal(err)
	}
	if _, err := call(r.s, nobody, "set", doc+`,"data":1}`); err != nil {
		t.Error(err)
	}
	r.refused(bob, CodeNoPermission, "set_ttl", doc+`,"ttl":1}`)
	for i := range 300 { // the grants are in the root page now
		r.do("set", doc+fmt.Sprintf(`,"data":%d}`, i))
	}
	r.restart()
	equal(t, "permissions", r.do("permissions", doc+`}`)["permissions"], map[string]any{"*": map[string]any{"read": true, "write": true}})
	if _, err := call(r.s, ann, "restrict", doc+`,"restricted":false}`); err != nil {
		t.Fatal(err)
	}
	if _, err := call(r.s, bob, "delete", doc+`}`); err != nil {
		t.Error(err)
	}
	for _, pub := range r.ears.heard(namedID(kindDocument, "d")) {
		if strings.Contains(string(pub.Data), "bob") && strings.Contains(string(pub.Data), "access") {
			t.Errorf("an event tells of permissions: %s", pub.Data)
		}
	}
	r.refused(nobody, CodeNoPermission, "open", `{"type":"map","name":"x","restricted":true}`)
}

// What expires goes, late rather than early, also over restarts.
func TestExpiry(t *testing.T) {
	r := newRig(t, Config{})
	id := r.do("open", `{"type":"map","name":"m"}`)["object"].(map[string]any)["id"].(string)
	begun := time.Now()
	r.do("map.set", fmt.Sprintf(`{"id":%q,"key":"a","data":1,"ttl":1}`, id))
	r.do("map.set", fmt.Sprintf(`{"id":%q,"key":"b","data":1,"ttl":2}`, id))
	r.do("map.set", fmt.Sprintf(`{"id":%q,"key":"c","data":1}`, id))
	r.do("open", `{"type":"document","name":"d","ttl":2}`)
	r.restart()
	wait := func(what string, least time.Duration, gone func() bool) {
		t.Helper()
		for !gone() {
			if time.Since(begun) > 15*time.Second {
				t.Fatalf("%s does not go", what)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if took := time.Since(begun); took < least {
			t.Errorf("%s went after %v", what, took)
		}
	}
	count := func() string { return text(r.do("get", fmt.Sprintf(`{"id":%q}`, id))["count"]) }
	wait("a", time.Second, func() bool { return count() == "2" })
	r.restart()
	wait("b", 2*time.Second, func() bool { return count() == "1" })
	wait("the document", 2*time.Second, func() bool {
		_, err := call(r.s, backendCaller, "get", `{"type":"document","name":"d"}`)
		return err != nil
	})
	pubs := r.ears.heard(id)
	if n := len(pubs); n == 0 || !strings.Contains(string(pubs[n-1].Data), `"reason":"ttl"`) {
		t.Error("no event tells of it")
	}
	equal(t, "scheduled", r.s.Stats().Scheduled, 0)
}

// An object with more items than fit into one record is read back from its pages and its log.
func TestManyItems(t *testing.T) {
	r := newRig(t, Config{})
	id := r.do("open", `{"type":"map","name":"m"}`)["object"].(map[string]any)["id"].(string)
	want := map[string]string{}
	pad := strings.Repeat("x", 1000)
	for i := range 1500 {
		key := fmt.Sprintf("k%d", i*7919%500)
		if i%5 == 4 {
			if _, ok := want[key]; ok {
				r.do("map.delete", fmt.Sprintf(`{"id":%q,"key":%q}`, id, key))
				delete(want, key)
			}
			continue
		}
		want[key] = fmt.Sprintf("%q", fmt.Sprintf("%d%s", i, pad))
		r.do("map.set", fmt.Sprintf(`{"id":%q,"key":%q,"data":%s}`, id, key, want[key]))
		if i%400 == 399 {
			r.restart()
		}
	}
	if st := r.s.Stats(); st.Pages == 0 || st.Checkpoints == 0 {
		t.Errorf("nothing was written down: %+v", st)
	}
	r.restart()
	got := map[string]string{}
	cursor := ""
	last := ""
	for {
		q := r.do("query", fmt.Sprintf(`{"id":%q,"limit":37%s}`, id, cursor))
		for _, each := range q["items"].([]any) {
			i := each.(map[string]any)
			key := i["key"].(string)
			if key <= last {
				t.Fatalf("%s behind %s", key, last)
			}
			got[key], last = text(i["data"]), key
		}
		if q["cursor"] == nil {
			break
		}
		cursor = fmt.Sprintf(`,"cursor":%q`, q["cursor"])
	}
	equal(t, "items", got, want)
	equal(t, "count", r.do("get", fmt.Sprintf(`{"id":%q}`, id))["count"], len(want))
}

// Where only backends create objects, clients open those that are there.
func TestBackendsCreate(t *testing.T) {
	r := newRig(t, Config{BackendsCreate: true})
	const open = `{"type":"map","name":"m"}`
	r.refused(user("ann"), CodeNoPermission, "open", open)
	r.refused(user("ann"), CodeNoPermission, "open", `{"type":"map","mode":"create_new"}`)
	r.do("open", open)
	for _, op := range []string{"open", "get"} {
		if _, err := call(r.s, user("ann"), op, open); err != nil {
			t.Errorf("%s: %v", op, err)
		}
	}
	r.do("delete", open)
	r.refused(user("ann"), CodeNoPermission, "open", open)
}
