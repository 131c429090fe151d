package sync

import (
	"slices"
	"strings"
)

// item is an entry of a map or a list. It does not change: a write makes another one.
type item struct {
	key      string // of a list: indexKey
	data     []byte
	revision uint64 // of the object, when the item was written last
	created  int64  // Unix ms, as the others
	updated  int64
	expires  int64  // 0: never
	actor    string // who wrote it last
}

// weight is what an item takes in a page, about.
func (i *item) weight() int { return 32 + len(i.key) + len(i.data) + len(i.actor) }

// pageBytes is when a page is split, as long as an object has few: with more they are larger, so that the
// list of pages fits into one record.
const pageBytes = 32 << 10

// page is a run of items, in order.
type page struct {
	items []*item
	bytes int
	name  string // where it is stored as it is; "" if nowhere
}

// items are those of a map or a list, in the order of their keys.
type items struct {
	pages []*page
	count int
}

// at returns the page where a key is, or would be.
func (s *items) at(key string) int {
	n, found := slices.BinarySearchFunc(s.pages, key, func(p *page, key string) int { return strings.Compare(p.items[0].key, key) })
	if !found && n > 0 {
		n--
	}
	return n
}

func (p *page) find(key string) (int, bool) {
	return slices.BinarySearchFunc(p.items, key, func(i *item, key string) int { return strings.Compare(i.key, key) })
}

// get returns an item, or nil.
func (s *items) get(key string) *item {
	if len(s.pages) == 0 {
		return nil
	}
	p := s.pages[s.at(key)]
	if n, ok := p.find(key); ok {
		return p.items[n]
	}
	return nil
}

func (s *items) put(i *item) {
	if len(s.pages) == 0 {
		s.pages = append(s.pages, &page{})
		s.pages[0].items = append(s.pages[0].items, i)
		s.pages[0].bytes, s.count = i.weight(), 1
		return
	}
	at := s.at(i.key)
	p := s.pages[at]
	p.name = ""
	n, ok := p.find(i.key)
	if ok {
		p.bytes += i.weight() - p.items[n].weight()
		p.items[n] = i
	} else {
		p.items = slices.Insert(p.items, n, i)
		p.bytes += i.weight()
		s.count++
	}
	if p.bytes > pageBytes*(1+len(s.pages)/2048) && len(p.items) > 1 {
		s.split(at, n)
	}
}

// split divides a page after a put at n: in the middle, or at its end, where a list grows.
func (s *items) split(at, n int) {
	p := s.pages[at]
	half := len(p.items) / 2
	if n == len(p.items)-1 && at == len(s.pages)-1 {
		half = n
	}
	next := &page{items: slices.Clone(p.items[half:])}
	for _, i := range next.items {
		next.bytes += i.weight()
	}
	clear(p.items[half:])
	p.items = p.items[:half]
	p.bytes -= next.bytes
	s.pages = slices.Insert(s.pages, at+1, next)
}

func (s *items) remove(key string) {
	if len(s.pages) == 0 {
		return
	}
	at := s.at(key)
	p := s.pages[at]
	n, ok := p.find(key)
	if !ok {
		return
	}
	p.name = ""
	p.bytes -= p.items[n].weight()
	p.items = slices.Delete(p.items, n, n+1)
	s.count--
	if len(p.items) == 0 {
		s.pages = slices.Delete(s.pages, at, at+1)
	}
}

// walk calls f for items from a key on, the key itself included, upwards or downwards, until it returns
// false. "" begins at the end that comes first.
func (s *items) walk(from string, down bool, f func(*item) bool) {
	if len(s.pages) == 0 {
		return
	}
	at, n := 0, 0
	switch {
	case from != "":
		at = s.at(from)
		var ok bool
		if n, ok = s.pages[at].find(from); !ok && down {
			n--
		}
	case down:
		at = len(s.pages) - 1
		n = len(s.pages[at].items) - 1
	}
	for {
		switch {
		case n < 0 && at == 0, n >= len(s.pages[at].items) && at == len(s.pages)-1:
			return
		case n < 0:
			at--
			n = len(s.pages[at].items) - 1
		case n >= len(s.pages[at].items):
			at, n = at+1, 0
		}
		if !f(s.pages[at].items[n]) {
			return
		}
		if down {
			n--
		} else {
			n++
		}
	}
}
