package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrFull means that a queue has as many jobs waiting to be stored as it may.
var ErrFull = errors.New("broker: too many jobs wait to be stored")

// Defaults of QueueOptions.
const (
	DefaultQueueConcurrency       = 32
	DefaultQueueAge               = 24 * time.Hour
	DefaultQueueBytes       int64 = 1 << 30
	DefaultQueueWaiting     int64 = 64 << 20
)

// QueueOptions describe a Queue. The zero value of a field means its default.
type QueueOptions struct {
	// Name of the queue, [a-z0-9-]; all nodes that name the same one share it. Required.
	Name string
	// Do does a job, until ctx ends, which is when the queue is closed. If it returns
	// nil the job is done; after an error it comes again, first soon, then every 10 s. It
	// may come again in any case: when this node dies before it has said so. Required.
	Do func(ctx context.Context, job []byte) error
	// Dropped, if set, is told of a job that became too old.
	Dropped func(job []byte)
	// Concurrency is how many jobs this node does at a time. Default: 32.
	Concurrency int
	// MaxAge of a job that could not be done, after which it is dropped. Default: 24 h.
	MaxAge time.Duration
	// MaxBytes of jobs in the stream. When there is no room, more are kept in memory of
	// the nodes, as in MaxWaiting. Default: 1 GiB.
	MaxBytes int64
	// MaxWaiting bounds the jobs in memory that are not stored yet, in bytes.
	// Default: 64 MiB.
	MaxWaiting int64
}

func (o *QueueOptions) validate() error {
	if o.Name == "" || strings.Trim(o.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("broker: name of a queue %q is not of a-z, 0-9 and -", o.Name)
	}
	if o.Do == nil {
		return errors.New("broker: a queue needs Do")
	}
	if o.Concurrency < 0 || o.MaxAge < 0 || o.MaxBytes < 0 || o.MaxWaiting < 0 {
		return errors.New("broker: a limit of a queue is negative")
	}
	o.Concurrency = cmp.Or(o.Concurrency, DefaultQueueConcurrency)
	o.MaxAge = cmp.Or(o.MaxAge, DefaultQueueAge)
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultQueueBytes)
	o.MaxWaiting = cmp.Or(o.MaxWaiting, DefaultQueueWaiting)
	return nil
}

// Queue keeps jobs in a stream until one of the nodes has done them: each at least once,
// in no order. Its methods may be called by any goroutine.
type Queue struct {
	// Static after NewQueue.
	b       *Broker
	opts    QueueOptions
	js      jetstream.JetStream // with a time limit for acknowledgements
	stream  string
	subject string
	life    context.Context // of jobs
	kill    context.CancelFunc
	asking  context.Context // ends before life
	rest    context.CancelFunc
	slots   chan struct{} // holds an element for each job that is being done
	wake    chan struct{} // holds one while there is something to store
	done    sync.WaitGroup

	mu      sync.Mutex
	waiting []job // the oldest first
	bytes   int64 // of waiting
	closing bool

	counts queueCounts
}

// job is one that is to be stored.
type job struct {
	id     string
	data   []byte
	stored func()
}

const jobOverhead = 128 // bytes of memory that a waiting job takes besides its data, about

func (j *job) weight() int64 { return int64(len(j.data)+len(j.id)) + jobOverhead }

// QueueStats are counts since the start of this node, but for those that say now.
type QueueStats struct {
	Stored    uint64 // by this node
	Done      uint64 // by this node
	Retried   uint64 // failures of Do, after which the job comes again
	TooOld    uint64 // dropped by this node
	Refused   uint64 // by Put, for want of room
	Waiting   int    // in memory now, not stored yet
	Pending   uint64 // in the stream of all nodes, as of some seconds ago
	OldestAge time.Duration
}

type queueCounts struct {
	stored, done, retried, tooOld, refused atomic.Uint64
	pending                                atomic.Uint64
	oldest                                 atomic.Int64 // Unix ms, 0: none
}

// NewQueue opens a queue, which takes jobs from then on. Close it before the broker. Errors: ErrUnavailable.
func (b *Broker) NewQueue(ctx context.Context, o QueueOptions) (*Queue, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	q := &Queue{
		b: b, opts: o, slots: make(chan struct{}, o.Concurrency), wake: make(chan struct{}, 1),
		stream:  strings.ToUpper(b.opts.Prefix + "_q_" + o.Name),
		subject: b.opts.Prefix + ".q." + o.Name,
	}
	var err error
	if q.js, err = jetstream.New(b.nc, jetstream.WithPublishAsyncMaxPending(storeWindow), jetstream.WithPublishAsyncTimeout(requestTimeout)); err != nil {
		return nil, fmt.Errorf("broker: JetStream: %w", err)
	}
	if err := b.insist(ctx, q.open); err != nil {
		return nil, unavailable("open queue "+o.Name, err)
	}
	q.life, q.kill = context.WithCancel(context.Background())
	q.asking, q.rest = context.WithCancel(q.life)
	q.done.Go(q.store)
	q.done.Go(q.watch)
	return q, nil
}

// Start begins to do jobs. Call it once, before Close.
func (q *Queue) Start() { q.done.Go(q.work) }

// open makes sure that the stream is there.
func (q *Queue) open(ctx context.Context) error {
	_, err := q.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: q.stream, Subjects: []string{q.subject}, Storage: q.b.storage(), Replicas: q.b.opts.Replicas,
		Retention: jetstream.WorkQueuePolicy, MaxBytes: q.opts.MaxBytes, Discard: jetstream.DiscardNew,
		Duplicates: queueWindow,
	})
	return err
}

// Put adds a job and calls stored, if it is not nil, on another goroutine when the stream
// has it. Until then the job is in memory. An id is taken once as long as a job of that
// id is in the stream, for two minutes at most. Errors: ErrFull, ErrClosed.
func (q *Queue) Put(id string, data []byte, stored func()) error {
	j := job{id, data, stored}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closing:
		return ErrClosed
	case q.bytes+j.weight() > q.opts.MaxWaiting:
		q.counts.refused.Add(1)
		return ErrFull
	}
	q.waiting = append(q.waiting, j)
	q.bytes += j.weight()
	signal(q.wake)
	return nil
}

// signal makes sure that c, which has room for one, holds one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close takes no more jobs and waits, until ctx ends, for those that are to be stored and
// those that are being done. What is not done then comes again.
func (q *Queue) Close(ctx context.Context) error {
	q.mu.Lock()
	q.closing = true
	q.mu.Unlock()
	signal(q.wake)
	q.rest()
	untilNone(ctx, func() int { return q.left() + len(q.slots) })
	left := q.left()
	q.kill()
	q.done.Wait()
	if left > 0 {
		return fmt.Errorf("broker: queue %s: %d jobs could not be stored: %w", q.opts.Name, left, ctx.Err())
	}
	return nil
}

func (q *Queue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

const closePoll = 5 * time.Millisecond

// untilNone waits until nothing is left, or ctx has ended.
func untilNone(ctx context.Context, left func() int) {
	for left() > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(closePoll):
		}
	}
}

// Stats returns the counts so far.
func (q *Queue) Stats() QueueStats {
	c := &q.counts
	s := QueueStats{
		Stored: c.stored.Load(), Done: c.done.Load(), Retried: c.retried.Load(), TooOld: c.tooOld.Load(), Refused: c.refused.Load(),
		Waiting: q.left(), Pending: c.pending.Load(),
	}
	if at := c.oldest.Load(); at > 0 {
		s.OldestAge = max(0, time.Since(time.UnixMilli(at)))
	}
	return s
}

// watchEvery is how often the stream is asked how it is.
const watchEvery = 2 * time.Second

// watch keeps the figures of the stream.
func (q *Queue) watch() {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-q.life.Done():
			return
		case <-t.C:
		}
		ctx, cancel := context.WithTimeout(q.life, requestTimeout)
		s, err := q.js.Stream(ctx, q.stream)
		cancel()
		if err != nil {
			continue // the goroutines that store and work say so
		}
		state := s.CachedInfo().State
		q.counts.pending.Store(state.Msgs)
		oldest := int64(0)
		if state.Msgs > 0 {
			oldest = state.FirstTime.UnixMilli()
		}
		q.counts.oldest.Store(oldest)
	}
}
