package broker

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"roost/internal/pack"
)

// In a cluster a node's place is taken while messages come in. Publications with history have
// positions by which nobody gets them twice. For the others, and for what nodes tell and ask each
// other, the old broker notes what it has taken since before the new one has subscribed, until it
// stops; the new one holds what it gets until then, and takes what is not among those. Either may get
// a message well after the other.

const (
	// maxHeld bounds what is held, in bytes; what comes then is lost, and told as a gap.
	maxHeld = 64 << 20
	// answersTime is what answers to other nodes that are under way get before Cut.
	answersTime = time.Second
	// knownTime is how much later than the old broker the new one may get a message, by way of another
	// server.
	knownTime = 10 * time.Second
)

// liveHold is what becomes of messages that no stream keeps.
type liveHold struct {
	mu      sync.RWMutex // read-locked while a message is taken
	holding bool
	held    []heldMessage
	bytes   int
	over    bool // some were lost

	self []byte // tells this broker from the one whose place it takes; static after New

	minds    atomic.Bool // whether first has to look
	seenMu   sync.Mutex
	watching bool
	seen     []liveID
	known    map[liveID]struct{} // what the old one took
	named    [shards]bool        // of Partitions
}

// heldMessage is one of a partition, or between nodes.
type heldMessage struct {
	msg  *nats.Msg
	sh   *shard       // nil between nodes,
	node *nodeMessage // and this is what msg says
}

// liveID names a message that no stream keeps.
type liveID struct {
	boot string
	id   uint64
}

// message takes one live message of a partition. On the subscription's goroutine.
func (b *Broker) message(sh *shard, m *nats.Msg) { b.pass(heldMessage{sh: sh, msg: m}) }

// pass takes a message, or keeps it for later.
func (b *Broker) pass(m heldMessage) {
	h := &b.hold
	h.mu.RLock()
	if !h.holding {
		b.take(m)
		h.mu.RUnlock()
		return
	}
	h.mu.RUnlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.holding: // just now
		b.take(m)
	case h.bytes+len(m.msg.Data) > maxHeld:
		h.over = true
	default:
		h.bytes += len(m.msg.Data)
		h.held = append(h.held, m)
	}
}

// take takes a message. Read-locked.
func (b *Broker) take(m heldMessage) {
	switch {
	case m.sh != nil:
		b.process(m.sh, m.msg)
	case b.hold.first(m.node.Boot, m.node.ID):
		b.heed(m.msg, m.node)
	}
}

// first tells whether a message was not taken by the broker before. While somebody watches it is
// noted.
func (h *liveHold) first(boot string, n uint64) bool {
	if !h.minds.Load() {
		return true
	}
	id := liveID{boot, n}
	h.seenMu.Lock()
	defer h.seenMu.Unlock()
	if _, ok := h.known[id]; ok {
		return false
	}
	if h.watching {
		h.seen = append(h.seen, id)
	}
	return true
}

// Watch begins to note what is taken, for Seen. It returns false if it had begun before.
func (b *Broker) Watch() (begun bool) {
	h := &b.hold
	h.seenMu.Lock()
	defer h.seenMu.Unlock()
	if h.watching {
		return false
	}
	h.watching, h.named = true, [shards]bool{}
	h.minds.Store(true)
	return true
}

func (h *liveHold) watched() bool {
	h.seenMu.Lock()
	defer h.seenMu.Unlock()
	return h.watching
}

// Partitions returns a followed channel of each partition that it has not returned one of since
// Watch: who follows these hears all that this broker does. Not for several goroutines at a time.
func (b *Broker) Partitions() (channels []string) {
	for i := range b.shards {
		if b.hold.named[i] {
			continue
		}
		sh := &b.shards[i]
		sh.mu.Lock()
		for ch := range sh.follows { // any
			channels = append(channels, ch)
			b.hold.named[i] = true
			break
		}
		sh.mu.Unlock()
	}
	return channels
}

// Cut takes no more messages from the moment it returns until Uncut, which then takes what came
// meanwhile. Answers to other nodes that are under way get a second. Without effect for the embedded
// server.
func (b *Broker) Cut() {
	if b.server != nil {
		return
	}
	h := &b.hold
	h.mu.Lock()
	h.holding = true
	h.mu.Unlock()
	for end := time.Now().Add(answersTime); len(b.nodes.queries)+len(b.nodes.direct) > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// Seen is what Know needs: what was taken since Watch. This broker should publish nothing any more.
// It is nil for the embedded server.
func (b *Broker) Seen() []byte {
	if b.server != nil {
		return nil
	}
	h := &b.hold
	h.seenMu.Lock()
	defer h.seenMu.Unlock()
	seen := pack.AppendUint(nil, b.calls.Load())
	for _, id := range slices.AppendSeq(h.seen, maps.Keys(h.known)) {
		seen = pack.AppendUint(pack.AppendString(seen, id.boot), id.id)
	}
	return seen
}

// Uncut ends Watch and Cut.
func (b *Broker) Uncut() {
	h := &b.hold
	h.seenMu.Lock()
	h.watching, h.seen = false, nil
	h.minds.Store(len(h.known) > 0)
	h.seenMu.Unlock()
	b.release()
}

// Know tells a broker with an Heir what the old one has Seen: that is not taken, and ids follow on the
// old one's. Call it before anything is published. Without effect for the embedded server.
func (b *Broker) Know(seen []byte) error {
	if b.server != nil {
		return nil
	}
	known := make(map[liveID]struct{})
	r := pack.NewReader(seen)
	b.calls.Store(max(b.calls.Load(), r.Uint()))
	for r.Len() > 0 {
		known[liveID{r.String(), r.Uint()}] = struct{}{}
	}
	if r.Err() != nil {
		return fmt.Errorf("broker: what the old one has seen: %w", r.Err())
	}
	b.hold.know(known)
	time.AfterFunc(knownTime, func() { b.hold.know(nil) })
	return nil
}

// Enter has a broker with an Heir take its place in the cluster, once it Knows: it takes what came
// since it follows channels, and greets the other nodes. Without effect for the embedded server.
func (b *Broker) Enter() error {
	if b.server != nil {
		return nil
	}
	b.release()
	return b.greet()
}

func (h *liveHold) know(known map[liveID]struct{}) {
	h.seenMu.Lock()
	defer h.seenMu.Unlock()
	h.known = known
	h.minds.Store(h.watching || len(known) > 0)
}

// release takes what is held.
func (b *Broker) release() {
	h := &b.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.held {
		b.take(m)
	}
	if h.over {
		for i := range b.shards {
			go b.gaps(&b.shards[i])
		}
	}
	h.held, h.bytes, h.holding, h.over = nil, 0, false, false
}
