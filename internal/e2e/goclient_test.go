//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/centrifugal/centrifuge-go"

	"roost/client"
	sharedstate "roost/service/sync"
)

// notes are the events of an object, as a test reads them.
type notes struct {
	mu  sync.Mutex
	all []client.Event
}

func (n *notes) add(e client.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, e)
}

// text has type, place and data of the events so far.
func (n *notes) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for _, e := range n.all {
		fmt.Fprintf(&b, "%s %s%d %s; ", e.Type, e.Key, e.Index, e.Data)
	}
	return b.String()
}

func (n *notes) want(t *testing.T, text string) {
	t.Helper()
	eventually(t, func() error {
		if got := n.text(); got != text {
			return fmt.Errorf("%q, want %q", got, text)
		}
		return nil
	})
}

// goClient is a client of a user that has connected.
func (g *gateway) goClient(t *testing.T, user string, binary bool) *client.Client {
	t.Helper()
	c := client.New(g.url(), client.Options{Token: tokenOf(user), Protobuf: binary, Config: centrifuge.Config{
		MinReconnectDelay: 20e6, MaxReconnectDelay: 200e6}})
	t.Cleanup(c.Close)
	if err := c.Connect(); err != nil {
		t.Fatal(err)
	}
	return c
}

func ok[V any](t *testing.T) func(v V, err error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantRefusal(t *testing.T, code uint32, err error) *client.Error {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%v, want an error %d", err, code)
		return &client.Error{}
	}
	return e
}

// The Go client has all objects, in both encodings.
func TestGoClient(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--services", "sync", "--memory")
	for _, binary := range []bool{false, true} {
		t.Run(fmt.Sprint("protobuf ", binary), func(t *testing.T) {
			ctx, name := inTime(t), named(t, "")
			ann, bob := g.goClient(t, "ann", binary), g.goClient(t, "bob", !binary)
			var seen notes
			own := ok[*client.Map](t)(ann.Map(ctx, name, client.Open{}))
			other := ok[*client.Map](t)(bob.Map(ctx, name, client.Open{Events: seen.add}))
			write := ok[client.Written](t)
			write(own.Set(ctx, "a", 1, client.Write{}))
			_, err := own.Insert(ctx, "a", 2, client.Write{})
			if e := wantRefusal(t, client.CodeItemExists, err); e.Revision != 2 {
				t.Errorf("%+v", e)
			}
			_, err = own.Set(ctx, "a", 2, client.Write{IfRevision: 7})
			if e := wantRefusal(t, client.CodeWrongRevision, err); e.Revision != 2 {
				t.Errorf("%+v", e)
			}
			write(own.Insert(ctx, "b", map[string]int{"x": 1}, client.Write{}))
			write(own.Merge(ctx, "b", map[string]int{"y": 2}, client.Write{Key: "k"}))
			if w := write(own.Merge(ctx, "b", map[string]int{"y": 3}, client.Write{Key: "k"})); !w.Duplicate {
				t.Errorf("%+v", w)
			}
			write(other.Mutate(ctx, "c", func(old json.RawMessage) (any, error) { return string(old) + "!", nil }))
			write(own.Delete(ctx, "a", client.Write{}))
			seen.want(t, `item_added a0 1; item_added b0 {"x":1}; item_updated b0 {"x":1,"y":2}; item_added c0 "!"; item_removed a0 ; `)
			if i, err := other.Get(ctx, "b"); err != nil || i == nil || string(i.Data) != `{"x":1,"y":2}` || i.Actor != "ann" {
				t.Errorf("item %+v, %v", i, err)
			}
		})
		t.Run(fmt.Sprint("documents, lists and streams, protobuf ", binary), func(t *testing.T) { goObjects(t, g, binary) })
	}
}

// goObjects uses what a map does not have.
func goObjects(t *testing.T, g *gateway, binary bool) {
	ctx, name := inTime(t), named(t, "")
	ann, bob := g.goClient(t, "ann", binary), g.goClient(t, "bob", !binary)
	write := ok[client.Written](t)
	var inList, inStream notes
	list := ok[*client.List](t)(ann.List(ctx, name, client.Open{}))
	_ = ok[*client.List](t)(bob.List(ctx, name, client.Open{Events: inList.add}))
	if w := write(list.Push(ctx, client.Write{}, "a", "b")); w.Index != 0 {
		t.Errorf("%+v", w)
	}
	write(list.Batch(ctx, client.Write{}, client.Operation{"op": "list.set", "index": 0, "data": "A"}, client.Operation{"op": "list.delete", "index": 1}))
	inList.want(t, `item_added 0 "a"; item_added 1 "b"; item_updated 0 "A"; item_removed 1 ; `)
	if i, err := list.Get(ctx, 1); i != nil || err != nil {
		t.Errorf("a removed item: %+v, %v", i, err)
	}
	for i := range 250 {
		write(list.Push(ctx, client.Write{}, i))
	}
	count := 0
	for i, err := range list.All(ctx, client.Query[uint64]{Descending: true, Limit: 100}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := uint64(251 - count); count < 250 && i.Index != want {
			t.Fatalf("item %d is %d, want %d", count, i.Index, want)
		}
		count++
	}
	if count != 251 {
		t.Errorf("%d items", count)
	}
	stream := ok[*client.Stream](t)(ann.Stream(ctx, name, client.Open{}))
	_ = ok[*client.Stream](t)(bob.Stream(ctx, name, client.Open{Events: inStream.add}))
	if err := stream.Publish(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	inStream.want(t, `message 0 "hello"; `)

	doc := ok[*client.Document](t)(ann.Document(ctx, name, client.Open{Data: map[string]int{"sum": 0}, Restricted: new(true)}))
	_, err := bob.Document(ctx, name, client.Open{})
	wantRefusal(t, client.CodeNoPermission, err)
	write(doc.Grant(ctx, "bob", client.Grant{Read: true, Write: true}, client.Write{}))
	same := ok[*client.Document](t)(bob.Document(ctx, name, client.Open{}))
	var wg sync.WaitGroup
	for _, d := range []*client.Document{doc, doc, same, same} {
		wg.Go(func() {
			for range 10 {
				if _, err := d.Mutate(ctx, addOne); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, func() error {
		if a, b := string(doc.Data()), string(same.Data()); a != `{"sum":40}` || a != b {
			return fmt.Errorf("%s and %s", a, b)
		}
		return nil
	})
	if h := ok[[]client.Revision](t)(doc.History(ctx, 3)); len(h) != 3 || string(h[1].Data) != `{"sum":39}` {
		t.Errorf("history: %+v", h)
	}
	if p := ok[client.Permissions](t)(same.Permissions(ctx)); p.Yours != (client.Grant{Read: true, Write: true}) || !p.Restricted {
		t.Errorf("permissions: %+v", p)
	}
}

func addOne(data json.RawMessage) (any, error) {
	var v struct {
		Sum int `json:"sum"`
	}
	err := json.Unmarshal(data, &v)
	v.Sum++
	return v, err
}

// Writes go on while the gateway is killed and comes back, each is done once, and all are heard of; who has
// missed more than there is reads anew.
func TestGoClientKilled(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--services", "sync", "--data", t.TempDir())
	ctx := inTime(t)
	ann, bob := g.goClient(t, "ann", true), g.goClient(t, "bob", false)
	var seen notes
	list := ok[*client.List](t)(ann.List(ctx, "l", client.Open{}))
	_ = ok[*client.List](t)(bob.List(ctx, "l", client.Open{Events: seen.add}))
	done := make(chan error, 1)
	go func() {
		for i := range 300 {
			if w, err := list.Push(ctx, client.Write{}, i); err != nil || w.Index != uint64(i) {
				done <- fmt.Errorf("push %d: %+v, %w", i, w, err)
				return
			}
			if i == 100 || i == 200 {
				g.Kill()
				g = g.again(t)
			}
		}
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := ""
	for i := range 300 {
		want += fmt.Sprintf("item_added %d %d; ", i, i)
	}
	seen.want(t, want)
}

// Who has missed more than the log has reads the object anew, and is told so.
func TestGoClientSnapshot(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--services", "sync", "--memory")
	ctx := inTime(t)
	ann, bob := g.goClient(t, "ann", true), g.goClient(t, "bob", false)
	var seen notes
	doc := ok[*client.Document](t)(ann.Document(ctx, "d", client.Open{}))
	same := ok[*client.Document](t)(bob.Document(ctx, "d", client.Open{Events: seen.add}))
	if err := bob.Centrifuge().Disconnect(); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		ok[client.Written](t)(doc.Set(ctx, i, client.Write{}))
	}
	if err := bob.Connect(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if got := seen.text(); got != "snapshot 0 ; " || string(same.Data()) != "299" || same.Revision() != 301 {
			return fmt.Errorf("%q, %s at revision %d", got, same.Data(), same.Revision())
		}
		return nil
	})
	ok[client.Written](t)(doc.Set(ctx, 300, client.Write{}))
	seen.want(t, "snapshot 0 ; updated 0 300; ")
	ok[client.Written](t)(doc.Remove(ctx, client.Write{}))
	seen.want(t, "snapshot 0 ; updated 0 300; removed 0 ; ")
}

// What the client names as codes are those of the service.
func TestGoClientCodes(t *testing.T) {
	t.Parallel()
	own := []uint32{client.CodeInvalid, client.CodeTooLarge, client.CodeUnknownObject, client.CodeNoPermission, client.CodeWrongType,
		client.CodeObjectExists, client.CodeUnknownItem, client.CodeItemExists, client.CodeWrongRevision, client.CodeBadTTL, client.CodeBadIndex,
		client.CodeBadCursor, client.CodeBadKey, client.CodeFull, client.CodeUnknownOp, client.CodeBadName, client.CodeClientsOnly}
	for i, c := range sharedstate.Codes {
		if i >= len(own) || own[i] != c.Code {
			t.Errorf("code %d, %s, is not the client's number %d", c.Code, c.Text, i)
		}
	}
}
