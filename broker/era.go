package broker

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// era is an id of the stored history as a whole. A new one means that acknowledged
// records may be missing, and makes all epochs before invalid.
type era string

const eraLen = 8

// eraTurn is how often the epoch of channels without records changes: more often than
// metaAge, so that a channel whose last record has expired never gets an epoch twice.
const eraTurn = metaAge / 2

// emptyEpoch is the epoch of a channel without records. It follows from what all
// nodes know, so that it can be told without storing anything, and the first
// publication keeps it.
func (b *Broker) emptyEpoch(ch string, class uint8) string {
	h := sha256.New()
	var n [9]byte
	binary.BigEndian.PutUint64(n[:], uint64(time.Now().UnixNano()/int64(eraTurn)))
	n[8] = class
	_, _ = h.Write([]byte(b.era)) // a hash never fails
	_, _ = h.Write(n[:])
	_, _ = h.Write([]byte(ch))
	return string(b.era) + nameEncoding.EncodeToString(h.Sum(nil)[:5])
}

// epochOf returns the epoch that holds for a channel whose last record has the given
// one, or none.
func (b *Broker) epochOf(ch string, class uint8, last string) string {
	if strings.HasPrefix(last, string(b.era)) {
		return last
	}
	return b.emptyEpoch(ch, class)
}

func (b *Broker) factsStream() string { return strings.ToUpper(b.opts.Prefix) + "_FACTS" }

// loadEra opens the streams every node needs and learns the era, or begins one.
func (b *Broker) loadEra(ctx context.Context) error {
	for _, cfg := range []jetstream.StreamConfig{
		{
			Name: b.factsStream(), Subjects: []string{b.opts.Prefix + ".f.*.*"}, Storage: b.storage(),
			MaxMsgsPerSubject: 1, AllowDirect: true, AllowMsgTTL: true, Duplicates: time.Second,
		},
		{
			Name: b.onceStream(), Subjects: []string{b.opts.Prefix + ".once.*"}, Storage: b.keyStorage(),
			MaxMsgsPerSubject: 1, MaxAge: keyWindow, Duplicates: time.Second,
		},
	} {
		cfg.Replicas = b.opts.Replicas
		if err := b.insist(ctx, func(ctx context.Context) error {
			_, err := b.js.CreateOrUpdateStream(ctx, cfg)
			return err
		}); err != nil {
			return fmt.Errorf("broker: open stream %s: %w", cfg.Name, err)
		}
	}
	if b.server != nil && b.server.newEra {
		if err := b.Put(ctx, "meta", "era", []byte(newEra()), 0); err != nil {
			return err
		}
	}
	if err := b.insist(ctx, b.readEra); err != nil {
		return err
	}
	if b.server != nil {
		return b.server.settled(b.opts.SyncAlways)
	}
	return nil
}

// insist repeats what a cluster that is still starting refuses, or does not answer.
func (b *Broker) insist(ctx context.Context, f func(context.Context) error) error {
	for try := 1; ; try++ {
		once, cancel := context.WithTimeout(ctx, requestTimeout)
		err := f(once)
		cancel()
		if err == nil || b.server != nil || ctx.Err() != nil {
			return err
		}
		pause(ctx, try)
	}
}

func newEra() string { return randomName(5) }

func (b *Broker) readEra(ctx context.Context) error {
	for {
		facts, err := b.Load(ctx, "meta")
		if err != nil {
			return err
		}
		if v := facts["era"]; len(v) == eraLen {
			b.era = era(v)
			return nil
		}
		// The first node of all wins, and the others read what it wrote.
		err = b.putFact(ctx, "meta", "era", []byte(newEra()), 0, true)
		if err != nil && !errors.Is(err, errStale) {
			return err
		}
	}
}
