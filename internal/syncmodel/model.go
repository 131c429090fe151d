// Package syncmodel tells whether sync does what it says: random operations from several clients run against
// it, and afterwards in the order of their events against a model so simple that it can be read at a glance.
// It is for tests.
package syncmodel

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// State is what an object is.
type State struct {
	Exists   bool
	Revision uint64
	Data     any             // of a document
	Items    map[string]Item // of a map or a list, whose keys are its indexes
	next     int             // index of a list
}

// Item is one of them.
type Item struct {
	Data     any
	Revision uint64
}

// params are those of the operations that the model knows.
type params struct {
	ID             string   `json:"id,omitempty"`
	Type           string   `json:"type,omitempty"`
	Name           string   `json:"name,omitempty"`
	Op             string   `json:"op,omitempty"`
	Key            *string  `json:"key,omitempty"`
	Index          *int     `json:"index,omitempty"`
	Data           any      `json:"data,omitempty"`
	Items          []any    `json:"items,omitempty"`
	IfRevision     *uint64  `json:"if_revision,omitempty"`
	TTL            *int     `json:"ttl,omitempty"`
	Operations     []params `json:"operations,omitempty"`
	IdempotencyKey string   `json:"idempotency_key,omitempty"`
}

// Apply runs one operation that succeeded. The error says what the model has against it.
func (s *State) Apply(kind, op string, p params) (index *int, err error) {
	switch op {
	case "open":
		if s.Exists {
			return nil, fmt.Errorf("created, and was there")
		}
		*s = State{Exists: true, Revision: s.Revision + 1, Data: p.Data, Items: map[string]Item{}}
		return nil, nil
	case "batch":
		before := s.Revision
		for _, each := range p.Operations {
			i, err := s.step(kind, each.Op, each, before+1)
			if err != nil {
				return nil, err
			}
			if index == nil {
				index = i
			}
		}
		return index, nil
	}
	return s.step(kind, op, p, s.Revision+1)
}

func (s *State) step(kind, op string, p params, revision uint64) (*int, error) {
	if !s.Exists {
		return nil, fmt.Errorf("%s, and there is no object", op)
	}
	switch op {
	case "set_ttl":
		return nil, nil
	case "delete":
		*s = State{Revision: revision}
		return nil, nil
	case "list.push":
		all := p.Items
		if all == nil {
			all = []any{p.Data}
		}
		first := s.next
		for _, data := range all {
			s.Items[fmt.Sprint(s.next)] = Item{data, revision}
			s.next++
		}
		s.Revision = revision
		return &first, nil
	}
	if kind == "document" {
		if p.IfRevision != nil && *p.IfRevision != s.Revision {
			return nil, fmt.Errorf("%s at revision %d, which is %d", op, *p.IfRevision, s.Revision)
		}
		s.Data = combined(op == "merge", s.Data, p.Data)
		s.Revision = revision
		return nil, nil
	}
	return nil, s.item(op, p, revision)
}

func (s *State) item(op string, p params, revision uint64) error {
	key := ""
	if p.Key != nil {
		key = *p.Key
	} else {
		key = fmt.Sprint(*p.Index)
	}
	old, there := s.Items[key]
	if p.IfRevision != nil && *p.IfRevision != old.Revision {
		return fmt.Errorf("%s %s at revision %d, which is %d", op, key, *p.IfRevision, old.Revision)
	}
	switch op {
	case "map.insert":
		if there {
			return fmt.Errorf("inserted %s, which was there", key)
		}
	case "map.delete", "list.delete", "map.merge", "list.merge", "list.set":
		if !there {
			return fmt.Errorf("%s %s, which was not there", op, key)
		}
	}
	s.Revision = revision
	if op == "map.delete" || op == "list.delete" {
		delete(s.Items, key)
		return nil
	}
	s.Items[key] = Item{combined(op == "map.merge" || op == "list.merge", old.Data, p.Data), revision}
	return nil
}

// combined is what is written, or with merge what it makes of what was there.
func combined(merge bool, old, with any) any {
	if !merge {
		return with
	}
	out := maps.Clone(old.(map[string]any))
	for name, v := range with.(map[string]any) {
		if v == nil {
			delete(out, name)
		} else {
			out[name] = v
		}
	}
	return out
}

// Difference says in which way two states differ, "" if in none.
func (s *State) Difference(o *State) string {
	switch {
	case s.Exists != o.Exists:
		return fmt.Sprintf("exists %v, %v", s.Exists, o.Exists)
	case !s.Exists:
		return ""
	case s.Revision != o.Revision:
		return fmt.Sprintf("revision %d, %d", s.Revision, o.Revision)
	case !reflect.DeepEqual(s.Data, o.Data):
		return fmt.Sprintf("data %v, %v", s.Data, o.Data)
	}
	keys := slices.Collect(maps.Keys(s.Items))
	for k := range o.Items {
		keys = append(keys, k)
	}
	for _, k := range keys {
		if a, b := s.Items[k], o.Items[k]; !reflect.DeepEqual(a, b) {
			return fmt.Sprintf("item %s: %v, %v", k, a, b)
		}
	}
	return ""
}

// decoded is a JSON value as Go has it.
func decoded[T any](b []byte) (v T, err error) {
	err = json.Unmarshal(b, &v)
	return v, err
}
