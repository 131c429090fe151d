package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"roost/auth"
)

// Handlers are the application's part in what clients do: Go functions of a program
// that embeds the gateway, or package backend, which asks a backend over HTTP or NATS.
//
// Each call runs on a goroutine of its own, of which there are at most
// Options.MaxCalls, and may block until its context ends (Options.CallTimeout). An
// error that is a *client.Error or a *client.Disconnect is what the client gets;
// context.DeadlineExceeded and any other become error 100, and the latter are logged.
// A nil function is a command that is not available.
type Handlers struct {
	// RPC answers a client's rpc command with JSON, or with any bytes for clients
	// whose encoding is Protobuf.
	RPC func(context.Context, RPCEvent) (data []byte, err error)
	// Message takes a client's send command, which has no answer; only a
	// *client.Disconnect reaches the client.
	Message func(context.Context, MessageEvent) error

	// Connect decides on clients that connect without a token; one with a token is let
	// in by that alone. Until it has answered, the client's other commands wait.
	Connect func(context.Context, ConnectEvent) (ConnectReply, error)
	// Subscribe and Publish decide instead of the namespace's allow-subscribe and
	// allow-publish, for subscriptions without a token. Later commands of the client
	// that name the channel wait for the answer, others go on. The calls for a connect
	// or a subscribe command end with the connection, those for a publish do not.
	Subscribe func(context.Context, SubscribeEvent) (SubscribeReply, error)
	Publish   func(context.Context, PublishEvent) (PublishReply, error)
	// Refresh and SubRefresh are asked whether a client, or a subscription, that was let in
	// for a time may go on: when eight to nine tenths of the time are over, about each that
	// expires, by a token or not. It is theirs alone then to end it, and clients are not told
	// to refresh a token. After an error, which does the client no harm, they are asked again
	// within a minute; a *client.Disconnect ends the connection. At most 64 calls of Refresh
	// and 64 for each SubRefreshBackend are under way, apart from Options.MaxCalls; others
	// wait. Clients of raw routes end without being asked about.
	Refresh    func(context.Context, RefreshEvent) (RefreshReply, error)
	SubRefresh func(context.Context, SubRefreshEvent) (SubRefreshReply, error)
	// ByNamespace says that Subscribe, Publish and SubRefresh are only asked for channels
	// whose namespace names a SubscribeBackend, PublishBackend or SubRefreshBackend;
	// otherwise for all channels.
	ByNamespace bool

	// Disconnect is told of each client that was connected and has gone, Unsubscribe of
	// each subscription that ended before its client did: at least once each, in no order,
	// by whichever node of the cluster, for as long as Options.Events says. No client
	// waits for them. An event is taken if nil is returned, or a *client.Error that is
	// not Temporary; after any other error it comes again. The number of calls is bounded by
	// Options.Events instead of MaxCalls.
	Disconnect  func(context.Context, DisconnectEvent) error
	Unsubscribe func(context.Context, UnsubscribeEvent) error

	// RawAuthorize says before an upgrade whether a client of a raw route may come in.
	// A *client.Error becomes status 403, or 401 if it is client.ErrUnauthorized.
	RawAuthorize func(context.Context, RawRequest) (RawIdentity, error)
	// RawConnect, RawMessage and RawDisconnect are told of clients of raw routes without
	// a Subject, for one client one after the other. What they return is sent to the
	// client as it is; an error closes it with 1013, a *client.Error with 1011. RawConnect
	// and RawDisconnect may be nil.
	RawConnect    func(context.Context, RawRequest) (RawData, error)
	RawMessage    func(context.Context, RawMessage) (RawData, error)
	RawDisconnect func(context.Context, RawDisconnect) error
}

// Transports of a Peer.
const (
	TransportWebSocket  = "websocket"
	TransportSSE        = "sse"
	TransportHTTPStream = "http_stream"
	TransportRaw        = "raw"
	TransportAPI        = "api" // no client, but the server API
)

// Peer is the client an event comes from.
type Peer struct {
	Client    string `json:"client"`
	Transport string `json:"transport"` // one of the Transport constants
	Protocol  string `json:"protocol"`  // json, protobuf or the name of a raw route
	Encoding  string `json:"encoding"`  // of data: json or binary
	User      string `json:"user,omitempty"`
	// Meta is what the connection's token says for backends only.
	Meta json.RawMessage `json:"meta,omitempty"`
	// Headers of the upgrade request by lower-case names, those of Options.Headers that it
	// had. Not of events that are told after the fact, nor of clients of raw routes.
	Headers map[string]string `json:"-"`
}

// RPCEvent is an rpc command.
type RPCEvent struct {
	Peer
	Method string
	Data   []byte
}

// MessageEvent is a send command.
type MessageEvent struct {
	Peer
	Data []byte
}

// ConnectEvent is a connect command without a token; its Peer has no user yet.
type ConnectEvent struct {
	Peer
	Name, Version string   // of the client, as it says
	Channels      []string // whose server-side subscriptions it wants to recover
	Data          []byte
}

// ConnectReply lets a client in.
type ConnectReply struct {
	User     string // "" is nobody
	ExpireAt int64  // Unix seconds, 0 never
	Info     []byte // JSON shown to others, or bytes
	Data     []byte // for the client
	Meta     json.RawMessage
	Channels []string // to subscribe the client to
	Subs     map[string]auth.SubOptions
}

// SubscribeEvent is a subscribe command without a token.
type SubscribeEvent struct {
	Peer
	Backend string // of the namespace
	Channel string
	Data    []byte
}

// SubscribeReply allows a subscription.
type SubscribeReply struct {
	Info, Data []byte // for others, and for the client
	ExpireAt   int64  // Unix seconds, 0 never
	Override   auth.Override
}

// PublishEvent is a publish command.
type PublishEvent struct {
	Peer
	Backend string // of the namespace
	Channel string
	Data    []byte
}

// PublishReply allows a publication.
type PublishReply struct {
	Data        []byte // instead of the client's; nil keeps that
	SkipHistory bool
	Tags        map[string]string
}

// RefreshEvent is a client that was let in for a time, which is nearly over.
type RefreshEvent struct{ Peer }

// RefreshReply says whether the client stays.
type RefreshReply struct {
	Expired  bool   // it ends now, with client.DisconnectExpired
	ExpireAt int64  // Unix seconds, 0 never; asked again before
	Info     []byte // JSON shown to others, or bytes; nil keeps what there is
	Meta     json.RawMessage
}

// SubRefreshEvent is a subscription that was allowed for a time, which is nearly over.
type SubRefreshEvent struct {
	Peer
	Backend string // of the namespace
	Channel string
}

// SubRefreshReply says whether the subscription stays.
type SubRefreshReply struct {
	Expired  bool   // it ends now, with client.UnsubscribeExpired
	ExpireAt int64  // Unix seconds, 0 never; asked again before
	Info     []byte // for others; nil keeps what there is
}

// pend tells whether commands may have to wait for calls.
func (o *Options) pend() bool {
	h := &o.Handlers
	return h.Connect != nil || h.Subscribe != nil || h.Publish != nil || len(o.Services) > 0
}

// answer tells whose backend nobody speaks for.
func (h *Handlers) answer(c *Channels) error {
	unasked := func(ns *Namespace) bool {
		return ns.SubscribeBackend != "" && h.Subscribe == nil || ns.PublishBackend != "" && h.Publish == nil ||
			ns.SubRefreshBackend != "" && h.SubRefresh == nil
	}
	for name, ns := range c.named {
		if unasked(ns) {
			return fmt.Errorf("gateway: namespace %q names a backend, but there is no handler that asks it", name)
		}
	}
	if unasked(&c.Default) {
		return errors.New("gateway: the channels without a namespace name a backend, but there is no handler that asks it")
	}
	return nil
}

func (h *Handlers) asksSubscribe(ns *Namespace) bool {
	return ns.service != nil || h.Subscribe != nil && (!h.ByNamespace || ns.SubscribeBackend != "")
}

func (h *Handlers) asksPublish(ns *Namespace) bool {
	return ns.service == nil && h.Publish != nil && (!h.ByNamespace || ns.PublishBackend != "")
}

func (h *Handlers) asksSubRefresh(ns *Namespace) bool {
	return ns.service == nil && h.SubRefresh != nil && (!h.ByNamespace || ns.SubRefreshBackend != "")
}
