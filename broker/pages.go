package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Whoever keeps a log (PublishOptions.Kept) writes down now and then what it amounts to, so that what
// is older may go: in pages, which have names within their channel.

// Page is one of them.
type Page struct {
	Data []byte
	Seq  uint64 // what the next PutPage of it expects
}

// pagesStream opens the stream of a channel's pages, once.
func (b *Broker) pagesStream(ctx context.Context, ch string) (string, error) {
	p := b.part(ch)
	name := strings.ToUpper(b.opts.Prefix) + "_PAGES_" + strconv.Itoa(p)
	known := &b.pages[p]
	if known.opened.Load() {
		return name, nil
	}
	select {
	case known.turn <- struct{}{}:
		defer func() { <-known.turn }()
	case <-ctx.Done():
		return "", unavailable("open stream", ctx.Err())
	}
	if known.opened.Load() {
		return name, nil
	}
	if !b.nc.IsConnected() {
		return "", unavailable("open stream", nats.ErrDisconnected)
	}
	_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: []string{fmt.Sprintf("%s.p.%d.*.*", b.opts.Prefix, p)}, Storage: b.storage(), Replicas: b.opts.Replicas,
		MaxMsgsPerSubject: 1, AllowDirect: true, Duplicates: time.Second,
	})
	if err != nil {
		return "", unavailable("open stream "+name, err)
	}
	known.opened.Store(true)
	return name, nil
}

// pageAt is where a page is; "*" stands for all of the channel.
func (b *Broker) pageAt(ctx context.Context, ch, page string) (place, error) {
	stream, err := b.pagesStream(ctx, ch)
	if err != nil {
		return place{}, err
	}
	at := appendToken(fmt.Appendf(nil, "%s.p.%d.", b.opts.Prefix, b.part(ch)), ch)
	if page == "*" {
		return place{stream, string(at) + ".*"}, nil
	}
	return place{stream, string(appendToken(append(at, '.'), page))}, nil
}

// PutPage stores a page. With expect it must be as it was read (0: not there), else ErrConflict. It
// returns the page's Seq. Errors: ErrUnavailable (it may have been stored), ErrTooLarge.
func (b *Broker) PutPage(ctx context.Context, ch, page string, data []byte, expect *uint64) (seq uint64, err error) {
	if err := b.gate.enter(ctx, b.ended); err != nil {
		return 0, unavailable("put a page", err)
	}
	defer b.gate.leave()
	at, err := b.pageAt(ctx, ch, page)
	if err != nil {
		return 0, err
	}
	ack, err := b.store(ctx, at.subject, data, expect, "", 0)
	switch {
	case err == nil:
		return ack.Seq, nil
	case errors.Is(err, errStale):
		return 0, ErrConflict
	case errors.Is(err, nats.ErrNoResponders):
		b.pages[b.part(ch)].opened.Store(false)
	}
	return 0, unavailable("put a page", err)
}

// GetPage returns a page, or one of Seq 0 if it is not there. Errors: ErrUnavailable.
func (b *Broker) GetPage(ctx context.Context, ch, page string) (Page, error) {
	at, err := b.pageAt(ctx, ch, page)
	if err != nil {
		return Page{}, err
	}
	body, err := json.Marshal(map[string]string{"last_by_subj": at.subject})
	if err != nil {
		return Page{}, err
	}
	subject := "$JS.API.DIRECT.GET." + at.stream
	if b.opts.Replicas > 1 {
		subject = "$JS.API.STREAM.MSG.GET." + at.stream // of the leader: others may lag behind
	}
	reply, err := b.request(ctx, &nats.Msg{Subject: subject, Data: body})
	if err != nil {
		return Page{}, unavailable("get a page", err)
	}
	if b.opts.Replicas > 1 {
		seq, data, err := decodeGot(reply.Data)
		if errors.Is(err, errMissing) {
			return Page{}, nil
		}
		if err != nil {
			return Page{}, unavailable("get a page", err)
		}
		return Page{data, seq}, nil
	}
	switch status := reply.Header.Get("Status"); status {
	case "":
	case "404":
		return Page{}, nil
	default:
		return Page{}, unavailable("get a page", errors.New(status+" "+reply.Header.Get("Description")))
	}
	seq, err := strconv.ParseUint(reply.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return Page{}, unavailable("get a page", err)
	}
	return Page{reply.Data, seq}, nil
}

// PurgePages takes pages of a channel away, all but the named ones. Errors: ErrUnavailable.
func (b *Broker) PurgePages(ctx context.Context, ch string, keep []string) error {
	at, err := b.pageAt(ctx, ch, "*")
	if err != nil {
		return err
	}
	if len(keep) == 0 {
		return b.purgeSubject(ctx, at)
	}
	s, err := b.js.Stream(ctx, at.stream)
	if err != nil {
		return unavailable("purge pages", err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(at.subject))
	if err != nil {
		return unavailable("purge pages", err)
	}
	for subject := range info.State.Subjects {
		page, ok := fromToken(subject[strings.LastIndexByte(subject, '.')+1:])
		if ok && slices.Contains(keep, page) {
			continue
		}
		if err := b.purgeSubject(ctx, place{at.stream, subject}); err != nil {
			return err
		}
	}
	return nil
}

// PurgePage takes one page away. Errors: ErrUnavailable.
func (b *Broker) PurgePage(ctx context.Context, ch, page string) error {
	at, err := b.pageAt(ctx, ch, page)
	if err != nil {
		return err
	}
	return b.purgeSubject(ctx, at)
}

func (b *Broker) purgeSubject(ctx context.Context, at place) error {
	body, err := json.Marshal(map[string]any{"filter": at.subject})
	if err == nil {
		_, err = b.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.PURGE." + at.stream, Data: body})
	}
	if err != nil {
		return unavailable("purge pages", err)
	}
	return nil
}
