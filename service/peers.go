package service

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"roost/broker"
)

// Instances find each other by beats, as the gateways do. One that has not been heard of for peerTimeout
// is dead; those that live then share what it owned.
const (
	beatInterval = 400 * time.Millisecond
	peerTimeout  = 1500 * time.Millisecond
)

// beat is what an instance tells the others.
type beat struct {
	ID    string `json:"id"`
	Hello bool   `json:"hello,omitempty"` // answer me
	Bye   bool   `json:"bye,omitempty"`
}

// peers are the instances of a service.
type peers struct {
	// Static.
	b       *broker.Broker
	id      string
	subject string
	log     *slog.Logger
	share   func(mine func(shard int) bool)
	stop    func()
	wake    chan struct{}
	ended   chan struct{}
	done    sync.WaitGroup

	mu   sync.Mutex
	seen map[string]time.Time // the others
}

func joinPeers(b *broker.Broker, name string, log *slog.Logger, share func(func(int) bool)) (*peers, error) {
	p := &peers{
		b: b, id: rand.Text(), subject: fmt.Sprintf("%s.svc.%s.m", b.Prefix(), name), log: log, share: share,
		wake: make(chan struct{}, 1), ended: make(chan struct{}), seen: map[string]time.Time{},
	}
	var err error
	if p.stop, err = b.Answer(p.subject, "", p.heard); err != nil {
		return nil, err
	}
	p.tell(beat{Hello: true})
	time.Sleep(beatInterval / 4) // for the others to answer
	p.done.Go(p.run)
	return p, nil
}

func (p *peers) tell(m beat) {
	m.ID = p.id
	text, err := json.Marshal(m)
	if err == nil {
		err = p.b.Tell(p.subject, text)
	}
	if err != nil {
		p.log.Debug("a beat was not sent", "error", err) // the next one will do
	}
}

func (p *peers) heard(r *broker.Request) {
	var m beat
	if err := json.Unmarshal(r.Data, &m); err != nil || m.ID == p.id {
		return
	}
	p.mu.Lock()
	_, known := p.seen[m.ID]
	if m.Bye {
		delete(p.seen, m.ID)
	} else {
		p.seen[m.ID] = time.Now()
	}
	p.mu.Unlock()
	if m.Hello {
		p.tell(beat{})
	}
	if known == m.Bye {
		p.changed()
	}
}

func (p *peers) changed() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *peers) run() {
	t := time.NewTicker(beatInterval)
	defer t.Stop()
	for {
		p.bury()
		p.share(p.mine())
		select {
		case <-p.ended:
			return
		case <-t.C:
			p.tell(beat{})
		case <-p.wake:
		}
	}
}

func (p *peers) bury() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, at := range p.seen {
		if time.Since(at) > peerTimeout {
			delete(p.seen, id)
			p.log.Warn("an instance of the service is gone", "id", id)
		}
	}
}

// mine tells which shards are this instance's: those for which it comes first among all, by a hash of
// both (rendezvous hashing, Thaler and Ravishankar 1998), so that few move when one comes or goes.
func (p *peers) mine() func(shard int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	others := make([]string, 0, len(p.seen))
	for id := range p.seen {
		others = append(others, id)
	}
	return func(shard int) bool {
		own := weight(p.id, shard)
		for _, id := range others {
			if w := weight(id, shard); w > own || w == own && id > p.id {
				return false
			}
		}
		return true
	}
}

func weight(id string, shard int) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id + "/" + strconv.Itoa(shard))) // never fails
	s := h.Sum64()
	s ^= s >> 33
	s *= 0xff51afd7ed558ccd // the finalizer of MurmurHash3: FNV's upper bits depend little on the last bytes
	return s ^ s>>33
}

func (p *peers) leave() {
	close(p.ended)
	p.done.Wait()
	p.tell(beat{Bye: true})
	p.stop()
}
