package api

import (
	"context"
	"reflect"

	"roost/gateway"
)

// Operations are what the API serves. Errors that are *client.Error reach the caller,
// others do as 100 and are logged.
type Operations interface {
	Publish(context.Context, *gateway.PublishRequest) (*gateway.PublishResult, error)
	Broadcast(context.Context, *gateway.BroadcastRequest) (*gateway.BroadcastResult, error)
	Subscribe(context.Context, *gateway.SubscribeRequest) (*gateway.SubscribeResult, error)
	Unsubscribe(context.Context, *gateway.UnsubscribeRequest) (*gateway.UnsubscribeResult, error)
	Disconnect(context.Context, *gateway.DisconnectRequest) (*gateway.DisconnectResult, error)
	Refresh(context.Context, *gateway.RefreshRequest) (*gateway.RefreshResult, error)
	Presence(context.Context, *gateway.PresenceRequest) (*gateway.PresenceResult, error)
	PresenceStats(context.Context, *gateway.PresenceStatsRequest) (*gateway.PresenceStatsResult, error)
	History(context.Context, *gateway.HistoryRequest) (*gateway.HistoryResult, error)
	HistoryRemove(context.Context, *gateway.HistoryRemoveRequest) (*gateway.HistoryRemoveResult, error)
	Channels(context.Context, *gateway.ChannelsRequest) (*gateway.ChannelsResult, error)
	Info(context.Context, *gateway.InfoRequest) (*gateway.InfoResult, error)
	RPC(context.Context, *gateway.RPCRequest) (*gateway.RPCResult, error)
	Connections(context.Context, *gateway.ConnectionsRequest) (*gateway.ConnectionsResult, error)
	UserStatus(context.Context, *gateway.UserStatusRequest) (*gateway.UserStatusResult, error)
	BlockUser(context.Context, *gateway.BlockUserRequest) (*gateway.BlockUserResult, error)
	UnblockUser(context.Context, *gateway.UnblockUserRequest) (*gateway.UnblockUserResult, error)
	RevokeToken(context.Context, *gateway.RevokeTokenRequest) (*gateway.RevokeTokenResult, error)
	InvalidateUserTokens(context.Context, *gateway.InvalidateUserTokensRequest) (*gateway.InvalidateUserTokensResult, error)
	Send(context.Context, *gateway.SendRequest) (*gateway.SendResult, error)
	Drain(context.Context, *gateway.DrainRequest) (*gateway.DrainResult, error)
	DrainStatus(context.Context, *gateway.DrainStatusRequest) (*gateway.DrainResult, error)
	DrainAbort(context.Context, *gateway.DrainAbortRequest) (*gateway.DrainResult, error)
}

var _ Operations = (*gateway.Node)(nil)

// operation is one method of the API.
type operation struct {
	name, summary   string
	request, result reflect.Type
	call            func(ctx context.Context, node Operations, params []byte) (result any, err error)
}

// batch is the method that runs others. It is not an operation, so none holds another.
const batch = "batch"

// operations in the order of the description.
var operations = []operation{
	op("publish", "Send a message to all subscribers of a channel.", Operations.Publish),
	op("broadcast", "Send the same message to many channels.", Operations.Broadcast),
	op("subscribe", "Subscribe a user's connections to a channel, from the server's side.", Operations.Subscribe),
	op("unsubscribe", "End a user's subscription to a channel, or to all.", Operations.Unsubscribe),
	op("disconnect", "Close a user's connections.", Operations.Disconnect),
	op("refresh", "Prolong a user's connections, or let them expire.", Operations.Refresh),
	op("presence", "List the clients that follow a channel.", Operations.Presence),
	op("presence_stats", "Count the clients and users that follow a channel.", Operations.PresenceStats),
	op("history", "Read a channel's publications and its position.", Operations.History),
	op("history_remove", "Delete a channel's publications; its position stays.", Operations.HistoryRemove),
	op("channels", "List the channels that have subscribers.", Operations.Channels),
	op("info", "Describe the nodes of the cluster.", Operations.Info),
	op("rpc", "Call a method of the backend.", Operations.RPC),
	op("connections", "List the connections of a user, or all.", Operations.Connections),
	op("user_status", "Tell which users are online, and when the others were last.", Operations.UserStatus),
	op("block_user", "Keep a user out, and disconnect it.", Operations.BlockUser),
	op("unblock_user", "Let a blocked user in again.", Operations.UnblockUser),
	op("revoke_token", "Refuse a token, and disconnect who connected with it.", Operations.RevokeToken),
	op("invalidate_user_tokens", "Refuse a user's tokens issued before a time, and disconnect who connected with them.", Operations.InvalidateUserTokens),
	op("send", "Send a message to one client, or to all clients of a user.", Operations.Send),
	op("drain", "Disconnect a share of the clients of this node, evenly over a time; with all of them it lets nobody in.", Operations.Drain),
	op("drain_status", "Tell how far a drain of this node is.", Operations.DrainStatus),
	op("drain_abort", "End a drain of this node: the clients that are left stay.", Operations.DrainAbort),
}

func op[Request, Result any](name, summary string, f func(Operations, context.Context, *Request) (*Result, error)) operation {
	return operation{
		name: name, summary: summary,
		request: reflect.TypeFor[Request](), result: reflect.TypeFor[Result](),
		call: func(ctx context.Context, node Operations, params []byte) (any, error) {
			var r Request
			if err := decode(params, &r); err != nil {
				return nil, err
			}
			return f(node, ctx, &r)
		},
	}
}
