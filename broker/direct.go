package broker

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrNoNode means that no node of that id is alive.
var ErrNoNode = errors.New("broker: no such node")

const maxDirect = 256 // questions to this node alone that are answered at a time

// nodeSubject is where one node is asked. An id may hold what subjects may not.
func (b *Broker) nodeSubject(node string) string {
	return b.opts.Prefix + ".node." + hex.EncodeToString([]byte(node))
}

// AskNode asks one node and returns its answer; this one is asked by a direct call. A
// node that dies meanwhile is not waited for. Errors: ErrNoNode, ErrUnavailable,
// ErrTooLarge, ctx's, or why the node's Query failed.
func (b *Broker) AskNode(ctx context.Context, node, kind string, data []byte) ([]byte, error) {
	switch {
	case b.closed.Load():
		return nil, unavailable("ask a node", ErrClosed)
	case node == b.opts.Node:
		return b.handler.Query(kind, data)
	case b.server != nil:
		return nil, ErrNoNode
	case !b.nc.IsConnected():
		return nil, unavailable("ask a node", nats.ErrDisconnected)
	case !b.alive(node):
		return nil, ErrNoNode
	}
	text, err := b.encodeNode(nodeMessage{ID: b.calls.Add(1), What: "ask", Kind: kind, Data: data})
	if err != nil {
		return nil, err
	}
	got := make(chan *nats.Msg, 1)
	end, err := b.replies.ask(b.nodeSubject(node), text, func(m *nats.Msg) {
		select {
		case got <- m:
		default: // there is one answer
		}
	})
	defer end()
	if err != nil {
		return nil, unavailable("ask a node", err)
	}
	check := time.NewTicker(beatInterval / 2)
	defer check.Stop()
	for {
		select {
		case m := <-got:
			return answerOf(node, m)
		case <-check.C:
			if !b.alive(node) {
				return nil, ErrNoNode
			}
		case <-b.ended:
			return nil, unavailable("ask a node", ErrClosed)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (b *Broker) alive(node string) bool { return slices.Contains(b.others(), node) }

// answerOf reads what a node answered, or NATS in its place.
func answerOf(node string, m *nats.Msg) ([]byte, error) {
	if m.Header.Get("Status") == "503" { // nobody listens
		return nil, ErrNoNode
	}
	var a nodeMessage
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return nil, fmt.Errorf("broker: answer of node %s: %w", node, err)
	}
	if a.Err != "" {
		return nil, fmt.Errorf("broker: node %s: %s", node, a.Err)
	}
	return a.Data, nil
}

// asked hears what another node asks this one alone.
func (b *Broker) asked(m *nats.Msg) {
	var msg nodeMessage
	if err := json.Unmarshal(m.Data, &msg); err != nil {
		b.log.Warn("unknown question to this node", "error", err)
		return
	}
	if msg.What == "sync" {
		b.inStep(m, msg.Data)
		return
	}
	b.pass(heldMessage{msg: m, node: &msg})
}
