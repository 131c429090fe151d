package broker

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	b, _ := start(t, Options{Dir: dir})
	pos := publish(t, b, "ch", "a", kept)
	_, empty := offsets(t, b, "empty", HistoryQuery{Size: 10})
	o := kept
	o.IdempotencyKey, o.Version = "key", 7
	keyed := publish(t, b, "keyed", "x", o)
	if err := b.Put(t.Context(), "bucket", "key", []byte("value"), 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b, _ = start(t, Options{Dir: dir})
	if got, top := offsets(t, b, "ch", HistoryQuery{Limit: -1, Size: 10}); got != "1a" || top != pos {
		t.Errorf("history %q at %+v, want %+v", got, top, pos)
	}
	if next := publish(t, b, "ch", "b", kept); next != (Position{2, pos.Epoch}) {
		t.Errorf("next position %+v", next)
	}
	if _, top := offsets(t, b, "empty", HistoryQuery{Size: 10}); top != empty {
		t.Errorf("empty channel at %+v, want %+v", top, empty)
	}
	if pos, suppressed, err := b.Publish(t.Context(), "keyed", Publication{}, o); err != nil || !suppressed || pos != keyed {
		t.Errorf("key after restart: %+v, suppressed %v, error %v", pos, suppressed, err)
	}
	o.IdempotencyKey = ""
	if _, suppressed, err := b.Publish(t.Context(), "keyed", Publication{}, o); err != nil || !suppressed {
		t.Errorf("version after restart: suppressed %v, error %v", suppressed, err)
	}
	if facts, err := b.Load(t.Context(), "bucket"); err != nil || string(facts["key"]) != "value" {
		t.Errorf("facts %q, error %v", facts, err)
	}
}

func TestFolderInUse(t *testing.T) {
	dir := t.TempDir()
	start(t, Options{Dir: dir})
	_, err := New(Options{Dir: dir, Handler: newRecorder(), Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("error %v", err)
	}
}

// boots returns what has the machine start anew, as far as brokers can see.
func boots(t *testing.T) func(id string) {
	old := bootID
	t.Cleanup(func() { bootID = old })
	bootID = filepath.Join(t.TempDir(), "boot_id")
	return func(id string) {
		if err := os.WriteFile(bootID, []byte(id), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A machine that went down without notice may have lost records, so what clients know
// about positions must not be trusted.
func TestEpochAfterReboot(t *testing.T) {
	for _, c := range []struct {
		name         string
		clean, sync  bool
		boot, marker string
		renewed      bool
	}{
		{name: "clean, rebooted", clean: true, boot: "two"},
		{name: "killed", boot: "one"},
		{name: "power cut", boot: "two", renewed: true},
		{name: "power cut with sync-always", boot: "two", sync: true},
		{name: "broken marker", boot: "one", marker: "?", renewed: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			boot := boots(t)
			boot("one")
			dir := t.TempDir()
			b, _ := start(t, Options{Dir: dir, SyncAlways: c.sync})
			first := publish(t, b, "ch", "a", kept)
			state := filepath.Join(dir, "state.json")
			killed, err := os.ReadFile(state)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if c.marker != "" {
				killed = []byte(c.marker)
			}
			if !c.clean {
				if err := os.WriteFile(state, killed, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			boot(c.boot)
			b, _ = start(t, Options{Dir: dir, SyncAlways: c.sync})
			got, top := offsets(t, b, "ch", HistoryQuery{Limit: -1, Size: 10})
			if got != "1a" || top.Offset != 1 || (top.Epoch != first.Epoch) != c.renewed {
				t.Errorf("history %q at %+v, before at %+v", got, top, first)
			}
			if next := publish(t, b, "ch", "b", kept); next != (Position{2, top.Epoch}) {
				t.Errorf("next position %+v, want epoch %s", next, top.Epoch)
			}
		})
	}
}

// childDir makes the test binary the process that TestKill kills, on the data there.
const childDir = "ROOST_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		publishForEver(dir)
	}
	os.Exit(m.Run())
}

// publishForEver says each publication that is acknowledged.
func publishForEver(dir string) {
	b, err := New(Options{Dir: dir, Handler: newRecorder(), Logger: quiet()})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				ch := "ch" + strconv.Itoa(i%8)
				data := fmt.Sprintf("%d.%d.%d", os.Getpid(), w, i)
				pos, _, err := b.Publish(context.Background(), ch, Publication{Data: []byte(data)}, PublishOptions{HistorySize: 100_000})
				mu.Lock()
				if err != nil {
					fmt.Println("error", err)
				} else {
					fmt.Println("acknowledged", ch, pos.Offset, pos.Epoch, data)
				}
				mu.Unlock()
			}
		}()
	}
	select {}
}

// What was acknowledged survives a kill, in its place.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]map[uint64]string{}
	total := 0
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == 1500+700*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			f := strings.Fields(lines.Text())
			if len(f) != 5 || f[0] != "acknowledged" {
				if n < 1500 {
					t.Fatalf("the child says %q", lines.Text())
				}
				continue // cut off by the kill
			}
			offset, err := strconv.ParseUint(f[2], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if acked[f[1]] == nil {
				acked[f[1]] = map[uint64]string{}
			}
			if before, twice := acked[f[1]][offset]; twice {
				t.Fatalf("%s offset %d was acknowledged for %s and %s", f[1], offset, before, f[4])
			}
			acked[f[1]][offset] = f[3] + " " + f[4]
			total++
		}
		_ = cmd.Wait() // killed
	}
	b, _ := start(t, Options{Dir: dir})
	for ch, want := range acked {
		pubs, top, err := b.History(t.Context(), ch, HistoryQuery{Limit: -1, Size: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		if len(pubs) == 0 || pubs[0].Offset != 1 || pubs[len(pubs)-1].Offset != top.Offset || uint64(len(pubs)) != top.Offset {
			t.Fatalf("%s: %d publications up to %d", ch, len(pubs), top.Offset)
		}
		for offset, what := range want {
			if offset > top.Offset || pubs[offset-1].Epoch+" "+string(pubs[offset-1].Data) != what {
				t.Errorf("%s: acknowledged offset %d is missing or another", ch, offset)
			}
		}
	}
	t.Logf("%d acknowledged publications of 4 killed processes", total)
}

// Many read and publish at once: all see each publication once, in order.
func TestConcurrent(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, r *recorder) {
		const publishers, each, channels = 8, 100, 4
		for i := range channels {
			b.Follow("ch" + strconv.Itoa(i))
		}
		var done sync.WaitGroup
		for range publishers {
			done.Go(func() {
				for i := range each {
					ch := "ch" + strconv.Itoa(i%channels)
					o := PublishOptions{HistorySize: 1000, HistoryTTL: time.Hour}
					pos, _, err := b.Publish(t.Context(), ch, Publication{Data: []byte("x")}, o)
					if err != nil {
						t.Error(err)
						return
					}
					// What was acknowledged is there for who asks afterwards.
					pubs, top, err := b.History(t.Context(), ch, HistoryQuery{Limit: -1, Since: &Position{Offset: pos.Offset - 1}, Size: 1000})
					if err != nil || top.Offset < pos.Offset || len(pubs) == 0 || pubs[0].Offset != pos.Offset {
						t.Errorf("after %+v: %d publications, top %+v, error %v", pos, len(pubs), top, err)
					}
				}
			})
		}
		done.Wait()
		const want = publishers * each / channels
		for i := range channels {
			ch := "ch" + strconv.Itoa(i)
			r.wait(t, "all of "+ch, func() bool { return len(r.pubs[ch]) >= want })
			inOrder(t, ch, r.of(ch), want)
		}
	})
}

func inOrder(t *testing.T, what string, pubs []*Publication, want int) {
	t.Helper()
	if len(pubs) != want {
		t.Errorf("%s: %d publications, want %d", what, len(pubs), want)
	}
	for i, p := range pubs {
		if p.Offset != uint64(i+1) {
			t.Fatalf("%s: publication %d has offset %d", what, i, p.Offset)
		}
	}
}

// Tails stay within their bound, and whoever finds none reads the stream.
func TestTailBound(t *testing.T) {
	const bound = 64 << 10
	b, _ := start(t, Options{Memory: true, TailBytes: bound})
	data := strings.Repeat("x", 1000)
	for i := range 400 {
		publish(t, b, "ch"+strconv.Itoa(i%20), data, PublishOptions{HistorySize: 100})
		if got := b.Stats().TailBytes; got > bound {
			t.Fatalf("%d bytes in tails, want at most %d", got, bound)
		}
	}
	for i := range 20 {
		pubs, _, err := b.History(t.Context(), "ch"+strconv.Itoa(i), HistoryQuery{Limit: -1, Size: 100})
		if err != nil {
			t.Fatal(err)
		}
		inOrder(t, "history", pubs, 20)
	}
	var held int64
	for i := range b.shards {
		for _, c := range b.shards[i].channels {
			var n int64
			for _, p := range c.tail {
				n += p.weight()
			}
			if n != c.weight {
				t.Errorf("a tail of %d bytes counts as %d", n, c.weight)
			}
			held += n
		}
	}
	if got := b.Stats().TailBytes; got != held || got > bound {
		t.Errorf("%d bytes counted, %d held, bound %d", got, held, bound)
	}
}

// A storm of readers costs the stream next to nothing.
func TestReadsAreShared(t *testing.T) {
	dir := t.TempDir()
	b, _ := start(t, Options{Dir: dir})
	for range 50 {
		publish(t, b, "ch", "x", PublishOptions{HistorySize: 100})
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b, _ = start(t, Options{Dir: dir})
	var readers sync.WaitGroup
	for range 1000 {
		readers.Go(func() {
			pubs, _, err := b.History(t.Context(), "ch", HistoryQuery{Limit: -1, Size: 100})
			if err != nil || len(pubs) != 50 {
				t.Errorf("%d publications, error %v", len(pubs), err)
			}
		})
	}
	readers.Wait()
	// Two, and one more for who looked into memory before and asked after these, if the machine is busy.
	if n := b.Stats().Reads; n > 10 {
		t.Errorf("%d reads of the stream, want a few", n)
	}
}

// Channels come and go; what is remembered of them stays bounded.
func TestChannelsAreForgotten(t *testing.T) {
	b, _ := start(t, Options{Memory: true})
	sh := b.shard("ch")
	for i := range 3 * maxIdle {
		c := b.pin(sh, key{"ch" + strconv.Itoa(i), 0})
		c.known, c.seq = true, 1
		sh.unpin(c)
	}
	if n := len(sh.channels); n > maxIdle {
		t.Errorf("%d channels remembered, want at most %d", n, maxIdle)
	}
}
