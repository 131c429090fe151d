package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/centrifugal/protocol"

	"roost/broker"
	"roost/hub"
	"roost/proto/client"
)

// commandTime bounds what the commands of one frame may take.
const commandTime = 10 * time.Second

// command answers one command. An error is a *client.Disconnect.
func (n *Node) command(out *replies, cmd *protocol.Command) error {
	s := out.s
	kind, ok := client.Kind(cmd)
	switch {
	case !ok, s.is(markFailed), cmd.Id == 0 && kind != "send":
		return &client.DisconnectBadRequest
	case (kind == "connect") == s.is(markConnected):
		return &client.DisconnectBadRequest
	}
	if n.opts.pend() && n.hold(out, cmd) {
		return errParked
	}
	n.counts.commands.Add(kind)
	reply := &protocol.Reply{Id: cmd.Id}
	return n.settle(out, kind, cmd.Id, reply, n.dispatch(out.ctx, out, cmd, reply))
}

// settle answers a command that has led to err.
func (n *Node) settle(out *replies, kind string, id uint32, reply *protocol.Reply, err error) error {
	s := out.s
	if err == errParked {
		return err
	}
	if err == errReplied {
		return nil
	}
	if err == nil {
		out.add(reply)
		return nil
	}
	var d *client.Disconnect
	if errors.As(err, &d) {
		return d
	}
	out.add(&protocol.Reply{Id: id, Error: n.reason(err).Proto()})
	if kind == "connect" {
		s.set(markFailed)
	}
	return nil
}

// errReplied tells that the reply is on its way already, or that nobody is left to get one.
var errReplied = errors.New("gateway: replied")

// reason is what a client hears of an error.
func (n *Node) reason(err error) *client.Error {
	var ce *client.Error
	switch {
	case errors.As(err, &ce):
		return ce
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
	default:
		n.opts.Logger.Error("a command failed", "error", err)
	}
	return client.ErrInternal
}

func (n *Node) dispatch(ctx context.Context, out *replies, cmd *protocol.Command, r *protocol.Reply) (err error) {
	s := out.s
	switch {
	case cmd.Connect != nil:
		return n.connect(ctx, out, cmd)
	case cmd.Subscribe != nil:
		return n.subscribeCommand(ctx, out, cmd)
	case cmd.Unsubscribe != nil:
		r.Unsubscribe = &protocol.UnsubscribeResult{}
		if cmd.Unsubscribe.Channel == "" {
			return client.BadRequest("channel is missing")
		}
		n.unsubscribe(s, cmd.Unsubscribe.Channel, nil)
	case cmd.Publish != nil:
		r.Publish, err = n.publishCommand(ctx, out, cmd)
	case cmd.Presence != nil:
		r.Presence, err = n.presenceCommand(ctx, s, cmd.Presence.Channel)
	case cmd.PresenceStats != nil:
		r.PresenceStats, err = n.presenceStatsCommand(ctx, s, cmd.PresenceStats.Channel)
	case cmd.History != nil:
		r.History, err = n.historyCommand(ctx, s, cmd.History)
	case cmd.Ping != nil:
		r.Ping = &protocol.PingResult{}
	case cmd.Rpc != nil:
		return n.rpcCommand(s, cmd.Id, cmd.Rpc)
	case cmd.Send != nil:
		return n.sendCommand(s, cmd.Send)
	case cmd.Refresh != nil:
		r.Refresh, err = n.refreshCommand(ctx, s, cmd.Refresh.Token)
	case cmd.SubRefresh != nil:
		r.SubRefresh, err = n.subRefreshCommand(ctx, s, cmd.SubRefresh)
	}
	return err
}

func (n *Node) publishCommand(ctx context.Context, out *replies, cmd *protocol.Command) (*protocol.PublishResult, error) {
	s, r := out.s, cmd.Publish
	ns, err := n.namespace(r.Channel)
	asks := err == nil && n.opts.Handlers.asksPublish(ns)
	if err == nil && !asks {
		ns, err = n.allowed(s, r.Channel, publishing)
	}
	if err != nil {
		return nil, err
	}
	if len(r.Data) == 0 {
		return nil, client.BadRequest("data is missing")
	}
	if ns.PublishRate > 0 && !n.mayPublish(s, r.Channel, ns.PublishRate) {
		return nil, client.ErrTooManyRequests
	}
	if asks {
		return nil, n.askPublish(out, cmd.Id, ns, r)
	}
	return &protocol.PublishResult{}, n.publishOf(ctx, s, ns, r.Channel, PublishReply{Data: r.Data})
}

// publishOf publishes what a client may.
func (n *Node) publishOf(ctx context.Context, s *session, ns *Namespace, ch string, r PublishReply) error {
	info, err := n.info(s, nil).MarshalCF()
	if err != nil {
		return err
	}
	o := ns.stored()
	if r.SkipHistory {
		o = broker.PublishOptions{}
	}
	pub := broker.Publication{Data: r.Data, Info: info, Tags: r.Tags, Time: time.Now().UnixMilli(), Delta: ns.Delta}
	_, _, err = n.publish(ctx, ch, pub, o)
	return err
}

// publish hands a publication to the broker and counts it.
func (n *Node) publish(ctx context.Context, ch string, pub broker.Publication, o broker.PublishOptions) (broker.Position, bool, error) {
	n.counts.publications.Add(1)
	return n.broker.Publish(ctx, ch, pub, o)
}

func (ns *Namespace) stored() broker.PublishOptions {
	return broker.PublishOptions{HistorySize: ns.HistorySize, HistoryTTL: ns.HistoryTTL}
}

// query asks for a channel's publications.
func (ns *Namespace) query(since *broker.Position, limit int, reverse bool) broker.HistoryQuery {
	return broker.HistoryQuery{Since: since, Limit: limit, Reverse: reverse, Size: ns.HistorySize, TTL: ns.HistoryTTL, Kept: ns.service != nil}
}

func (n *Node) presenceCommand(ctx context.Context, s *session, ch string) (*protocol.PresenceResult, error) {
	if _, err := n.allowed(s, ch, seeing); err != nil {
		return nil, err
	}
	p, err := n.presence(ctx, ch)
	if err != nil {
		return nil, err
	}
	return &protocol.PresenceResult{Presence: p}, nil
}

func (n *Node) presenceStatsCommand(ctx context.Context, s *session, ch string) (*protocol.PresenceStatsResult, error) {
	if _, err := n.allowed(s, ch, seeing); err != nil {
		return nil, err
	}
	clients, users, err := n.presenceStats(ctx, ch)
	return &protocol.PresenceStatsResult{NumClients: clients, NumUsers: users}, err
}

func (n *Node) historyCommand(ctx context.Context, s *session, r *protocol.HistoryRequest) (*protocol.HistoryResult, error) {
	ns, err := n.allowed(s, r.Channel, reading)
	if err != nil {
		return nil, err
	}
	limit := int(r.Limit)
	if limit < 0 || limit > n.opts.RecoveryLimit {
		limit = n.opts.RecoveryLimit
	}
	var since *broker.Position
	if r.Since != nil {
		since = &broker.Position{Offset: r.Since.Offset, Epoch: r.Since.Epoch}
	}
	pubs, top, err := n.history(ctx, r.Channel, ns, since, limit, r.Reverse)
	if err != nil {
		return nil, err
	}
	return &protocol.HistoryResult{Publications: publications(pubs, s.encoding(), false), Offset: top.Offset, Epoch: top.Epoch}, nil
}

// history reads a channel's publications, of since's epoch if that names one.
func (n *Node) history(ctx context.Context, ch string, ns *Namespace, since *broker.Position, limit int, reverse bool) ([]*broker.Publication, broker.Position, error) {
	pubs, top, err := n.broker.History(ctx, ch, ns.query(since, limit, reverse))
	if err == nil && since != nil && since.Epoch != "" && since.Epoch != top.Epoch {
		err = client.ErrUnrecoverablePosition
	}
	return pubs, top, err
}

// unsubscribe ends a subscription; u tells the client why, unless it asked itself. Not
// for a loop's goroutine.
func (n *Node) unsubscribe(s *session, channel string, u *client.Unsubscribe) {
	ch, _, live := s.Subscription(channel)
	if ch == nil || !live {
		if u != nil {
			s.turnOff(channel)
		}
		return
	}
	var flags hub.Flags
	was := false
	n.onLoop(s.Conn, func() {
		if flags, was = ch.Leave(&s.Client); was && u != nil {
			n.push(s, unsubscribePush(ch, u))
		}
	})
	if !was {
		return
	}
	if flags&hub.Announce != 0 {
		n.announce(s, ch, false)
	}
	s.forget(ch)
	n.noteUnsubscribed(s, channel, u)
}

// announce tells a channel that a client came or left.
func (n *Node) announce(s *session, ch *hub.Channel, join bool) {
	info, err := n.info(s, ch).MarshalCF()
	if err == nil {
		err = n.broker.PublishJoinLeave(ch.Name(), join, info)
	}
	if err != nil && !errors.Is(err, broker.ErrUnavailable) {
		n.opts.Logger.Warn("a join or leave was not announced", "channel", ch.Name(), "error", err)
	}
}

// info is what others see of a client; ch may be nil.
func (n *Node) info(s *session, ch *hub.Channel) *protocol.ClientInfo {
	i := &protocol.ClientInfo{User: s.User, Client: n.ids.id(s.Conn.Handle()), ConnInfo: s.look().info}
	if ch != nil {
		i.ChanInfo = s.channel(ch).info
	}
	return i
}
