package syncmodel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"sync"
	"time"
)

// Refused is an error that the service answered.
type Refused struct {
	Code      uint32
	Message   string
	Temporary bool
}

func (r *Refused) Error() string { return r.Message }

// Call does one operation as some client. What is not *Refused may have happened or not.
type Call func(ctx context.Context, op string, params []byte) (result []byte, err error)

// Run is a number of random operations on a few objects.
type Run struct {
	Call    Call
	Objects []Object // of all types
	Clients int
	Seed    uint64
	// Stay says that no object is removed. Who is away when one is cannot recover its events.
	Stay bool

	mu    sync.Mutex
	done  map[string][]done // by object
	count int
}

// Object is one that a run works on.
type Object struct{ Type, Name string }

// done is an operation that succeeded.
type done struct {
	op     string
	params params
	answer
}

type answer struct {
	Event    uint64   `json:"event"`
	Revision uint64   `json:"revision"`
	Index    *int     `json:"index"`
	Created  bool     `json:"created"`
	Data     any      `json:"data"`
	Results  []answer `json:"results"`
	Object   struct {
		ID       string `json:"id"`
		Revision uint64 `json:"revision"`
	} `json:"object"`
	Position struct {
		Event uint64 `json:"event"`
		Epoch string `json:"epoch"`
	} `json:"position"`
	Channel string `json:"channel"`
}

// New returns a run over n objects of each type but streams, which keep nothing.
func New(call Call, n, clients int, seed uint64) *Run {
	r := &Run{Call: call, Clients: clients, Seed: seed, done: map[string][]done{}}
	for i := range n {
		for _, kind := range []string{"document", "map", "list"} {
			r.Objects = append(r.Objects, Object{kind, fmt.Sprintf("%s %d", kind, i)})
		}
	}
	return r
}

// Operations counts those that succeeded.
func (r *Run) Operations() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// Do has the clients do n operations between them. It may be called again.
func (r *Run) Do(ctx context.Context, n int) error {
	errs := make(chan error, r.Clients)
	for c := range r.Clients {
		r.Seed++
		rng := rand.New(rand.NewPCG(r.Seed, uint64(c)))
		go func() {
			for range n / r.Clients {
				if err := r.one(ctx, rng); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var err error
	for range r.Clients {
		err = errors.Join(err, <-errs)
	}
	return err
}

// one does one operation, until it is answered.
func (r *Run) one(ctx context.Context, rng *rand.Rand) error {
	o := r.Objects[rng.IntN(len(r.Objects))]
	op, p := random(o.Type, rng)
	if r.Stay && op == "delete" {
		return nil
	}
	p.Type, p.Name = o.Type, o.Name
	p.IdempotencyKey = fmt.Sprintf("%x", rng.Uint64())
	a, err := r.insist(ctx, op, p)
	var no *Refused
	if errors.As(err, &no) && no.Code == 1402 { // nobody has created it, or somebody has removed it
		_, err = r.open(ctx, o, p.IdempotencyKey+"o")
		return err
	}
	return r.note(o, op, p, a, err)
}

// Open opens all objects, which must be new, and returns their channels.
func (r *Run) Open(ctx context.Context) (channels map[string]string, err error) {
	channels = map[string]string{}
	for _, o := range r.Objects {
		a, err := r.open(ctx, o, "first")
		if err != nil {
			return nil, err
		}
		channels[o.Name] = a.Channel
	}
	return channels, nil
}

// Opened is what a subscriber knows of an object that Open has just created.
func (r *Run) Opened(name string) *View {
	v := &View{Top: 1, State: State{Exists: true, Revision: 1, Items: map[string]Item{}}}
	for _, o := range r.Objects {
		if o.Name == name {
			v.Data = o.first()
		}
	}
	return v
}

// first is what an object begins with.
func (o Object) first() any {
	if o.Type == "document" {
		return map[string]any{"n": 0.0}
	}
	return nil
}

func (r *Run) open(ctx context.Context, o Object, key string) (answer, error) {
	p := params{Type: o.Type, Name: o.Name, IdempotencyKey: key, Data: o.first()}
	a, err := r.insist(ctx, "open", p)
	return a, r.note(o, "open", p, a, err)
}

// note keeps what succeeded.
func (r *Run) note(o Object, op string, p params, a answer, err error) error {
	var no *Refused
	switch {
	case errors.As(err, &no):
		return expected(op, no)
	case err != nil:
		return err
	case op == "open" && !a.Created:
		return nil
	case op == "open":
		a.Event, a.Revision = a.Position.Event, a.Object.Revision
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	r.done[o.Name] = append(r.done[o.Name], done{op, p, a})
	return nil
}

// expected tells whether an operation may be refused so where others write, too.
func expected(op string, no *Refused) error {
	switch no.Code {
	case 1402, 1406, 1407, 1408, 1410:
		return nil
	}
	return fmt.Errorf("%s: %w (%d)", op, no, no.Code)
}

// insist calls until there is an answer.
func (r *Run) insist(ctx context.Context, op string, p params) (a answer, err error) {
	text, err := json.Marshal(p)
	if err != nil {
		return a, err
	}
	for {
		result, err := r.Call(ctx, op, text)
		var no *Refused
		if err == nil {
			return decoded[answer](result)
		}
		if errors.As(err, &no) && !no.Temporary {
			return a, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return a, fmt.Errorf("%s is not answered: %w", op, err)
		}
	}
}

// random makes up an operation.
func random(kind string, rng *rand.Rand) (op string, p params) {
	value := func() any {
		return map[string]any{fmt.Sprint(rng.IntN(3)): float64(rng.IntN(1000)), "s": "ä<&> \"" + fmt.Sprint(rng.IntN(9))}
	}
	revision := func() {
		if rng.IntN(4) == 0 {
			n := uint64(rng.IntN(30))
			p.IfRevision = &n
		}
	}
	if n := rng.IntN(200); n == 0 {
		return "delete", p
	} else if n < 4 {
		ttl := 3000 + rng.IntN(100)
		p.TTL = &ttl
		return "set_ttl", p
	} else if n < 24 && kind != "document" {
		for range 1 + rng.IntN(4) {
			op, each := random(kind, rng)
			if op == "batch" || op == "delete" {
				continue
			}
			each.Op = op
			p.Operations = append(p.Operations, each)
		}
		if len(p.Operations) > 0 {
			return "batch", p
		}
	}
	p.Data = value()
	switch kind {
	case "document":
		revision()
		return []string{"set", "merge"}[rng.IntN(2)], p
	case "map":
		key := fmt.Sprintf("k%d", rng.IntN(20))
		p.Key = &key
		op = []string{"map.set", "map.set", "map.insert", "map.merge", "map.delete"}[rng.IntN(5)]
	default:
		index := rng.IntN(60)
		op = []string{"list.push", "list.push", "list.set", "list.merge", "list.delete"}[rng.IntN(5)]
		if p.Index = &index; op == "list.push" {
			if p.Index = nil; rng.IntN(3) == 0 {
				p.Data, p.Items = nil, []any{value(), value()}
			}
			return op, p
		}
	}
	if op != "map.insert" {
		revision()
	}
	if op == "map.delete" || op == "list.delete" {
		p.Data = nil
	}
	return op, p
}

// Check runs what succeeded against the model, in the order of the events, which must be 1, 2, 3 and so on,
// and returns what the objects must be now, by name.
func (r *Run) Check() (map[string]*State, map[string]uint64, error) {
	states, tops := map[string]*State{}, map[string]uint64{}
	var err error
	for _, o := range r.Objects {
		all := r.done[o.Name]
		sort.Slice(all, func(i, j int) bool { return all[i].Event < all[j].Event })
		s := &State{}
		states[o.Name] = s
		for i, d := range all {
			if d.Event != uint64(i+1) {
				return nil, nil, fmt.Errorf("%s: event %d behind %d", o.Name, d.Event, i)
			}
			index, e := s.Apply(o.Type, d.op, d.params)
			err = errors.Join(err, wrong(o, d, s, index, e))
		}
		tops[o.Name] = uint64(len(all))
	}
	return states, tops, err
}

// wrong compares an answer with the model's.
func wrong(o Object, d done, s *State, index *int, failed error) error {
	switch {
	case failed != nil:
		return fmt.Errorf("%s, event %d: %w", o.Name, d.Event, failed)
	case d.Revision != s.Revision && d.op != "set_ttl":
		return fmt.Errorf("%s, event %d, %s: revision %d, must be %d", o.Name, d.Event, d.op, d.Revision, s.Revision)
	case d.op == "list.push" && (d.Index == nil || *d.Index != *index):
		return fmt.Errorf("%s, event %d: index %v, must be %d", o.Name, d.Event, d.Index, *index)
	}
	return nil
}
