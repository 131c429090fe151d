package sync

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"

	"roost/broker"
	"roost/service"
)

// Limits of answers.
const (
	defaultItems = 100
	maxItems     = 1000
	maxAnswer    = 512 << 10 // bytes of data: there may be fewer items than were asked for
	maxHistory   = 100
)

// cursor is where a query goes on.
type cursor struct {
	Query uint64 `json:"q"` // that it belongs to
	Last  []byte `json:"k"` // key of the last item there was
}

// cut is the run of items that a query is about.
type cut struct {
	down      bool
	from      string // "": from the end
	exclusive bool
	limit     int
	query     uint64
}

// cutOf reads a query.
func (o *object) cutOf(p *params) (q cut, err error) {
	q.limit = defaultItems
	if p.Limit != nil {
		if q.limit = *p.Limit; q.limit < 1 || q.limit > maxItems {
			return q, failf(CodeInvalid, "limit is %d, must be 1 to %d", q.limit, maxItems)
		}
	}
	switch p.Order {
	case "", "asc":
	case "desc":
		q.down = true
	default:
		return q, failf(CodeInvalid, "order is %.40q, must be asc or desc", p.Order)
	}
	switch p.Bounds {
	case "", "inclusive":
	case "exclusive":
		q.exclusive = true
	default:
		return q, failf(CodeInvalid, "bounds is %.40q, must be inclusive or exclusive", p.Bounds)
	}
	if len(p.From) > 0 && string(p.From) != "null" {
		if q.from, err = o.readKey(p.From); err != nil {
			return q, err
		}
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s %v %v %q", o.id, q.down, q.exclusive, q.from) // never fails
	q.query = h.Sum64()
	if p.Cursor == "" {
		return q, nil
	}
	var c cursor
	text, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	switch {
	case err != nil || len(c.Last) == 0:
		return q, failf(CodeBadCursor, "the cursor is none that a query returned")
	case c.Query != q.query:
		return q, failf(CodeBadCursor, "the cursor belongs to another query: object, order, from and bounds must be the same")
	}
	q.from, q.exclusive = string(c.Last), true
	return q, nil
}

// readKey reads a key, or the index of a list.
func (o *object) readKey(raw json.RawMessage) (string, error) {
	if o.kind == kindList {
		i, err := strconv.ParseUint(string(raw), 10, 64)
		if err != nil {
			return "", failf(CodeBadIndex, "from is %.40s, must be an index", raw)
		}
		return indexKey(i), nil
	}
	var key string
	if json.Unmarshal(raw, &key) != nil {
		return "", failf(CodeBadKey, "from is %.40s, must be a key", raw)
	}
	return key, checkKey(key)
}

func (s *Service) query(_ context.Context, o *object, c *service.Call, p *params) (any, error) {
	if o.kind != kindMap && o.kind != kindList {
		return nil, failf(CodeWrongType, "a %s has no items", o.kind)
	}
	if err := o.check(c.Caller, toRead); err != nil {
		return nil, err
	}
	q, err := o.cutOf(p)
	if err != nil {
		return nil, err
	}
	answer := struct {
		Items    []shown  `json:"items"`
		Cursor   string   `json:"cursor,omitempty"`
		Position position `json:"position"`
	}{Items: []shown{}, Position: o.position()}
	bytes, last := 0, ""
	o.items.walk(q.from, q.down, func(i *item) bool {
		if q.exclusive && i.key == q.from {
			return true
		}
		if len(answer.Items) == q.limit || bytes > maxAnswer {
			text, err := json.Marshal(cursor{q.query, []byte(last)})
			answer.Cursor = base64.RawURLEncoding.EncodeToString(text)
			return err != nil
		}
		answer.Items = append(answer.Items, o.show(i))
		bytes += i.weight()
		last = i.key
		return true
	})
	return answer, nil
}

// revisionShown is a document as it was.
type revisionShown struct {
	Revision uint64          `json:"revision"`
	Data     json.RawMessage `json:"data"`
	Date     int64           `json:"date"`
	Actor    string          `json:"actor,omitempty"`
}

// history returns what a document was, the latest first: as far back as its log goes.
func (s *Service) history(ctx context.Context, o *object, c *service.Call, p *params) (any, error) {
	if o.kind != kindDocument {
		return nil, failf(CodeWrongType, "history is not an operation of a %s", o.kind)
	}
	if err := o.check(c.Caller, toRead); err != nil {
		return nil, err
	}
	limit := 10
	if p.Limit != nil {
		if limit = *p.Limit; limit < 1 || limit > maxHistory {
			return nil, failf(CodeInvalid, "limit is %d, must be 1 to %d", limit, maxHistory)
		}
	}
	pubs, _, err := s.b.History(ctx, Channel(o.id), broker.HistoryQuery{Kept: true, Limit: -1})
	if err != nil {
		return nil, err
	}
	answer := struct {
		Revisions []revisionShown `json:"revisions"`
		Position  position        `json:"position"`
	}{Revisions: []revisionShown{}, Position: o.position()}
	for i := len(pubs) - 1; i >= 0 && len(answer.Revisions) < limit; i-- {
		commit, err := decodeCommit(pubs[i])
		if err != nil {
			return nil, err
		}
		all := commit.Events
		if len(all) == 0 {
			all = []event{commit.event}
		}
		e := all[len(all)-1]
		for n := len(all) - 2; n >= 0 && e.Type != eventUpdated; n-- {
			e = all[n]
		}
		switch e.Type {
		case eventRemoved:
			return answer, nil
		case eventCreated:
			e.Revision = e.Object.Revision
		case eventUpdated:
		default:
			continue
		}
		answer.Revisions = append(answer.Revisions, revisionShown{e.Revision, e.Data, commit.Date, commit.Actor})
		if e.Type == eventCreated {
			break
		}
	}
	return answer, nil
}
