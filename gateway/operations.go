package gateway

import (
	"encoding/json"

	"roost/auth"
)

// The requests and results of the server operations. Names are those of the HTTP API.
type (
	PublishRequest struct {
		Channel        string            `json:"channel"`
		Data           json.RawMessage   `json:"data,omitempty"`
		B64Data        []byte            `json:"b64data,omitempty"` // instead of Data
		SkipHistory    bool              `json:"skip_history,omitempty"`
		Tags           map[string]string `json:"tags,omitempty"`
		IdempotencyKey string            `json:"idempotency_key,omitempty"`
		Delta          bool              `json:"delta,omitempty"`
		Version        uint64            `json:"version,omitempty"`
		VersionEpoch   string            `json:"version_epoch,omitempty"`
	}
	PublishResult struct {
		Offset uint64 `json:"offset,omitempty"`
		Epoch  string `json:"epoch,omitempty"`
	}
	BroadcastRequest struct {
		Channels       []string          `json:"channels"`
		Data           json.RawMessage   `json:"data,omitempty"`
		B64Data        []byte            `json:"b64data,omitempty"`
		SkipHistory    bool              `json:"skip_history,omitempty"`
		Tags           map[string]string `json:"tags,omitempty"`
		IdempotencyKey string            `json:"idempotency_key,omitempty"`
		Delta          bool              `json:"delta,omitempty"`
		Version        uint64            `json:"version,omitempty"`
		VersionEpoch   string            `json:"version_epoch,omitempty"`
	}
	// BroadcastResult has one response per channel, in the order asked.
	BroadcastResult struct {
		Responses []PublishResponse `json:"responses"`
	}
	PublishResponse struct {
		Error  *OperationError `json:"error,omitempty"`
		Result *PublishResult  `json:"result,omitempty"`
	}
	OperationError struct {
		Code    uint32 `json:"code"`
		Message string `json:"message"`
	}
	StreamPosition struct {
		Offset uint64 `json:"offset"`
		Epoch  string `json:"epoch"`
	}
	// SubscribeOverride is the same as in tokens.
	SubscribeOverride = auth.SubscribeOverride
	BoolValue         = auth.BoolValue
	// SubscribeRequest subscribes the connections of a user, from the server's side.
	SubscribeRequest struct {
		User         string             `json:"user"`
		Channel      string             `json:"channel"`
		Client       string             `json:"client,omitempty"` // this connection only
		Session      string             `json:"session,omitempty"`
		Info         json.RawMessage    `json:"info,omitempty"`
		Data         json.RawMessage    `json:"data,omitempty"`
		ExpireAt     int64              `json:"expire_at,omitempty"` // Unix seconds
		RecoverSince *StreamPosition    `json:"recover_since,omitempty"`
		Override     *SubscribeOverride `json:"override,omitempty"`
	}
	SubscribeResult    struct{}
	UnsubscribeRequest struct {
		User    string `json:"user"`
		Channel string `json:"channel"`
		Client  string `json:"client,omitempty"`
		Session string `json:"session,omitempty"`
	}
	UnsubscribeResult struct{}
	DisconnectCode    struct {
		Code   uint32 `json:"code"`
		Reason string `json:"reason"`
	}
	DisconnectRequest struct {
		User       string          `json:"user"`
		Client     string          `json:"client,omitempty"`
		Session    string          `json:"session,omitempty"`
		Whitelist  []string        `json:"whitelist,omitempty"` // clients that stay
		Disconnect *DisconnectCode `json:"disconnect,omitempty"`
	}
	DisconnectResult struct{}
	RefreshRequest   struct {
		User     string          `json:"user"`
		Client   string          `json:"client,omitempty"`
		Session  string          `json:"session,omitempty"`
		Expired  bool            `json:"expired,omitempty"`
		ExpireAt int64           `json:"expire_at,omitempty"` // Unix seconds, 0 = never
		Info     json.RawMessage `json:"info,omitempty"`
	}
	RefreshResult   struct{}
	PresenceRequest struct {
		Channel string `json:"channel"`
	}
	ClientInfo struct {
		User     string          `json:"user"`
		Client   string          `json:"client"`
		ConnInfo json.RawMessage `json:"conn_info,omitempty"`
		ChanInfo json.RawMessage `json:"chan_info,omitempty"`
	}
	PresenceResult struct {
		Presence map[string]ClientInfo `json:"presence"` // by client
	}
	PresenceStatsRequest struct {
		Channel string `json:"channel"`
	}
	PresenceStatsResult struct {
		NumClients uint32 `json:"num_clients"`
		NumUsers   uint32 `json:"num_users"`
	}
	HistoryRequest struct {
		Channel string          `json:"channel"`
		Limit   int32           `json:"limit,omitempty"` // 0: position only, -1: all
		Since   *StreamPosition `json:"since,omitempty"`
		Reverse bool            `json:"reverse,omitempty"`
	}
	Publication struct {
		Data   json.RawMessage   `json:"data,omitempty"`
		B64    []byte            `json:"b64data,omitempty"` // where the data is not JSON
		Info   *ClientInfo       `json:"info,omitempty"`
		Offset uint64            `json:"offset,omitempty"`
		Tags   map[string]string `json:"tags,omitempty"`
		Time   int64             `json:"time,omitempty"` // Unix milliseconds
	}
	HistoryResult struct {
		Publications []Publication `json:"publications"`
		Offset       uint64        `json:"offset"`
		Epoch        string        `json:"epoch"`
	}
	HistoryRemoveRequest struct {
		Channel string `json:"channel"`
	}
	HistoryRemoveResult struct{}
	ChannelsRequest     struct {
		Pattern string `json:"pattern,omitempty"` // path.Match syntax; empty: all
	}
	ChannelInfo struct {
		NumClients uint32 `json:"num_clients"`
	}
	ChannelsResult struct {
		Channels map[string]ChannelInfo `json:"channels"`
	}
	InfoRequest struct{}
	NodeInfo    struct {
		UID         string `json:"uid"`
		Name        string `json:"name"`
		Version     string `json:"version"`
		NumClients  uint32 `json:"num_clients"`
		NumUsers    uint32 `json:"num_users"`
		NumSubs     uint32 `json:"num_subs"`
		NumChannels uint32 `json:"num_channels"`
		Uptime      uint32 `json:"uptime"` // seconds
	}
	InfoResult struct {
		Nodes []NodeInfo `json:"nodes"`
	}
	RPCRequest struct {
		Method string          `json:"method"`
		Params json.RawMessage `json:"params,omitempty"`
	}
	RPCResult struct {
		Data json.RawMessage `json:"data,omitempty"`
	}
	ConnectionsRequest struct {
		User       string `json:"user"` // empty: all
		Expression string `json:"expression,omitempty"`
	}
	ConnectionInfo struct {
		User        string   `json:"user"`
		Node        string   `json:"node"`
		Transport   string   `json:"transport"`
		Protocol    string   `json:"protocol"`
		Channels    []string `json:"channels,omitempty"`
		ConnectedAt int64    `json:"connected_at,omitempty"` // Unix seconds, to ten
		Session     string   `json:"session,omitempty"`      // of an emulated client; who knows it speaks for the client
	}
	ConnectionsResult struct {
		Connections map[string]ConnectionInfo `json:"connections"` // by client
	}
	UserStatusRequest struct {
		Users []string `json:"users"`
	}
	UserStatus struct {
		User     string `json:"user"`
		Online   bool   `json:"online"`
		LastSeen int64  `json:"last_seen,omitempty"` // Unix seconds; online: now
	}
	UserStatusResult struct {
		Statuses []UserStatus `json:"statuses"`
	}
	BlockUserRequest struct {
		User     string `json:"user"`
		ExpireAt int64  `json:"expire_at,omitempty"` // Unix seconds; 0: a year
	}
	BlockUserResult    struct{}
	UnblockUserRequest struct {
		User string `json:"user"`
	}
	UnblockUserResult  struct{}
	RevokeTokenRequest struct {
		ID       string `json:"uid"` // the token's jti
		ExpireAt int64  `json:"expire_at,omitempty"`
	}
	RevokeTokenResult           struct{}
	InvalidateUserTokensRequest struct {
		User         string `json:"user"`
		IssuedBefore int64  `json:"issued_before,omitempty"` // Unix seconds; 0: now
		ExpireAt     int64  `json:"expire_at,omitempty"`
	}
	InvalidateUserTokensResult struct{}
)
