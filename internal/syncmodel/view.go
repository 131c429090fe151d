package syncmodel

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// View is an object as a subscriber sees it, who hears of nothing but events.
type View struct {
	State
	Top uint64 // the last event
	Err error  // the first thing that was wrong
}

type event struct {
	Type     string  `json:"type"`
	Key      *string `json:"key"`
	Index    *int    `json:"index"`
	Data     any     `json:"data"`
	Previous any     `json:"previous"`
	Revision uint64  `json:"revision"`
	Object   struct {
		Revision uint64 `json:"revision"`
	} `json:"object"`
	Events []event `json:"events"`
}

// Take takes one event.
func (v *View) Take(offset uint64, data []byte) {
	if v.Err != nil {
		return
	}
	e, err := decoded[event](data)
	if err == nil && offset != v.Top+1 {
		err = fmt.Errorf("event %d behind %d", offset, v.Top)
	}
	v.Top = offset
	all := e.Events
	if e.Type != "batch" {
		all = []event{e}
	}
	for _, each := range all {
		if err == nil {
			err = v.take(each)
		}
	}
	v.Err = err
}

func (v *View) take(e event) error {
	if e.Revision != 0 {
		v.Revision = e.Revision
	}
	key := ""
	if e.Key != nil {
		key = *e.Key
	} else if e.Index != nil {
		key = fmt.Sprint(*e.Index)
	}
	old, there := v.Items[key]
	switch e.Type {
	case "created":
		v.State = State{Exists: true, Revision: e.Object.Revision, Data: e.Data, Items: map[string]Item{}}
	case "updated":
		if text(v.Data) != text(e.Previous) {
			return fmt.Errorf("previous is %v, must be %v", e.Previous, v.Data)
		}
		v.Data = e.Data
	case "item_added":
		if there {
			return fmt.Errorf("%s is added, and was there", key)
		}
		v.Items[key] = Item{e.Data, e.Revision}
	case "item_updated", "item_removed":
		if !there || text(old.Data) != text(e.Previous) {
			return fmt.Errorf("%s of %s: previous is %v, must be %v", e.Type, key, e.Previous, old.Data)
		}
		if v.Items[key] = (Item{e.Data, e.Revision}); e.Type == "item_removed" {
			delete(v.Items, key)
		}
	case "removed":
		v.State = State{Revision: v.Revision}
	case "ttl", "access":
	default:
		return fmt.Errorf("unknown event %q", e.Type)
	}
	return nil
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Read returns an object as get and query tell it, and the event of that.
func Read(call func(op string, params []byte) ([]byte, error), o Object) (*State, uint64, error) {
	at := fmt.Sprintf(`{"type":%q,"name":%q`, o.Type, o.Name)
	result, err := call("get", []byte(at+"}"))
	var no *Refused
	if errors.As(err, &no) && no.Code == 1402 {
		return &State{}, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	got, err := decoded[answer](result)
	if err != nil {
		return nil, 0, err
	}
	s := &State{Exists: true, Revision: got.Object.Revision, Data: got.Data, Items: map[string]Item{}}
	for cursor := ""; o.Type != "document"; {
		result, err := call("query", []byte(at+`,"limit":7`+cursor+"}"))
		if err != nil {
			return nil, 0, err
		}
		page, err := decoded[struct {
			Items []struct {
				Key      *string `json:"key"`
				Index    *int    `json:"index"`
				Data     any     `json:"data"`
				Revision uint64  `json:"revision"`
			} `json:"items"`
			Cursor string `json:"cursor"`
		}](result)
		if err != nil {
			return nil, 0, err
		}
		for _, i := range page.Items {
			key := strings.TrimSpace(fmt.Sprint(deref(i.Key), deref(i.Index)))
			s.Items[key] = Item{i.Data, i.Revision}
		}
		if page.Cursor == "" {
			break
		}
		cursor = fmt.Sprintf(`,"cursor":%q`, page.Cursor)
	}
	return s, got.Position.Event, nil
}

func deref[T any](p *T) any {
	if p == nil {
		return ""
	}
	return *p
}

// Compare checks the objects as they are read, and as subscribers see them, against the model. views may
// be nil.
func (r *Run) Compare(call func(op string, params []byte) ([]byte, error), views map[string]*View) error {
	states, tops, err := r.Check()
	if err != nil {
		return err
	}
	for _, o := range r.Objects {
		is, at, err := Read(call, o)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Name, err)
		}
		must := states[o.Name]
		if d := is.Difference(must); d != "" || is.Exists && at != tops[o.Name] {
			return fmt.Errorf("%s: is at event %d, must be %d; differs from the model: %s", o.Name, at, tops[o.Name], d)
		}
		v := views[o.Name]
		switch {
		case v == nil:
		case v.Err != nil:
			return fmt.Errorf("a subscriber of %s: %w", o.Name, v.Err)
		case v.Top != tops[o.Name]:
			return fmt.Errorf("a subscriber of %s is at event %d of %d", o.Name, v.Top, tops[o.Name])
		default:
			if d := v.Difference(must); d != "" {
				return fmt.Errorf("a subscriber of %s differs from the model: %s", o.Name, d)
			}
		}
	}
	return nil
}
