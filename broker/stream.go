package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// classes are the lengths of history a stream may keep per channel; a namespace's
// size is rounded up to one of them, and its own value applied on reading. A stream
// has one such limit for all its channels.
//
// The last one is no length of a namespace, but of channels whose history is a log, see
// PublishOptions.Kept: it does not age.
var classes = [...]int{1, 16, 128, 1024, 8192, 131072, KeptSize}

const keptClass = uint8(len(classes) - 1)

// KeptSize is how many publications a channel of PublishOptions.Kept has at most.
const KeptSize = 256

// The number of streams per class in use, see docs/adr/0007. It is part of where channels are stored:
// that of a cluster cannot change under existing data, that of a folder is in its marker.
const (
	historyStreams  = 64 // of a cluster, and at most
	embeddedStreams = 16 // of a new folder
)

// batchMax is how many records are asked for at once.
const batchMax = 1000

func classOf(size int) uint8 {
	for i, n := range classes[:keptClass] {
		if size <= n {
			return uint8(i)
		}
	}
	return keptClass - 1
}

// stream is what is known of one stream.
type stream struct {
	opened  atomic.Bool   // it surely exists
	turn    chan struct{} // held while it is opened
	present present       // of the embedded server
}

type streams [len(classes)][historyStreams]stream

func (s *streams) init() {
	for class := range s {
		initStreams(&s[class])
	}
}

func initStreams(all *[historyStreams]stream) {
	for p := range all {
		all[p].turn = make(chan struct{}, 1)
	}
}

// place is where a channel's records are.
type place struct {
	stream, subject string
}

// part tells which of a class's streams a channel's records are in.
func (b *Broker) part(ch string) int { return shardOf(ch) % b.parts }

func (b *Broker) place(ch string, class uint8) place {
	part := b.part(ch)
	at := make([]byte, 0, len(b.opts.Prefix)+32+len(ch))
	at = append(at, b.opts.Prefix...)
	at = append(at, ".h."...)
	at = strconv.AppendUint(at, uint64(class), 10)
	at = append(at, '.')
	at = strconv.AppendUint(at, uint64(part), 10)
	at = append(at, '.')
	at = strconv.AppendUint(at, uint64(shardOf(ch)), 10)
	at = append(at, '.')
	return place{stream: b.streamName(class, part), subject: string(appendToken(at, ch))}
}

func (b *Broker) streamName(class uint8, p int) string {
	return strings.ToUpper(b.opts.Prefix) + "_H" + strconv.Itoa(int(class)) + "_" + strconv.Itoa(p)
}

func (b *Broker) storage() jetstream.StorageType {
	if b.opts.Memory {
		return jetstream.MemoryStorage
	}
	return jetstream.FileStorage
}

// keyStorage is where those keys are: a cluster of NATS outlives its gateways, the embedded server
// does not, and publishers try again just when one took over from another.
func (b *Broker) keyStorage() jetstream.StorageType {
	if b.server == nil {
		return jetstream.MemoryStorage
	}
	return b.storage()
}

// dedupeWindow is for how long NATS compares ids of records, which are idempotency keys; see keyMemory.
func (b *Broker) dedupeWindow() time.Duration {
	if b.server != nil {
		return time.Second
	}
	return keyWindow
}

// open makes sure that the stream of a channel exists.
func (b *Broker) open(ctx context.Context, ch string, class uint8) error {
	p := b.part(ch)
	known := &b.streams[class][p]
	if known.opened.Load() {
		return nil
	}
	at := fmt.Sprintf("%s.h.%d.%d", b.opts.Prefix, class, p)
	cfg := jetstream.StreamConfig{
		Name: b.streamName(class, p), Subjects: []string{at + ".*.*"}, Storage: b.storage(), Replicas: b.opts.Replicas,
		MaxMsgsPerSubject: int64(classes[class]), MaxAge: metaAge, Duplicates: b.dedupeWindow(),
		AllowDirect: true, Discard: jetstream.DiscardOld,
	}
	if class == keptClass {
		cfg.MaxAge, cfg.AllowMsgTTL = 0, true
	}
	if b.server == nil {
		cfg.RePublish = &jetstream.RePublish{Source: at + ".*.*", Destination: b.opts.Prefix + ".ch.{{wildcard(1)}}.{{wildcard(2)}}"}
	}
	var learn func(context.Context, jetstream.Stream) error
	if b.server != nil {
		learn = func(ctx context.Context, s jetstream.Stream) error {
			return known.present.load(ctx, s, at+".*.*", func(subject string) (string, bool) {
				return fromToken(subject[strings.LastIndexByte(subject, '.')+1:])
			})
		}
	}
	return b.ensure(ctx, known, cfg, learn)
}

// ensure opens a stream, once; learn, if there is one, finds out about it what must be known. Errors: ErrUnavailable.
func (b *Broker) ensure(ctx context.Context, known *stream, cfg jetstream.StreamConfig, learn func(context.Context, jetstream.Stream) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	select {
	case known.turn <- struct{}{}:
		defer func() { <-known.turn }()
	case <-ctx.Done():
		return unavailable("open stream", ctx.Err())
	}
	if known.opened.Load() {
		return nil // another one did
	}
	if !b.nc.IsConnected() {
		return unavailable("open stream", nats.ErrDisconnected)
	}
	s, err := b.js.CreateOrUpdateStream(ctx, cfg)
	if err == nil && learn != nil {
		err = learn(ctx, s)
	}
	if err != nil {
		return unavailable("open stream "+cfg.Name, err)
	}
	known.opened.Store(true)
	return nil
}

// forget makes the next use of a channel's stream open it again.
func (b *Broker) forget(ch string, class uint8) {
	b.streams[class][b.part(ch)].opened.Store(false)
}

var (
	errStale   = errors.New("another record came first")
	errMissing = errors.New("no such record")
)

// wrongLast are JetStream's error codes for a failed expectation; the second means
// that another write to the subject is in flight.
var wrongLast = [...]int{10071, 10164}

type ack struct {
	Error *struct {
		ErrCode     int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
	Seq       uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"`
}

// store writes one record if last is nil or the sequence of its subject's last one. msgID, if
// set, is an id a stream takes only once within its window; after a ttl but 0 the record
// is gone. Errors: errStale, or one after which the record may be there or not.
func (b *Broker) store(ctx context.Context, subject string, data []byte, last *uint64, msgID string, ttl time.Duration) (ack, error) {
	m := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	if msgID != "" {
		m.Header[jetstream.MsgIDHeader] = []string{msgID}
	}
	return b.write(ctx, m, last, ttl)
}

// write stores m, if expect is nil or its subject's last sequence. Errors as store.
func (b *Broker) write(ctx context.Context, m *nats.Msg, expect *uint64, ttl time.Duration) (ack, error) {
	if expect != nil {
		m.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(*expect, 10)}
	}
	if ttl > 0 {
		m.Header[jetstream.MsgTTLHeader] = []string{strconv.Itoa(max(1, int(ttl/time.Second)))}
	}
	reply, err := b.request(ctx, m)
	if err != nil {
		return ack{}, err
	}
	var a ack
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return a, fmt.Errorf("acknowledgement: %w", err)
	}
	switch {
	case a.Error == nil:
		return a, nil
	case slices.Contains(wrongLast[:], a.Error.ErrCode):
		return a, errStale
	}
	return a, errors.New(a.Error.Description)
}

// request asks once; it waits at most requestTimeout and as long as ctx has.
func (b *Broker) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	wait := requestTimeout
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end))
	}
	if wait <= 0 {
		return nil, context.DeadlineExceeded
	}
	if !b.nc.IsConnected() {
		return nil, nats.ErrDisconnected
	}
	return b.nc.RequestMsg(m, wait)
}

// purge deletes records of a stream.
func (b *Broker) purge(ctx context.Context, stream string, what jetstream.StreamPurgeRequest) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	reply, err := b.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.PURGE." + stream, Data: body})
	if err != nil {
		return err
	}
	var a ack
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	if a.Error != nil {
		return fmt.Errorf("purge: %s", a.Error.Description)
	}
	return nil
}

// purgeToLast deletes all records of a channel but the last.
func (b *Broker) purgeToLast(ctx context.Context, at place) error {
	return b.purge(ctx, at.stream, jetstream.StreamPurgeRequest{Subject: at.subject, Keep: 1})
}
