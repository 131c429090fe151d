package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// replies receives answers that consist of many messages, all by one subscription.
type replies struct {
	prefix string
	nc     *nats.Conn

	mu      sync.Mutex
	next    uint64
	waiting map[string]func(*nats.Msg)
}

// repliesPending bounds what waits to be read, in bytes.
const repliesPending = 256 << 20

func (r *replies) start(nc *nats.Conn) error {
	r.nc, r.prefix, r.waiting = nc, nats.NewInbox()+".", make(map[string]func(*nats.Msg))
	sub, err := nc.Subscribe(r.prefix+"*", func(m *nats.Msg) {
		r.mu.Lock()
		f := r.waiting[m.Subject[len(r.prefix):]]
		r.mu.Unlock()
		if f != nil {
			f(m)
		}
	})
	if err == nil {
		err = sub.SetPendingLimits(-1, repliesPending)
	}
	if err != nil {
		return fmt.Errorf("broker: subscribe to replies: %w", err)
	}
	return nil
}

// ask publishes a request whose answers all go to f, on one goroutine shared with
// others. end must be called.
func (r *replies) ask(subject string, data []byte, f func(*nats.Msg)) (end func(), err error) {
	r.mu.Lock()
	r.next++
	token := strconv.FormatUint(r.next, 36)
	r.waiting[token] = f
	r.mu.Unlock()
	end = func() {
		r.mu.Lock()
		delete(r.waiting, token)
		r.mu.Unlock()
	}
	return end, r.nc.PublishRequest(subject, r.prefix+token, data)
}

// item is one message of a batch.
type item struct {
	subject string
	seq     uint64
	msgID   string
	data    []byte
}

// readTries bounds how often read asks a cluster that has nobody to answer, about half
// a second in all: the servers of a stream begin to answer reads a moment after it has
// been made, or after they have come back.
const readTries = 8

// read returns all messages of a subject, which may have wildcards, from a sequence
// on, in their order.
func (b *Broker) read(ctx context.Context, at place, from uint64) ([]item, error) {
	return b.readBy(ctx, at, "seq", max(from, 1))
}

// readAfter is read from a time on.
func (b *Broker) readAfter(ctx context.Context, at place, from time.Time) ([]item, error) {
	return b.readBy(ctx, at, "start_time", from)
}

func (b *Broker) readBy(ctx context.Context, at place, by string, from any) ([]item, error) {
	var all []item
	for try := 1; ; {
		part, more, err := b.readBatch(ctx, at, by, from)
		if errors.Is(err, nats.ErrNoResponders) && b.server == nil && try < readTries {
			pause(ctx, try)
			try++
			continue
		}
		all = append(all, part...)
		if err != nil || !more || len(part) == 0 {
			return all, err
		}
		by, from = "seq", part[len(part)-1].seq+1
	}
}

// batchEnd is the last message of a batch: an end of batch, or why there is none.
type batchEnd struct {
	more bool
	err  error
}

// readBatch returns the first of those messages, and whether there are more.
func (b *Broker) readBatch(ctx context.Context, at place, by string, from any) (items []item, more bool, err error) {
	if !b.nc.IsConnected() {
		return nil, false, nats.ErrDisconnected
	}
	body, err := json.Marshal(map[string]any{"next_by_subj": at.subject, by: from, "batch": batchMax})
	if err != nil {
		return nil, false, err
	}
	var got []item // of the goroutine of replies, until ended
	ended := make(chan batchEnd, 1)
	stop, err := b.replies.ask("$JS.API.DIRECT.GET."+at.stream, body, func(m *nats.Msg) {
		if status := m.Header.Get("Status"); status != "" {
			select {
			case ended <- endOf(status, m):
			default:
			}
			return
		}
		seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil {
			return // the end of the batch then shows that one is missing
		}
		got = append(got, item{
			subject: m.Header.Get(jetstream.SubjectHeader), seq: seq, msgID: m.Header.Get(jetstream.MsgIDHeader), data: m.Data,
		})
	})
	defer stop()
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	select {
	case end := <-ended:
		return got, end.more, end.err
	case <-b.ended:
		return nil, false, ErrClosed
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

func endOf(status string, m *nats.Msg) batchEnd {
	switch status {
	case "204":
		n, _ := strconv.Atoi(m.Header.Get("Nats-Num-Pending"))
		return batchEnd{more: n > 0}
	case "404":
		return batchEnd{}
	case "503":
		return batchEnd{err: nats.ErrNoResponders}
	}
	return batchEnd{err: fmt.Errorf("%s %s", status, m.Header.Get("Description"))}
}
