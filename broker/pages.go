package broker

import (
	"context"
	"errors"
	"fmt"
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

// openPages makes sure that the stream of a channel's pages exists, and returns its name.
func (b *Broker) openPages(ctx context.Context, ch string) (string, error) {
	p := b.part(ch)
	name := strings.ToUpper(b.opts.Prefix) + "_PAGES_" + strconv.Itoa(p)
	if b.pages[p].opened.Load() {
		return name, nil
	}
	return name, b.ensure(ctx, &b.pages[p], jetstream.StreamConfig{
		Name: name, Subjects: []string{fmt.Sprintf("%s.p.%d.*.*", b.opts.Prefix, p)}, Storage: b.storage(), Replicas: b.opts.Replicas,
		MaxMsgsPerSubject: 1, AllowDirect: true, Duplicates: time.Second,
	}, nil)
}

// pageAt is where a page is; "*" stands for all of the channel.
func (b *Broker) pageAt(ctx context.Context, ch, page string) (place, error) {
	stream, err := b.openPages(ctx, ch)
	if err != nil {
		return place{}, err
	}
	at := appendToken(fmt.Appendf(nil, "%s.p.%d.", b.opts.Prefix, b.part(ch)), ch)
	if page == allPages {
		return place{stream, string(at) + ".*"}, nil
	}
	return place{stream, string(appendToken(append(at, '.'), page))}, nil
}

const allPages = "*"

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
	m, err := b.lastMessage(ctx, at)
	switch {
	case err == nil:
		return Page{m.data, m.seq}, nil
	case errors.Is(err, errMissing):
		return Page{}, nil
	}
	return Page{}, unavailable("get a page", err)
}

// PurgePages takes all pages of a channel away. Errors: ErrUnavailable.
func (b *Broker) PurgePages(ctx context.Context, ch string) error {
	return b.PurgePage(ctx, ch, allPages)
}

// PurgePage takes one page away. Errors: ErrUnavailable.
func (b *Broker) PurgePage(ctx context.Context, ch, page string) error {
	at, err := b.pageAt(ctx, ch, page)
	if err != nil {
		return err
	}
	if err := b.purge(ctx, at.stream, jetstream.StreamPurgeRequest{Subject: at.subject}); err != nil {
		return unavailable("purge pages", err)
	}
	return nil
}
