package sync

import (
	"container/heap"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"

	"roost/broker"
	"roost/internal/pack"
)

// What an object amounts to is written down in pages: those of its items, which are written again when
// they have changed, under another name, and a root page that names them. The root is written last and
// only over the one that was read, so that at any moment it names pages that are there and belong together.

const (
	rootPage    = "root"
	rootFormat  = 1
	inlineBytes = 48 << 10 // items of up to so many bytes are in the root page itself
)

// checkpoint writes an object down. Errors: broker.ErrConflict if another instance did meanwhile.
func (s *Service) checkpoint(ctx context.Context, o *object) error {
	ch := Channel(o.id)
	if !o.rootRead {
		p, err := s.b.GetPage(ctx, ch, rootPage)
		if err != nil {
			return err
		}
		o.rootSeq, o.rootRead = p.Seq, true
	}
	inline := o.items.bytes() <= inlineBytes
	var names []string
	if inline {
		for _, p := range o.items.pages {
			p.name = ""
		}
	} else {
		var err error
		if names, err = s.putPages(ctx, o); err != nil {
			return err
		}
	}
	seq, err := s.b.PutPage(ctx, ch, rootPage, o.encodeRoot(inline, names), &o.rootSeq)
	if err != nil {
		o.rootRead = false
		return err
	}
	s.counts.checkpoints.Add(1)
	kept := make(map[string]bool, len(names))
	for _, name := range names {
		kept[name] = true
	}
	outdated := slices.DeleteFunc(o.pages, func(name string) bool { return kept[name] })
	o.root, o.rootSeq, o.pages = o.event, seq, names
	for _, name := range outdated {
		if err := s.b.PurgePage(ctx, ch, name); err != nil {
			s.log.Warn("an outdated page stays until its object goes", "object", o.id, "page", name, "error", err)
		}
	}
	return nil
}

func (s *items) bytes() (n int) {
	for _, p := range s.pages {
		n += p.bytes
	}
	return n
}

// putPages writes the pages that have changed, and returns the names of all.
func (s *Service) putPages(ctx context.Context, o *object) ([]string, error) {
	names := make([]string, len(o.items.pages))
	for i, p := range o.items.pages {
		if p.name == "" {
			name := rand.Text()[:10]
			if _, err := s.b.PutPage(ctx, Channel(o.id), name, appendItems(nil, p.items), nil); err != nil {
				return nil, err
			}
			p.name = name
			s.counts.pages.Add(1)
		}
		names[i] = p.name
	}
	return names, nil
}

// encodeRoot returns the root page.
func (o *object) encodeRoot(inline bool, names []string) []byte {
	b := []byte{rootFormat}
	b = pack.AppendUint(b, o.event)
	b = pack.AppendBool(b, o.exists)
	b = pack.AppendString(b, o.name)
	b = pack.AppendString(b, o.creator)
	b = pack.AppendUint(b, o.revision)
	b = pack.AppendInt(b, o.created)
	b = pack.AppendInt(b, o.updated)
	b = pack.AppendInt(b, o.expires)
	b = pack.AppendBool(b, o.restricted)
	b = pack.AppendUint(b, o.next)
	b = pack.AppendBytes(b, o.data)
	b = pack.AppendUint(b, uint64(len(o.grants)))
	for _, identity := range slices.Sorted(maps.Keys(o.grants)) {
		g := o.grants[identity]
		b = pack.AppendString(b, identity)
		b = pack.AppendBool(pack.AppendBool(pack.AppendBool(b, g.Read), g.Write), g.Manage)
	}
	b = pack.AppendUint(b, uint64(len(o.keys.order)))
	for _, key := range o.keys.order {
		k := o.keys.known[key]
		b = pack.AppendString(b, key)
		b = pack.AppendUint(pack.AppendUint(b, k.event), k.revision)
		b = pack.AppendBool(pack.AppendUint(b, k.index), k.hasIndex)
	}
	b = pack.AppendUint(b, uint64(len(names)))
	for _, name := range names {
		b = pack.AppendString(b, name)
	}
	if inline {
		for _, p := range o.items.pages {
			b = appendItems(b, p.items)
		}
	}
	return b
}

// loadRoot reads the root page and those that it names. There may be none.
func (s *Service) loadRoot(ctx context.Context, o *object) error {
	p, err := s.b.GetPage(ctx, Channel(o.id), rootPage)
	if err != nil {
		return err
	}
	o.rootSeq, o.rootRead = p.Seq, true
	if p.Seq == 0 {
		return nil
	}
	rest, err := o.decodeRoot(p.Data)
	if err == nil && rest.Len() > 0 {
		err = o.takeItems(rest, "")
	}
	for _, name := range o.pages {
		var each broker.Page
		if err == nil {
			each, err = s.b.GetPage(ctx, Channel(o.id), name)
		}
		if err == nil && each.Seq == 0 {
			err = fmt.Errorf("page %s is missing", name)
		}
		if err == nil {
			err = o.takeItems(pack.NewReader(each.Data), name)
		}
	}
	switch {
	case err == nil:
		heap.Init(&o.expiring)
		return nil
	case errors.Is(err, broker.ErrUnavailable):
		return err
	}
	return fmt.Errorf("sync: the pages of %s: %w", o.id, err)
}

var errFormat = errors.New("written by a newer version")

// decodeRoot undoes encodeRoot, but for the items, which the result is about.
func (o *object) decodeRoot(b []byte) (*pack.Reader, error) {
	r := pack.NewReader(b)
	if r.Byte() != rootFormat {
		return nil, errFormat
	}
	o.root = r.Uint()
	o.exists, o.name, o.creator, o.revision = r.Bool(), r.String(), r.String(), r.Uint()
	o.created, o.updated, o.expires, o.restricted = r.Int(), r.Int(), r.Int(), r.Bool()
	o.next = r.Uint()
	if data := r.Bytes(); len(data) > 0 {
		o.data = slices.Clone(data)
	}
	for n := r.Uint(); n > 0 && r.Err() == nil; n-- {
		if o.grants == nil {
			o.grants = map[string]grant{}
		}
		o.grants[r.String()] = grant{r.Bool(), r.Bool(), r.Bool()}
	}
	for n := r.Uint(); n > 0 && r.Err() == nil; n-- {
		o.keys.add(r.String(), done{event: r.Uint(), revision: r.Uint(), index: r.Uint(), hasIndex: r.Bool()})
	}
	for n := r.Uint(); n > 0 && r.Err() == nil; n-- {
		o.pages = append(o.pages, r.String())
	}
	return r, r.Err()
}

func appendItems(b []byte, all []*item) []byte {
	for _, i := range all {
		b = pack.AppendString(b, i.key)
		b = pack.AppendBytes(b, i.data)
		b = pack.AppendUint(b, i.revision)
		b = pack.AppendInt(pack.AppendInt(pack.AppendInt(b, i.created), i.updated), i.expires)
		b = pack.AppendString(b, i.actor)
	}
	return b
}

// takeItems reads items into pages, of which name is the one that is stored as they are.
func (o *object) takeItems(r *pack.Reader, name string) error {
	for r.Len() > 0 && r.Err() == nil {
		i := &item{key: r.String(), data: slices.Clone(r.Bytes()), revision: r.Uint(), created: r.Int(), updated: r.Int(), expires: r.Int(), actor: r.String()}
		if r.Err() == nil {
			o.take(i, name)
		}
	}
	return r.Err()
}

// take puts an item behind all others, into the page of a name, or one that is not full.
func (o *object) take(i *item, name string) {
	s := &o.items
	n := len(s.pages)
	if n == 0 || s.pages[n-1].name != name || name == "" && s.pages[n-1].bytes > pageBytes {
		s.pages = append(s.pages, &page{name: name})
		n++
	}
	p := s.pages[n-1]
	p.items = append(p.items, i)
	p.bytes += i.weight()
	s.count++
	if i.expires != 0 {
		o.expiring.Push(expiry{i.expires, i.key})
	}
}
