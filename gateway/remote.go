package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/centrifugal/protocol"

	"roost/hub"
	"roost/proto/client"
)

// Every node answers for its own clients, so there is no shared store that could be
// wrong about them: a question goes to all nodes and their answers are merged.

func (n *Node) timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), commandTime)
}

// query answers another node, or this one.
func (n *Node) query(kind string, data []byte) ([]byte, error) {
	switch kind {
	case "presence":
		return (&protocol.PresenceResult{Presence: n.localPresence(string(data))}).MarshalCF()
	case "presence_stats":
		return json.Marshal(n.localStats(string(data)))
	case "channels":
		return json.Marshal(n.localChannels(string(data)))
	case "info":
		return json.Marshal(n.localInfo())
	case "connections":
		return json.Marshal(n.localConnections(string(data)))
	case "user_status":
		return answer(data, n.localStatus)
	case "recheck":
		return json.Marshal(n.recheck(string(data)))
	case "subscribe":
		return answer(data, n.localSubscribe)
	case "unsubscribe":
		return answer(data, n.localUnsubscribe)
	case "disconnect":
		return answer(data, n.localDisconnect)
	case "refresh":
		return answer(data, n.localRefresh)
	case "send":
		return answer(data, n.localSend)
	case "post":
		return n.posted(data), nil
	}
	return nil, fmt.Errorf("gateway: unknown query %q", kind)
}

// answer decodes a request, answers it and encodes the result.
func answer[Q, A any](data []byte, f func(*Q) A) ([]byte, error) {
	q := new(Q)
	if err := json.Unmarshal(data, q); err != nil {
		return nil, err
	}
	return json.Marshal(f(q))
}

// ask sends a request to all nodes and calls f with each answer.
func ask[A any](ctx context.Context, n *Node, kind string, request any, f func(A)) error {
	data, plain := request.(string)
	b := []byte(data)
	if !plain {
		var err error
		if b, err = json.Marshal(request); err != nil {
			return err
		}
	}
	all, err := n.broker.Survey(ctx, kind, b)
	if err != nil {
		return err
	}
	for node, b := range all {
		var a A
		if err := json.Unmarshal(b, &a); err != nil {
			return fmt.Errorf("gateway: answer of node %s: %w", node, err)
		}
		f(a)
	}
	return nil
}

func (n *Node) localPresence(channel string) map[string]*protocol.ClientInfo {
	out := make(map[string]*protocol.ClientInfo)
	ch := n.hub.Channel(channel)
	if ch == nil {
		return out
	}
	ch.Members(func(cl *hub.Client, flags hub.Flags) {
		if flags&hub.Presence != 0 {
			i := n.info(sessionOf(cl), ch)
			out[i.Client] = i
		}
	})
	return out
}

// presence asks all nodes who follows a channel.
func (n *Node) presence(ctx context.Context, ch string) (map[string]*protocol.ClientInfo, error) {
	all, err := n.broker.Survey(ctx, "presence", []byte(ch))
	if err != nil {
		return nil, err
	}
	merged := make(map[string]*protocol.ClientInfo)
	for _, b := range all {
		var r protocol.PresenceResult
		if err := r.UnmarshalCF(b); err != nil {
			return nil, err
		}
		for id, i := range r.Presence {
			merged[id] = i
		}
	}
	return merged, nil
}

type stats struct {
	Clients uint32
	Users   []string
}

func (n *Node) localStats(channel string) stats {
	var s stats
	ch := n.hub.Channel(channel)
	if ch == nil {
		return s
	}
	users := make(map[string]struct{})
	ch.Members(func(cl *hub.Client, flags hub.Flags) {
		if flags&hub.Presence != 0 {
			s.Clients++
			users[cl.User] = struct{}{}
		}
	})
	for u := range users {
		s.Users = append(s.Users, u)
	}
	return s
}

func (n *Node) presenceStats(ctx context.Context, ch string) (clients, users uint32, err error) {
	all := make(map[string]struct{})
	err = ask(ctx, n, "presence_stats", ch, func(s stats) {
		clients += s.Clients
		for _, u := range s.Users {
			all[u] = struct{}{}
		}
	})
	return clients, uint32(len(all)), err
}

func (n *Node) localChannels(pattern string) map[string]uint32 {
	out := make(map[string]uint32)
	n.hub.Each(func(c *hub.Channel, subscribers int) {
		if ok, _ := path.Match(pattern, c.Name()); pattern == "" || ok {
			out[c.Name()] = uint32(subscribers)
		}
	})
	return out
}

func (n *Node) localInfo() NodeInfo {
	return NodeInfo{
		UID: n.broker.Node(), Name: n.opts.Name, Version: n.opts.Version,
		NumClients: uint32(n.counts.clients.Load()), NumUsers: uint32(n.hub.Users.Load()),
		NumSubs: uint32(n.hub.Subscriptions.Load()), NumChannels: uint32(n.hub.Channels.Load()),
		Uptime: uint32(time.Since(n.started) / time.Second),
	}
}

func (n *Node) localConnections(user string) map[string]ConnectionInfo {
	out := make(map[string]ConnectionInfo)
	add := func(s *session) {
		p := n.peer(s)
		i := ConnectionInfo{User: p.User, Node: n.broker.Node(), Transport: p.Transport, Protocol: p.Protocol, ConnectedAt: n.connectedAt(s)}
		if e := s.look().emulated; e != nil {
			i.Session = e.id
		}
		s.Subscriptions(func(ch *hub.Channel, _ hub.Flags) { i.Channels = append(i.Channels, ch.Name()) })
		slices.Sort(i.Channels)
		out[p.Client] = i
	}
	if user != "" {
		for _, cl := range n.hub.ByUser(user) {
			add(sessionOf(cl))
		}
		return out
	}
	n.each(add)
	return out
}

func (n *Node) localStatus(r *UserStatusRequest) []UserStatus {
	out := make([]UserStatus, 0, len(r.Users))
	for _, u := range r.Users {
		st := UserStatus{User: u, Online: len(n.hub.ByUser(u)) > 0}
		if st.LastSeen = n.seen.at(u); st.Online {
			st.LastSeen = time.Now().Unix()
		}
		out = append(out, st)
	}
	return out
}

// targets are the sessions a request means: all of a user, or one, by client or emulated
// session; where several are given it must be all of them.
func (n *Node) targets(user, id, emulated string) []*session {
	var one *session
	switch {
	case id != "":
		if one = n.find(id); emulated != "" && one != n.findEmulated(emulated) {
			one = nil
		}
	case emulated != "":
		one = n.findEmulated(emulated)
	default:
		var all []*session
		for _, cl := range n.hub.ByUser(user) {
			all = append(all, sessionOf(cl))
		}
		return all
	}
	if one == nil || user != "" && one.User != user {
		return nil
	}
	return []*session{one}
}

func (n *Node) localUnsubscribe(r *UnsubscribeRequest) int {
	all := n.targets(r.User, r.Client, r.Session)
	for _, s := range all {
		if r.Channel != "" {
			n.unsubscribe(s, r.Channel, &client.UnsubscribeServer)
			continue
		}
		for _, p := range s.look().pending {
			s.turnOff(p.channel)
		}
		s.Subscriptions(func(ch *hub.Channel, _ hub.Flags) { n.unsubscribe(s, ch.Name(), &client.UnsubscribeServer) })
	}
	return len(all)
}

func (n *Node) localDisconnect(r *DisconnectRequest) int {
	d := client.DisconnectForceNoReconnect
	if r.Disconnect != nil {
		d = client.Disconnect{Code: r.Disconnect.Code, Reason: r.Disconnect.Reason}
	}
	count := 0
	for _, s := range n.targets(r.User, r.Client, r.Session) {
		if slices.Contains(r.Whitelist, n.ids.id(s.Conn.Handle())) {
			continue
		}
		n.disconnect(s, d)
		count++
	}
	return count
}

func (n *Node) localRefresh(r *RefreshRequest) int {
	all := n.targets(r.User, r.Client, r.Session)
	for _, s := range all {
		if r.Expired {
			n.disconnect(s, client.DisconnectExpired)
			continue
		}
		n.prolong(s, r.ExpireAt)
		if r.Info != nil {
			s.change(func(e *extra) { e.info = r.Info })
		}
		p := new(protocol.Refresh)
		p.Expires, p.Ttl = n.ttl(r.ExpireAt)
		n.push(s, &protocol.Push{Refresh: p})
	}
	return len(all)
}

// localSubscribe subscribes clients from the server's side.
func (n *Node) localSubscribe(r *SubscribeRequest) *OperationError {
	for _, s := range n.targets(r.User, r.Client, r.Session) {
		if s.is(markRaw) && r.Client == "" {
			continue // the user's others are meant
		}
		if err := n.subscribeSession(s, r); err != errReplied && err != client.ErrAlreadySubscribed {
			why := n.reason(err)
			return &OperationError{Code: why.Code, Message: why.Message}
		}
	}
	return nil
}

// subscribeSession subscribes one client from the server's side and tells it. It returns
// errReplied when that was done, or the client has gone.
func (n *Node) subscribeSession(s *session, r *SubscribeRequest) error {
	if s.is(markRaw) {
		return client.ErrNotAvailable
	}
	ns, err := n.namespace(r.Channel)
	if err != nil {
		return err
	}
	ctx, cancel := n.timeout()
	defer cancel()
	j := &joining{name: r.Channel, ns: ns, info: r.Info, data: r.Data, expireAt: r.ExpireAt}
	j.flags = ns.flags(s, r.Override.Override()) | hub.ServerSide
	if r.RecoverSince != nil && j.flags&recoverable != 0 {
		j.recover, j.since.Offset, j.since.Epoch = true, r.RecoverSince.Offset, r.RecoverSince.Epoch
	}
	if err := n.prepare(ctx, s, j); err != nil {
		return err
	}
	return n.joinAll(ctx, s, []*joining{j}, func() { n.pushSubscribe(s, j) })
}

// pushSubscribe tells a client that it has been subscribed, and what it missed. On the
// loop.
func (n *Node) pushSubscribe(s *session, j *joining) {
	res := j.result
	n.push(s, &protocol.Push{Channel: j.name, Subscribe: &protocol.Subscribe{
		Recoverable: res.Recoverable, Positioned: res.Positioned, Epoch: res.Epoch, Offset: res.Offset, Data: res.Data,
	}})
	for _, p := range res.Publications {
		n.push(s, &protocol.Push{Channel: j.name, Pub: p})
	}
}
