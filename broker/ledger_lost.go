package broker

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ledgerCheck is how often entries of dead nodes are looked for.
const ledgerCheck = time.Second

// watch finds nodes that are dead and left entries.
func (l *Ledger) watch() {
	t := time.NewTicker(ledgerCheck)
	defer t.Stop()
	for {
		if err := l.check(); err != nil && l.life.Err() == nil {
			l.b.log.Warn("entries of lost nodes could not be taken up, and are tried again", "error", err)
		}
		select {
		case <-t.C:
		case <-l.life.Done():
			return
		}
	}
}

func (l *Ledger) check() error {
	if l.b.Ready() != nil {
		return nil
	}
	if gen := l.b.gen.Load(); gen != l.gen { // who was not heard of meanwhile may be alive
		clear(l.absent)
		l.gen = gen
	}
	ctx, cancel := context.WithTimeout(l.life, requestTimeout)
	defer cancel()
	runs, err := l.b.Load(ctx, l.runs)
	if err != nil {
		return err
	}
	maps.DeleteFunc(l.absent, func(run string, _ time.Time) bool { return runs[run] == nil })
	for run := range runs {
		if !l.dead(run) {
			continue
		}
		if err := l.take(run); err != nil {
			return err
		}
	}
	return nil
}

// dead tells whether a run is surely not alive.
func (l *Ledger) dead(run string) bool {
	parts := strings.Split(strings.TrimSuffix(run, "."), ".")
	node, boot := parts[len(parts)-2], parts[len(parts)-1]
	switch {
	case boot == l.b.boot, l.b.nodes.runs(boot):
		delete(l.absent, run)
		return false
	case l.b.server != nil, node == string(appendToken(nil, l.b.opts.Node)):
		return true // only this process has the data, or the id
	}
	since, noted := l.absent[run]
	if !noted {
		l.absent[run] = time.Now()
		return false
	}
	return time.Since(since) > l.opts.Grace
}

// take hands on the entries of a dead run, and deletes them when all are done with.
func (l *Ledger) take(run string) error {
	count := 0
	for from := uint64(1); ; {
		ctx, cancel := context.WithTimeout(l.life, requestTimeout)
		items, more, err := l.b.readBatch(ctx, place{l.stream, run + "*"}, "seq", from)
		cancel()
		if err != nil {
			return err
		}
		var all sync.WaitGroup
		for _, it := range items {
			from = it.seq + 1
			key, ok := fromToken(it.subject[len(run):])
			if !ok {
				return fmt.Errorf("broker: malformed key in the ledger: %q", it.subject)
			}
			all.Add(1)
			if err := l.opts.Lost(key, it.data, all.Done); err != nil {
				return err
			}
		}
		settled := make(chan struct{})
		go func() { all.Wait(); close(settled) }()
		select {
		case <-settled:
		case <-l.life.Done():
			return l.life.Err()
		}
		count += len(items)
		if len(items) > 0 {
			if err := l.purge(run+"*", from); err != nil {
				return err
			}
		}
		if !more || len(items) == 0 {
			break
		}
	}
	if count > 0 {
		l.b.log.Warn("a gateway was lost, and with it its clients", "run", run, "entries", count)
	}
	return l.strike(run)
}

// Reap hands on the entries of this run whose keys are not alive, for a broker with an Heir: those of
// clients that the old process did not hand over, and of whose end it could tell nobody. It looks
// twice, Grace apart, so that whoever comes or goes meanwhile is left in peace. It does not block;
// alive is called on another goroutine.
func (l *Ledger) Reap(alive func(key string) bool) {
	l.done.Go(func() {
		first, ok := l.absentees(alive)
		if !ok {
			return
		}
		select {
		case <-time.After(l.opts.Grace):
		case <-l.life.Done():
			return
		}
		again, _ := l.absentees(alive)
		for key, it := range again {
			if first[key].seq != it.seq {
				continue
			}
			if err := l.opts.Lost(key, it.data, func() { l.Remove(key) }); err != nil && l.life.Err() == nil {
				l.b.log.Error("an entry of a lost client stays", "key", key, "error", err)
			}
		}
	})
}

// Entries returns those of this run, for a broker with an Heir: what the old process has added. It waits
// while NATS is away; none if the ledger is closed.
func (l *Ledger) Entries() map[string][]byte {
	own, _ := l.absentees(func(string) bool { return false })
	all := make(map[string][]byte, len(own))
	for key, it := range own {
		all[key] = it.data
	}
	return all
}

// absentees returns the entries of this run whose keys are not alive; not ok if the ledger is closed.
func (l *Ledger) absentees(alive func(key string) bool) (all map[string]item, ok bool) {
	run := l.run(l.b.opts.Node, l.b.boot)
	all = make(map[string]item)
	for from, failures := uint64(1), 0; ; {
		items, more, err := l.b.readBatch(l.life, place{l.stream, run + "*"}, "seq", from)
		if err != nil {
			failures++
			if pause(l.life, failures); l.life.Err() != nil {
				return nil, false
			}
			continue
		}
		for _, it := range items {
			from = it.seq + 1
			if key, ok := fromToken(it.subject[len(run):]); ok && !alive(key) {
				all[key] = it
			}
		}
		if !more || len(items) == 0 {
			return all, true
		}
	}
}

// strike forgets a run, unless the stream still has an entry of it: what was read may have
// been a copy that lags behind.
func (l *Ledger) strike(run string) error {
	ctx, cancel := context.WithTimeout(l.life, requestTimeout)
	defer cancel()
	s, err := l.b.js.Stream(ctx, l.stream)
	if err != nil {
		return err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(run+"*"))
	if err != nil || len(info.State.Subjects) > 0 {
		return err
	}
	return l.b.Put(ctx, l.runs, run, nil, 0)
}
