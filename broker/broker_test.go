package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// recorder is a Handler that keeps what it was told.
type recorder struct {
	mu      sync.Mutex
	pubs    map[string][]*Publication
	moves   map[string][]string
	gaps    map[string]int
	notices []string
	query   func(kind string, data []byte) ([]byte, error)
	changed chan struct{} // closed at each change, and made anew
}

var _ Handler = (*recorder)(nil)

func newRecorder() *recorder {
	return &recorder{pubs: map[string][]*Publication{}, moves: map[string][]string{}, gaps: map[string]int{}, changed: make(chan struct{})}
}

func (r *recorder) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Publication(ch string, p *Publication) {
	r.change(func() { r.pubs[ch] = append(r.pubs[ch], p) })
}

func (r *recorder) JoinLeave(ch string, join bool, info []byte) {
	r.change(func() { r.moves[ch] = append(r.moves[ch], fmt.Sprint(join, string(info))) })
}
func (r *recorder) Gap(ch string) { r.change(func() { r.gaps[ch]++ }) }
func (r *recorder) Notice(kind string, data []byte) {
	r.change(func() { r.notices = append(r.notices, kind+"="+string(data)) })
}

func (r *recorder) Query(kind string, data []byte) ([]byte, error) {
	if r.query == nil {
		return nil, errors.New("not expected")
	}
	return r.query(kind, data)
}

// wait returns when ok holds; it is called with the recorder locked.
func (r *recorder) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		done, changed := ok(), r.changed
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-end:
			t.Fatalf("%s did not come", what)
		}
	}
}

func (r *recorder) of(ch string) []*Publication {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*Publication(nil), r.pubs[ch]...)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// start runs a broker for the length of the test.
func start(t *testing.T, o Options) (*Broker, *recorder) {
	t.Helper()
	r, _ := o.Handler.(*recorder)
	if r == nil {
		r = newRecorder()
		o.Handler = r
	}
	if o.Logger == nil {
		o.Logger = quiet()
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, r
}

// natsServer runs a server that nodes connect to.
func natsServer(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS did not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// both runs f with the embedded server and as one node of a cluster.
func both(t *testing.T, f func(t *testing.T, b *Broker, r *recorder)) {
	t.Run("embedded", func(t *testing.T) {
		b, r := start(t, Options{Memory: true})
		f(t, b, r)
	})
	t.Run("cluster", func(t *testing.T) {
		s := natsServer(t, t.TempDir(), -1)
		b, r := start(t, Options{URLs: []string{s.ClientURL()}})
		f(t, b, r)
	})
}

func publish(t *testing.T, b *Broker, ch, data string, o PublishOptions) Position {
	t.Helper()
	pos, suppressed, err := b.Publish(t.Context(), ch, Publication{Data: []byte(data)}, o)
	if err != nil || suppressed {
		t.Fatalf("publish %q: suppressed %v, error %v", data, suppressed, err)
	}
	return pos
}

func offsets(t *testing.T, b *Broker, ch string, q HistoryQuery) (string, Position) {
	t.Helper()
	pubs, top, err := b.History(t.Context(), ch, q)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range pubs {
		all = append(all, strconv.FormatUint(p.Offset, 10)+string(p.Data))
	}
	return strings.Join(all, " "), top
}

var kept = PublishOptions{HistorySize: 10, HistoryTTL: time.Minute}

func TestLive(t *testing.T) {
	names := []string{
		"a", "a.b.*", ">", "*", "a b\tc", "%2E", "\x00\x7f\n", "😀.😀", "ns:x#1,2", "$SYS.>", strings.Repeat("é", 127), strings.Repeat("\x01", 255),
	}
	both(t, func(t *testing.T, b *Broker, r *recorder) {
		for _, ch := range names {
			b.Follow(ch)
			for i := range 3 {
				o := PublishOptions{}
				if i > 0 {
					o = kept
				}
				pub := Publication{Data: []byte{byte('0' + i)}, Info: []byte("info"), Tags: map[string]string{"k": "v"}, Delta: true, Time: 5}
				pos, _, err := b.Publish(t.Context(), ch, pub, o)
				if err != nil || pos.Offset != uint64(i) || (pos.Epoch == "") != (i == 0) {
					t.Fatalf("%q: position %+v, error %v", ch, pos, err)
				}
			}
			if err := b.PublishJoinLeave(ch, true, []byte("me")); err != nil {
				t.Fatal(err)
			}
			r.wait(t, "join in "+ch, func() bool { return len(r.moves[ch]) == 1 })
			got := r.of(ch)
			if len(got) != 3 {
				t.Fatalf("%q: %d publications, want 3", ch, len(got))
			}
			for i, p := range got {
				if p.Data[0] != byte('0'+i) || p.Offset != uint64(i) || string(p.Info) != "info" || p.Tags["k"] != "v" || !p.Delta || p.Time != 5 {
					t.Errorf("%q: publication %d is %+v", ch, i, p)
				}
			}
			if r.moves[ch][0] != "trueme" {
				t.Errorf("%q: join %q", ch, r.moves[ch])
			}
			if all, _ := offsets(t, b, ch, HistoryQuery{Limit: -1, Size: 10}); all != "11 22" {
				t.Errorf("%q: history %q", ch, all)
			}
		}
		for _, ch := range []string{"", strings.Repeat("x", 256)} {
			if _, _, err := b.Publish(t.Context(), ch, Publication{}, kept); !errors.Is(err, ErrChannel) {
				t.Errorf("channel of %d bytes: %v", len(ch), err)
			}
		}
		if n := len(r.pubs); n != len(names) {
			t.Errorf("%d channels heard of, want %d", n, len(names))
		}
	})
}

func TestHistoryQueries(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, _ *recorder) {
		_, empty := offsets(t, b, "ch", HistoryQuery{Size: 5})
		if empty.Offset != 0 || empty.Epoch == "" {
			t.Fatalf("position of an empty channel is %+v", empty)
		}
		for i := range 7 {
			o := PublishOptions{HistorySize: 5, HistoryTTL: time.Hour}
			if pos := publish(t, b, "ch", string(rune('a'+i)), o); pos.Epoch != empty.Epoch || pos.Offset != uint64(i+1) {
				t.Fatalf("position %+v after %+v", pos, empty)
			}
		}
		at := func(n uint64) *Position { return &Position{n, empty.Epoch} }
		for _, c := range []struct {
			name string
			q    HistoryQuery
			want string
		}{
			{"none", HistoryQuery{}, ""},
			{"all", HistoryQuery{Limit: -1}, "3c 4d 5e 6f 7g"},
			{"first", HistoryQuery{Limit: 2}, "3c 4d"},
			{"last", HistoryQuery{Limit: 2, Reverse: true}, "7g 6f"},
			{"since", HistoryQuery{Limit: -1, Since: at(5)}, "6f 7g"},
			{"since, limited", HistoryQuery{Limit: 1, Since: at(3)}, "4d"},
			{"since top", HistoryQuery{Limit: -1, Since: at(7)}, ""},
			{"since later", HistoryQuery{Limit: -1, Since: at(70)}, ""},
			{"since lost", HistoryQuery{Limit: -1, Since: at(1)}, "3c 4d 5e 6f 7g"},
			{"before", HistoryQuery{Limit: 2, Reverse: true, Since: at(5)}, "4d 3c"},
			{"before the first", HistoryQuery{Limit: 2, Reverse: true, Since: at(0)}, ""},
			{"another epoch", HistoryQuery{Limit: -1, Since: &Position{5, "x"}}, ""},
			{"no epoch", HistoryQuery{Limit: -1, Since: &Position{5, ""}}, "6f 7g"},
		} {
			c.q.Size, c.q.TTL = 5, time.Hour
			if got, top := offsets(t, b, "ch", c.q); got != c.want || top != (Position{7, empty.Epoch}) {
				t.Errorf("%s: %q at %+v, want %q", c.name, got, top, c.want)
			}
		}
		if got, _ := offsets(t, b, "ch", HistoryQuery{Limit: -1, Size: 3}); got != "5e 6f 7g" {
			t.Errorf("smaller size: %q", got)
		}
	})
}

func TestTTLAppliesOnRead(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, _ *recorder) {
		now := time.Now()
		for i, age := range []time.Duration{time.Hour, 2 * time.Minute, 30 * time.Second} {
			pub := Publication{Data: []byte{byte('a' + i)}, Time: now.Add(-age).UnixMilli()}
			if _, _, err := b.Publish(t.Context(), "ch", pub, kept); err != nil {
				t.Fatal(err)
			}
		}
		for ttl, want := range map[time.Duration]string{time.Second: "", time.Minute: "3c", 5 * time.Minute: "2b 3c", 0: "1a 2b 3c"} {
			if got, top := offsets(t, b, "ch", HistoryQuery{Limit: -1, Size: 10, TTL: ttl}); got != want || top.Offset != 3 {
				t.Errorf("ttl %v: %q, want %q", ttl, got, want)
			}
		}
	})
}

func TestRemoveHistory(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, r *recorder) {
		b.Follow("ch")
		first := publish(t, b, "ch", "a", kept)
		publish(t, b, "ch", "b", kept)
		r.wait(t, "b", func() bool { return len(r.pubs["ch"]) == 2 })
		for range 2 { // the second time nothing is left to do
			if err := b.RemoveHistory(t.Context(), "ch"); err != nil {
				t.Fatal(err)
			}
			if got, top := offsets(t, b, "ch", HistoryQuery{Limit: -1, Size: 10}); got != "" || top != (Position{2, first.Epoch}) {
				t.Fatalf("after removal: %q at %+v", got, top)
			}
		}
		if pos := publish(t, b, "ch", "c", kept); pos != (Position{3, first.Epoch}) {
			t.Errorf("position after removal %+v", pos)
		}
		r.wait(t, "c", func() bool { return len(r.pubs["ch"]) == 3 })
		if got, _ := offsets(t, b, "ch", HistoryQuery{Limit: -1, Size: 10, Since: &first}); got != "3c" {
			t.Errorf("history %q", got)
		}
		if err := b.RemoveHistory(t.Context(), "never"); err != nil {
			t.Error(err)
		}
	})
}

func TestIdempotencyKeys(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, r *recorder) {
		b.Follow("ch")
		b.Follow("live")
		o := kept
		o.IdempotencyKey = "key\r\nwith anything"
		first := publish(t, b, "ch", "a", o)
		publish(t, b, "ch", "b", kept)
		pos, suppressed, err := b.Publish(t.Context(), "ch", Publication{Data: []byte("a")}, o)
		if err != nil || !suppressed || pos != first {
			t.Errorf("again: %+v, suppressed %v, error %v; want %+v", pos, suppressed, err, first)
		}
		publish(t, b, "other", "a", o) // a key is a channel's own
		live := PublishOptions{IdempotencyKey: "k"}
		publish(t, b, "live", "a", live)
		if _, suppressed, err := b.Publish(t.Context(), "live", Publication{Data: []byte("a")}, live); err != nil || !suppressed {
			t.Errorf("live, again: suppressed %v, error %v", suppressed, err)
		}
		publish(t, b, "ch", "c", kept)
		publish(t, b, "live", "c", PublishOptions{})
		r.wait(t, "the last ones", func() bool { return len(r.pubs["ch"]) >= 3 && len(r.pubs["live"]) >= 2 })
		if len(r.of("ch")) != 3 || len(r.of("live")) != 2 {
			t.Error("a suppressed publication was delivered")
		}
	})
}

func TestVersions(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, _ *recorder) {
		for _, c := range []struct {
			version    uint64
			epoch      string
			suppressed bool
		}{
			{5, "x", false}, {5, "x", true}, {4, "x", true}, {6, "x", false}, {0, "", false}, {6, "x", true}, {6, "", true}, {1, "y", false}, {1, "", true}, {2, "", false},
		} {
			o := kept
			o.Version, o.VersionEpoch = c.version, c.epoch
			_, suppressed, err := b.Publish(t.Context(), "ch", Publication{}, o)
			if err != nil || suppressed != c.suppressed {
				t.Errorf("version %d of %q: suppressed %v, error %v", c.version, c.epoch, suppressed, err)
			}
		}
	})
}

func TestFacts(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, _ *recorder) {
		ctx := t.Context()
		for i := range 1500 { // more than one batch
			if err := b.Put(ctx, "many", "key "+strconv.Itoa(i), []byte{byte(i)}, 0); err != nil {
				t.Fatal(err)
			}
		}
		got, err := b.Load(ctx, "many")
		if err != nil || len(got) != 1500 || got["key 1499"][0] != byte(1499%256) {
			t.Fatalf("%d facts, error %v", len(got), err)
		}
		for _, v := range []string{"old", "new"} {
			if err := b.Put(ctx, "few", "*.>", []byte(v), time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if got, err = b.Load(ctx, "few"); err != nil || len(got) != 1 || string(got["*.>"]) != "new" {
			t.Errorf("facts %q, error %v", got, err)
		}
		if err := b.Put(ctx, "few", "*.>", nil, 0); err != nil {
			t.Fatal(err)
		}
		if got, err = b.Load(ctx, "few"); err != nil || len(got) != 0 {
			t.Errorf("facts %q, error %v", got, err)
		}
	})
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no handler":  {Memory: true},
		"no folder":   {Handler: newRecorder()},
		"prefix":      {Handler: newRecorder(), Memory: true, Prefix: "a.b"},
		"replicas":    {Handler: newRecorder(), Memory: true, Replicas: 3},
		"unreachable": {Handler: newRecorder(), Dir: "/dev/null/x"},
	} {
		if b, err := New(o); err == nil || b != nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestClosed(t *testing.T) {
	b, _ := start(t, Options{Memory: true})
	if err := b.Ready(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Ready() == nil {
		t.Error("ready after Close")
	}
	_, _, err := b.Publish(context.Background(), "ch", Publication{}, kept)
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("publish: %v", err)
	}
	if _, _, err := b.History(context.Background(), "ch", HistoryQuery{Size: 1}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("history: %v", err)
	}
	if err := b.Notify("k", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("notify: %v", err)
	}
}
