package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Nodes find each other by beats. One that has not been heard of for nodeTimeout is
// dead: at most 2 s after its last sign of life nobody waits for it.
const (
	beatInterval = 400 * time.Millisecond
	nodeTimeout  = 1500 * time.Millisecond
	joinTime     = 100 * time.Millisecond // that the others get to answer a new node
	maxQueries   = 64                     // answered at a time
)

// nodes are those of the cluster.
type nodes struct {
	queries chan struct{} // held by answers to all nodes
	direct  chan struct{} // held by answers to AskNode

	mu   sync.Mutex
	seen map[string]time.Time // the others, by their last sign of life
	boot map[string]time.Time // likewise, by what distinguishes their runs
}

// runs tells whether a run of another node is alive.
func (n *nodes) runs(boot string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.boot[boot]
	return ok && time.Since(at) <= nodeTimeout
}

// message between nodes.
type nodeMessage struct {
	Node string `json:"node"`
	Boot string `json:"boot,omitempty"`
	ID   uint64 `json:"id,omitempty"` // of a notice or a question, with Boot
	What string `json:"what"`         // hello, beat, bye, sync, notice, survey, ask, reply
	Kind string `json:"kind,omitempty"`
	Data []byte `json:"data,omitempty"`
	Err  string `json:"error,omitempty"`
}

func (b *Broker) allNodes() string { return b.opts.Prefix + ".nodes" }

// init makes ready. heir, if not nil, knows others: they need not tell it again.
func (n *nodes) init(heir *Heir) {
	n.seen, n.boot = make(map[string]time.Time), make(map[string]time.Time)
	n.queries = make(chan struct{}, maxQueries)
	n.direct = make(chan struct{}, maxDirect)
	if heir == nil {
		return
	}
	for _, id := range heir.Nodes {
		if id != heir.Node {
			n.seen[id] = time.Now()
		}
	}
}

// hear subscribes to what nodes tell and ask each other.
func (b *Broker) hear() error {
	if b.server != nil {
		return nil
	}
	_, err := b.nc.Subscribe(b.allNodes(), b.nodeMessage)
	if err == nil {
		_, err = b.nc.Subscribe(b.nodeSubject(b.opts.Node), b.asked)
	}
	if err == nil {
		err = b.nc.FlushTimeout(requestTimeout)
	}
	if err != nil {
		return fmt.Errorf("broker: subscribe to the messages of nodes: %w", err)
	}
	return nil
}

// join makes this node known to the others and them to it.
func (b *Broker) join() error {
	if b.server != nil {
		return nil
	}
	err := b.greet()
	time.Sleep(joinTime)
	return err
}

// greet makes this node known to the others, now and then again.
func (b *Broker) greet() error {
	if err := b.toNodes(nodeMessage{What: "hello"}); err != nil {
		return fmt.Errorf("broker: join: %w", err)
	}
	b.done.Add(1)
	go b.beat()
	return nil
}

func (b *Broker) leave() {
	if b.server == nil && !b.opts.Guest && b.nodes.seen != nil && b.nc.IsConnected() {
		_ = b.toNodes(nodeMessage{What: "bye"}) // else the others notice by themselves
		_ = b.nc.FlushTimeout(time.Second)
	}
}

func (b *Broker) beat() {
	defer b.done.Done()
	t := time.NewTicker(beatInterval)
	defer t.Stop()
	for {
		select {
		case <-b.ended:
			return
		case <-t.C:
			if b.nc.IsConnected() {
				_ = b.toNodes(nodeMessage{What: "beat"}) // the next one will do
			}
			b.bury()
		}
	}
}

// bury forgets the dead.
func (b *Broker) bury() {
	b.nodes.mu.Lock()
	defer b.nodes.mu.Unlock()
	for id, at := range b.nodes.seen {
		if time.Since(at) > nodeTimeout {
			delete(b.nodes.seen, id)
		}
	}
	for boot, at := range b.nodes.boot {
		if time.Since(at) > nodeTimeout {
			delete(b.nodes.boot, boot)
		}
	}
}

func (b *Broker) encodeNode(m nodeMessage) ([]byte, error) {
	m.Node, m.Boot = b.opts.Node, b.boot
	return json.Marshal(m)
}

func (b *Broker) toNodes(m nodeMessage) error {
	text, err := b.encodeNode(m)
	if err != nil {
		return err
	}
	return b.nc.Publish(b.allNodes(), text)
}

// nodeMessage hears what the nodes tell all, this one included.
func (b *Broker) nodeMessage(m *nats.Msg) {
	var msg nodeMessage
	if err := json.Unmarshal(m.Data, &msg); err != nil {
		b.log.Warn("unknown message between nodes", "error", err)
		return
	}
	if msg.Node != b.opts.Node {
		b.nodes.mu.Lock()
		if msg.What == "bye" {
			delete(b.nodes.seen, msg.Node)
		} else {
			b.nodes.seen[msg.Node] = time.Now()
			b.nodes.boot[msg.Boot] = time.Now()
		}
		b.nodes.mu.Unlock()
	}
	switch msg.What {
	case "hello":
		if msg.Node != b.opts.Node {
			_ = b.toNodes(nodeMessage{What: "beat"}) // the next one will do
		}
	case "notice", "survey":
		b.pass(heldMessage{msg: m, node: &msg})
	}
}

// heed does what a message between nodes says.
func (b *Broker) heed(m *nats.Msg, msg *nodeMessage) {
	switch msg.What {
	case "notice":
		b.handler.Notice(msg.Kind, msg.Data)
	case "survey":
		if msg.Node != b.opts.Node {
			b.answer(m, msg, b.nodes.queries)
		}
	case "ask":
		b.answer(m, msg, b.nodes.direct)
	}
}

// answer replies to another node, on a goroutine of its own: beats must not wait for it.
// Each that is under way holds one of free.
func (b *Broker) answer(m *nats.Msg, msg *nodeMessage, free chan struct{}) {
	select {
	case free <- struct{}{}:
	default:
		b.reply(m, nil, errors.New("too many questions at a time"))
		return
	}
	go func() {
		defer func() { <-free }()
		reply, err := b.handler.Query(msg.Kind, msg.Data)
		b.reply(m, reply, err)
	}()
}

func (b *Broker) reply(m *nats.Msg, data []byte, failure error) {
	why := ""
	if failure != nil {
		why = failure.Error()
	}
	text, err := b.encodeNode(nodeMessage{What: "reply", Data: data, Err: why})
	if err == nil {
		err = m.Respond(text)
	}
	if err != nil && !b.closed.Load() {
		b.log.Warn("answer to another node", "error", err)
	}
}

// Nodes returns the ids of all nodes that are alive, this one included, in order.
func (b *Broker) Nodes() []string {
	all := append(b.others(), b.opts.Node)
	slices.Sort(all)
	return all
}

func (b *Broker) others() []string {
	b.bury()
	b.nodes.mu.Lock()
	defer b.nodes.mu.Unlock()
	all := make([]string, 0, len(b.nodes.seen)+1)
	for id := range b.nodes.seen {
		all = append(all, id)
	}
	return all
}

// Notify tells all nodes, this one included. Errors: ErrUnavailable.
func (b *Broker) Notify(kind string, data []byte) error {
	if b.closed.Load() {
		return unavailable("notify", ErrClosed)
	}
	if b.server != nil {
		b.handler.Notice(kind, data)
		return nil
	}
	if !b.nc.IsConnected() {
		return unavailable("notify", nats.ErrDisconnected)
	}
	if err := b.toNodes(nodeMessage{ID: b.calls.Add(1), What: "notice", Kind: kind, Data: data}); err != nil {
		return unavailable("notify", err)
	}
	return nil
}

// Survey asks all nodes that are alive and returns their answers by node; this one is
// asked by a direct call. A node that dies meanwhile is not waited for. With an error
// the answers are those that came: the context ended, a node's Query failed, or NATS
// is away (ErrUnavailable).
func (b *Broker) Survey(ctx context.Context, kind string, data []byte) (map[string][]byte, error) {
	if b.closed.Load() {
		return nil, unavailable("survey", ErrClosed)
	}
	answers := make(map[string][]byte)
	var failed error
	type answer struct {
		nodeMessage
		err error
	}
	got := make(chan answer, 64)
	others := b.others()
	if b.server == nil {
		if !b.nc.IsConnected() {
			failed = unavailable("survey", nats.ErrDisconnected)
			others = nil
		} else if len(others) > 0 {
			text, err := b.encodeNode(nodeMessage{ID: b.calls.Add(1), What: "survey", Kind: kind, Data: data})
			if err != nil {
				return nil, err
			}
			over := make(chan struct{})
			defer close(over)
			end, err := b.replies.ask(b.allNodes(), text, func(m *nats.Msg) {
				var a answer
				a.err = json.Unmarshal(m.Data, &a.nodeMessage)
				select {
				case got <- a:
				case <-over:
				}
			})
			defer end()
			if err != nil {
				failed = unavailable("survey", err)
				others = nil
			}
		}
	}
	own, err := b.handler.Query(kind, data)
	if err != nil {
		failed = errors.Join(failed, fmt.Errorf("broker: survey: node %s: %w", b.opts.Node, err))
	} else {
		answers[b.opts.Node] = own
	}
	check := time.NewTicker(beatInterval / 2)
	defer check.Stop()
	for len(others) > 0 {
		select {
		case a := <-got:
			if a.err != nil || !slices.Contains(others, a.Node) {
				continue
			}
			others = slices.DeleteFunc(others, func(id string) bool { return id == a.Node })
			if a.Err != "" {
				failed = errors.Join(failed, fmt.Errorf("broker: survey: node %s: %s", a.Node, a.Err))
			} else {
				answers[a.Node] = a.Data
			}
		case <-check.C:
			alive := b.others()
			others = slices.DeleteFunc(others, func(id string) bool { return !slices.Contains(alive, id) })
		case <-b.ended:
			return answers, unavailable("survey", ErrClosed)
		case <-ctx.Done():
			return answers, fmt.Errorf("broker: survey: no answer of %s: %w", strings.Join(others, ", "), ctx.Err())
		}
	}
	return answers, failed
}
