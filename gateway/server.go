package gateway

import (
	"context"
	"path"
	"sync"
	"time"

	"github.com/centrifugal/protocol"

	"roost/broker"
	"roost/proto/client"
)

// The operations of the server API. They act on all nodes; errors are *client.Error.
// Any goroutine but a loop's.

// failed is what a caller of an operation hears of an error.
func (n *Node) failed(err error) error {
	if err == nil {
		return nil
	}
	return n.reason(err)
}

func payload(data, b64 []byte) ([]byte, error) {
	switch {
	case len(data) > 0 && len(b64) > 0, len(data) == 0 && len(b64) == 0:
		return nil, client.BadRequest("either data or b64data must be given")
	case len(b64) > 0:
		return b64, nil
	}
	return data, nil
}

// Publish sends a message to all subscribers of a channel.
func (n *Node) Publish(ctx context.Context, r *PublishRequest) (*PublishResult, error) {
	ns, err := n.namespace(r.Channel)
	if err != nil {
		return nil, err
	}
	if ns.service != nil {
		return nil, errOfService
	}
	data, err := payload(r.Data, r.B64Data)
	if err != nil {
		return nil, err
	}
	o := ns.stored()
	if r.SkipHistory {
		o = broker.PublishOptions{}
	}
	o.IdempotencyKey, o.Version, o.VersionEpoch = r.IdempotencyKey, r.Version, r.VersionEpoch
	pub := broker.Publication{Data: data, Tags: r.Tags, Delta: ns.Delta || r.Delta, Time: time.Now().UnixMilli()}
	pos, _, err := n.publish(ctx, r.Channel, pub, o)
	if err != nil {
		return nil, n.failed(err)
	}
	return &PublishResult{Offset: pos.Offset, Epoch: pos.Epoch}, nil
}

// broadcastParallel bounds how many channels of a broadcast are published to at once.
const broadcastParallel = 32

// Broadcast publishes the same message to many channels.
func (n *Node) Broadcast(ctx context.Context, r *BroadcastRequest) (*BroadcastResult, error) {
	if len(r.Channels) == 0 {
		return nil, client.BadRequest("channels are missing")
	}
	res := &BroadcastResult{Responses: make([]PublishResponse, len(r.Channels))}
	var wg sync.WaitGroup
	free := make(chan struct{}, broadcastParallel)
	for i, ch := range r.Channels {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			p, err := n.Publish(ctx, &PublishRequest{Channel: ch, Data: r.Data, B64Data: r.B64Data, SkipHistory: r.SkipHistory, Tags: r.Tags,
				IdempotencyKey: r.IdempotencyKey, Delta: r.Delta, Version: r.Version, VersionEpoch: r.VersionEpoch})
			if err != nil {
				ce := n.reason(err)
				res.Responses[i].Error = &OperationError{Code: ce.Code, Message: ce.Message}
				return
			}
			res.Responses[i].Result = p
		})
	}
	wg.Wait()
	return res, nil
}

// Subscribe subscribes a user's clients to a channel.
func (n *Node) Subscribe(ctx context.Context, r *SubscribeRequest) (*SubscribeResult, error) {
	if r.User == "" && r.Client == "" && r.Session == "" {
		return nil, client.BadRequest("user, client or session must be given")
	}
	if _, err := n.namespace(r.Channel); err != nil {
		return nil, err
	}
	var err error
	asked := ask(ctx, n, "subscribe", r, func(why *OperationError) {
		if why != nil {
			err = &client.Error{Code: why.Code, Message: why.Message}
		}
	})
	if asked != nil {
		err = asked
	}
	return &SubscribeResult{}, n.failed(err)
}

// Unsubscribe ends subscriptions of a user's clients: to one channel, or to all.
func (n *Node) Unsubscribe(ctx context.Context, r *UnsubscribeRequest) (*UnsubscribeResult, error) {
	if r.User == "" && r.Client == "" && r.Session == "" {
		return nil, client.BadRequest("user, client or session must be given")
	}
	return &UnsubscribeResult{}, n.failed(ask(ctx, n, "unsubscribe", r, func(int) {}))
}

// Disconnect closes the connections of a user.
func (n *Node) Disconnect(ctx context.Context, r *DisconnectRequest) (*DisconnectResult, error) {
	if r.User == "" && r.Client == "" && r.Session == "" {
		return nil, client.BadRequest("user, client or session must be given")
	}
	if d := r.Disconnect; d != nil && (d.Code < 3000 || d.Code > 4999 || len(d.Reason) > 123) {
		return nil, client.BadRequest("disconnect has code %d and a reason of %d bytes, allowed are 3000 to 4999 and 123", d.Code, len(d.Reason))
	}
	return &DisconnectResult{}, n.failed(ask(ctx, n, "disconnect", r, func(int) {}))
}

// Refresh prolongs the connections of a user, or lets them expire.
func (n *Node) Refresh(ctx context.Context, r *RefreshRequest) (*RefreshResult, error) {
	if r.User == "" && r.Client == "" && r.Session == "" {
		return nil, client.BadRequest("user, client or session must be given")
	}
	return &RefreshResult{}, n.failed(ask(ctx, n, "refresh", r, func(int) {}))
}

// available finds the rules for a channel, where they offer what the caller needs.
func (n *Node) available(ch string, offered func(*Namespace) bool) (*Namespace, error) {
	ns, err := n.namespace(ch)
	if err == nil && !offered(ns) {
		err = client.ErrNotAvailable
	}
	return ns, err
}

func (ns *Namespace) hasPresence() bool { return ns.Presence }
func (ns *Namespace) hasHistory() bool  { return ns.HistorySize > 0 }

// Presence lists who follows a channel.
func (n *Node) Presence(ctx context.Context, r *PresenceRequest) (*PresenceResult, error) {
	if _, err := n.available(r.Channel, (*Namespace).hasPresence); err != nil {
		return nil, err
	}
	all, err := n.presence(ctx, r.Channel)
	if err != nil {
		return nil, n.failed(err)
	}
	res := &PresenceResult{Presence: make(map[string]ClientInfo, len(all))}
	for id, i := range all {
		res.Presence[id] = shown(i)
	}
	return res, nil
}

// shown is a client's info as the API has it.
func shown(i *protocol.ClientInfo) ClientInfo {
	return ClientInfo{User: i.User, Client: i.Client, ConnInfo: orNil(i.ConnInfo), ChanInfo: orNil(i.ChanInfo)}
}

func orNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// PresenceStats counts who follows a channel.
func (n *Node) PresenceStats(ctx context.Context, r *PresenceStatsRequest) (*PresenceStatsResult, error) {
	if _, err := n.available(r.Channel, (*Namespace).hasPresence); err != nil {
		return nil, err
	}
	clients, users, err := n.presenceStats(ctx, r.Channel)
	return &PresenceStatsResult{NumClients: clients, NumUsers: users}, n.failed(err)
}

// History reads a channel's publications.
func (n *Node) History(ctx context.Context, r *HistoryRequest) (*HistoryResult, error) {
	ns, err := n.available(r.Channel, (*Namespace).hasHistory)
	if err != nil {
		return nil, err
	}
	var since *broker.Position
	if r.Since != nil {
		since = &broker.Position{Offset: r.Since.Offset, Epoch: r.Since.Epoch}
	}
	pubs, top, err := n.history(ctx, r.Channel, ns, since, int(r.Limit), r.Reverse)
	if err != nil {
		return nil, n.failed(err)
	}
	res := &HistoryResult{Offset: top.Offset, Epoch: top.Epoch, Publications: make([]Publication, len(pubs))}
	for i, p := range pubs {
		out := Publication{Offset: p.Offset, Tags: p.Tags, Time: p.Time}
		out.Data, out.B64 = jsonData(p.Data)
		if ci := clientInfo(p.Info); ci != nil {
			out.Info = new(shown(ci))
		}
		res.Publications[i] = out
	}
	return res, nil
}

// HistoryRemove deletes a channel's publications; its position stays.
func (n *Node) HistoryRemove(ctx context.Context, r *HistoryRemoveRequest) (*HistoryRemoveResult, error) {
	ns, err := n.available(r.Channel, (*Namespace).hasHistory)
	if err != nil {
		return nil, err
	}
	if ns.service != nil {
		return nil, errOfService
	}
	return &HistoryRemoveResult{}, n.failed(n.broker.RemoveHistory(ctx, r.Channel))
}

// Channels lists the channels that have subscribers.
func (n *Node) Channels(ctx context.Context, r *ChannelsRequest) (*ChannelsResult, error) {
	if _, err := path.Match(r.Pattern, ""); err != nil {
		return nil, client.BadRequest("pattern: %v", err)
	}
	res := &ChannelsResult{Channels: make(map[string]ChannelInfo)}
	err := ask(ctx, n, "channels", r.Pattern, func(all map[string]uint32) {
		for name, count := range all {
			res.Channels[name] = ChannelInfo{NumClients: res.Channels[name].NumClients + count}
		}
	})
	return res, n.failed(err)
}

// Info describes the nodes.
func (n *Node) Info(ctx context.Context, _ *InfoRequest) (*InfoResult, error) {
	res := &InfoResult{}
	err := ask(ctx, n, "info", "", func(i NodeInfo) { res.Nodes = append(res.Nodes, i) })
	return res, n.failed(err)
}

// RPC asks the handler of the clients' rpc commands; its event has the transport "api"
// and no client.
func (n *Node) RPC(ctx context.Context, r *RPCRequest) (*RPCResult, error) {
	f := n.opts.rpc(r.Method)
	if f == nil {
		return nil, client.ErrMethodNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, n.opts.CallTimeout)
	defer cancel()
	data, err := f(ctx, RPCEvent{Peer: Peer{Transport: TransportAPI, Protocol: "json", Encoding: "json"}, Method: r.Method, Data: r.Params})
	if err != nil {
		return nil, n.failed(err)
	}
	return &RPCResult{Data: data}, nil
}

// Connections lists the connections of a user, or all.
func (n *Node) Connections(ctx context.Context, r *ConnectionsRequest) (*ConnectionsResult, error) {
	if r.Expression != "" {
		return nil, client.ErrNotAvailable
	}
	res := &ConnectionsResult{Connections: make(map[string]ConnectionInfo)}
	err := ask(ctx, n, "connections", r.User, func(all map[string]ConnectionInfo) {
		for id, i := range all {
			res.Connections[id] = i
		}
	})
	return res, n.failed(err)
}

// UserStatus tells who is online, and when the others were last.
func (n *Node) UserStatus(ctx context.Context, r *UserStatusRequest) (*UserStatusResult, error) {
	if len(r.Users) == 0 {
		return nil, client.BadRequest("users are missing")
	}
	res := &UserStatusResult{Statuses: make([]UserStatus, len(r.Users))}
	for i, u := range r.Users {
		res.Statuses[i].User = u
	}
	err := ask(ctx, n, "user_status", r, func(all []UserStatus) {
		for i := range min(len(all), len(res.Statuses)) {
			st := &res.Statuses[i]
			st.Online = st.Online || all[i].Online
			st.LastSeen = max(st.LastSeen, all[i].LastSeen)
		}
	})
	return res, n.failed(err)
}
