package broker

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"roost/internal/pack"
)

// In a cluster a node's place is taken while messages come in. Those with history have positions
// by which nobody gets them twice. For the others the old broker notes which it has delivered since
// before the new one has subscribed, until it stops; the new one holds what it gets until then, and
// delivers what is not among those.

// maxHeld bounds what is held, in bytes; what comes then is lost, and told as a gap.
const maxHeld = 64 << 20

// liveHold is what becomes of live messages.
type liveHold struct {
	mu      sync.RWMutex // read-locked while a message is delivered
	holding bool
	held    []heldMessage
	bytes   int
	over    bool // some were lost

	seenMu   sync.Mutex
	watching bool
	seen     []liveID
}

type heldMessage struct {
	sh  *shard
	msg *nats.Msg
}

// liveID names a message that no stream keeps.
type liveID struct {
	boot string
	id   uint64
}

// message takes one live message of a partition. On the subscription's goroutine.
func (b *Broker) message(sh *shard, m *nats.Msg) {
	h := &b.hold
	h.mu.RLock()
	if !h.holding {
		b.process(sh, m, nil)
		h.mu.RUnlock()
		return
	}
	h.mu.RUnlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.holding: // just now
		b.process(sh, m, nil)
	case h.bytes+len(m.Data) > maxHeld:
		h.over = true
	default:
		h.bytes += len(m.Data)
		h.held = append(h.held, heldMessage{sh, m})
	}
}

// note takes down that a message was delivered, while somebody wants to know.
func (h *liveHold) note(r *record) {
	h.seenMu.Lock()
	defer h.seenMu.Unlock()
	if h.watching {
		h.seen = append(h.seen, liveID{r.boot, r.id})
	}
}

// Watch begins to note which messages without history are delivered, for Cut.
func (b *Broker) Watch() {
	h := &b.hold
	h.seenMu.Lock()
	defer h.seenMu.Unlock()
	h.watching, h.seen = true, nil
}

// Settle returns when the servers of the cluster have surely told each other of what was followed.
func (b *Broker) Settle() {
	if b.nc.ConnectedClusterName() != "" {
		time.Sleep(settleTime)
	}
}

// Cut delivers nothing more from the moment it returns until Uncut, which then delivers what came
// meanwhile. It returns what Enter needs. Without effect for the embedded server.
func (b *Broker) Cut() (seen []byte) {
	h := &b.hold
	h.mu.Lock()
	h.holding = b.server == nil
	h.mu.Unlock()
	h.seenMu.Lock()
	defer h.seenMu.Unlock()
	for _, id := range h.seen {
		seen = pack.AppendUint(pack.AppendString(seen, id.boot), id.id)
	}
	h.watching, h.seen = false, nil
	return seen
}

// Uncut ends Cut.
func (b *Broker) Uncut() { b.release(nil) }

// Enter has a broker with an Heir take its place in the cluster: it delivers what came since it
// follows channels, but for what the old one has said in Cut, and joins the other nodes. Without
// effect for the embedded server.
func (b *Broker) Enter(seen []byte) error {
	if b.server != nil {
		return nil
	}
	known := make(map[liveID]bool)
	r := pack.NewReader(seen)
	for r.Len() > 0 {
		known[liveID{r.String(), r.Uint()}] = true
	}
	if r.Err() != nil {
		return fmt.Errorf("broker: enter: %w", r.Err())
	}
	b.release(known)
	return b.join()
}

// release delivers what is held, but for what is known.
func (b *Broker) release(known map[liveID]bool) {
	h := &b.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.held {
		b.process(m.sh, m.msg, known)
	}
	if h.over {
		for i := range b.shards {
			go b.gaps(&b.shards[i])
		}
	}
	h.held, h.bytes, h.holding, h.over = nil, 0, false, false
}
