// Package front attaches a service to a gateway: clients call it by rpc, backends by HTTP, and it decides
// who follows the channels of its objects.
package front

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"roost/broker"
	"roost/gateway"
	"roost/proto/client"
	"roost/service"
	"roost/service/sync"
)

// Front is a service as a gateway's clients see it. Make it before the gateway, and Open it between the
// gateway's Open and Start. All methods may be called by any goroutine.
type Front struct {
	name   string
	log    *slog.Logger
	router *service.Router // from Open on
	wills  wills
	deaf   func()
}

// New returns a front for sync.
func New(log *slog.Logger) *Front {
	f := &Front{name: sync.Namespace, log: log}
	f.wills.init(f)
	return f
}

// Gateway is what gateway.Options.Services needs.
func (f *Front) Gateway() gateway.Service {
	return gateway.Service{Name: f.name, RPC: f.rpc, Subscribe: f.subscribe, Gone: f.wills.gone}
}

// Open connects the front with the instances of the service. heir says that the process takes over from
// another one, with its clients. Errors: broker.ErrUnavailable.
func (f *Front) Open(ctx context.Context, n *gateway.Node, r *service.Router, heir bool) (err error) {
	f.router, f.wills.has = r, n.Has
	b := n.Broker()
	f.deaf, err = b.Answer(sync.AccessSubject(b), "", func(m *broker.Request) { n.Reconsider(sync.Channel(string(m.Data))) })
	if err == nil {
		err = f.wills.open(ctx, b, heir)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}

// Start begins to do what clients of lost gateways have left to be done. Call it after the gateway's Start.
func (f *Front) Start() { f.wills.start() }

// Close ends the front, after the gateway's clients have gone, and waits until ctx ends for what they
// left to be done. The next one does the rest.
func (f *Front) Close(ctx context.Context) {
	if f.deaf != nil {
		f.deaf()
	}
	f.wills.close(ctx)
}

// rpc answers a client, or a backend that uses the server API.
func (f *Front) rpc(ctx context.Context, e gateway.RPCEvent) ([]byte, error) {
	c := service.Caller{User: e.User, Client: e.Client}
	if e.Transport == gateway.TransportAPI {
		c = service.Caller{Trusted: true}
	}
	result, err := f.call(ctx, c, strings.TrimPrefix(e.Method, f.name+"."), e.Data)
	return result, clientError(err)
}

// Do answers a backend. Errors are *service.Error.
func (f *Front) Do(ctx context.Context, op string, data []byte) ([]byte, error) {
	return f.call(ctx, service.Caller{Trusted: true}, op, data)
}

func (f *Front) call(ctx context.Context, from service.Caller, op string, data []byte) ([]byte, error) {
	if op == sync.OpSubscribe || op == sync.OpTry {
		return nil, service.Errorf(sync.CodeUnknownOp, "there is no operation %q", op)
	}
	c := &service.Call{Caller: from, Op: op, Data: data}
	switch err := sync.Prepare(c); {
	case err != nil:
		return nil, err
	case op == sync.OpGone && c.Client == "":
		return nil, service.Errorf(sync.CodeClientsOnly, "%s is for clients that are connected", op)
	case op == sync.OpGone:
		return f.wills.set(ctx, from, c.Key, data)
	}
	return f.router.Do(ctx, c)
}

// subscribe asks whether a client may read an object.
func (f *Front) subscribe(ctx context.Context, e gateway.SubscribeEvent) (gateway.SubscribeReply, error) {
	id := strings.TrimPrefix(e.Channel, f.name+":")
	c := &service.Call{Caller: service.Caller{User: e.User, Client: e.Client}, Op: sync.OpSubscribe, Data: fmt.Appendf(nil, `{"id":%q}`, id)}
	err := sync.Prepare(c)
	if err == nil {
		_, err = f.router.Do(ctx, c)
	}
	return gateway.SubscribeReply{}, clientError(err)
}

// clientError is an error as clients get it.
func clientError(err error) error {
	var own *service.Error
	if errors.As(err, &own) {
		return &client.Error{Code: own.Code, Message: own.Message, Temporary: own.Temporary}
	}
	return err
}
