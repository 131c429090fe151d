package sync

import (
	"reflect"
	"testing"

	"roost/broker"
	"roost/service"
)

// full is an object with all that one can have.
func full() *object {
	o := &object{id: namedID(kindMap, "m"), kind: kindMap, event: 300, exists: true, name: "ä", creator: "ann", revision: 200, created: 1, updated: 2,
		expires: 3, restricted: true, next: 9, grants: map[string]grant{"bob": {Read: true}, "*": {Write: true, Manage: true}}}
	o.keys.add("kone", done{event: 7, revision: 6, index: 5, hasIndex: true})
	o.keys.add("ctwo", done{event: 8, revision: 7})
	for _, key := range []string{"a", "b", "z"} {
		o.put(&item{key: key, data: []byte(`{"x":1}`), revision: 4, created: 5, updated: 6, expires: 7, actor: "cid"})
	}
	return o
}

// The root page has all that an object is.
func TestRootPage(t *testing.T) {
	o := full()
	got := &object{id: o.id, kind: o.kind}
	rest, err := got.decodeRoot(o.encodeRoot(true, []string{"one", "two"}))
	if err == nil {
		err = got.takeItems(rest, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	o.root, o.event, o.pages, o.data = o.event, 0, []string{"one", "two"}, nil
	if !reflect.DeepEqual(o, got) {
		t.Errorf("%+v\nbecame\n%+v", o, got)
	}
}

func FuzzRootPage(f *testing.F) {
	f.Add(full().encodeRoot(true, nil))
	f.Add(full().encodeRoot(false, []string{"a"}))
	f.Add([]byte{rootFormat})
	f.Fuzz(func(t *testing.T, b []byte) {
		o := &object{id: namedID(kindMap, "m"), kind: kindMap}
		if rest, err := o.decodeRoot(b); err == nil {
			_ = o.takeItems(rest, "")
		}
	})
}

func FuzzOperation(f *testing.F) {
	for _, seed := range [][2]string{
		{"set", `{"type":"document","name":"a","data":{"x":1},"if_revision":1}`},
		{"batch", `{"type":"map","name":"a","operations":[{"op":"map.set","key":"k","data":1,"ttl":5},{"op":"grant","identity":"*","read":true}]}`},
		{"query", `{"type":"list","name":"a","from":3,"order":"desc","bounds":"exclusive","cursor":"e30"}`},
		{"list.push", `{"id":"laaaaaaaaaaaaaaaaaaaaaaaaaa","items":[1,null,"x"]}`},
		{"open", `{"type":"stream","mode":"create_new"}`},
	} {
		f.Add(seed[0], []byte(seed[1]))
	}
	s := &Service{opts: Options{Config: Config{MaxData: 1000, MaxItems: 10}}, now: fixed}
	f.Fuzz(func(t *testing.T, op string, data []byte) {
		c := &service.Call{Caller: backendCaller, Op: op, Data: data}
		if Prepare(c) != nil {
			return
		}
		k, ok := kindOf(c.Key)
		if !ok {
			t.Fatalf("%s %s: key %q", op, data, c.Key)
		}
		o := full()
		o.id, o.kind = c.Key, k
		p := c.Parsed.(*params)
		if _, err := o.cutOf(p); err == nil && op == "query" {
			return
		}
		d, _, err := s.plan(o, c, p)
		if err != nil || len(d.events) == 0 {
			return
		}
		pub, err := d.commit().encode()
		if err != nil {
			t.Fatalf("%s %s: %v", op, data, err)
		}
		again, err := decodeCommit(&pub)
		if err != nil {
			t.Fatalf("%s %s became %s: %v", op, data, pub.Data, err)
		}
		o.apply(again, broker.Position{Offset: 301})
	})
}

func FuzzCommit(f *testing.F) {
	f.Add([]byte(`{"type":"created","object":{"id":"m","type":"map","revision":1}}`), []byte(`{"k":"kx","a":{"r":true}}`))
	f.Add([]byte(`{"type":"batch","events":[{"type":"item_added","index":3,"data":1},{"type":"ttl","key":"a"},{"type":"item_removed","key":"b"}]}`), []byte{})
	f.Fuzz(func(t *testing.T, data, note []byte) {
		c, err := decodeCommit(&broker.Publication{Data: data, Note: note})
		if err == nil {
			full().apply(c, broker.Position{Offset: 301})
		}
	})
}
