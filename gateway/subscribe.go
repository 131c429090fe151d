package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/centrifugal/protocol"

	"roost/auth"
	"roost/broker"
	"roost/conn"
	"roost/hub"
	"roost/proto/client"
)

// joining is a subscription under way.
type joining struct {
	name     string
	ch       *hub.Channel
	ns       *Namespace
	flags    hub.Flags
	info     []byte // shown to others
	data     []byte // for the client
	expireAt int64  // Unix seconds, 0 = never
	asked    bool   // a handler decides for how long, so there is no token to refresh
	filter   *client.Filter

	// What the client asked for.
	recover     bool
	since       broker.Position
	mustRecover bool // answer with an error where recovery fails

	// What the history said.
	waits     bool
	pubs      []*broker.Publication
	top       hub.Position
	recovered bool

	result *protocol.SubscribeResult
}

const (
	flagNumericID   = 1 << 0 // of SubscribeRequest
	flagMustRecover = 1 << 1
)

// flags returns what the namespace and a token's overrides make of a subscription.
func (ns *Namespace) flags(s *session, o auth.Override) hub.Flags {
	var f hub.Flags
	if s.is(markProtobuf) {
		f |= hub.Protobuf
	}
	set := func(flag hub.Flags, std bool, over *bool) {
		if over != nil && *over || over == nil && std {
			f |= flag
		}
	}
	set(hub.Presence, ns.Presence, o.Presence)
	set(hub.Announce, ns.JoinLeave, o.JoinLeave)
	set(hub.JoinLeave, ns.ForceJoinLeave, o.ForcePushJoinLeave)
	if ns.HistorySize > 0 {
		set(recoverable|hub.Positioned, ns.ForceRecovery, o.ForceRecovery)
		set(hub.Positioned, ns.ForcePositioning, o.ForcePositioning)
	}
	return f
}

// recoverable is no matter of the hub.
const recoverable hub.Flags = 1 << 15

// ask takes over what the client wants, as far as it may.
func (j *joining) ask(r *protocol.SubscribeRequest) {
	if r.JoinLeave && j.flags&hub.Announce != 0 {
		j.flags |= hub.JoinLeave
	}
	if j.ns.HistorySize > 0 && r.Recoverable {
		j.flags |= recoverable | hub.Positioned
	}
	if j.ns.HistorySize > 0 && r.Positioned {
		j.flags |= hub.Positioned
	}
	// Protobuf SDKs compare the number as another type and would drop every push.
	if r.Flag&flagNumericID != 0 && j.flags&hub.Protobuf == 0 {
		j.flags |= hub.ByID
	}
	if r.Recover && j.flags&recoverable != 0 {
		j.recover = true
		j.since = broker.Position{Offset: r.Offset, Epoch: r.Epoch}
		j.mustRecover = r.Flag&flagMustRecover != 0
	}
	if r.Delta == "fossil" && j.ns.Delta && r.Tf == nil {
		j.flags |= hub.Delta
	}
}

// subscribeCommand answers a subscribe command.
func (n *Node) subscribeCommand(ctx context.Context, out *replies, cmd *protocol.Command) error {
	s, r := out.s, cmd.Subscribe
	ns, err := n.namespace(r.Channel)
	if err != nil {
		return err
	}
	j := &joining{name: r.Channel, ns: ns}
	override := auth.Override{}
	switch {
	case r.Token != "":
		t, err := n.subscriptionToken(ctx, s, r.Channel, r.Token)
		if err != nil {
			return err
		}
		j.info, j.expireAt, override = t.Info, t.ExpireAt, t.Override
	case n.opts.Handlers.asksSubscribe(ns) && mayFollow(r.Channel, s.User):
		return n.askSubscribe(out, cmd, j)
	case !n.maySubscribe(s, ns, r.Channel):
		return client.ErrPermissionDenied
	}
	return n.follow(ctx, out, cmd.Id, r, j, override)
}

// follow subscribes a client that may.
func (n *Node) follow(ctx context.Context, out *replies, id uint32, r *protocol.SubscribeRequest, j *joining, override auth.Override) (err error) {
	s, ns := out.s, j.ns
	j.flags = ns.flags(s, override)
	if r.Type != 0 || r.Phase != 0 {
		return client.ErrNotAvailable // maps and polls are another protocol's
	}
	if r.Tf != nil {
		if !ns.TagsFilter {
			return client.ErrNotAvailable
		}
		if j.filter, err = client.CompileFilter(r.Tf); err != nil {
			return client.BadRequest("%s", strings.TrimPrefix(err.Error(), client.ErrFilter.Error()+": "))
		}
		j.flags |= hub.Filtered
	}
	j.ask(r)
	if err := n.prepare(ctx, s, j); err != nil {
		return err
	}
	return n.joinAll(ctx, s, []*joining{j}, func() {
		out.add(&protocol.Reply{Id: id, Subscribe: j.result})
		out.flush()
	})
}

// subscriptionToken checks a token for a channel.
func (n *Node) subscriptionToken(ctx context.Context, s *session, ch, token string) (auth.Subscribe, error) {
	if n.opts.Auth == nil {
		n.counts.tokens.Add("no_keys")
		return auth.Subscribe{}, client.ErrPermissionDenied
	}
	t, err := n.opts.Auth.Subscribe(ctx, token)
	var invalid *auth.InvalidError
	switch {
	case errors.Is(err, auth.ErrExpired):
		n.counts.tokens.Add("expired")
		return t, client.ErrTokenExpired
	case errors.As(err, &invalid):
		n.counts.tokens.Add(invalid.Label)
		return t, client.ErrPermissionDenied
	case err != nil:
		return t, err
	case t.User != s.User || t.Channel != ch:
		n.counts.tokens.Add("mismatch")
		return t, client.ErrPermissionDenied
	case n.revoked.Check(t.User, t.ID, t.IssuedAt) != nil:
		n.counts.tokens.Add("revoked")
		return t, client.ErrPermissionDenied
	case t.ExpireAt > 0 && t.ExpireAt <= time.Now().Unix():
		return t, client.ErrTokenExpired
	}
	return t, nil
}

// prepare reserves the subscription and reads what it needs of the history. After an
// error nothing of it is left.
func (n *Node) prepare(ctx context.Context, s *session, j *joining) error {
	ch := n.hub.Acquire(j.name)
	switch s.Reserve(ch, j.flags, n.opts.MaxChannels) {
	case hub.ReservedBefore:
		n.hub.Release(ch)
		return client.ErrAlreadySubscribed
	case hub.ReservedNot:
		n.hub.Release(ch)
		return client.ErrLimitExceeded
	case hub.ReservedGone:
		n.hub.Release(ch)
		return errReplied
	}
	j.ch = ch
	if max := j.ns.SubscriptionsPerChannelNode; max > 0 && ch.Len() > max {
		n.giveUp(s, []*joining{j})
		return client.ErrLimitExceeded
	}
	if j.info != nil || j.expireAt > 0 || j.filter != nil {
		s.changeChannel(ch, func(x *channelExtra) {
			x.info, x.filter = j.info, j.filter
			x.expires(n, j.ns, j.expireAt)
			j.asked = j.asked || x.asks
		})
	}
	if _, _, known := ch.Position(); j.flags&hub.Positioned == 0 || known && !j.recover {
		return nil
	}
	if err := n.readHistory(ctx, s, j); err != nil {
		n.giveUp(s, []*joining{j})
		return err
	}
	return nil
}

// readHistory finds the channel's position and what the client has missed. From before
// on, also after an error, the loop keeps what it delivers.
func (n *Node) readHistory(ctx context.Context, s *session, j *joining) error {
	l := s.Conn.Loop()
	l.Post(func() { j.ch.Wait(l) })
	j.waits = true
	q := j.ns.query(nil, 0, false)
	cache := j.ns.RecoveryMode == RecoveryCache
	switch {
	case j.recover && cache:
		q.Limit, q.Reverse = 1, true
	case j.recover:
		q.Since, q.Limit = &j.since, n.opts.RecoveryLimit+1
	}
	pubs, top, err := n.broker.History(ctx, j.name, q)
	if err != nil {
		return err
	}
	j.top = hub.Position{Offset: top.Offset, Epoch: top.Epoch}
	j.recovered, j.pubs = false, nil
	switch {
	case !j.recover:
	case cache:
		j.recovered = len(pubs) > 0 || j.since.Epoch == top.Epoch && j.since.Offset == top.Offset
		if len(pubs) > 0 && (pubs[0].Offset > j.since.Offset || j.since.Epoch != top.Epoch) {
			j.pubs = pubs
		}
	case j.since.Epoch != "" && j.since.Epoch != top.Epoch: // "" fits any: all the history there is
	case len(pubs) == 0:
		j.recovered = j.since.Offset == top.Offset
	default:
		j.recovered = len(pubs) <= n.opts.RecoveryLimit && pubs[0].Offset == j.since.Offset+1 && pubs[len(pubs)-1].Offset == top.Offset
		if j.recovered {
			j.pubs = pubs
		}
	}
	if j.recover && !j.recovered && j.mustRecover {
		return client.ErrUnrecoverablePosition
	}
	return nil
}

// giveUp takes reservations, and what they have become, back.
func (n *Node) giveUp(s *session, joins []*joining) {
	n.onLoop(s.Conn, func() {
		for _, j := range joins {
			if j.waits {
				j.ch.Quit(s.Conn.Loop())
			}
			j.ch.Leave(&s.Client)
		}
	})
	for _, j := range joins {
		s.forget(j.ch)
	}
}

// joinTries bounds how often the history is read again because the channel has moved
// on faster, or has not come as far as the client; each try waits joinPause longer.
const (
	joinTries = 10
	joinPause = 5 * time.Millisecond
)

// joinAll makes the client a member of all channels and calls reply, in one go on its
// loop: so what comes after the reply is exactly what the reply does not hold. It
// returns errReplied, or an error after which nothing of the subscriptions is left.
func (n *Node) joinAll(ctx context.Context, s *session, joins []*joining, reply func()) error {
	for try := range joinTries {
		var again []*joining
		alive := n.onLoop(s.Conn, func() {
			if again = n.join(s, joins); again == nil {
				reply()
			}
		})
		if !alive {
			return errReplied
		}
		if again == nil {
			n.joined(s, joins)
			return errReplied
		}
		time.Sleep(time.Duration(try) * joinPause)
		for _, j := range again {
			if err := n.readHistory(ctx, s, j); err != nil {
				n.giveUp(s, joins)
				return err
			}
		}
	}
	n.giveUp(s, joins)
	return &client.DisconnectInsufficientState
}

// join adds the client to the channels that it has not joined yet; it returns those
// whose history must be read again. On the loop.
func (n *Node) join(s *session, joins []*joining) (again []*joining) {
	for _, j := range joins {
		if j.result != nil {
			continue
		}
		var from *hub.Position
		if j.waits {
			from = &j.top
			j.waits = false
		}
		var least uint64
		if j.recovered {
			least = j.since.Offset
		}
		at, ok := j.ch.Join(&s.Client, j.flags&^recoverable, from, least)
		if !ok {
			again = append(again, j)
			continue
		}
		j.result = j.answer(s, at)
	}
	return again
}

// answer is the result for a client that was served up to at.
func (j *joining) answer(s *session, at hub.Joined) *protocol.SubscribeResult {
	res := &protocol.SubscribeResult{
		Recoverable:   j.flags&recoverable != 0,
		Positioned:    j.flags&hub.Positioned != 0,
		WasRecovering: j.recover,
		Recovered:     j.recovered,
		Delta:         j.flags&hub.Delta != 0,
		Data:          j.data,
	}
	if j.flags&hub.ByID != 0 {
		res.Id = j.ch.ID()
	}
	if j.expireAt > 0 && !j.asked && j.flags&hub.ServerSide == 0 {
		res.Expires, res.Ttl = ttl(j.expireAt)
	}
	if j.flags&hub.Positioned == 0 {
		return res
	}
	res.Epoch, res.Offset = at.Epoch, at.Offset
	if !j.recovered {
		return res
	}
	json := j.flags&hub.Delta != 0
	cache := j.ns.RecoveryMode == RecoveryCache
	for _, p := range publications(j.pubs, s.encoding(), json) {
		if p.Offset <= at.Offset && (j.filter == nil || j.filter.Match(p.Tags)) { // others are delivered
			res.Publications = append(res.Publications, p)
		}
	}
	for _, f := range at.Between {
		if j.filter == nil || j.filter.Match(f.Tags) {
			res.Publications = append(res.Publications, encoded(f.Source.(*broker.Publication), s.encoding(), json))
		}
	}
	if cache {
		res.Publications = res.Publications[max(0, len(res.Publications)-1):]
	} else {
		res.Offset = j.since.Offset
	}
	return res
}

// joined does what follows a subscription but need not be in order with it.
func (n *Node) joined(s *session, joins []*joining) {
	for _, j := range joins {
		if _, _, live := s.Subscription(j.name); !live { // has left meanwhile
			continue
		}
		if j.flags&hub.Announce != 0 {
			n.announce(s, j.ch, true)
		}
		if j.expireAt > 0 {
			n.wake(s)
		}
	}
}

// wake makes the session's beat look at the time anew.
func (n *Node) wake(s *session) {
	l, h := s.Conn.Loop(), s.Conn.Handle()
	l.Post(func() {
		if c := conn.Get(l, h); c != nil {
			c.BeatAfter(100 * time.Millisecond)
		}
	})
}

// subRefreshCommand prolongs a subscription by a fresh token.
func (n *Node) subRefreshCommand(ctx context.Context, s *session, r *protocol.SubRefreshRequest) (*protocol.SubRefreshResult, error) {
	ch, _, live := s.Subscription(r.Channel)
	switch {
	case r.Channel == "" || r.Token == "":
		return nil, client.BadRequest("channel and token must be given")
	case !live:
		return nil, client.ErrPermissionDenied
	}
	t, err := n.subscriptionToken(ctx, s, r.Channel, r.Token)
	if err != nil {
		return nil, err
	}
	ns, _ := n.opts.Channels.of(r.Channel)
	s.changeChannel(ch, func(x *channelExtra) {
		x.expires(n, ns, t.ExpireAt)
		if t.Info != nil {
			x.info = t.Info
		}
	})
	n.wake(s)
	res := &protocol.SubRefreshResult{}
	if !n.opts.Handlers.asksSubRefresh(ns) {
		res.Expires, res.Ttl = ttl(t.ExpireAt)
	}
	return res, nil
}
