package broker

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd is what another node does all the time while the place of one is taken.
type crowd struct {
	end     chan struct{}
	done    sync.WaitGroup
	sent    []int // publications, by channel
	notices int
	asked   int
}

// run does f again and again, with its count.
func (c *crowd) run(count *int, f func(n int) error, t *testing.T) {
	c.done.Go(func() {
		for ; ; *count++ {
			select {
			case <-c.end:
				return
			default:
			}
			if err := f(*count); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(200 * time.Microsecond)
		}
	})
}

func startCrowd(t *testing.T, node *Broker, channels []string) *crowd {
	c := &crowd{end: make(chan struct{}), sent: make([]int, len(channels))}
	for i, ch := range channels {
		c.run(&c.sent[i], func(n int) error {
			_, _, err := node.Publish(t.Context(), ch, Publication{Data: []byte(strconv.Itoa(n))}, PublishOptions{})
			return err
		}, t)
	}
	c.run(&c.notices, func(n int) error { return node.Notify("count", []byte(strconv.Itoa(n))) }, t)
	c.run(&c.asked, func(n int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		text := strconv.Itoa(n)
		switch got, err := node.AskNode(ctx, "o", "ask", []byte(text)); {
		case err != nil:
			return fmt.Errorf("question %d: %w", n, err)
		case string(got) != text:
			return fmt.Errorf("question %d: answer %q", n, got)
		}
		switch all, err := node.Survey(ctx, "survey", []byte(text)); {
		case err != nil:
			return fmt.Errorf("survey %d: %w", n, err)
		case string(all["o"]) != text:
			return fmt.Errorf("survey %d: answers %q", n, all)
		}
		return nil
	}, t)
	return c
}

// lateCount is how many publications succeed makes to a channel.
const lateCount = 1000

// succeed has another broker take the place of old, which meanwhile follows and publishes to late.
func succeed(t *testing.T, old *Broker, r *recorder, url, late string) *Broker {
	t.Helper()
	old.Watch()
	will := old.Will()
	next, _ := start(t, Options{URLs: []string{url}, Replicas: 3, Handler: r, Heir: &will})
	follow := func() {
		for _, ch := range old.Partitions() {
			next.Follow(ch)
		}
		next.Settle()
		old.Settle()
	}
	follow()
	old.Follow(late)
	for i := range 3 {
		publish(t, old, late, strconv.Itoa(i), PublishOptions{})
	}
	follow()
	old.Cut()
	for i := 3; i < lateCount-2; i++ { // much is on its way between the servers when it ends
		publish(t, old, late, strconv.Itoa(i), PublishOptions{})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := old.Hold(ctx); err != nil {
		t.Fatal(err)
	}
	seen := old.Seen()
	old.eachFollowed(next.Follow)
	if err := next.Know(seen); err != nil {
		t.Fatal(err)
	}
	publish(t, next, late, strconv.Itoa(lateCount-2), PublishOptions{})
	if err := next.Enter(); err != nil {
		t.Fatal(err)
	}
	publish(t, next, late, strconv.Itoa(lateCount-1), PublishOptions{})
	old.Abandon()
	return next
}

func (b *Broker) eachFollowed(f func(string)) {
	for i := range b.shards {
		sh := &b.shards[i]
		sh.mu.Lock()
		for ch := range sh.follows {
			f(ch)
		}
		sh.mu.Unlock()
	}
}

// While another broker takes the place of one in a cluster of NATS, nothing that others publish
// without history, tell or ask is lost or taken twice, wherever they are connected.
func TestSucceed(t *testing.T) {
	_, urls := cluster(t)
	answerer := answering()
	other, _ := start(t, Options{URLs: urls[:1], Replicas: 3, Node: "x", Handler: answerer})
	r := newRecorder()
	var mu sync.Mutex
	answers := map[string]int{}
	r.query = func(kind string, data []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		answers[kind+string(data)]++
		return data, nil
	}
	node, _ := start(t, Options{URLs: urls[1:2], Replicas: 3, Node: "o", Handler: r})
	var channels []string
	for i := range 20 {
		channels = append(channels, fmt.Sprint("live", i))
		node.Follow(channels[i])
	}
	const rounds = 6
	for i := range rounds {
		other.Follow(fmt.Sprint("late", i))
	}
	time.Sleep(settleTime)
	c := startCrowd(t, other, channels)
	for i := range rounds {
		time.Sleep(100 * time.Millisecond)
		node = succeed(t, node, r, urls[(i+2)%3], fmt.Sprint("late", i))
	}
	close(c.end)
	c.done.Wait()
	for i, ch := range channels {
		r.wait(t, ch, func() bool { return len(r.pubs[ch]) >= c.sent[i] })
		counted(t, ch, r.of(ch), c.sent[i])
	}
	for i := range rounds {
		ch := fmt.Sprint("late", i)
		for where, r := range map[string]*recorder{"here": r, "at the other node": answerer} {
			r.wait(t, ch, func() bool { return len(r.pubs[ch]) >= lateCount })
			counted(t, ch+" "+where, r.of(ch), lateCount)
		}
	}
	r.wait(t, "notices", func() bool { return len(r.notices) >= c.notices })
	for i, n := range r.notices {
		if n != fmt.Sprint("count=", i) {
			t.Fatalf("notice %d of %d is %q", i, c.notices, n)
		}
	}
	for what, n := range answers {
		if n != 1 {
			t.Errorf("%s was answered %d times", what, n)
		}
	}
	t.Logf("%d publications to each of %d channels, %d notices, %d questions", c.sent[0], len(channels), c.notices, len(answers))
}

// answering is a recorder that answers with the question.
func answering() *recorder {
	r := newRecorder()
	r.query = func(_ string, data []byte) ([]byte, error) { return data, nil }
	return r
}

// counted checks that publications are 0, 1, 2 and so on.
func counted(t *testing.T, ch string, pubs []*Publication, want int) {
	t.Helper()
	var text []string
	for _, p := range pubs {
		text = append(text, string(p.Data))
	}
	for i, s := range text {
		if s != strconv.Itoa(i) {
			t.Fatalf("%s: publication %d is %s, around it %s", ch, i, s, strings.Join(text[max(0, i-3):min(len(text), i+4)], " "))
		}
	}
	if len(pubs) != want {
		t.Errorf("%s: %d publications, want %d", ch, len(pubs), want)
	}
}
