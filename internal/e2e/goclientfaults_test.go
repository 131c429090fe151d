//go:build linux

package e2e

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/centrifugal/centrifuge-go"

	"roost/client"
)

// cutter relays connections to a gateway, and cuts one instead of bringing its client the next bytes when it is told to.
type cutter struct {
	net.Listener
	to  string
	cut atomic.Bool
	all sync.WaitGroup
}

func startCutter(t *testing.T, to string) *cutter {
	ln, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: ln, to: to}
	c.all.Go(func() {
		for {
			front, err := ln.Accept()
			if err != nil {
				return
			}
			c.all.Go(func() { c.relay(front) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		c.all.Wait()
	})
	return c
}

func (c *cutter) relay(front net.Conn) {
	defer front.Close()
	back, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	c.all.Go(func() {
		_, _ = io.Copy(back, front)
		_ = back.Close()
	})
	b := make([]byte, 64<<10)
	for {
		n, err := back.Read(b)
		if err != nil || c.cut.CompareAndSwap(true, false) {
			return
		}
		if _, err := front.Write(b[:n]); err != nil {
			return
		}
	}
}

// What is sent again after its answer was lost gets the answer that the first would have had.
func TestGoClientLostAnswers(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--services", "sync", "--memory")
	c := startCutter(t, g.address)
	ann := client.New("ws://"+c.Addr().String()+"/connection/websocket", client.Options{Token: tokenOf("ann"), Config: centrifuge.Config{
		MinReconnectDelay: 20e6, MaxReconnectDelay: 200e6}})
	t.Cleanup(ann.Close)
	if err := ann.Connect(); err != nil {
		t.Fatal(err)
	}
	ctx := inTime(t)
	list := ok[*client.List](t)(ann.List(ctx, "all", client.Open{}))
	c.cut.Store(true)
	doc := ok[*client.Document](t)(ann.Document(ctx, "once", client.Open{Mode: client.CreateNew, Data: 1}))
	_, err := ann.Document(ctx, "once", client.Open{Mode: client.CreateNew})
	wantRefusal(t, client.CodeObjectExists, err)
	for range 5 {
		c.cut.Store(true)
		ok[*client.Map](t)(ann.Map(ctx, "", client.Open{}))
		c.cut.Store(true)
		ok[client.Written](t)(list.Push(ctx, client.Write{}, 1))
	}
	if p := ok[client.Page](t)(list.Query(ctx, client.Query[uint64]{}, "")); len(p.Items) != 5 {
		t.Errorf("%d items were pushed, want 5", len(p.Items))
	}
	c.cut.Store(true)
	ok[client.Written](t)(doc.Remove(ctx, client.Write{}))
	if c.cut.Load() {
		t.Error("no answer was lost")
	}
	// One commit for each of the two objects, the maps, the pushes and the removal.
	if n := g.metrics(t)["roost_sync_commits_total"]; n != 2+5+5+1 {
		t.Errorf("%v commits, want 13", n)
	}
}

// An object that is opened twice is followed once, and both hear of it.
func TestGoClientShared(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--services", "sync", "--memory")
	ctx := inTime(t)
	ann := g.goClient(t, "ann", false)
	var one, two notes
	first := ok[*client.Map](t)(ann.Map(ctx, "m", client.Open{Events: one.add}))
	second := ok[*client.Map](t)(ann.Map(ctx, "", client.Open{ID: first.ID(), Events: two.add}))
	ok[client.Written](t)(first.Set(ctx, "a", 1, client.Write{}))
	one.want(t, "item_added a0 1; ")
	two.want(t, "item_added a0 1; ")
	first.Close()
	ok[client.Written](t)(second.SetItemTTL(ctx, "a", 1, client.Write{Key: "ttl"}))
	two.want(t, "item_added a0 1; ttl a0 ; item_removed a0 ; ")
	one.want(t, "item_added a0 1; ")
	second.Close()
	third := ok[*client.Map](t)(ann.Map(ctx, "m", client.Open{Events: one.add}))
	ok[client.Written](t)(third.Batch(ctx, client.Write{Key: "b"}, client.Operation{"op": "map.set", "key": "b", "data": 2}))
	if w := ok[client.Written](t)(third.Batch(ctx, client.Write{Key: "b"}, client.Operation{"op": "map.set", "key": "b", "data": 2})); !w.Duplicate {
		t.Errorf("a batch was done twice: %+v", w)
	}
	one.want(t, "item_added a0 1; item_added b0 2; ")
	two.want(t, "item_added a0 1; ttl a0 ; item_removed a0 ; ")
}

// Who may not read any more is told so, and may open the object again when that is granted.
func TestGoClientRefused(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--services", "sync", "--memory")
	ctx := inTime(t)
	ann, bob := g.goClient(t, "ann", true), g.goClient(t, "bob", false)
	doc := ok[*client.Document](t)(ann.Document(ctx, "d", client.Open{Restricted: new(true)}))
	ok[client.Written](t)(doc.Grant(ctx, "bob", client.Grant{Read: true}, client.Write{}))
	var seen notes
	ok[*client.Document](t)(bob.Document(ctx, "d", client.Open{Events: seen.add}))
	ok[client.Written](t)(doc.Revoke(ctx, "bob", client.Write{}))
	eventually(t, func() error {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		if n := len(seen.all); n == 0 || seen.all[n-1].Type != client.Refused {
			return io.ErrNoProgress
		}
		wantRefusal(t, client.CodeNoPermission, seen.all[len(seen.all)-1].Err)
		return nil
	})
	ok[client.Written](t)(doc.Grant(ctx, "bob", client.Grant{Read: true}, client.Write{}))
	var again notes
	ok[*client.Document](t)(bob.Document(ctx, "d", client.Open{Events: again.add}))
	ok[client.Written](t)(doc.Set(ctx, 2, client.Write{}))
	again.want(t, "updated 0 2; ")
}
