//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/centrifugal/protocol"

	"roost/auth"
	"roost/broker"
	"roost/conn"
	core "roost/gateway"
	"roost/poller"
)

// node is a gateway in this process, made as `roost serve` makes it.
type node struct {
	*core.Node
	address string
}

var inProcess = sync.OnceValues(func() (*node, error) {
	keys, err := auth.New(auth.Options{HMACSecret: secret})
	if err != nil {
		return nil, err
	}
	opts := core.Options{Auth: keys, AllowAnonymous: true, MaxChannels: 4, Logger: slog.New(slog.DiscardHandler),
		Channels: core.Channels{Default: core.Open(), Personal: true,
			Namespaces: map[string]core.Namespace{"closed": {}, "live": {AllowSubscribeForClient: true, AllowPublishForSubscriber: true}}},
		Broker: broker.Options{Memory: true}}
	n, err := core.New(opts)
	if err != nil {
		return nil, err
	}
	s, err := conn.New(conn.Options{Poller: poller.Options{Loops: 2}, Routes: []*conn.Route{n.Route()}, Logger: opts.Logger})
	if err != nil {
		return nil, err
	}
	n.Start(s)
	address, err := s.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &node{n, address.String()}, nil // as long as the process
})

// script turns bytes into what clients do.
type script struct{ rest []byte }

func (s *script) next(n int) int {
	if len(s.rest) == 0 {
		return 0
	}
	b := int(s.rest[0])
	s.rest = s.rest[1:]
	return b % n
}

var scriptChannels = []string{"a", "b", "c", "d", "e", "#ann", "#ann,bob", "live:x", "closed:x", "nowhere:x", "", "a.*.>"}

// command makes up a command, most of them valid.
func (s *script) command(id uint32) *protocol.Command {
	ch := scriptChannels[s.next(len(scriptChannels))]
	cmd := &protocol.Command{Id: id}
	switch s.next(14) {
	case 0:
		tokens := []string{"", tokenOf("ann"), tokenOf("bob"), "x", token(claims{"sub": "ann", "exp": 1}),
			token(claims{"sub": "ann", "channels": []string{"a", "b"}}), token(claims{"sub": "bob", "channels": []string{"nowhere:x"}})}
		cmd.Connect = &protocol.ConnectRequest{Token: tokens[s.next(len(tokens))]}
	case 1, 2, 3:
		r := &protocol.SubscribeRequest{Channel: ch, Recover: s.next(2) == 1, Offset: uint64(s.next(8)), Epoch: "x",
			JoinLeave: s.next(2) == 1, Flag: int64(s.next(4)), Positioned: s.next(2) == 1}
		if s.next(4) == 1 {
			r.Delta = "fossil"
		}
		cmd.Subscribe = r
	case 4:
		cmd.Unsubscribe = &protocol.UnsubscribeRequest{Channel: ch}
	case 5, 6:
		cmd.Publish = &protocol.PublishRequest{Channel: ch, Data: []byte(`{"n":1}`)}
	case 7:
		cmd.Presence = &protocol.PresenceRequest{Channel: ch}
	case 8:
		cmd.PresenceStats = &protocol.PresenceStatsRequest{Channel: ch}
	case 9:
		cmd.History = &protocol.HistoryRequest{Channel: ch, Limit: int32(s.next(4)) - 1, Reverse: s.next(2) == 1}
	case 10:
		cmd.Refresh = &protocol.RefreshRequest{Token: tokenOf([]string{"ann", "bob"}[s.next(2)])}
	case 11:
		cmd.SubRefresh = &protocol.SubRefreshRequest{Channel: ch, Token: token(claims{"sub": "ann", "channel": ch})}
	case 12:
		cmd.Rpc = &protocol.RPCRequest{Method: "m", Data: []byte(`{}`)}
	case 13:
		if s.next(8) == 0 {
			return &protocol.Command{Send: &protocol.SendRequest{Data: []byte(`1`)}}
		}
		cmd.Ping = &protocol.PingRequest{}
	}
	return cmd
}

// actor is one connection of a script.
type actor struct {
	*raw
	sent map[uint32]int    // commands by id that are owed a reply
	at   map[string]uint64 // the offset seen last, of channels with a position
}

const sentinel = 1 << 30

func newActor(address string, binary bool) (*actor, error) {
	r, err := dial(address, binary)
	if err != nil {
		return nil, err
	}
	return &actor{raw: r, sent: map[uint32]int{}, at: map[string]uint64{}}, nil
}

// act does the next thing of the script; false ends the connection.
func (a *actor) act(s *script, id uint32) bool {
	switch s.next(24) {
	case 0:
		return false
	case 1:
		a.write([]byte{'{', byte(s.next(128)), byte(s.next(128))}) // a text must be UTF-8
	case 2:
		if s.next(8) == 0 {
			a.send(&protocol.Command{}) // a pong to nothing
		}
	case 3: // the same id again, which is the client's own business
		cmds := []*protocol.Command{s.command(id), s.command(id)}
		a.owe(cmds...)
		a.send(cmds...)
	default:
		var cmds []*protocol.Command
		for i := range 1 + s.next(4) {
			cmds = append(cmds, s.command(id+uint32(i)))
		}
		a.owe(cmds...)
		a.send(cmds...)
	}
	return true
}

func (a *actor) owe(cmds ...*protocol.Command) {
	for _, c := range cmds {
		if c.Send == nil {
			a.sent[c.Id]++
		}
	}
}

// settle reads to the end: of the connection, or the reply to a last command, by when
// every command has had one reply.
func (a *actor) settle() error {
	a.send(&protocol.Command{Id: sentinel, Rpc: &protocol.RPCRequest{Method: "last"}})
	for {
		reply, err := a.next()
		var end *closed
		var netErr *net.OpError
		switch {
		case errors.As(err, &end):
			if end.code < 3000 || end.code > 3999 {
				return fmt.Errorf("closed with %d %q", end.code, end.reason)
			}
			return nil
		case errors.As(err, &netErr) && !netErr.Timeout():
			return nil // reset: what was sent had not been read
		case err != nil:
			return err
		case reply.Id == sentinel:
			for id, n := range a.sent {
				if n != 0 {
					return fmt.Errorf("%d replies to command %d are missing", n, id)
				}
			}
			return nil
		}
		if err := a.take(reply); err != nil {
			return err
		}
	}
}

// take checks one reply or push against those before.
func (a *actor) take(reply *protocol.Reply) error {
	if reply.Id != 0 {
		if a.sent[reply.Id]--; a.sent[reply.Id] < 0 {
			return fmt.Errorf("a reply too many: %v", reply)
		}
		return nil
	}
	p := reply.Push
	name := p.Channel
	if p.Pub == nil || p.Pub.Offset == 0 {
		return nil
	}
	if name == "" {
		name = fmt.Sprint("#", p.Id)
	}
	if last := a.at[name]; p.Pub.Offset <= last {
		return fmt.Errorf("publication %d of %s after %d", p.Pub.Offset, name, last)
	}
	a.at[name] = p.Pub.Offset
	return nil
}

// play runs a script on a few connections and checks that nothing of it is left.
func play(t testing.TB, n *node, input []byte) {
	t.Helper()
	s := &script{rest: input}
	actors := make([]*actor, 3)
	for i := range actors {
		var err error
		if actors[i], err = newActor(n.address, i == 1); err != nil {
			t.Fatal(err)
		}
		if s.next(8) != 0 { // most begin as they should
			cmd := connectCommand(1, []string{"", tokenOf("ann")}[i%2])
			actors[i].owe(cmd)
			actors[i].send(cmd)
		}
	}
	for id := uint32(2); len(s.rest) > 0; id += 8 {
		i := s.next(len(actors))
		if actors[i] != nil && !actors[i].act(s, id) {
			actors[i].conn.Close()
			actors[i] = nil
		}
	}
	for i, a := range actors {
		if a == nil {
			continue
		}
		if err := a.settle(); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
		a.conn.Close()
	}
	eventually(t, func() error {
		s := n.Stats()
		if s.Transports != 0 || s.Clients != 0 || s.Users != 0 || s.Channels != 0 || s.Subscriptions != 0 {
			return fmt.Errorf("left behind: %+v", s)
		}
		return nil
	})
}

// FuzzSession sends any sequence of commands on several connections.
func FuzzSession(f *testing.F) {
	n, err := inProcess()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{1, 1, 1})
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19})
	for seed := range uint64(8) {
		f.Add(randomScript(rand.New(rand.NewPCG(seed, 1)), 200))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 4096 {
			return
		}
		play(t, n, input)
	})
}

func randomScript(r *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Many sessions, one after the other and several at a time, leave no goroutine behind.
func TestSessionsLeaveNothing(t *testing.T) {
	n, err := inProcess()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	const warm, more = 20, 150
	before := 0
	for i := range warm + more {
		play(t, n, randomScript(r, 20+r.IntN(400)))
		if i == warm {
			before = runtime.NumGoroutine()
		}
	}
	const slack = 32 // workers of the pool that wait for work
	eventually(t, func() error {
		if now := runtime.NumGoroutine(); now > before+slack {
			return fmt.Errorf("%d goroutines, %d before", now, before)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := n.Publish(ctx, &core.PublishRequest{Channel: "a", Data: json.RawMessage(`1`)}); err != nil {
		t.Error(err)
	}
}
