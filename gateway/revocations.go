package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roost/broker"
	"roost/proto/client"
)

// Revocations are kept by every node and, as one durable value, by the broker.
const (
	noticeRevocations = "revocations"
	revocationsBucket = "revocations"
	revocationsAway   = 365 * 24 * time.Hour // how long one holds unless the caller says
)

func (n *Node) loadRevocations() error {
	ctx, cancel := n.timeout()
	defer cancel()
	all, err := n.broker.Load(ctx, revocationsBucket)
	if errors.Is(err, broker.ErrUnavailable) {
		n.opts.Logger.Warn("revocations could not be loaded: NATS is away")
		return nil
	}
	if err != nil {
		return fmt.Errorf("gateway: load revocations: %w", err)
	}
	for _, b := range all {
		n.mergeRevocations(b)
	}
	return nil
}

// mergeRevocations takes over what another node knows.
func (n *Node) mergeRevocations(b []byte) {
	if err := n.revoked.Restore(b); err != nil {
		n.opts.Logger.Error("revocations of another node cannot be read", "error", err)
	}
}

// revoke changes the revocations on all nodes, for good.
func (n *Node) revoke(ctx context.Context, change func(*revocationList)) error {
	change(&n.revoked)
	b := n.revoked.Snapshot()
	if err := n.broker.Put(ctx, revocationsBucket, n.broker.Node(), b, revocationsAway); err != nil {
		return n.failed(err)
	}
	return n.failed(n.broker.Notify(noticeRevocations, b))
}

func until(unix int64) time.Time {
	if unix == 0 {
		return time.Now().Add(revocationsAway)
	}
	return time.Unix(unix, 0)
}

// BlockUser keeps a user out, and disconnects it.
func (n *Node) BlockUser(ctx context.Context, r *BlockUserRequest) (*BlockUserResult, error) {
	if r.User == "" {
		return nil, client.BadRequest("user is missing")
	}
	if err := n.revoke(ctx, func(l *revocationList) { l.BlockUser(r.User, until(r.ExpireAt)) }); err != nil {
		return nil, err
	}
	_, err := n.Disconnect(ctx, &DisconnectRequest{User: r.User})
	return &BlockUserResult{}, err
}

// UnblockUser lets a blocked user in again.
func (n *Node) UnblockUser(ctx context.Context, r *UnblockUserRequest) (*UnblockUserResult, error) {
	if r.User == "" {
		return nil, client.BadRequest("user is missing")
	}
	return &UnblockUserResult{}, n.revoke(ctx, func(l *revocationList) { l.UnblockUser(r.User) })
}

// RevokeToken refuses a token by its jti, and ends the connections made with it.
func (n *Node) RevokeToken(ctx context.Context, r *RevokeTokenRequest) (*RevokeTokenResult, error) {
	if r.ID == "" {
		return nil, client.BadRequest("id is missing")
	}
	if err := n.revoke(ctx, func(l *revocationList) { l.RevokeToken(r.ID, until(r.ExpireAt)) }); err != nil {
		return nil, err
	}
	return &RevokeTokenResult{}, n.failed(ask(ctx, n, "recheck", "", func(int) {}))
}

// InvalidateUserTokens refuses a user's tokens issued before a time, and ends the
// connections made with them.
func (n *Node) InvalidateUserTokens(ctx context.Context, r *InvalidateUserTokensRequest) (*InvalidateUserTokensResult, error) {
	if r.User == "" {
		return nil, client.BadRequest("user is missing")
	}
	before := time.Now()
	if r.IssuedBefore > 0 {
		before = time.Unix(r.IssuedBefore, 0)
	}
	if err := n.revoke(ctx, func(l *revocationList) { l.RevokeUser(r.User, before, until(r.ExpireAt)) }); err != nil {
		return nil, err
	}
	return &InvalidateUserTokensResult{}, n.failed(ask(ctx, n, "recheck", r.User, func(int) {}))
}

// recheck disconnects the clients, of one user or all, whose token is revoked by now.
func (n *Node) recheck(user string) int {
	var gone []*session
	check := func(s *session) {
		if n.revoked.Check(s.User, s.look().token, int64(s.issuedAt.Load())) != nil {
			gone = append(gone, s)
		}
	}
	if user != "" {
		for _, s := range n.targets(user, "", "") {
			check(s)
		}
	} else {
		n.each(func(s *session) {
			if s.extra != nil { // a token without an id cannot be revoked by it
				check(s)
			}
		})
	}
	for _, s := range gone {
		n.disconnect(s, client.DisconnectInvalidToken)
	}
	return len(gone)
}
