package sync

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"roost/broker"
	"roost/service"
)

// ears hear what is published to channels, as subscribers would.
type ears struct {
	mu   sync.Mutex
	pubs map[string][]*broker.Publication
	deaf bool // they keep nothing
}

func (e *ears) Publication(ch string, pub *broker.Publication) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.deaf {
		e.pubs[ch] = append(e.pubs[ch], pub)
	}
}
func (e *ears) JoinLeave(string, bool, []byte)       {}
func (e *ears) Gap(string)                           {}
func (e *ears) Notice(string, []byte)                {}
func (e *ears) Query(string, []byte) ([]byte, error) { return nil, nil }
func (e *ears) heard(id string) []*broker.Publication {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pubs[Channel(id)]
}

// rig is a service on an embedded broker, which can be restarted.
type rig struct {
	t    testing.TB
	dir  string
	conf Config
	b    *broker.Broker
	s    *Service
	ears *ears
}

func newRig(t testing.TB, c Config) *rig {
	r := &rig{t: t, dir: t.TempDir(), conf: c}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) start() {
	r.t.Helper()
	r.ears = &ears{pubs: map[string][]*broker.Publication{}}
	var err error
	if r.b, err = broker.New(broker.Options{Dir: r.dir, Handler: r.ears, Logger: quiet()}); err != nil {
		r.t.Fatal(err)
	}
	if r.s, err = New(Options{Broker: r.b, Config: r.conf, Logger: quiet()}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) stop() {
	if r.s == nil {
		return
	}
	if err := errors.Join(r.s.Close(), r.b.Close()); err != nil {
		r.t.Error(err)
	}
	r.s = nil
}

func (r *rig) restart() { r.stop(); r.start() }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// forget has everything read from the store again.
func (r *rig) forget() {
	for shard := range service.Shards {
		r.s.cells.Forget(shard)
	}
}

var backendCaller = service.Caller{Trusted: true}

func user(name string) service.Caller { return service.Caller{User: name, Client: "client of " + name} }

func call(s *Service, c service.Caller, op, params string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	q := &service.Call{Caller: c, Op: op, Data: []byte(params)}
	if err := Prepare(q); err != nil {
		return nil, err
	}
	b, err := s.Router().Do(ctx, q)
	if err != nil {
		return nil, err
	}
	var v map[string]any
	return v, json.Unmarshal(b, &v)
}

// do calls as a backend; the call must succeed.
func (r *rig) do(op, params string) map[string]any {
	r.t.Helper()
	v, err := call(r.s, backendCaller, op, params)
	if err != nil {
		r.t.Fatalf("%s %s: %v", op, params, err)
	}
	return v
}

// refused calls; it must fail with a code.
func (r *rig) refused(c service.Caller, code uint32, op, params string) *service.Error {
	r.t.Helper()
	_, err := call(r.s, c, op, params)
	var e *service.Error
	if !errors.As(err, &e) || e.Code != code {
		r.t.Errorf("%s %s: %v, want an error %d", op, params, err, code)
		return &service.Error{}
	}
	return e
}

// text is a value as JSON.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (r *rig) data(params string) string { r.t.Helper(); return text(r.do("get", params)["data"]) }
func (r *rig) item(params string) string {
	r.t.Helper()
	return text(r.do("get", params)["item"].(map[string]any)["data"])
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := text(got), text(want); g != w {
		t.Errorf("%s: %s, want %s", what, g, w)
	}
}

func fixed() time.Time { return time.Unix(1_795_000_000, 0) }
