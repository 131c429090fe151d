//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
)

// storm publishes to many channels while clients come and go at random. Each channel
// gets the numbers 1, 2, 3... so that the number is the offset, and whatever is lost,
// doubled or out of order shows as another number.
type storm struct {
	t        testing.TB
	channels []string
	each     int // publications per channel
	keys     bool

	mu       sync.Mutex
	gateways []*gateway // those that live

	acknowledged atomic.Int64
	cuts         atomic.Int64 // connections ended by clients
	recovered    atomic.Int64 // publications that came with a subscribe
	live         atomic.Int64 // and those that came after it
	lost         atomic.Int64 // subscriptions told that they could not be recovered
	done         atomic.Bool  // all is published
}

// size returns a number from the environment, so that `make soak` may ask for more.
func size(t testing.TB, name string, std int) int {
	t.Helper()
	v := os.Getenv("ROOST_E2E_" + name)
	if v == "" {
		return std
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("ROOST_E2E_%s is %q, must be a number above 0", name, v)
	}
	return n
}

func newStorm(t testing.TB, publications int, gateways ...*gateway) *storm {
	t.Helper()
	s := &storm{t: t, gateways: slices.Clone(gateways)}
	publications = size(t, "PUBLICATIONS", publications)
	for i := range size(t, "CHANNELS", max(1, publications/100)) {
		s.channels = append(s.channels, named(t, "")+fmt.Sprint(i))
	}
	s.each = publications / len(s.channels)
	return s
}

// any returns a gateway that lives, as far as is known.
func (s *storm) any() *gateway {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gateways[rand.N(len(s.gateways))]
}

// replace tells that one gateway has gone; by may be nil.
func (s *storm) replace(gone, by *gateway) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gateways = slices.DeleteFunc(s.gateways, func(g *gateway) bool { return g == gone })
	if by != nil {
		s.gateways = append(s.gateways, by)
	}
}

// run publishes everything and returns when every client has seen it. At half time
// halfway is called, if there is one.
func (s *storm) run(clients, channelsEach int, halfway func()) {
	s.t.Helper()
	var watching, publishing sync.WaitGroup
	for i := range clients {
		c := &stormClient{storm: s, binary: i%2 == 1, random: rand.New(rand.NewPCG(uint64(i), 7))}
		for k := range channelsEach {
			c.add(s.channels[(i*channelsEach+k)%len(s.channels)])
		}
		watching.Go(func() {
			if err := c.run(); err != nil {
				s.t.Errorf("client %d: %v", i, err)
			}
		})
	}
	const publishers = 8
	for p := range publishers {
		publishing.Go(func() {
			for n := 1; n <= s.each; n++ {
				for i := p; i < len(s.channels); i += publishers {
					if err := s.publish(s.channels[i], n); err != nil {
						s.t.Error(err)
						return
					}
				}
			}
		})
	}
	if halfway != nil {
		for s.acknowledged.Load() < int64(s.each*len(s.channels)/2) && !s.t.Failed() {
			time.Sleep(10 * time.Millisecond)
		}
		halfway()
	}
	publishing.Wait()
	s.done.Store(true)
	watching.Wait()
	s.t.Logf("%d publications to %d channels; %d clients cut their lines %d times, got %d publications live and %d by recovery; %d subscriptions could not be recovered",
		s.acknowledged.Load(), len(s.channels), clients, s.cuts.Load(), s.live.Load(), s.recovered.Load(), s.lost.Load())
}

// publish tries until it is acknowledged.
func (s *storm) publish(channel string, n int) error {
	params := object{"channel": channel, "data": n}
	if s.keys {
		params["idempotency_key"] = fmt.Sprintf("%s %d", channel, n)
	}
	var err error
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var p position
		if err = s.any().api("publish", params, &p); err == nil {
			s.acknowledged.Add(1)
			if p.Offset != uint64(n) {
				return fmt.Errorf("%s: publication %d got offset %d", channel, n, p.Offset)
			}
			return nil
		}
		if !s.keys {
			break
		}
	}
	return fmt.Errorf("%s: publication %d: %w", channel, n, err)
}

// stormClient follows some channels and often loses its connection.
type stormClient struct {
	*storm
	binary bool
	random *rand.Rand
	names  []string
	at     map[string]*position // as far as was seen
}

func (c *stormClient) add(channel string) {
	if c.at == nil {
		c.at = map[string]*position{}
	}
	if c.at[channel] == nil {
		c.names = append(c.names, channel)
		c.at[channel] = &position{}
	}
}

// wrong is an error that no reconnect makes good.
type wrong struct{ text string }

func (w *wrong) Error() string { return w.text }

// missing names a channel of which not all has been seen, if there is one.
func (c *stormClient) missing() string {
	for name, p := range c.at {
		if p.Offset < uint64(c.each) {
			return fmt.Sprintf("%s is at %d of %d", name, p.Offset, c.each)
		}
	}
	return ""
}

func (c *stormClient) complete() bool { return c.done.Load() && c.missing() == "" }

func (c *stormClient) run() error {
	var last error
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); {
		if !c.done.Load() {
			deadline = time.Now().Add(2 * patience)
		}
		last = c.session()
		var w *wrong
		switch {
		case errors.As(last, &w):
			return last
		case last == nil && c.complete():
			return nil
		case last != nil:
			time.Sleep(time.Duration(10+c.random.IntN(50)) * time.Millisecond)
		}
	}
	return fmt.Errorf("%s; the last session ended with %v", c.missing(), last)
}

// session is one connection, until it is cut at random or all has been seen.
func (c *stormClient) session() error {
	r, err := dial(c.any().address, c.binary)
	if err != nil {
		return err
	}
	defer func() {
		_ = r.conn.(*net.TCPConn).SetLinger(0) // without a word
		r.conn.Close()
		c.cuts.Add(1)
	}()
	if _, err := r.connect(""); err != nil {
		return err
	}
	cmds := make([]*protocol.Command, 0, len(c.names))
	for i, name := range c.names {
		p := c.at[name]
		cmds = append(cmds, &protocol.Command{Id: uint32(i + 2), Subscribe: &protocol.SubscribeRequest{
			Channel: name, Recoverable: true, Recover: p.Epoch != "", Offset: p.Offset, Epoch: p.Epoch}})
	}
	r.send(cmds...)
	patient := time.Duration(20+c.random.IntN(300)) * time.Millisecond
	messages := 1 + c.random.IntN(50*len(c.names))
	_ = r.conn.SetReadDeadline(time.Now().Add(patience)) // for the subscriptions
	for subscribed := 0; messages > 0 || subscribed < len(c.names); messages-- {
		reply, err := r.next()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() && subscribed == len(c.names) {
			return nil
		}
		if err != nil {
			return err
		}
		if reply.Id != 0 {
			if err := c.subscribed(c.names[reply.Id-2], reply); err != nil {
				return err
			}
			if subscribed++; subscribed == len(c.names) {
				_ = r.conn.SetReadDeadline(time.Now().Add(patient))
			}
			continue
		}
		if reply.Push.Unsubscribe != nil {
			return fmt.Errorf("unsubscribed with %d", reply.Push.Unsubscribe.Code)
		}
		if p := reply.Push.Pub; p != nil {
			c.live.Add(1)
			if err := c.saw(reply.Push.Channel, p); err != nil {
				return err
			}
		}
		if c.complete() {
			return nil
		}
	}
	return nil
}

func (c *stormClient) subscribed(name string, reply *protocol.Reply) error {
	if e := reply.Error; e != nil {
		if e.Code == 100 {
			return &apiError{e.Code, e.Message}
		}
		return &wrong{fmt.Sprintf("subscribing to %s: error %d %s", name, e.Code, e.Message)}
	}
	res, p := reply.Subscribe, c.at[name]
	switch {
	case res.WasRecovering != (p.Epoch != "") || !res.Recoverable:
		return &wrong{fmt.Sprintf("%s: %v after %v", name, res, p)}
	case res.WasRecovering && !res.Recovered:
		c.lost.Add(1)
		c.t.Logf("%s: not recovered from %v, it is at %d of %s", name, *p, res.Offset, res.Epoch)
		fallthrough
	case !res.WasRecovering:
		if len(res.Publications) > 0 {
			return &wrong{fmt.Sprintf("%s: publications with nothing recovered: %v", name, res)}
		}
		*p = position{res.Offset, res.Epoch}
	default:
		for _, pub := range res.Publications {
			c.recovered.Add(1)
			if err := c.saw(name, pub); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *stormClient) saw(name string, pub *protocol.Publication) error {
	p := c.at[name]
	if p == nil {
		return &wrong{fmt.Sprintf("a publication in %s, which it does not follow", name)}
	}
	if pub.Offset != p.Offset+1 || string(pub.Data) != fmt.Sprint(pub.Offset) {
		return &wrong{fmt.Sprintf("%s: publication %s with offset %d after offset %d", name, pub.Data, pub.Offset, p.Offset)}
	}
	p.Offset++
	return nil
}

// wantAll reads every channel's history, which must hold all that was acknowledged.
func (s *storm) wantAll() {
	s.t.Helper()
	for _, name := range s.channels {
		var h struct {
			Publications []struct {
				Data   int
				Offset uint64
			}
			Offset uint64
		}
		s.any().must(s.t, "history", object{"channel": name, "limit": -1}, &h)
		if h.Offset != uint64(s.each) || len(h.Publications) != s.each {
			s.t.Errorf("%s: %d publications up to %d, want %d", name, len(h.Publications), h.Offset, s.each)
			continue
		}
		for i, p := range h.Publications {
			if p.Data != i+1 || p.Offset != uint64(i+1) {
				s.t.Errorf("%s: %+v at place %d", name, p, i)
				break
			}
		}
	}
}

// Every subscriber sees each publication once and in order, however often its line is
// cut.
func TestRandomRun(t *testing.T) {
	t.Parallel()
	s := newStorm(t, 6000, start(t, configuration, "--memory"))
	s.run(size(t, "CLIENTS", 40), size(t, "CHANNELS_EACH", 6), nil)
	s.wantAll()
	if n := s.lost.Load(); n != 0 {
		t.Errorf("%d subscriptions could not be recovered", n)
	}
	if s.recovered.Load() == 0 || s.live.Load() == 0 {
		t.Error("nothing was recovered, or nothing came live")
	}
}

// The gateway is killed in the middle and started again on the same data: what was
// acknowledged is there, and clients go on where they were.
func TestKilledGateway(t *testing.T) {
	t.Parallel()
	g := start(t, configuration, "--data", t.TempDir())
	s := newStorm(t, 4000, g)
	s.keys = true
	s.run(size(t, "CLIENTS", 20), size(t, "CHANNELS_EACH", 4), func() {
		g.Kill()
		s.replace(g, g.again(t))
	})
	s.wantAll()
	if n := s.lost.Load(); n != 0 {
		t.Errorf("%d subscriptions could not be recovered", n)
	}
}
