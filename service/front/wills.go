package front

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"roost/broker"
	"roost/service"
)

const (
	// willsPerClient is for how many objects a client may have something done when it goes.
	willsPerClient = 16
	willsAtOnce    = 32               // that are done
	willTimeout    = 10 * time.Second // of one try
	willPause      = 500 * time.Millisecond
)

// will is what a client wants done with one object when it goes.
type will struct {
	User string          `json:"user"`
	Data json.RawMessage `json:"data"` // parameters of a batch
}

// wills are those of this gateway's clients. They lie in a ledger of the broker, so that they are done
// also if the gateway dies: by the next run of it, or by another gateway.
type wills struct {
	f      *Front
	has    func(client string) bool // it is connected to this gateway
	ledger *broker.Ledger
	free   chan struct{} // held by those that are done
	life   context.Context
	kill   context.CancelFunc
	done   sync.WaitGroup

	heir bool // there may be wills of clients that were not handed over

	mu   sync.Mutex
	left map[string]map[string]will // by client and object
}

func (w *wills) init(f *Front) {
	w.f, w.free, w.left = f, make(chan struct{}, willsAtOnce), make(map[string]map[string]will)
	w.life, w.kill = context.WithCancel(context.Background())
}

func (w *wills) open(ctx context.Context, b *broker.Broker, heir bool) (err error) {
	w.ledger, err = b.NewLedger(ctx, broker.LedgerOptions{Name: w.f.opts.Name + "-wills", Lost: func(key string, value []byte, done func()) error {
		w.lost(key, value, done)
		return nil
	}})
	if w.heir = heir; err != nil || !heir {
		return err
	}
	for key, value := range w.ledger.Entries() {
		var each will
		if client, id, ok := strings.Cut(key, " "); ok && json.Unmarshal(value, &each) == nil {
			w.keep(client, id, each)
		}
	}
	return nil
}

func (w *wills) start() {
	if w.ledger == nil {
		return
	}
	w.ledger.Start()
	if w.heir {
		w.ledger.Reap(func(key string) bool {
			client, _, _ := strings.Cut(key, " ")
			return w.has(client)
		})
	}
}

func (w *wills) keep(client, id string, each will) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left[client] == nil {
		w.left[client] = make(map[string]will)
	}
	w.left[client][id] = each
}

// set notes what a client wants done with an object, in the place of what it wanted before.
func (w *wills) set(ctx context.Context, c service.Caller, id string, data []byte) ([]byte, error) {
	var p struct {
		Operations []json.RawMessage `json:"operations"`
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, service.Errorf(service.CodeInvalid, "the parameters cannot be read: %v", err)
	}
	key := c.Client + " " + id
	if len(p.Operations) == 0 {
		w.mu.Lock()
		_, there := w.left[c.Client][id]
		w.drop(c.Client, id)
		w.mu.Unlock()
		if there {
			w.ledger.Remove(key)
		}
		return []byte("{}"), nil
	}
	w.mu.Lock()
	_, there := w.left[c.Client][id]
	full := !there && len(w.left[c.Client]) >= willsPerClient
	w.mu.Unlock()
	if full {
		return nil, service.Errorf(service.CodeFull, "a client may have something done with at most %d objects", willsPerClient)
	}
	body, err := json.Marshal(map[string]any{"id": id, "operations": p.Operations})
	if err != nil {
		return nil, err
	}
	if _, err := w.f.router.Do(ctx, &service.Call{Caller: c, Op: w.f.opts.Wills.Try, Key: id, Data: body}); err != nil {
		return nil, err
	}
	each := will{User: c.User, Data: body}
	value, err := json.Marshal(each)
	if err != nil {
		return nil, err
	}
	if err := w.ledger.Add(ctx, key, value); err != nil {
		w.ledger.Remove(key)
		return nil, service.Unavailable
	}
	if w.keep(c.Client, id, each); !w.has(c.Client) {
		w.gone(c.Client) // it went meanwhile
	}
	return []byte("{}"), nil
}

// drop forgets a will. Under mu.
func (w *wills) drop(client, id string) {
	delete(w.left[client], id)
	if len(w.left[client]) == 0 {
		delete(w.left, client)
	}
}

// gone does what a client wanted. It does not block.
func (w *wills) gone(client string) {
	w.mu.Lock()
	all := w.left[client]
	delete(w.left, client)
	w.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(all)) {
		key := client + " " + id
		w.done.Go(func() { w.carryOut(client, id, all[id], func() { w.ledger.Remove(key) }) })
	}
}

// lost does what a client of a gateway wanted that has died.
func (w *wills) lost(key string, value []byte, done func()) {
	client, id, ok := strings.Cut(key, " ")
	var each will
	if !ok || json.Unmarshal(value, &each) != nil {
		w.f.opts.Logger.Error("what a client left to be done cannot be read", "key", key)
		done()
		return
	}
	w.mu.Lock()
	w.drop(client, id)
	w.mu.Unlock()
	w.done.Go(func() { w.carryOut(client, id, each, done) })
}

// carryOut does one will, and tries again while the service is away. A second try changes nothing twice.
func (w *wills) carryOut(client, id string, each will, done func()) {
	select {
	case w.free <- struct{}{}:
		defer func() { <-w.free }()
	case <-w.life.Done():
		return // it stays in the ledger
	}
	c := &service.Call{
		Caller: service.Caller{User: each.User, Client: client}, Op: w.f.opts.Wills.Do, Key: id, Data: each.Data, ID: "gone " + client,
	}
	for {
		ctx, cancel := context.WithTimeout(w.life, willTimeout)
		_, err := w.f.router.Do(ctx, c)
		cancel()
		var own *service.Error
		if err == nil || errors.As(err, &own) && !own.Temporary {
			if err != nil {
				w.f.opts.Logger.Info("what a client left to be done cannot be done any more", "client", client, "object", id, "error", err)
			}
			done()
			return
		}
		select {
		case <-time.After(willPause):
		case <-w.life.Done():
			return
		}
	}
}

func (w *wills) close(ctx context.Context) {
	idle := make(chan struct{})
	go func() { w.done.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
	}
	w.kill()
	<-idle
	if w.ledger != nil {
		if err := w.ledger.Close(ctx); err != nil {
			w.f.opts.Logger.Warn("some of what clients left to be done will be tried once more", "error", err)
		}
	}
}
