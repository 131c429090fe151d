// Package sync is shared state for browsers, mobiles and backends: documents, maps, lists and streams,
// each with a log of events that subscribers of its channel follow without a gap. docs/sync.md says how
// it is used.
//
// One write is one record of the object's log, stored before it is answered. The log is a channel with
// history like any other, so that gateways bring its events to subscribers, and what they missed.
package sync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"roost/broker"
	"roost/service"
)

// Defaults and bounds of Options.
const (
	DefaultMaxData  = 16 << 10
	DefaultMaxItems = 1_000_000
	// LargestData leaves room in one NATS message for data, what was before it, and the rest.
	LargestData = 256 << 10
)

// Options of a Service. The zero value of a field but Broker means its default.
type Options struct {
	Broker *broker.Broker
	Config
	// Observe is told of each call that this instance answered: its error code, 0 for none. Any goroutine.
	Observe func(op string, code uint32, took time.Duration)
	Logger  *slog.Logger
}

// Config is what operators may say of the service.
type Config struct {
	// MaxData of a document, an item or a message, in bytes of JSON. Default: 16 KiB; at most 256 KiB.
	MaxData int
	// MaxItems of a map or a list. Default: 1,000,000.
	MaxItems int
	// Restricted objects may be used by those alone whom their creator has granted it. This is so for
	// new objects that do not say otherwise themselves.
	Restricted bool
	// BackendsCreate leaves it to backends to create objects.
	BackendsCreate bool
}

func (c *Config) validate() error {
	switch {
	case c.MaxData < 0 || c.MaxData > LargestData:
		return fmt.Errorf("sync: MaxData is %d, must be 0 (%d) to %d bytes", c.MaxData, DefaultMaxData, LargestData)
	case c.MaxItems < 0:
		return fmt.Errorf("sync: MaxItems is %d, must be 0 (%d) or more", c.MaxItems, DefaultMaxItems)
	}
	c.MaxData, c.MaxItems = cmp.Or(c.MaxData, DefaultMaxData), cmp.Or(c.MaxItems, DefaultMaxItems)
	return nil
}

// Service is one instance. All methods may be called by any goroutine.
type Service struct {
	// Static after New.
	opts     Options
	b        *broker.Broker
	log      *slog.Logger
	now      func() time.Time
	cells    service.Cells[object]
	schedule schedule
	member   *service.Member
	router   *service.Router
	deaf     func() // ends the answers to backends on NATS
	stopped  chan struct{}
	done     sync.WaitGroup
	counts   counts
}

type counts struct{ commits, bytes, checkpoints, pages, expired atomic.Uint64 }

// New starts an instance. Close it before its broker. Errors: broker.ErrUnavailable, and those of Options.
func New(o Options) (*Service, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Observe == nil {
		o.Observe = func(string, uint32, time.Duration) {}
	}
	s := &Service{opts: o, b: o.Broker, log: o.Logger, now: time.Now, stopped: make(chan struct{})}
	s.cells.Load, s.cells.Generation = s.load, o.Broker.Generation
	s.schedule.init(s)
	var err error
	s.member, err = service.Join(service.Options{
		Name: Namespace, Broker: o.Broker, Handle: s.handle, Gained: s.gained, Lost: s.lost, Observe: o.Observe, Logger: o.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	s.router = service.NewRouter(Namespace, o.Broker, s.member)
	if s.deaf, err = s.member.Serve(s.router, Prepare); err != nil {
		return nil, errors.Join(fmt.Errorf("sync: %w", err), s.Close())
	}
	s.done.Go(func() { s.cells.Sweep(s.stopped) })
	s.done.Go(s.schedule.run)
	return s, nil
}

// Close ends the instance; others take over what it owns.
func (s *Service) Close() error {
	if s.deaf != nil {
		s.deaf()
	}
	s.member.Leave()
	close(s.stopped)
	s.done.Wait()
	return nil
}

// Router brings calls to the instances of the service, this one among them.
func (s *Service) Router() *service.Router { return s.router }

func (s *Service) gained(shard int) {
	s.cells.Forget(shard)
	s.schedule.gained(shard)
}

func (s *Service) lost(shard int) {
	s.cells.Forget(shard)
	s.schedule.lost(shard)
}

// Stats are figures of an instance.
type Stats struct {
	service.CellStats
	Shards      int    // that it owns
	Commits     uint64 // writes that were stored
	Bytes       uint64 // of them
	Checkpoints uint64
	Pages       uint64 // written by checkpoints
	Expired     uint64 // objects and items
	Scheduled   int    // objects that expire, or items of theirs
}

// Stats returns the figures so far.
func (s *Service) Stats() Stats {
	return Stats{
		CellStats: s.cells.Stats(), Shards: s.member.Owned(), Commits: s.counts.commits.Load(), Bytes: s.counts.bytes.Load(),
		Checkpoints: s.counts.checkpoints.Load(), Pages: s.counts.pages.Load(), Expired: s.counts.expired.Load(), Scheduled: s.schedule.len(),
	}
}

// Prepare finds out which object a call is about. Errors are *service.Error.
func Prepare(c *service.Call) error {
	if takes[c.Op] == nil {
		return failf(CodeUnknownOp, "there is no operation %.40q", c.Op)
	}
	p, err := parse(c.Data)
	if err == nil {
		err = p.fits(c.Op, false)
	}
	if err != nil {
		return err
	}
	c.Parsed = p
	if k, ok := kinds[p.Type]; ok && c.Op == "open" && p.ID == "" && p.Name == "" {
		if p.Mode != modeNew {
			return failf(CodeInvalid, "name is missing: only create_new makes an object without one")
		}
		c.Key = newID(k, c.Caller, p.IdempotencyKey)
		return nil
	}
	c.Key, err = p.objectID()
	return err
}

// handle answers a call.
func (s *Service) handle(ctx context.Context, c *service.Call) ([]byte, error) {
	p, ok := c.Parsed.(*params)
	if !ok { // it came from another process
		var err error
		if p, err = parse(c.Data); err != nil {
			return nil, err
		}
	}
	if len(p.IdempotencyKey) > maxIdemKey {
		return nil, failf(CodeInvalid, "idempotency_key has %d bytes, at most %d are allowed", len(p.IdempotencyKey), maxIdemKey)
	}
	var answer any
	err := s.cells.With(ctx, c.Key, func(o *object) (err error) {
		answer, err = s.do(ctx, o, c, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	return service.Marshal(answer)
}

// reads are the operations that do not only write.
var reads = map[string]func(*Service, context.Context, *object, *service.Call, *params) (any, error){
	"open": (*Service).open, "get": (*Service).get, "query": (*Service).query, "history": (*Service).history,
	"permissions": (*Service).permissions, "stream.publish": (*Service).publish,
	OpSubscribe: (*Service).subscribe, OpTry: (*Service).try,
}

// Operations of gateways, not of their clients.
const (
	OpSubscribe = "subscribe" // may the caller read?
	OpTry       = "try"       // could the caller do this batch?
)

// do runs an operation; the object is the caller's alone meanwhile.
func (s *Service) do(ctx context.Context, o *object, c *service.Call, p *params) (any, error) {
	if f, ok := reads[c.Op]; ok {
		if !o.exists && c.Op != "open" {
			return nil, unknownObject(o)
		}
		return f(s, ctx, o, c, p)
	}
	return s.write(ctx, o, c, p)
}

func unknownObject(o *object) error {
	return failf(CodeUnknownObject, "there is no %s %s", o.kind, o.id)
}
