package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/broker"
	"roost/internal/proctest"
	"roost/proto/client"
)

// heard keeps what handlers of events are told.
type heard struct {
	mu    sync.Mutex
	gone  map[string][]DisconnectEvent // by client
	left  []UnsubscribeEvent
	fails func(try int) error
}

func (h *heard) handlers(o *Options) {
	h.gone = map[string][]DisconnectEvent{}
	o.Handlers.Disconnect = func(_ context.Context, e DisconnectEvent) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gone[e.Client] = append(h.gone[e.Client], e)
		if h.fails != nil {
			return h.fails(len(h.gone[e.Client]))
		}
		return nil
	}
	o.Handlers.Unsubscribe = func(_ context.Context, e UnsubscribeEvent) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.left = append(h.left, e)
		return nil
	}
}

// wantGone waits for n events about a client and returns the last.
func (h *heard) wantGone(t *testing.T, id string, n int) (e DisconnectEvent) {
	t.Helper()
	proctest.Eventually(t, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		all := h.gone[id]
		if len(all) < n {
			return fmt.Errorf("%d events about %s, want %d", len(all), id, n)
		}
		e = all[len(all)-1]
		return nil
	})
	return e
}

func TestDisconnectEvents(t *testing.T) {
	h := &heard{}
	n := start(t, h.handlers)
	begun := time.Now().UnixMilli()
	for name, c := range map[string]struct {
		end    func(id string, r *raw)
		code   uint32
		reason string
	}{
		"socket closed": {func(_ string, r *raw) { _ = r.conn.Close() }, 3000, "connection closed"},
		"close frame": {func(_ string, r *raw) {
			_, _ = r.conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x11, 0x94}) // 4500, the client's word
		}, 3000, "connection closed"},
		"bad frame": {func(_ string, r *raw) { _, _ = r.conn.Write([]byte{0xf1, 0x80, 0, 0, 0, 0}) }, 3501, "bad request"},
		"nonsense":  {func(_ string, r *raw) { r.write("x"); r.ends(3501) }, 3501, "bad request"},
		"by the API": {func(id string, r *raw) {
			if _, err := n.Disconnect(t.Context(), &DisconnectRequest{Client: id, Disconnect: &DisconnectCode{Code: 4321, Reason: "own"}}); err != nil {
				t.Error(err)
			}
			r.ends(4321)
		}, 4321, "own"},
	} {
		t.Run(name, func(t *testing.T) {
			r := n.dial("")
			id := r.ok(`{"connect":{}}`).Connect.Client
			r.ok(`{"subscribe":{"channel":"a"}}`)
			r.ok(`{"subscribe":{"channel":"b"}}`)
			c.end(id, r)
			e := h.wantGone(t, id, 1)
			slices.Sort(e.Channels)
			if e.ID != id || e.Code != c.code || e.Reason != c.reason || strings.Join(e.Channels, " ") != "a b" || e.Time < begun || e.Transport != "websocket" || e.Protocol != "json" {
				t.Errorf("%+v", e)
			}
		})
	}
	if len(h.left) != 0 {
		t.Errorf("unsubscribes of clients that have gone: %+v", h.left)
	}
	r := n.dial("") // never connected: there is nothing to tell
	r.write("x")
	r.ends(3501)
	a := n.connected("ann")
	_ = a.conn.Close()
	proctest.Eventually(t, func() error {
		if s := n.Stats().Events["disconnect"]; s.Done != 6 || s.Stored != 6 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestUnsubscribeEvents(t *testing.T) {
	h := &heard{}
	n := start(t, h.handlers)
	a := n.connected("ann")
	for _, ch := range []string{"own", "server", "stays"} {
		a.ok(`{"subscribe":{"channel":"` + ch + `"}}`)
	}
	a.ok(`{"unsubscribe":{"channel":"own"}}`)
	a.ok(`{"unsubscribe":{"channel":"never"}}`)
	if _, err := n.Unsubscribe(t.Context(), &UnsubscribeRequest{User: "ann", Channel: "server"}); err != nil {
		t.Fatal(err)
	}
	proctest.Eventually(t, func() error {
		if s := n.Stats().Events["unsubscribe"]; s.Done != 2 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	slices.SortFunc(h.left, func(a, b UnsubscribeEvent) int { return strings.Compare(a.Channel, b.Channel) })
	own, server := h.left[0], h.left[1]
	if own.Channel != "own" || own.Code != 0 || own.Reason != "client unsubscribed" || own.User != "ann" || own.ID == "" || own.ID == server.ID {
		t.Errorf("%+v", own)
	}
	if server.Channel != "server" || server.Code != 2000 || server.Reason != "server unsubscribe" {
		t.Errorf("%+v", server)
	}
}

// Errors that are temporary bring the event back, others do not.
func TestEventErrors(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		again    int // how often the event comes
		rejected uint64
	}{
		"any error":  {errors.New("away"), 3, 0},
		"temporary":  {&client.Error{Code: 400, Temporary: true}, 3, 0},
		"internal":   {client.ErrInternal, 3, 0},
		"final":      {&client.Error{Code: 400}, 1, 1},
		"disconnect": {&client.Disconnect{Code: 4000}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &heard{fails: func(try int) error {
				if try == 3 {
					return nil
				}
				return c.err
			}}
			n := start(t, h.handlers)
			a := n.dial("")
			id := a.ok(`{"connect":{}}`).Connect.Client
			_ = a.conn.Close()
			h.wantGone(t, id, c.again)
			proctest.Eventually(t, func() error {
				if s := n.Stats().Events["disconnect"]; s.Done != 1 || s.Rejected != c.rejected || int(s.Retried) != c.again-1 {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
		})
	}
}

// Without handlers there is no queue, and nothing is kept about the end of a client.
func TestNoEvents(t *testing.T) {
	n := start(t, nil)
	a := n.connected("ann")
	a.write("x")
	a.ends(3501)
	if s := n.Stats().Events; len(s) != 0 || n.notices != (notices{}) {
		t.Errorf("%+v, %+v", s, n.notices)
	}
}

// What is to be told when the node ends is told by the next one.
func TestEventsOutliveNode(t *testing.T) {
	dir := t.TempDir()
	h := &heard{fails: func(int) error { return errors.New("not this one") }}
	n := start(t, func(o *Options) { h.handlers(o); o.Broker = broker.Options{Dir: dir} })
	var ids []string
	for range 20 {
		ids = append(ids, n.dial("").ok(`{"connect":{}}`).Connect.Client)
	}
	n.stop()
	next := &heard{}
	start(t, func(o *Options) { next.handlers(o); o.Broker = broker.Options{Dir: dir} })
	for _, id := range ids {
		if e := next.wantGone(t, id, 1); e.Code != 3001 {
			t.Errorf("%+v", e)
		}
	}
}

// Clients that are in the ledger of an earlier run are told to have gone; while it
// cannot be written, nobody is let in.
func TestLedger(t *testing.T) {
	dir := t.TempDir()
	h := &heard{}
	n := start(t, func(o *Options) { h.handlers(o); o.Broker = broker.Options{Dir: dir} })
	a := n.connected("ann")
	if err := n.notices.clients.Add(t.Context(), "lost", []byte(`{"client":"lost","user":"bob","transport":"websocket"}`)); err != nil {
		t.Fatal(err)
	}
	a.ok(`{"subscribe":{"channel":"a"}}`)
	if err := n.broker.Close(); err != nil { // nothing of the node's end is stored
		t.Fatal(err)
	}
	n.dial("").fails(`{"connect":{}}`, 100)
	n.stop()
	next := &heard{}
	start(t, func(o *Options) { next.handlers(o); o.Broker = broker.Options{Dir: dir} })
	e := next.wantGone(t, "lost", 1)
	if e.ID != "lost" || e.User != "bob" || e.Code != 3004 || e.Reason != "the gateway was lost" || e.Transport != "websocket" {
		t.Errorf("%+v", e)
	}
	proctest.Eventually(t, func() error {
		next.mu.Lock()
		defer next.mu.Unlock()
		if len(next.gone) != 2 {
			return fmt.Errorf("%d clients are told to have gone, want 2", len(next.gone))
		}
		return nil
	})
}
