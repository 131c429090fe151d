package broker

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	storeWindow = 256             // jobs sent to the stream before the first is acknowledged
	queueWindow = 2 * time.Minute // in which the id of a job is known
	storePause  = 2 * time.Second // at most, before what failed is tried again
)

// store brings jobs from memory to the stream.
func (q *Queue) store() {
	failures := 0
	for {
		batch := q.oldest()
		if len(batch) == 0 {
			select {
			case <-q.wake:
				continue
			case <-q.life.Done():
				return
			}
		}
		failed, err := q.publish(batch)
		q.settle(batch, failed)
		if err == nil {
			failures = 0
			continue
		}
		if failures++; failures == 1 {
			q.b.log.Warn("jobs cannot be stored and are kept in memory", "queue", q.opts.Name, "jobs", len(failed), "error", err)
		}
		select {
		case <-time.After(min(20*time.Millisecond<<min(failures, 10), storePause)):
		case <-q.life.Done():
			return
		}
	}
}

// oldest returns the jobs to store next. They stay where they are until settle.
func (q *Queue) oldest() []job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.waiting = nil // its memory is that of the largest crowd
		return nil
	}
	return append([]job(nil), q.waiting[:min(len(q.waiting), storeWindow)]...)
}

// publish sends jobs and returns those that were not acknowledged, with a reason.
func (q *Queue) publish(batch []job) (failed []job, err error) {
	if !q.b.nc.IsConnected() {
		return batch, nats.ErrDisconnected
	}
	acks := make([]jetstream.PubAckFuture, len(batch))
	for i, j := range batch {
		m := &nats.Msg{Subject: q.subject, Data: j.data, Header: nats.Header{jetstream.MsgIDHeader: {j.id}}}
		if acks[i], err = q.js.PublishMsgAsync(m); err != nil {
			break
		}
	}
	late := time.After(2 * requestTimeout) // than the library's own limit
	for i, j := range batch {
		if acks[i] == nil {
			failed = append(failed, j)
			continue
		}
		var one error
		select {
		case <-acks[i].Ok():
		case one = <-acks[i].Err():
		case <-late:
			one = context.DeadlineExceeded
		case <-q.life.Done():
			one = q.life.Err()
		}
		if one != nil {
			failed, err = append(failed, j), one
		}
	}
	return failed, err
}

// settle takes the jobs of a batch out but for those that failed.
func (q *Queue) settle(batch, failed []job) {
	q.counts.stored.Add(uint64(len(batch) - len(failed)))
	q.mu.Lock()
	gone := len(batch) - len(failed)
	copy(q.waiting[gone:], failed)
	clear(q.waiting[:gone])
	q.waiting = q.waiting[gone:]
	for _, j := range batch {
		q.bytes -= j.weight()
	}
	for _, j := range failed {
		q.bytes += j.weight()
	}
	q.mu.Unlock()
	next := 0
	for _, j := range batch {
		if next < len(failed) && failed[next].id == j.id {
			next++
			continue
		}
		if j.stored != nil {
			j.stored()
		}
	}
}
