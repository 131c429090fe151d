// Package gateway is one client's session after the other: commands in, replies and
// pushes out, on channels that a broker carries between nodes.
package gateway

import (
	"context"
	"errors"

	"roost/conn"
)

var errNotYet = errors.New("gateway: not built yet")

// Node is one gateway.
type Node struct{}

// New makes a node.
func New(Options) (*Node, error) { return nil, errNotYet }

// Route is where clients connect.
func (n *Node) Route() *conn.Route { return nil }

// Start tells the node the server its route belongs to.
func (n *Node) Start(*conn.Server) {}

// Shutdown ends all sessions.
func (n *Node) Shutdown(context.Context) error { return errNotYet }

// Publish is a server operation.
func (n *Node) Publish(context.Context, *PublishRequest) (*PublishResult, error) {
	return nil, errNotYet
}

// Broadcast is a server operation.
func (n *Node) Broadcast(context.Context, *BroadcastRequest) (*BroadcastResult, error) {
	return nil, errNotYet
}

// Subscribe is a server operation.
func (n *Node) Subscribe(context.Context, *SubscribeRequest) (*SubscribeResult, error) {
	return nil, errNotYet
}

// Unsubscribe is a server operation.
func (n *Node) Unsubscribe(context.Context, *UnsubscribeRequest) (*UnsubscribeResult, error) {
	return nil, errNotYet
}

// Disconnect is a server operation.
func (n *Node) Disconnect(context.Context, *DisconnectRequest) (*DisconnectResult, error) {
	return nil, errNotYet
}

// Refresh is a server operation.
func (n *Node) Refresh(context.Context, *RefreshRequest) (*RefreshResult, error) {
	return nil, errNotYet
}

// Presence is a server operation.
func (n *Node) Presence(context.Context, *PresenceRequest) (*PresenceResult, error) {
	return nil, errNotYet
}

// PresenceStats is a server operation.
func (n *Node) PresenceStats(context.Context, *PresenceStatsRequest) (*PresenceStatsResult, error) {
	return nil, errNotYet
}

// History is a server operation.
func (n *Node) History(context.Context, *HistoryRequest) (*HistoryResult, error) {
	return nil, errNotYet
}

// HistoryRemove is a server operation.
func (n *Node) HistoryRemove(context.Context, *HistoryRemoveRequest) (*HistoryRemoveResult, error) {
	return nil, errNotYet
}

// Channels is a server operation.
func (n *Node) Channels(context.Context, *ChannelsRequest) (*ChannelsResult, error) {
	return nil, errNotYet
}

// Info is a server operation.
func (n *Node) Info(context.Context, *InfoRequest) (*InfoResult, error) { return nil, errNotYet }

// RPC is a server operation.
func (n *Node) RPC(context.Context, *RPCRequest) (*RPCResult, error) { return nil, errNotYet }

// Connections is a server operation.
func (n *Node) Connections(context.Context, *ConnectionsRequest) (*ConnectionsResult, error) {
	return nil, errNotYet
}

// UserStatus is a server operation.
func (n *Node) UserStatus(context.Context, *UserStatusRequest) (*UserStatusResult, error) {
	return nil, errNotYet
}

// BlockUser is a server operation.
func (n *Node) BlockUser(context.Context, *BlockUserRequest) (*BlockUserResult, error) {
	return nil, errNotYet
}

// UnblockUser is a server operation.
func (n *Node) UnblockUser(context.Context, *UnblockUserRequest) (*UnblockUserResult, error) {
	return nil, errNotYet
}

// RevokeToken is a server operation.
func (n *Node) RevokeToken(context.Context, *RevokeTokenRequest) (*RevokeTokenResult, error) {
	return nil, errNotYet
}

// InvalidateUserTokens is a server operation.
func (n *Node) InvalidateUserTokens(context.Context, *InvalidateUserTokensRequest) (*InvalidateUserTokensResult, error) {
	return nil, errNotYet
}
