// Package broker carries publications between nodes and keeps their history, on NATS:
// a server embedded in this process, or a cluster.
//
// With the embedded server this node is the only one, so a publication is handed to
// the Handler right after it was stored. In a cluster the stream itself republishes
// what it has stored, so every node, the publishing one included, sees the records
// of a channel in their order. All else is the same code.
package broker

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Limits and times that are no options.
const (
	maxChannel     = 255             // bytes of a channel name
	requestTimeout = 5 * time.Second // of one request to NATS
	connectTimeout = 15 * time.Second
	openTimeout    = time.Minute         // for the streams: servers that start together elect leaders first
	keyWindow      = 5 * time.Minute     // in which an idempotency key is known
	metaAge        = 30 * 24 * time.Hour // after which an idle channel loses its offset
)

var (
	// ErrUnavailable means that NATS cannot be reached or did not confirm in time. A
	// publication that met it may or may not have been stored.
	ErrUnavailable = errors.New("broker: unavailable")
	// ErrClosed means that the broker was closed.
	ErrClosed = errors.New("broker: closed")
	// ErrChannel means that a channel name is empty or longer than 255 bytes.
	ErrChannel = errors.New("broker: a channel name has 1 to 255 bytes")
	// ErrTooLarge means that a publication exceeds NATS' largest message, 1 MB unless
	// its operator has set another limit.
	ErrTooLarge = errors.New("broker: publication too large")
	// ErrConflict means that a channel's last publication is not the one that was expected.
	ErrConflict = errors.New("broker: the channel's last publication is another one")
)

// Options of a Broker. The zero value with a Handler and a Dir embeds a server.
type Options struct {
	// URLs of a NATS cluster with JetStream; none embeds a server.
	URLs []string
	// Dir holds the embedded server's data; one process at a time.
	Dir string
	// Memory keeps history in memory only. Dir is not needed then.
	Memory bool
	// Prefix of all subjects, and in capitals of all streams; "roost" by default.
	// [a-z0-9-]. Gateways of one prefix are one cluster.
	Prefix string
	// SyncAlways makes the embedded server write to the disk before it confirms.
	// Otherwise a power cut may cost the last two minutes; an end of the process costs
	// nothing.
	SyncAlways bool
	// Listen opens the embedded server to services; by default it listens nowhere.
	Listen Listener
	// Replicas of each stream in a cluster, 1 by default.
	Replicas int
	// Node is this node's id, unique in the cluster; a random one by default.
	Node string
	// TailBytes bounds the recent publications kept in memory, 64 MB by default.
	TailBytes int64
	// Heir is what the broker left whose place this one takes, which must have been
	// suspended; nil for one that begins anew. Its Node replaces Node.
	Heir *Heir
	// Guest publishes, reads and answers, but is no node: nobody asks it, and it hears of nothing.
	// Only in a cluster.
	Guest bool
	// Logger, slog.Default() if nil.
	Logger *slog.Logger
	// Handler hears of everything. Required.
	Handler Handler
}

// Handler is told what happens in the cluster, by the broker's goroutines and by those
// that call Publish. It must not block for long nor call Publish. One channel's stored publications come
// one after the other.
type Handler interface {
	// Publication is a live publication; those with an offset come in its order.
	Publication(ch string, pub *Publication)
	// JoinLeave carries what PublishJoinLeave got.
	JoinLeave(ch string, join bool, info []byte)
	// Gap tells that publications of a followed channel may have been missed.
	Gap(ch string)
	// Notice is a Notify of any node, this one included.
	Notice(kind string, data []byte)
	// Query answers a Survey or an AskNode of any node, this one included.
	Query(kind string, data []byte) (reply []byte, err error)
}

// Publication is shared by all its receivers: nobody may change it.
type Publication struct {
	// Offset counts a channel's publications with history from 1; 0 without history.
	Offset uint64
	Epoch  string
	Data   []byte
	Info   []byte // of the publishing client, opaque
	Tags   map[string]string
	Delta  bool
	Time   int64 // Unix ms; set by Publish if it is 0
	// Note is for whoever reads a channel's history as a log: stored, and no client gets to see it.
	Note []byte
}

// Position is a place in a channel's history. Offsets of two epochs do not compare.
type Position struct {
	Offset uint64
	Epoch  string
}

// Broker is one node's connection to all others. All methods may be called by any
// goroutine.
type Broker struct {
	// Static after New.
	opts    Options
	log     *slog.Logger
	handler Handler
	server  *embedded // nil in a cluster
	nc      *nats.Conn
	js      jetstream.JetStream
	streams streams
	pages   [historyStreams]stream
	parts   int // of each class, that are in use
	replies replies
	era     era
	boot    string // distinguishes the publications of this run
	ended   chan struct{}
	done    sync.WaitGroup
	reading chan struct{} // held by reads of history

	shards [shards]shard
	keys   keyMemory     // of the embedded server
	tails  atomic.Int64  // bytes in tails
	calls  atomic.Uint64 // publications stored or tried, for their ids
	gen    atomic.Uint64 // goes up whenever live messages may have been missed
	closed atomic.Bool
	gate   gate
	hold   liveHold
	nodes  nodes
	counts counts
}

func (o *Options) validate() error {
	switch {
	case o.Handler == nil:
		return errors.New("broker: a handler is required")
	case len(o.URLs) == 0 && o.Dir == "" && !o.Memory:
		return errors.New("broker: a data folder is required, or NATS URLs, or memory mode")
	case o.Replicas < 0 || o.Replicas > 5:
		return fmt.Errorf("broker: replicas is %d, must be 1 to 5", o.Replicas)
	case len(o.URLs) == 0 && o.Guest:
		return errors.New("broker: a guest needs a NATS cluster")
	case len(o.URLs) == 0 && o.Replicas > 1:
		return errors.New("broker: replicas need a NATS cluster")
	}
	if o.Prefix == "" {
		o.Prefix = "roost"
	}
	if err := CheckPrefix(o.Prefix); err != nil {
		return err
	}
	if err := o.Listen.validate(o); err != nil {
		return err
	}
	if o.Heir != nil {
		o.Node = o.Heir.Node
	}
	if o.Node == "" {
		o.Node = randomName(10)
	}
	if o.TailBytes == 0 {
		o.TailBytes = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Replicas = max(o.Replicas, 1)
	return nil
}

// randomName returns n*8/5 lower-case letters and digits.
func randomName(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return nameEncoding.EncodeToString(b)
}

var nameEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// New starts the embedded server, or connects to the cluster, and joins the other
// nodes. It takes at most 15 s.
func New(o Options) (b *Broker, err error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	b = &Broker{opts: o, log: o.Logger, handler: o.Handler, boot: randomName(5), parts: historyStreams, ended: make(chan struct{}), reading: make(chan struct{}, maxReads)}
	b.gen.Store(1)
	b.hold.self = []byte(randomName(5))
	if h := o.Heir; h != nil {
		b.boot = h.Boot
		b.calls.Store(h.Calls)
	}
	for i := range b.shards {
		b.shards[i].init()
	}
	b.streams.init()
	initStreams(&b.pages)
	b.keys.init()
	b.nodes.init(o.Heir)
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
			b = nil
		}
	}()
	if len(o.URLs) == 0 {
		if b.server, err = startServer(o); err != nil {
			return b, err
		}
		b.parts = b.server.marker.Streams
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if err := b.connect(ctx); err != nil {
		return b, err
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		return b, fmt.Errorf("broker: JetStream: %w", err)
	}
	if err := b.replies.start(b.nc); err != nil {
		return b, err
	}
	if err := b.loadEra(ctx); err != nil {
		return b, err
	}
	if o.Heir != nil && b.server != nil {
		if err := b.inherit(o.Heir.State); err != nil {
			return b, err
		}
	}
	if o.Guest {
		return b, nil
	}
	taking := o.Heir != nil && b.server == nil // see Know and Enter
	if b.hold.holding = taking; taking {
		b.Settle() // or what the old one took before Watch might come here still
	}
	if err := b.hear(); err != nil || taking {
		return b, err
	}
	return b, b.join()
}

func (b *Broker) connect(ctx context.Context) error {
	opts := []nats.Option{
		nats.Name("roost " + b.opts.Node),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.ReconnectBufSize(-1), // fail at once: the caller can tell its client
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(b.disconnected),
		nats.ReconnectHandler(b.reconnected),
		nats.ErrorHandler(b.asyncError),
	}
	opts = append(opts, b.server.within()...)
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for {
		nc, err := nats.Connect(strings.Join(b.opts.URLs, ","), opts...)
		if err == nil {
			b.nc = nc
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("broker: connect to NATS %s: %w", strings.Join(b.opts.URLs, ","), err)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// Close leaves the cluster and ends the embedded server; what was acknowledged is on
// disk then. Publish and all others answer ErrUnavailable from now on.
func (b *Broker) Close() error {
	if !b.closed.CompareAndSwap(false, true) {
		return nil
	}
	close(b.ended)
	for i := range b.shards {
		b.shards[i].close()
	}
	if b.nc != nil {
		b.leave()
		b.nc.Close()
	}
	b.done.Wait()
	if b.server != nil {
		return b.server.stop()
	}
	return nil
}

var _ io.Closer = (*Broker)(nil)

// Ready returns nil if NATS can be reached.
func (b *Broker) Ready() error {
	switch {
	case b.closed.Load():
		return ErrClosed
	case !b.nc.IsConnected():
		return ErrUnavailable
	}
	return nil
}

// Node returns this node's id.
func (b *Broker) Node() string { return b.opts.Node }

// unavailable turns an error of NATS into one the caller may test for.
func unavailable(verb string, err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, verb, err)
}
