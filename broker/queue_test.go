package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"roost/internal/proctest"
)

// worker does jobs for tests.
type worker struct {
	mu    sync.Mutex
	tries map[string]int
	fails func(job string, try int) bool
}

func (w *worker) do(_ context.Context, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tries == nil {
		w.tries = map[string]int{}
	}
	w.tries[string(data)]++
	if w.fails != nil && w.fails(string(data), w.tries[string(data)]) {
		return errors.New("not now")
	}
	return nil
}

func (w *worker) tried() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.tries)
}

func queue(t *testing.T, b *Broker, o QueueOptions) *Queue {
	t.Helper()
	o.Name = "jobs"
	q, err := b.NewQueue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	q.Start()
	t.Cleanup(func() { closeQueue(t, q) })
	return q
}

func closeQueue(t *testing.T, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := q.Close(ctx); err != nil {
		t.Error(err)
	}
}

// put adds jobs and returns a function that waits until they are stored.
func put(t *testing.T, q *Queue, from, to int) (stored func()) {
	t.Helper()
	var all sync.WaitGroup
	for i := from; i < to; i++ {
		all.Add(1)
		id := strconv.Itoa(i)
		if err := q.Put(id, []byte(id), all.Done); err != nil {
			t.Fatal(err)
		}
	}
	return all.Wait
}

// Jobs that fail come again until they are done, and then no more; the same id is one job.
func TestQueue(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, _ *recorder) {
		const jobs = 600
		w := &worker{fails: func(_ string, try int) bool { return try == 1 }}
		q := queue(t, b, QueueOptions{Do: w.do, Concurrency: 8})
		put(t, q, 0, jobs)()
		proctest.Eventually(t, func() error {
			if s := q.Stats(); s.Done != jobs || s.Retried != jobs || s.Stored != jobs || s.Waiting != 0 || s.Pending != 0 || s.OldestAge != 0 {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		closeQueue(t, q)
		for id, n := range w.tries {
			if n != 2 {
				t.Errorf("job %s was tried %d times", id, n)
			}
		}
	})
}

func TestQueueSameID(t *testing.T) {
	b, _ := start(t, Options{Memory: true})
	release := make(chan struct{})
	w := &worker{}
	q := queue(t, b, QueueOptions{Do: func(ctx context.Context, job []byte) error { <-release; return w.do(ctx, job) }})
	for range 3 {
		put(t, q, 0, 5)()
	}
	close(release)
	closeQueue(t, q)
	for id, n := range w.tries {
		if n != 1 {
			t.Errorf("job %s was done %d times", id, n)
		}
	}
}

// What is stored outlives the node, and what is new is not lost by its end.
func TestQueueRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, _ := start(t, Options{Dir: dir})
	q := queue(t, b, QueueOptions{Do: (&worker{fails: func(string, int) bool { return true }}).do})
	put(t, q, 0, 100)()
	put(t, q, 100, 150) // stored by Close
	closeQueue(t, q)
	if err := q.Put("x", nil, nil); err != ErrClosed {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b, _ = start(t, Options{Dir: dir})
	w := &worker{}
	queue(t, b, QueueOptions{Do: w.do})
	proctest.Eventually(t, func() error {
		if n := w.tried(); n != 150 {
			return fmt.Errorf("%d of 150", n)
		}
		return nil
	})
}

// Jobs wait in memory while NATS is away, as many as may.
func TestQueueWhileAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := natsServer(t, dir, -1)
	port := s.Addr().(*net.TCPAddr).Port
	b, _ := start(t, Options{URLs: []string{s.ClientURL()}})
	w := &worker{}
	q := queue(t, b, QueueOptions{Do: w.do, MaxWaiting: 100_000})
	put(t, q, 0, 50)()
	s.Shutdown()
	s.WaitForShutdown()
	stored := put(t, q, 50, 150)
	if err := q.Put("large", bytes.Repeat([]byte("x"), 100_000), nil); !errors.Is(err, ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
	if s := q.Stats(); s.Refused != 1 || s.Waiting != 100 {
		t.Errorf("%+v", s)
	}
	natsServer(t, dir, port)
	stored()
	proctest.Eventually(t, func() error {
		if n := w.tried(); n != 150 {
			return fmt.Errorf("%d of 150", n)
		}
		return nil
	})
}

// The jobs of a node that dies in the middle of them come to another.
func TestQueueNodeDies(t *testing.T) {
	t.Parallel()
	s := natsServer(t, t.TempDir(), -1)
	a, _ := start(t, Options{URLs: []string{s.ClientURL()}})
	taken := make(chan struct{}, 100)
	stuck := queue(t, a, QueueOptions{Concurrency: 4, Do: func(ctx context.Context, _ []byte) error {
		taken <- struct{}{}
		<-ctx.Done()
		return nil
	}})
	put(t, stuck, 0, 20)()
	for range 4 {
		<-taken
	}
	a.nc.Close() // as a kill looks to the others
	b, _ := start(t, Options{URLs: []string{s.ClientURL()}})
	w := &worker{}
	queue(t, b, QueueOptions{Do: w.do})
	proctest.Eventually(t, func() error {
		if n := w.tried(); n != 20 {
			return fmt.Errorf("%d of 20", n)
		}
		return nil
	})
	stuck.kill()
}

// A job that takes longer than a lease is not given to others, and one that panics is one
// that failed.
func TestQueueSlowJobs(t *testing.T) {
	t.Parallel()
	b, _ := start(t, Options{Memory: true})
	var mu sync.Mutex
	began := map[string]int{}
	release := make(chan struct{})
	q := queue(t, b, QueueOptions{Do: func(_ context.Context, job []byte) error {
		mu.Lock()
		began[string(job)]++
		n := began[string(job)]
		mu.Unlock()
		if string(job) == "1" && n == 1 {
			panic("bug")
		}
		if string(job) == "0" {
			<-release
		}
		return nil
	}})
	put(t, q, 0, 2)()
	time.Sleep(jobLease + jobSign)
	close(release)
	proctest.Eventually(t, func() error {
		if s := q.Stats(); s.Done != 2 || s.Retried != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	closeQueue(t, q)
	if began["0"] != 1 || began["1"] != 2 {
		t.Errorf("begun: %v", began)
	}
}

func TestQueueAge(t *testing.T) {
	b, _ := start(t, Options{Memory: true})
	var mu sync.Mutex
	dropped := map[string]bool{}
	q := queue(t, b, QueueOptions{
		MaxAge: 500 * time.Millisecond, Do: (&worker{fails: func(string, int) bool { return true }}).do,
		Dropped: func(job []byte) { mu.Lock(); defer mu.Unlock(); dropped[string(job)] = true },
	})
	put(t, q, 0, 10)()
	proctest.Eventually(t, func() error {
		if s := q.Stats(); s.TooOld != 10 || s.Retried < 10 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	closeQueue(t, q)
	if len(dropped) != 10 {
		t.Errorf("dropped %v", dropped)
	}
}

// A stream that is full leaves jobs in memory until there is room.
func TestQueueFull(t *testing.T) {
	b, _ := start(t, Options{Memory: true})
	release := make(chan struct{})
	w := &worker{}
	q := queue(t, b, QueueOptions{MaxBytes: 2000, Do: func(ctx context.Context, job []byte) error { <-release; return w.do(ctx, job) }})
	stored := put(t, q, 0, 100)
	proctest.Eventually(t, func() error {
		if s := q.Stats(); s.Stored == 0 || s.Waiting == 0 || s.Stored+uint64(s.Waiting) != 100 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	close(release)
	stored()
	closeQueue(t, q)
}

func TestQueueOptions(t *testing.T) {
	b, _ := start(t, Options{Memory: true})
	do := func(context.Context, []byte) error { return nil }
	for _, o := range []QueueOptions{{Do: do}, {Name: "A", Do: do}, {Name: "a.b", Do: do}, {Name: "a"}, {Name: "a", Do: do, MaxAge: -1}, {Name: "a", Do: do, Concurrency: -1}} {
		if _, err := b.NewQueue(t.Context(), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
