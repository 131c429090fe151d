package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Put stores a small fact for all nodes, durably; it is gone after ttl, rounded down to
// seconds and at least one, if ttl is not 0. A nil value removes it. Errors: ErrUnavailable.
func (b *Broker) Put(ctx context.Context, bucket, key string, value []byte, ttl time.Duration) error {
	if value == nil {
		ttl = time.Second
	}
	return b.putFact(ctx, bucket, key, value, ttl, false)
}

// factsAt is where the facts of a bucket are; key is a token.
func (b *Broker) factsAt(bucket, key string) place {
	name := appendToken([]byte(b.opts.Prefix+".f."), bucket)
	return place{stream: b.factsStream(), subject: string(name) + "." + key}
}

// putFact stores; with first it fails with errStale if the key is there.
func (b *Broker) putFact(ctx context.Context, bucket, key string, value []byte, ttl time.Duration, first bool) error {
	if bucket == "" || key == "" {
		return errors.New("broker: bucket and key must not be empty")
	}
	if b.closed.Load() {
		return unavailable("put", ErrClosed)
	}
	m := &nats.Msg{
		Subject: b.factsAt(bucket, string(appendToken(nil, key))).subject,
		Data:    append([]byte{formatVersion}, value...), Header: nats.Header{},
	}
	if value == nil {
		m.Data = nil
	}
	var expect *uint64
	if first {
		expect = new(uint64)
	}
	_, err := b.write(ctx, m, expect, ttl)
	switch {
	case errors.Is(err, errStale):
		return err
	case err != nil:
		return unavailable("put", err)
	}
	return nil
}

// Load returns the facts of a bucket by key. Errors: ErrUnavailable.
func (b *Broker) Load(ctx context.Context, bucket string) (map[string][]byte, error) {
	if bucket == "" {
		return nil, errors.New("broker: bucket must not be empty")
	}
	if b.closed.Load() {
		return nil, unavailable("load", ErrClosed)
	}
	items, err := b.read(ctx, b.factsAt(bucket, "*"), 1)
	if err != nil {
		return nil, unavailable("load", err)
	}
	facts := make(map[string][]byte, len(items))
	for _, it := range items {
		key, ok := fromToken(it.subject[strings.LastIndexByte(it.subject, '.')+1:])
		switch {
		case !ok:
			return nil, fmt.Errorf("broker: load: malformed key %q", it.subject)
		case len(it.data) == 0:
			delete(facts, key)
		default:
			facts[key] = it.data[1:]
		}
	}
	return facts, nil
}
