package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DefaultLedgerGrace is that of LedgerOptions.Grace.
const DefaultLedgerGrace = 30 * time.Second

// LedgerOptions describe a Ledger.
type LedgerOptions struct {
	// Lost is called with each entry of a node that is dead, by one node or, rarely, by
	// more than one. The entry is kept until done is called. It may block. Required.
	Lost func(key string, value []byte, done func()) error
	// Grace is how long a node of a cluster is not heard of before it counts as dead.
	// Default: 30 s. What an earlier run of this node left is taken up at once.
	Grace time.Duration
	// Name tells ledgers apart; a token of [a-z0-9-], or empty.
	Name string
}

// Ledger is a list that outlives its node: one record per entry. Its methods may be
// called by any goroutine.
type Ledger struct {
	// Static after NewLedger.
	b      *Broker
	opts   LedgerOptions
	stream string
	prefix string // of its subjects
	runs   string // bucket of facts that names the runs that may have entries
	life   context.Context
	kill   context.CancelFunc
	wake   chan struct{} // holds one while there is something to remove
	done   sync.WaitGroup

	mu      sync.Mutex
	removed []string // subjects still in the stream

	// Owned by the goroutine of watch.
	absent map[string]time.Time // runs of nodes, since when they have not been heard of
	gen    uint64               // of Broker.gen in which that holds
}

// NewLedger opens the ledger. Close it before the broker. Errors: ErrUnavailable.
func (b *Broker) NewLedger(ctx context.Context, o LedgerOptions) (*Ledger, error) {
	if o.Lost == nil {
		return nil, errors.New("broker: a ledger needs Lost")
	}
	o.Grace = cmp.Or(o.Grace, DefaultLedgerGrace)
	l := &Ledger{b: b, opts: o, stream: strings.ToUpper(b.opts.Prefix) + "_LEDGER", prefix: b.opts.Prefix + ".l.", runs: "ledger",
		wake: make(chan struct{}, 1), absent: map[string]time.Time{}}
	if o.Name != "" {
		l.stream += "_" + strings.ToUpper(o.Name)
		l.prefix, l.runs = b.opts.Prefix+".w."+o.Name+".", "ledger-"+o.Name
	}
	err := b.insist(ctx, func(ctx context.Context) error {
		_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: l.stream, Subjects: []string{l.prefix + "*.*.*"}, Storage: b.storage(), Replicas: b.opts.Replicas,
			MaxMsgsPerSubject: 1, AllowDirect: true, Duplicates: time.Second,
		})
		return err
	})
	if err == nil {
		err = b.Put(ctx, l.runs, l.run(b.opts.Node, b.boot), []byte{1}, 0)
	}
	if err != nil {
		return nil, unavailable("open the ledger", err)
	}
	l.life, l.kill = context.WithCancel(context.Background())
	l.done.Go(l.clean)
	return l, nil
}

// Start begins to look for entries of dead nodes. Call it once, before Close.
func (l *Ledger) Start() { l.done.Go(l.watch) }

// run is the beginning of the subjects of one run of a node.
func (l *Ledger) run(node, boot string) string {
	return string(appendToken([]byte(l.prefix), node)) + "." + boot + "."
}

func (l *Ledger) subject(key string) string {
	return string(appendToken([]byte(l.run(l.b.opts.Node, l.b.boot)), key))
}

// Add returns when the entry is stored. After an error it may be, until Remove.
// Errors: ErrUnavailable.
func (l *Ledger) Add(ctx context.Context, key string, value []byte) error {
	_, err := l.b.write(ctx, &nats.Msg{Subject: l.subject(key), Data: value, Header: nats.Header{}}, nil, 0)
	if err != nil {
		return unavailable("add to the ledger", err)
	}
	return nil
}

// Remove takes an entry out, some time later. It does not block.
func (l *Ledger) Remove(key string) {
	l.mu.Lock()
	l.removed = append(l.removed, l.subject(key))
	l.mu.Unlock()
	signal(l.wake)
}

// clean takes removed entries out of the stream.
func (l *Ledger) clean() {
	for failures := 0; ; {
		l.mu.Lock()
		n := len(l.removed)
		next := ""
		if n > 0 {
			next = l.removed[n-1]
		} else {
			l.removed = nil // its memory is that of the largest crowd
		}
		l.mu.Unlock()
		if next == "" {
			select {
			case <-l.wake:
				continue
			case <-l.life.Done():
				return
			}
		}
		if err := l.purge(next, 0); err != nil {
			failures++
			pause(l.life, failures)
			if l.life.Err() != nil {
				return
			}
			continue
		}
		failures = 0
		l.mu.Lock()
		l.removed[n-1], l.removed = l.removed[len(l.removed)-1], l.removed[:len(l.removed)-1]
		l.mu.Unlock()
	}
}

// purge deletes the records of a subject, those below a sequence if it is not 0.
func (l *Ledger) purge(subject string, below uint64) error {
	ctx, cancel := context.WithTimeout(l.life, requestTimeout)
	defer cancel()
	return l.b.purge(ctx, l.stream, jetstream.StreamPurgeRequest{Subject: subject, Sequence: below})
}

// Close waits until ctx ends for entries to be removed.
func (l *Ledger) Close(ctx context.Context) error {
	untilNone(ctx, l.left)
	left := l.left()
	l.kill()
	l.done.Wait()
	if left > 0 {
		return fmt.Errorf("broker: %d entries of the ledger could not be removed: %w", left, ctx.Err())
	}
	return nil
}

func (l *Ledger) left() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.removed)
}
