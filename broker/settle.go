package broker

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// syncAgain is after what time a node is asked again: its answer may have met a server that had
	// not heard of the question's subject yet.
	syncAgain = 20 * time.Millisecond
	syncTime  = 2 * time.Second
	// fenceTime is how long all publications may wait for a node that does not answer.
	fenceTime = 250 * time.Millisecond
)

// Settle returns when the servers of all nodes know what this one follows, and it has taken all that
// they sent before. Servers tell each other of subscriptions in their order, so an answer to a subject
// that was followed last tells of all before it. A node that does not answer is waited for two
// seconds. Where a broker has an Heir and its place is being taken, either is asked.
func (b *Broker) Settle() {
	if b.server != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), syncTime)
	defer cancel()
	b.syncAll(ctx, "publications without history may be lost on their way here")
	for i := range b.shards {
		b.shards[i].drain(ctx)
	}
}

// fence returns when all nodes have what this one published, the broker that takes its place included:
// what that one publishes, to another server, comes later everywhere. A node that does not answer is
// waited for a quarter of a second.
func (b *Broker) fence(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, fenceTime)
	defer cancel()
	b.syncAll(ctx, "publications without history may come there out of their order")
}

// syncAll waits until the messages of all nodes arrive here, and this one's there. risk says what may
// be where one does not answer.
func (b *Broker) syncAll(ctx context.Context, risk string) {
	var done sync.WaitGroup
	for _, node := range b.Nodes() {
		done.Go(func() {
			if err := b.sync(ctx, node); err != nil {
				b.log.Warn(risk, "node", node, "error", err)
			}
		})
	}
	done.Wait()
}

// drain waits until what has come has been taken.
func (sh *shard) drain(ctx context.Context) {
	sh.subMu.Lock()
	defer sh.subMu.Unlock()
	if sh.sub == nil {
		return
	}
	first, _, _ := sh.sub.Pending() // with the one that is being taken, which Delivered counts, too
	taken, _ := sh.sub.Delivered()
	for ctx.Err() == nil {
		waiting, _, err := sh.sub.Pending()
		if now, _ := sh.sub.Delivered(); err != nil || waiting == 0 || now >= taken+int64(first) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// sync waits until a node's messages to this one arrive, and this one's there.
func (b *Broker) sync(ctx context.Context, node string) error {
	text, err := b.encodeNode(nodeMessage{What: "sync", Data: b.hold.self})
	if err != nil {
		return err
	}
	inbox := nats.NewInbox()
	got, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = got.Unsubscribe() }()
	for {
		if err := b.nc.PublishRequest(b.nodeSubject(node), inbox, text); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, syncAgain)
		m, err := got.NextMsgWithContext(wait)
		cancel()
		if err == nil && m.Header.Get("Status") == "" {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil { // nobody listens there
			pause(ctx, 1)
		}
	}
}

// inStep answers sync. One that takes another broker's place bears its name, so either hears its own
// question, too, which only the other one is to answer.
func (b *Broker) inStep(m *nats.Msg, asker []byte) {
	if !bytes.Equal(asker, b.hold.self) {
		b.reply(m, nil, nil)
	}
}
