package loadtest

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/centrifugal/protocol"

	"roost/proto/ws"
)

// greeter is a play whose connections have more to do after the upgrade before they count as open. It says so with
// worker.admit. Until then the connection is in stateJoining.
type greeter interface {
	play
	greet(c *client)
	// failed hears that c's connect, upgrade or joining came to nothing. It returns true where that is as it
	// should be.
	failed(c *client, cause error) (expected bool)
}

// clients speaks the client protocol: every connection connects and subscribes before it counts as open. It then
// checks what is published, and comes back where connections are cut. Owned by the loop.
//
// A session outlives its connections. Session s of a node is client IDBase + s·IDStep of the run; its subscriptions
// are subs[s·Subscriptions:].
type clients struct {
	w        *worker
	wire     wire
	sessions []session
	subs     []subscription
	joined   int       // sessions given out
	away     []absence // sessions that come back later
	first    int64     // when the first of them does, Unix ns; 0: not known
	back     []uint32  // sessions that come back with the next connections
	epochs   []string  // by subscription.epoch
	epoch    map[string]uint32
	answered func(*client, *protocol.Reply) // takes replies to what follows subscribe; nil where nothing does
	received func(uint32, push)             // takes publications to a session, nil for publication
	before   func(*client)                  // nil, or called before a message is sent

	total  int64 // publications that count for behind
	behind int64 // subscriptions that lack some of them
	round  bool  // the fleet waits for them
	start  int64 // of the measured phase, Unix ns
	churns int64 // sessions cut at random
}

type session struct {
	slot    uint32 // of its connection
	pending uint32 // subscribe replies awaited
	open    bool
	known   bool // has been open
	pong    bool
	cut     int64 // Unix ns when it lost its connection; 0: it did not
	tries   uint8 // to come back, that failed
}

// subscription is where a session stands in a channel.
type subscription struct {
	offset uint64 // of the last publication; 0: the channel has no history
	next   uint32 // sequence number expected
	epoch  uint32
	told   bool // the server said that continuity is lost: what lacks until the next publication is not missing
}

func newClients(w *worker, sessions int) *clients {
	return &clients{
		w: w, wire: wire{w.Protocol == "protobuf"}, epoch: map[string]uint32{"": 0}, epochs: []string{""},
		sessions: make([]session, sessions), subs: make([]subscription, sessions*w.Subscriptions),
	}
}

func (x *clients) id(s uint32) uint32 { return x.w.IDBase + s*x.w.IDStep }

func (x *clients) opened(*client) {}

// greet gives a new connection its session and sends connect.
func (x *clients) greet(c *client) {
	if len(x.back) > 0 {
		c.session, x.back = x.back[0], x.back[1:]
	} else {
		c.session = uint32(x.joined)
		x.joined++
	}
	s := &x.sessions[c.session]
	s.slot, s.pending = x.w.slot(c), uint32(x.w.Subscriptions)
	r := &protocol.ConnectRequest{Name: "roost-load"}
	if r.Token = x.w.Token; x.w.HMACSecret != "" {
		r.Token = token(x.w.HMACSecret, x.id(c.session), time.Unix(0, x.w.now))
	}
	x.send(c, x.wire.command(nil, &protocol.Command{Id: 1, Connect: r}))
}

func (x *clients) send(c *client, frame []byte) {
	if x.before != nil {
		x.before(c)
	}
	x.w.sendFrame(c, x.op(), frame, false)
}

// op is what messages are sent as.
func (x *clients) op() ws.Opcode {
	if x.wire.binary {
		return ws.OpBinary
	}
	return ws.OpText
}

// subscribe appends the command for subscription k, with recovery where there is a position.
func (x *clients) subscribe(frame []byte, s uint32, k int) []byte {
	r := &protocol.SubscribeRequest{Channel: x.w.channel(x.w.channelOf(x.id(s), k))}
	if sub := x.sub(s, k); x.sessions[s].known && x.w.Scenario == Reconnect {
		r.Recover, r.Epoch, r.Offset = true, x.epochs[sub.epoch], sub.offset
	}
	return x.wire.command(frame, &protocol.Command{Id: uint32(k) + 2, Subscribe: r})
}

func (x *clients) sub(s uint32, k int) *subscription { return &x.subs[int(s)*x.w.Subscriptions+k] }

func (x *clients) message(c *client, p []byte) {
	for len(p) > 0 && (c.state == stateJoining || c.state == stateOpen) {
		msg, rest, err := x.wire.next(p)
		if err != nil {
			x.w.drop(c, err)
			return
		}
		p = rest
		if x.wire.ping(msg) {
			if x.sessions[c.session].pong {
				x.send(c, x.wire.pong())
			}
		} else if pub, ok := x.wire.push(msg); ok {
			x.publication(c.session, pub)
		} else if r, err := x.wire.reply(msg); err != nil {
			x.w.drop(c, err)
		} else {
			x.reply(c, r)
		}
	}
}

func (x *clients) reply(c *client, r *protocol.Reply) {
	switch {
	case x.answered != nil && int(r.Id) >= x.w.Subscriptions+2:
		x.answered(c, r)
	case r.Error != nil:
		what := "subscribe"
		if r.Id == 1 {
			what = "connect"
		}
		x.w.drop(c, fmt.Errorf("%s: error %d: %s", what, r.Error.Code, r.Error.Message))
	case r.Connect != nil:
		x.connected(c, r.Connect)
	case r.Subscribe != nil && r.Id >= 2 && int(r.Id-2) < x.w.Subscriptions:
		x.subscribed(c, int(r.Id-2), r.Subscribe)
	case r.Push != nil && r.Push.Unsubscribe != nil:
		x.unsubscribed(c, r.Push)
	case r.Push != nil && r.Push.Pub != nil:
		x.publication(c.session, push{[]byte(r.Push.Channel), r.Push.Pub.Data, r.Push.Pub.Offset})
	}
}

// connected subscribes to everything in one frame, as SDKs do.
func (x *clients) connected(c *client, r *protocol.ConnectResult) {
	x.sessions[c.session].pong = r.Pong
	if x.w.Subscriptions == 0 {
		x.ready(c)
		return
	}
	var frame []byte
	for k := range x.w.Subscriptions {
		frame = x.subscribe(frame, c.session, k)
	}
	x.send(c, frame)
}

func (x *clients) subscribed(c *client, k int, r *protocol.SubscribeResult) {
	s, sub := &x.sessions[c.session], x.sub(c.session, k)
	if x.w.Scenario == Reconnect {
		x.position(c.session, k, r)
	} else {
		sub.offset = r.Offset
	}
	if c.state == stateJoining {
		if s.pending--; s.pending == 0 {
			x.ready(c)
		}
	}
}

// position takes over where the server says the subscription stands, and what it missed.
func (x *clients) position(s uint32, k int, r *protocol.SubscribeResult) {
	sub, stats := x.sub(s, k), x.w.stats
	e, known := x.epoch[r.Epoch]
	if !known {
		e = uint32(len(x.epochs))
		x.epoch[r.Epoch], x.epochs = e, append(x.epochs, r.Epoch)
	}
	sub.epoch = e
	if !x.sessions[s].known {
		sub.offset = r.Offset
		return
	}
	if r.Recovered {
		stats.Recovered++
		name := []byte(x.w.channel(x.w.channelOf(x.id(s), k)))
		for _, p := range r.Publications {
			x.publication(s, push{name, p.Data, p.Offset})
		}
		return
	}
	stats.Unrecovered++
	x.update(s, k, func() { sub.offset, sub.told = r.Offset, true })
}

// ready admits the connection.
func (x *clients) ready(c *client) {
	s := &x.sessions[c.session]
	if s.cut != 0 {
		x.w.stats.Back.record(x.w.now - s.cut)
	}
	s.open, s.known, s.cut, s.tries = true, true, 0, 0
	x.w.admit(c)
}

// unsubscribed comes back to the channel if that is what the server wants.
func (x *clients) unsubscribed(c *client, p *protocol.Push) {
	k, ok := x.find(c.session, []byte(p.Channel))
	if ok && p.Unsubscribe.Code >= 2500 && x.w.Scenario == Reconnect {
		x.send(c, x.subscribe(nil, c.session, k))
		return
	}
	x.w.wrong(fmt.Sprintf("unsubscribed by the server with code %d %.60q", p.Unsubscribe.Code, p.Unsubscribe.Reason))
}

// find is the subscription of a session to a channel.
func (x *clients) find(s uint32, channel []byte) (k int, ok bool) {
	digits, ok := bytes.CutPrefix(channel, x.w.prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 32)
	if err != nil {
		return 0, false
	}
	return x.w.subscriptionOf(x.id(s), int64(n))
}

// lacks reports whether the subscription awaits publications that count.
func (x *clients) lacks(s uint32, k int) bool {
	sub := x.sub(s, k)
	return x.sessions[s].known && !sub.told && int64(sub.next) < x.w.published(x.total, x.w.channelOf(x.id(s), k))
}

// update changes a subscription and keeps behind right.
func (x *clients) update(s uint32, k int, change func()) {
	before := x.lacks(s, k)
	change()
	switch after := x.lacks(s, k); {
	case before && !after:
		if x.behind--; x.behind == 0 {
			x.complete()
		}
	case !before && after:
		x.behind++
	}
}

func (x *clients) publication(s uint32, p push) {
	if x.received != nil {
		x.received(s, p)
		return
	}
	w := x.w
	w.stats.Received++
	w.progress = w.now
	k, ok := x.find(s, p.channel)
	if !ok {
		w.wrong("a publication of a channel that the client has not subscribed to")
		return
	}
	m, whole := parsePublication(p.data, w.fill, w.Size)
	sub := x.sub(s, k)
	last := sub.offset
	sub.offset = max(last, p.offset)
	switch {
	case !whole:
		w.wrong("not the bytes that were published")
	case m.run != uint32(w.Seed):
		w.wrong("a publication of somebody else: give the run channels of its own (--channel)")
	case int64(m.channel) != w.channelOf(x.id(s), k):
		w.wrong("another channel's publication")
	case m.seq < sub.next && (p.offset == 0 || p.offset <= last):
		w.stats.Doubled++
		w.wrong("a publication for a second time")
	case m.seq < sub.next:
		w.stats.Disordered++
		w.wrong("a publication out of order")
	default:
		if p.offset != 0 && p.offset != last+1 && !sub.told {
			w.stats.Gaps++
		}
		x.update(s, k, func() { x.advance(sub, m) })
	}
}

// advance takes publication m, which is the one expected or a later one.
func (x *clients) advance(sub *subscription, m publication) {
	if gap := int64(m.seq - sub.next); gap > 0 && sub.told {
		x.w.stats.Told += gap
	} else if gap > 0 {
		x.w.stats.Missing += gap
		x.w.stats.fail("publications skipped by the server", gap)
	}
	sub.next, sub.told = m.seq+1, false
	x.w.stats.Latency.record(x.w.now - m.due)
}

func (x *clients) begin() {
	x.start = x.w.now
	if w := x.w; w.next != nil { // who connects from now on has lost a connection
		w.target, w.to = w.next, sockaddr(w.next.addr)
	}
}

func (x *clients) command(name string, n int64) {
	switch name {
	case doHalt:
		x.w.over(0)
	case doCut:
		for s := range x.sessions {
			if float64(mix(x.w.Seed^uint64(x.id(uint32(s))))>>11)/(1<<53) < x.w.Cut {
				x.cut(uint32(s))
			}
		}
	case doRound, doFinish:
		x.await(n, name == doRound)
	}
}

// await counts who lacks some of the first total publications.
func (x *clients) await(total int64, round bool) {
	x.total, x.round, x.behind, x.w.progress = total, round, 0, x.w.now
	for s := range x.sessions {
		for k := range x.w.Subscriptions {
			if x.lacks(uint32(s), k) {
				x.behind++
			}
		}
	}
	if x.behind == 0 {
		x.complete()
	}
}

// complete tells the fleet that a round is over here.
func (x *clients) complete() {
	if x.round {
		x.round = false
		emit(x.w.events, x.w.ended, event{Kind: evRound, N: x.total})
	}
}

// inFlight is what is awaited: publications, and sessions that are on their way back.
func (x *clients) inFlight() int64 {
	n := x.behind
	if x.w.phase == draining {
		n += int64(len(x.away) + len(x.back) + x.w.connecting)
	}
	return n
}

func (x *clients) missing() (n int64) {
	for s := range x.sessions {
		for k := range x.w.Subscriptions {
			sub := x.sub(uint32(s), k)
			if lack := x.w.published(x.total, x.w.channelOf(x.id(uint32(s)), k)) - int64(sub.next); !x.sessions[s].known || lack <= 0 {
				continue
			} else if sub.told {
				x.w.stats.Told += lack
			} else {
				n += lack
			}
		}
	}
	return n
}

var _ greeter = (*clients)(nil)

// joins is a storm whose connections connect and subscribe before they close. Owned by the loop.
type joins struct {
	clients
	storm
}

func newJoins(w *worker) *joins { return &joins{*newClients(w, len(w.clients)), storm{w: w}} }

// greet takes the session of the slot: whoever had it is gone.
func (j *joins) greet(c *client) {
	j.back = append(j.back[:0], j.storm.w.slot(c))
	j.clients.greet(c)
}

func (j *joins) begin()                       { j.storm.begin() }
func (j *joins) opened(c *client)             { j.storm.opened(c) }
func (j *joins) message(c *client, p []byte)  { j.clients.message(c, p) }
func (j *joins) gone(c *client, lost bool)    { j.sessions[c.session] = session{}; j.storm.gone(c, lost) }
func (j *joins) failed(*client, error) bool   { j.cycled(); return false }
func (j *joins) due() int64                   { return j.storm.due() }
func (j *joins) command(name string, n int64) { j.storm.command(name, n) }
func (j *joins) inFlight() int64              { return j.storm.inFlight() }
func (j *joins) missing() int64               { return 0 }

var _ greeter = (*joins)(nil)
