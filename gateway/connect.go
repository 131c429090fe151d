package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/centrifugal/protocol"

	"roost/auth"
	"roost/hub"
	"roost/proto/client"
	"roost/proto/ws"
)

// admit decides on the upgrade by the request's token. In a worker.
func (n *Node) admit(r *http.Request) (any, error) {
	claims, err := n.admitted(r)
	if err != nil {
		return nil, err
	}
	s, err := n.newSession(r)
	if err != nil {
		return nil, err
	}
	s.change(func(e *extra) { e.admitted = &claims })
	return s, nil
}

var errBlocked = &ws.HandshakeError{Status: http.StatusForbidden, Label: "blocked", Detail: "this user is blocked"}

// admitted verifies a request's token. Its error is a *ws.HandshakeError.
func (n *Node) admitted(r *http.Request) (claims auth.Connect, err error) {
	token := n.requestToken(r)
	if token == "" {
		return claims, &ws.HandshakeError{Status: http.StatusUnauthorized, Label: "no_token", Detail: "a token is required"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandTime)
	defer cancel()
	claims, err = n.verify(ctx, token)
	switch {
	case errors.Is(err, auth.ErrBlocked):
		return claims, errBlocked
	case errors.Is(err, auth.ErrExpired):
		return claims, &ws.HandshakeError{Status: http.StatusUnauthorized, Label: "expired_token", Detail: "the token has expired"}
	case errors.Is(err, auth.ErrKeys):
		return claims, &ws.HandshakeError{Status: http.StatusServiceUnavailable, Label: "no_keys", Header: http.Header{"Retry-After": {"5"}},
			Detail: "the keys to check the token with cannot be had"}
	case err != nil:
		return claims, &ws.HandshakeError{Status: http.StatusUnauthorized, Label: "invalid_token", Detail: "the token is not valid"}
	}
	return claims, nil
}

func (n *Node) requestToken(r *http.Request) string {
	if v, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return v
	}
	if n.opts.TokenHeader != "" {
		if v := r.Header.Get(n.opts.TokenHeader); v != "" {
			return v
		}
	}
	if n.opts.TokenCookie != "" {
		if c, err := r.Cookie(n.opts.TokenCookie); err == nil {
			return c.Value
		}
	}
	if n.opts.TokenQuery != "" {
		return r.URL.Query().Get(n.opts.TokenQuery)
	}
	return ""
}

// verify checks a connection token and whether it was revoked.
func (n *Node) verify(ctx context.Context, token string) (auth.Connect, error) {
	if n.opts.Auth == nil {
		return auth.Connect{}, &auth.InvalidError{Label: "no_keys", Detail: "this server has no keys to check tokens with"}
	}
	c, err := n.opts.Auth.Connect(ctx, token)
	if err != nil {
		return c, err
	}
	return c, n.revoked.Check(c.User, c.ID, c.IssuedAt)
}

// claims finds out who a connecting client is. For its errors see tokenError.
func (n *Node) claims(ctx context.Context, s *session, token string) (auth.Connect, error) {
	if a := s.look().admitted; a != nil {
		s.change(func(e *extra) { e.admitted = nil })
		return *a, n.revoked.Check(a.User, a.ID, a.IssuedAt)
	}
	if token == "" {
		if n.opts.AllowAnonymous || n.opts.Insecure {
			return auth.Connect{}, nil
		}
		return auth.Connect{}, &client.DisconnectInvalidToken
	}
	return n.verify(ctx, token)
}

// tokenError is what a client hears of a connection token that was refused.
func (n *Node) tokenError(err error) error {
	var invalid *auth.InvalidError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, auth.ErrExpired):
		n.counts.tokens.Add("expired")
		return client.ErrTokenExpired
	case errors.As(err, &invalid):
		n.counts.tokens.Add(invalid.Label)
		return &client.DisconnectInvalidToken
	case errors.Is(err, auth.ErrBlocked), errors.Is(err, auth.ErrRevoked):
		n.counts.tokens.Add("revoked")
		return &client.DisconnectInvalidToken
	}
	return err
}

// connect answers the connect command.
func (n *Node) connect(ctx context.Context, out *replies, cmd *protocol.Command) error {
	s, r := out.s, cmd.Connect
	if n.opts.Handlers.Connect != nil && r.Token == "" && s.look().admitted == nil {
		return n.askConnect(out, cmd)
	}
	c, err := n.claims(ctx, s, r.Token)
	if err != nil {
		return n.tokenError(err)
	}
	res := new(protocol.ConnectResult)
	res.Expires, res.Ttl = n.ttl(c.ExpireAt)
	return n.enter(ctx, out, cmd.Id, c, r.Subs, res)
}

// enter lets a client in, and tells it so by res, as far as the caller has not filled that
// in: it says when a token must be refreshed. Who came without one has nothing to refresh
// with, and SDKs would give up for good where they are asked to.
func (n *Node) enter(ctx context.Context, out *replies, id uint32, c auth.Connect, subs map[string]*protocol.SubscribeRequest, res *protocol.ConnectResult) error {
	s := out.s
	now := time.Now()
	if c.ExpireAt > 0 && c.ExpireAt <= now.Unix() {
		return client.ErrTokenExpired
	}
	if max := n.opts.UserConnections; max > 0 && c.User != "" && len(n.hub.ByUser(c.User)) >= max {
		return &client.DisconnectConnectionLimit
	}
	s.User = c.User
	n.expires(s, c.ExpireAt)
	s.setToken(c)
	joins, err := n.serverSide(ctx, s, c, subs)
	if err != nil {
		return err
	}
	if err := n.noteConnected(ctx, s); err != nil {
		n.giveUp(s, joins)
		return err
	}
	n.hub.Add(&s.Client)
	n.counts.clients.Add(1)
	n.counts.connects.Add(1)
	n.connected(s)
	n.firstPing(s)
	res.Client = n.ids.id(s.Conn.Handle())
	res.Version = n.opts.Version
	res.Ping = uint32(n.opts.PingInterval / time.Second)
	res.Pong = true
	res.Node = n.broker.Node()
	res.Time = now.UnixMilli()
	if s.is(markNative) {
		res.Ping, res.Pong = 0, false
	}
	if e := s.look().emulated; e != nil {
		res.Session = e.id
	}
	if len(joins) == 0 {
		out.add(&protocol.Reply{Id: id, Connect: res}) // with those of the commands behind it
		return errReplied
	}
	return n.joinAll(ctx, s, joins, func() {
		res.Subs = make(map[string]*protocol.SubscribeResult, len(joins))
		for _, j := range joins {
			res.Subs[j.name] = j.result
		}
		out.add(&protocol.Reply{Id: id, Connect: res})
		out.flush()
	})
}

// serverSide prepares the subscriptions that come with the connection: those of the
// token and the personal channel.
func (n *Node) serverSide(ctx context.Context, s *session, c auth.Connect, asked map[string]*protocol.SubscribeRequest) ([]*joining, error) {
	options := make(map[string]auth.SubOptions, len(c.Subs)+len(c.Channels)+1)
	for _, ch := range c.Channels {
		options[ch] = auth.SubOptions{}
	}
	for ch, o := range c.Subs {
		options[ch] = o
	}
	if n.opts.Channels.Personal && s.User != "" {
		options[n.personal(s.User)] = auth.SubOptions{}
	}
	var joins []*joining
	for name, o := range options {
		ns, err := n.namespace(name)
		if err != nil {
			n.opts.Logger.Warn("a token subscribes to a channel there cannot be", "channel", name, "user", s.User, "error", err)
			n.giveUp(s, joins)
			return nil, &client.DisconnectInvalidToken
		}
		j := &joining{name: name, ns: ns, flags: ns.flags(s, o.Override) | hub.ServerSide, info: o.Info, data: o.Data}
		if r := asked[name]; r != nil {
			j.ask(r)
		}
		if err := n.prepare(ctx, s, j); err != nil {
			n.giveUp(s, joins)
			return nil, err
		}
		joins = append(joins, j)
	}
	return joins, nil
}

func (n *Node) personal(user string) string {
	if ns := n.opts.Channels.PersonalNamespace; ns != "" {
		return ns + ":#" + user
	}
	return "#" + user
}

// refreshCommand prolongs a connection by a fresh token.
func (n *Node) refreshCommand(ctx context.Context, s *session, token string) (*protocol.RefreshResult, error) {
	if token == "" {
		return nil, client.BadRequest("token is missing")
	}
	c, err := n.verify(ctx, token)
	if err != nil {
		return nil, n.tokenError(err)
	}
	if c.User != s.User {
		return nil, &client.DisconnectInvalidToken
	}
	if c.ExpireAt > 0 && c.ExpireAt <= time.Now().Unix() {
		return nil, client.ErrExpired
	}
	n.prolong(s, c.ExpireAt)
	s.setToken(c)
	res := &protocol.RefreshResult{Client: n.ids.id(s.Conn.Handle()), Version: n.opts.Version}
	res.Expires, res.Ttl = n.ttl(c.ExpireAt)
	return res, nil
}

// ttl is how a client hears when something expires: in whole seconds, at least one. at
// is in Unix seconds, 0 is never.
func ttl(at int64) (expires bool, seconds uint32) {
	if at <= 0 {
		return false, 0
	}
	return true, uint32(max(1, at-time.Now().Unix()))
}

// ttl is what a client hears of its connection, which it need not refresh where a handler
// is asked.
func (n *Node) ttl(at int64) (expires bool, seconds uint32) {
	if n.opts.Handlers.Refresh != nil {
		return false, 0
	}
	return ttl(at)
}

// prolong sets when the connection expires, in Unix seconds; 0 is never. Any goroutine.
func (n *Node) prolong(s *session, at int64) {
	n.expires(s, at)
	n.wake(s)
}
