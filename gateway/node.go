// Package gateway is one node: the sessions of its clients, from commands to tokens,
// channels and the broker, and the operations of the server API on all nodes.
//
// A session's commands run one after the other in conn's worker pool and may block
// there. Who is a member of which channel is decided on the client's event loop, so
// that a reply and the publications after it keep their order without a lock.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centrifugal/protocol"

	"roost/auth"
	"roost/broker"
	"roost/conn"
	"roost/hub"
	"roost/poller"
	"roost/proto/client"
	"roost/proto/ws"
)

// Node is one gateway.
type Node struct {
	// Static after Start.
	opts    Options
	hub     *hub.Hub
	broker  *broker.Broker
	server  *conn.Server
	owned   *conn.Server // the same if the node made it, see Listen
	route   *conn.Route
	raw     []*rawRoute
	wire    *broker.Wire               // of the raw routes, nil without those
	recents atomic.Pointer[rawRecents] // nil without a wire, and before Start
	notings sync.WaitGroup
	ids     *ids
	started time.Time
	pings   [2]*ws.Prepared // by encoding

	revoked auth.Revocations
	seen    lastSeen
	counts  counts
	rates   publishRates
	behind  catchUps
	notices notices
	calls   chan struct{}   // holds one for each call of a handler that is under way
	life    context.Context // ends with Shutdown
	kill    context.CancelFunc
	ended   chan struct{}
	end     sync.Once
	closing atomic.Bool

	drain     drain
	peers     peers
	sessions  sessions
	refreshes refreshes
	heritage  inheritance // until Start
	parting   atomic.Bool // at rest, see Rest
}

func (o *Options) validate() error {
	if err := errors.Join(o.Channels.Validate(), o.Raw.validate(o)); err != nil {
		return err
	}
	for _, d := range []struct {
		v    *time.Duration
		name string
		std  time.Duration
	}{
		{&o.PingInterval, "ping-interval", 25 * time.Second},
		{&o.PongTimeout, "pong-timeout", 8 * time.Second},
		{&o.StaleTimeout, "stale-timeout", 10 * time.Second},
		{&o.ExpiryGrace, "expiry-grace", 25 * time.Second},
		{&o.CallTimeout, "call-timeout", DefaultCallTimeout},
	} {
		*d.v = cmp.Or(*d.v, d.std)
		if *d.v < 0 {
			return fmt.Errorf("gateway: %s is %v, must be above 0", d.name, *d.v)
		}
	}
	if err := o.prepareServices(); err != nil {
		return err
	}
	if err := errors.Join(o.Handlers.answer(&o.Channels), o.prepareHeaders()); err != nil {
		return err
	}
	if o.UpgradeAuth && o.Handlers.Connect != nil {
		return errors.New("gateway: with UpgradeAuth every client needs a token, so Handlers.Connect would never be asked")
	}
	if o.PongTimeout >= o.PingInterval {
		return fmt.Errorf("gateway: pong-timeout (%v) must be below ping-interval (%v)", o.PongTimeout, o.PingInterval)
	}
	o.MaxChannels = cmp.Or(o.MaxChannels, 128)
	o.MaxChannelLength = cmp.Or(o.MaxChannelLength, 255)
	o.MaxMessage = cmp.Or(o.MaxMessage, 64<<10)
	o.QueueLimit = cmp.Or(o.QueueLimit, 1<<20)
	o.RecoveryLimit = cmp.Or(o.RecoveryLimit, 300)
	o.MaxCalls = cmp.Or(o.MaxCalls, DefaultMaxCalls)
	o.Rebalance.Rate = cmp.Or(o.Rebalance.Rate, defaultRebalanceRate)
	o.Rebalance.Threshold = cmp.Or(o.Rebalance.Threshold, defaultRebalanceThreshold)
	o.refreshLimits.again = cmp.Or(o.refreshLimits.again, refreshAgain)
	o.refreshLimits.waiting = cmp.Or(o.refreshLimits.waiting, refreshWaiting)
	for _, l := range []struct {
		name string
		v    int64
	}{
		{"max-channels", int64(o.MaxChannels)}, {"max-channel-length", int64(o.MaxChannelLength)}, {"max-message", o.MaxMessage},
		{"queue-limit", int64(o.QueueLimit)}, {"recovery-limit", int64(o.RecoveryLimit)}, {"user-connections", int64(o.UserConnections)},
		{"max-calls", int64(o.MaxCalls)}, {"rebalance-rate", int64(o.Rebalance.Rate)}, {"rebalance-threshold", int64(o.Rebalance.Threshold)},
	} {
		if l.v < 0 {
			return fmt.Errorf("gateway: %s is %d, must be 0 (its default) or more", l.name, l.v)
		}
	}
	if o.Name == "" {
		o.Name, _ = os.Hostname()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// New makes a node and connects it to its broker. Then either Listen, or give its Routes to a
// conn.Server and that to Start.
func New(opts Options) (*Node, error) {
	n, err := Prepare(opts)
	if err != nil {
		return nil, err
	}
	return n, n.Open(nil)
}

// Prepare makes a node without a broker: nothing but Routes, Inherit and Open may be called
// before Open.
func Prepare(opts Options) (*Node, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	n := &Node{opts: opts, started: time.Now(), calls: make(chan struct{}, opts.MaxCalls), ended: make(chan struct{})}
	n.life, n.kill = context.WithCancel(context.Background())
	n.ids = newIDs()
	n.refreshes = newRefreshes(&opts.Channels)
	for enc := range n.pings {
		n.pings[enc] = ws.NewPrepared(client.Encoding(enc).Opcode(), client.Ping[enc])
	}
	n.route = n.newRoute()
	opts.Broker.Handler = (*events)(n)
	opts.Broker.Logger = opts.Logger
	n.opts.Broker = opts.Broker
	n.hub = hub.New(hub.Options{Follow: n.follows, Unfollow: n.unfollows, Lost: n.lost})
	return n, n.newRaw()
}

// follows and unfollows tell the broker of channels. The embedded one need not be told, and
// may not be there yet.
func (n *Node) follows(ch string) {
	if len(n.opts.Broker.URLs) > 0 {
		n.broker.Follow(ch)
	}
}

func (n *Node) unfollows(ch string) {
	if len(n.opts.Broker.URLs) > 0 {
		n.broker.Unfollow(ch)
	}
}

// Open connects a node to its broker. heir is what the broker of another process leaves whose
// place this one takes, or nil. After an error the node is of no use.
func (n *Node) Open(heir *broker.Heir) error {
	o := n.opts.Broker
	o.Heir = heir
	var err error
	if n.broker, err = broker.New(o); err != nil {
		return err
	}
	if err = errors.Join(n.loadRevocations(), n.connectRaw()); err == nil {
		err = n.openNotices()
	}
	if err != nil {
		return errors.Join(err, n.Shutdown(context.Background()))
	}
	return nil
}

// Route is where clients connect that speak the client protocol.
func (n *Node) Route() *conn.Route { return n.route }

// Routes returns Route and those of Options.Raw, for the conn.Server of Start.
func (n *Node) Routes() []*conn.Route {
	all := []*conn.Route{n.route}
	if len(n.raw) > 0 {
		all = append(all, &conn.Route{Path: RawPath, Choose: n.chooseRaw})
	}
	for _, rt := range n.raw {
		all = append(all, rt.route)
	}
	return all
}

// Start tells the node the server its routes belong to, before it listens. From then on
// handlers may be called. Errors are those of raw routes whose backends cannot reach them, and
// that the node is being shut down.
func (n *Node) Start(s *conn.Server) error {
	if n.closing.Load() {
		return errClosing
	}
	n.server = s
	heir := n.heritage.channels != nil
	n.settleHeritage()
	n.notices.each(func(q *notice) { q.Start() })
	if l := n.notices.clients; l != nil {
		l.Start()
		if heir {
			l.Reap(func(id string) bool { return n.find(id) != nil })
		}
	}
	if n.opts.Rebalance.On {
		go n.rebalance()
	}
	return n.startRaw()
}

var errDraining = errors.New("gateway: drained, or about to be: it lets nobody in until the drain is aborted")

var errClosing = errors.New("gateway: shutting down")

// MaxMessage returns that of the options.
func (n *Node) MaxMessage() int64 { return n.opts.MaxMessage }

// Broker returns the node's broker.
func (n *Node) Broker() *broker.Broker { return n.broker }

// Ready tells what keeps the node from serving, if anything does.
func (n *Node) Ready() error {
	if n.closing.Load() {
		return errClosing
	}
	if _, refuses := n.drain.look(); refuses {
		return errDraining
	}
	return n.broker.Ready()
}

// Dismiss tells all clients to come back elsewhere (3001), all at once. conn.Server.Shutdown
// then waits for them. Before Start there are none.
func (n *Node) Dismiss() {
	n.closing.Store(true)
	if n.server == nil {
		return
	}
	n.each(func(s *session) { n.disconnect(s, client.DisconnectShutdown) })
}

// Shutdown ends the node after its server, which it drains and shuts down itself if Listen made
// it. It waits for what the application is to be told to be stored: until ctx ends, and at least
// a second. Later calls do nothing. The error is that of ctx if some clients had to be cut, or of
// the broker.
func (n *Node) Shutdown(ctx context.Context) error {
	n.closing.Store(true)
	var err error
	n.end.Do(func() {
		if n.owned != nil {
			n.Dismiss()
			err = n.owned.Shutdown(ctx)
		}
		n.endRaw(ctx)
		n.closeNotices(ctx)
		n.kill()
		close(n.ended)
		if n.broker != nil {
			err = errors.Join(err, n.broker.Close())
		}
	})
	return err
}

// onLoop runs f on the client's loop and waits for it; false when the loop has ended.
// Not for a loop's goroutine.
func (n *Node) onLoop(c *conn.Conn, f func()) bool { return n.on(c.Loop(), f) }

// on is onLoop for a loop.
func (n *Node) on(l *poller.Loop, f func()) bool {
	done := make(chan struct{})
	if !l.Post(func() { f(); close(done) }) {
		return false
	}
	select {
	case <-done:
		return true
	case <-n.ended:
		return false
	}
}

// lost ends the subscription of a client that missed publications: it is told to
// subscribe again, or to connect again where the server subscribed it. On the loop.
func (n *Node) lost(cl *hub.Client, channel string) {
	s := sessionOf(cl)
	_, flags, _ := cl.Subscription(channel)
	if flags&hub.ServerSide != 0 {
		n.disconnect(s, client.DisconnectInsufficientState)
		return
	}
	go n.unsubscribe(s, channel, &client.UnsubscribeInsufficientState)
}

// push is tell where it does not matter whether the client is still there.
func (n *Node) push(s *session, p *protocol.Push) { _ = n.tell(s, p) }

// tell sends one push to one client. Any goroutine.
func (n *Node) tell(s *session, p *protocol.Push) error {
	if s.is(markRaw) {
		return client.ErrNotAvailable // it does not speak the protocol
	}
	b, err := client.AppendPush(nil, s.encoding(), p)
	if err != nil {
		n.opts.Logger.Error("a push could not be encoded", "error", err)
		return err
	}
	n.counts.pushes.Add(1)
	return s.Conn.Send(s.encoding().Opcode(), b)
}
