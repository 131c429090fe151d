package broker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	jobLease    = 5 * time.Second // after its last sign of life a node's jobs come to others
	jobSign     = 2 * time.Second // between signs of life
	fetchTime   = 5 * time.Second // of one question for jobs
	maxJobPause = 10 * time.Second
	minUnacked  = 1000 // jobs of all nodes that are being done or wait to come again
)

// work asks for jobs, as many as there are slots, so that none waits here.
func (q *Queue) work() {
	var consumer jetstream.Consumer
	freed := make(chan struct{}, 1) // holds one if slots were given back
	for failures := 0; q.asking.Err() == nil; {
		var err error
		if consumer == nil {
			consumer, err = q.consumer()
		}
		if err == nil {
			err = q.fetch(consumer, freed)
		}
		if err == nil || q.asking.Err() != nil {
			failures = 0
			continue
		}
		consumer = nil
		if failures++; failures == 1 {
			q.b.log.Warn("no jobs can be had", "queue", q.opts.Name, "error", err)
		}
		pause(q.asking, failures)
	}
	<-q.life.Done()
	for range cap(q.slots) { // until nothing is being done
		q.slots <- struct{}{}
	}
	for range cap(q.slots) {
		<-q.slots
	}
}

func (q *Queue) consumer() (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(q.asking, requestTimeout)
	defer cancel()
	return q.js.CreateOrUpdateConsumer(ctx, q.stream, jetstream.ConsumerConfig{
		Durable: "nodes", AckPolicy: jetstream.AckExplicitPolicy, AckWait: jobLease, MaxDeliver: -1,
		MaxAckPending: max(minUnacked, 2*q.opts.Concurrency),
	})
}

// fetch asks once for as many jobs as there are free slots.
func (q *Queue) fetch(consumer jetstream.Consumer, freed chan struct{}) error {
	for len(q.slots) == cap(q.slots) {
		select {
		case <-freed:
		case <-q.asking.Done():
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(q.asking, fetchTime)
	defer cancel()
	batch, err := consumer.Fetch(cap(q.slots)-len(q.slots), jetstream.FetchContext(ctx))
	if err != nil {
		return err
	}
	for m := range batch.Messages() {
		q.slots <- struct{}{} // has room: nobody else puts anything there
		go func() {
			q.do(m)
			<-q.slots
			signal(freed)
		}()
	}
	if err := batch.Error(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// do does one job and tells the stream what came of it.
func (q *Queue) do(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		q.b.log.Error("a job without metadata", "queue", q.opts.Name, "error", err)
		return
	}
	if age := time.Since(meta.Timestamp); age > q.opts.MaxAge {
		q.counts.tooOld.Add(1)
		if q.opts.Dropped != nil {
			q.opts.Dropped(m.Data())
		}
		q.tell(m.TermWithReason("too old"))
		return
	}
	stop := q.alive(m)
	err = q.attempt(m.Data())
	stop()
	switch {
	case err == nil:
		q.counts.done.Add(1)
		q.tell(m.Ack())
	case q.life.Err() != nil:
		q.tell(m.Nak()) // for the others, at once
	default:
		q.counts.retried.Add(1)
		q.tell(m.NakWithDelay(jobPause(meta.NumDelivered)))
	}
}

// attempt runs Do; a panic of it is an error.
func (q *Queue) attempt(job []byte) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("broker: panic: %v", v)
			q.b.log.Error("a job panicked", "queue", q.opts.Name, "panic", v)
		}
	}()
	return q.opts.Do(q.life, job)
}

// alive keeps the job's lease until stop.
func (q *Queue) alive(m jetstream.Msg) (stop func()) {
	over := make(chan struct{})
	t := time.AfterFunc(jobSign, func() {
		tick := time.NewTicker(jobSign)
		defer tick.Stop()
		for {
			q.tell(m.InProgress())
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	})
	return func() { t.Stop(); close(over) }
}

// tell notes that the stream could not be told: then the job comes again.
func (q *Queue) tell(err error) {
	if err != nil && q.life.Err() == nil {
		q.b.log.Debug("a job's end could not be told", "queue", q.opts.Name, "error", err)
	}
}

// jobPause is how long a job waits after its nth failure: a quarter of a second, twice as
// long each time up to 10 s, and not in step with others.
func jobPause(n uint64) time.Duration {
	d := min(250*time.Millisecond<<min(n-1, 10), maxJobPause)
	return d*3/4 + rand.N(d/4+1)
}
