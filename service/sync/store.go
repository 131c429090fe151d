package sync

import (
	"context"
	"errors"
	"fmt"

	"roost/broker"
	"roost/service"
)

const (
	// checkpointEvery is after how many events an object is written down. Of its log the last
	// broker.KeptSize are kept.
	checkpointEvery = broker.KeptSize / 2
	// checkpointLast is when no more is written before it is.
	checkpointLast = broker.KeptSize - 32
)

// load makes an object of what is stored of it.
func (s *Service) load(ctx context.Context, id string) (*object, error) {
	k, ok := kindOf(id)
	if !ok {
		return nil, failf(CodeBadName, "id %.40q is none", id)
	}
	o := &object{id: id, kind: k}
	pubs, top, err := s.b.History(ctx, Channel(id), broker.HistoryQuery{Kept: true, Limit: -1})
	if err != nil {
		return nil, err
	}
	o.event, o.epoch = top.Offset, top.Epoch
	if top.Offset == 0 {
		return o, nil
	}
	all := make([]*commit, len(pubs))
	for i, p := range pubs {
		if all[i], err = decodeCommit(p); err != nil {
			return nil, fmt.Errorf("sync: event %d of %s: %w", p.Offset, id, err)
		}
	}
	if len(all) == 0 || !all[0].begins() {
		if err := s.loadRoot(ctx, o); err != nil {
			return nil, err
		}
		if o.root > top.Offset {
			return o, s.rewind(ctx, o, top)
		}
	}
	for i, p := range pubs {
		if p.Offset <= o.root {
			continue
		}
		if i > 0 && p.Offset != pubs[i-1].Offset+1 || i == 0 && !all[0].begins() && p.Offset != o.root+1 {
			return nil, fmt.Errorf("sync: %s cannot be rebuilt: events before %d are missing", id, p.Offset)
		}
		o.apply(all[i], broker.Position{Offset: p.Offset, Epoch: p.Epoch})
	}
	o.event, o.epoch = top.Offset, top.Epoch
	return o, nil
}

// begins tells whether an object is what it is by this and what follows.
func (c *commit) begins() bool { return c.Type == eventCreated || c.Type == eventRemoved }

// rewind goes on from the root page where the log has lost its end, which happens only where the machine
// lost what the disk had not written: the page knows what the log does not. The log's epoch is another
// one then, so that nobody takes an event for one of before.
func (s *Service) rewind(ctx context.Context, o *object, top broker.Position) error {
	s.log.Warn("the log of an object is behind its page: it goes on from the page", "object", o.id, "page", o.root, "log", top.Offset)
	o.event, o.epoch = top.Offset, top.Epoch
	return s.checkpoint(ctx, o)
}

// commit stores what a draft comes to, and makes it part of the object. Errors: broker.ErrConflict and all
// others of which the object is to be loaded again, or *service.Error, which changed nothing.
func (s *Service) commit(ctx context.Context, o *object, d *draft) error {
	if o.event-o.root >= checkpointLast && o.event > o.root {
		if err := s.checkpoint(ctx, o); err != nil {
			return err
		}
	}
	c := d.commit()
	pub, err := c.encode()
	if err != nil {
		return err
	}
	if at := d.nextExpiry(); at != 0 {
		if old := o.nextExpiry(); old != 0 {
			at = min(at, old)
		}
		if err := s.schedule.add(ctx, o.id, at); err != nil {
			return err
		}
	}
	pos, _, err := s.b.Publish(ctx, Channel(o.id), pub, broker.PublishOptions{Kept: true, After: &o.event, Last: d.removed})
	if errors.Is(err, broker.ErrTooLarge) {
		return failf(CodeTooLarge, "the operation has %d bytes with what it replaces, more than one record may", len(pub.Data))
	}
	if err != nil {
		return err
	}
	s.counts.commits.Add(1)
	s.counts.bytes.Add(uint64(len(pub.Data) + len(pub.Note)))
	o.apply(c, pos)
	s.after(ctx, o, d)
	return nil
}

// after does what a commit asks for besides; what fails of it is done later.
func (s *Service) after(ctx context.Context, o *object, d *draft) {
	switch {
	case d.removed:
		if err := s.b.PurgePages(ctx, Channel(o.id)); err != nil {
			s.log.Warn("the pages of a removed object stay", "object", o.id, "error", err)
		}
		o.root, o.rootSeq, o.rootRead, o.pages = 0, 0, false, nil
	case o.event-o.root >= checkpointEvery:
		if err := s.checkpoint(ctx, o); err != nil {
			s.log.Warn("an object could not be written down, it is tried again", "object", o.id, "error", err)
		}
	}
	if d.access != nil {
		if err := service.TellAccess(s.b, Namespace, o.id); err != nil {
			s.log.Warn("gateways were not told who may read an object", "object", o.id, "error", err)
		}
	}
}
