package gateway

import (
	"context"
	"fmt"
	"strings"

	"roost/broker"
	"roost/proto/client"
)

// Service is a part of what clients can do that another package answers for: the rpc methods NAME.OP, and
// the channels NAME:REST, to which nobody else publishes. Their history is a log, see
// broker.PublishOptions.Kept.
type Service struct {
	Name string // [a-z]+
	// RPC answers a method as Handlers.RPC does; the event's transport is TransportAPI for the server API.
	RPC func(context.Context, RPCEvent) (data []byte, err error)
	// Subscribe decides who follows a channel, as Handlers.Subscribe does.
	Subscribe func(context.Context, SubscribeEvent) (SubscribeReply, error)
	// Gone is told of each client that was connected and has gone; not of one that another process has
	// taken over. It must not block. Any goroutine.
	Gone func(clientID string)
}

// namespace is that of the service's channels.
func (v *Service) namespace() *Namespace {
	return &Namespace{HistorySize: broker.KeptSize, ForceRecovery: true, Delta: true, service: v}
}

// prepareServices makes their channels known, after those of the configuration.
func (o *Options) prepareServices() error {
	for i := range o.Services {
		v := &o.Services[i]
		switch {
		case v.Name == "" || strings.Trim(v.Name, "abcdefghijklmnopqrstuvwxyz") != "":
			return fmt.Errorf("gateway: the name of a service is %q, must be of a-z", v.Name)
		case v.RPC == nil || v.Subscribe == nil || v.Gone == nil:
			return fmt.Errorf("gateway: the service %s lacks a function", v.Name)
		case o.Channels.named[v.Name] != nil:
			return fmt.Errorf("gateway: the namespace %q belongs to the service of that name", v.Name)
		}
		o.Channels.named[v.Name] = v.namespace()
	}
	return nil
}

// rpc returns who answers a method; nil is nobody.
func (o *Options) rpc(method string) func(context.Context, RPCEvent) ([]byte, error) {
	name, _, ok := strings.Cut(method, ".")
	for i := range o.Services {
		if ok && o.Services[i].Name == name {
			return o.Services[i].RPC
		}
	}
	return o.Handlers.RPC
}

// errOfService says why nobody else writes to a channel.
var errOfService = client.BadRequest("the channel belongs to a service: use its operations")

// Has tells whether a client is connected to this node.
func (n *Node) Has(clientID string) bool { return n.find(clientID) != nil }

// Reconsider has all clients of this node that follow a channel subscribe again, so that whoever may no
// more is refused; the others miss nothing.
func (n *Node) Reconsider(channel string) {
	if ch := n.hub.Channel(channel); ch != nil {
		n.hub.Reset(ch)
	}
}
