// Package front attaches a service to a gateway: clients call it by rpc, backends by HTTP, and it decides
// who follows the channels of its objects.
package front

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"roost/gateway"
	"roost/proto/client"
	"roost/service"
)

// Options of a Front: what a gateway must know of a service. All but Wills are required.
type Options struct {
	// Name is that of the service: clients call NAME.OPERATION, and follow NAME:KEY.
	Name string
	// Prepare finds the Key of a call. Errors are *service.Error.
	Prepare func(*service.Call) error
	// Subscribe is the operation that decides who follows a channel; its parameters are {"id": KEY}. Callers
	// cannot use it.
	Subscribe string
	// Wills are the operations by which a client has something done when it goes; without Set none does.
	Wills  WillOperations
	Logger *slog.Logger
}

// WillOperations are about what is done when a client goes.
type WillOperations struct {
	Set string // what clients call, with {"operations": […]} on an object
	Try string // decides whether it could be done, with {"id": KEY, "operations": […]}. Callers cannot use it.
	Do  string // does it
}

// Front is a service as a gateway's clients see it. Make it before the gateway, and Open it between the
// gateway's Open and Start. All methods may be called by any goroutine.
type Front struct {
	opts   Options
	router *service.Router // from Open on
	wills  wills
	deaf   func()
}

// New returns a front.
func New(o Options) *Front {
	f := &Front{opts: o}
	f.wills.init(f)
	return f
}

// Gateway is what gateway.Options.Services needs.
func (f *Front) Gateway() gateway.Service {
	return gateway.Service{Name: f.opts.Name, RPC: f.rpc, Subscribe: f.subscribe, Gone: f.wills.gone}
}

// Open connects the front with the instances of the service. heir says that the process takes over from
// another one, with its clients. Errors: broker.ErrUnavailable.
func (f *Front) Open(ctx context.Context, n *gateway.Node, r *service.Router, heir bool) (err error) {
	f.router, f.wills.has = r, n.Has
	f.deaf, err = service.HearAccess(n.Broker(), f.opts.Name, func(key string) { n.Reconsider(f.opts.Name + ":" + key) })
	if err == nil && f.opts.Wills.Set != "" {
		err = f.wills.open(ctx, n.Broker(), heir)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.opts.Name, err)
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
	result, err := f.call(ctx, c, strings.TrimPrefix(e.Method, f.opts.Name+"."), e.Data)
	return result, clientError(err)
}

// Do answers a backend. Errors are *service.Error.
func (f *Front) Do(ctx context.Context, op string, data []byte) ([]byte, error) {
	return f.call(ctx, service.Caller{Trusted: true}, op, data)
}

func (f *Front) call(ctx context.Context, from service.Caller, op string, data []byte) ([]byte, error) {
	w := f.opts.Wills
	if op == f.opts.Subscribe || op == w.Try {
		return nil, service.Errorf(service.CodeUnknownOp, "there is no operation %q", op)
	}
	c := &service.Call{Caller: from, Op: op, Data: data}
	switch err := f.opts.Prepare(c); {
	case err != nil:
		return nil, err
	case op == w.Set && c.Client == "":
		return nil, service.Errorf(service.CodeClientsOnly, "%s is for clients that are connected", op)
	case op == w.Set:
		return f.wills.set(ctx, from, c.Key, data)
	}
	return f.router.Do(ctx, c)
}

// subscribe asks whether a client may read an object.
func (f *Front) subscribe(ctx context.Context, e gateway.SubscribeEvent) (gateway.SubscribeReply, error) {
	id := strings.TrimPrefix(e.Channel, f.opts.Name+":")
	c := &service.Call{Caller: service.Caller{User: e.User, Client: e.Client}, Op: f.opts.Subscribe, Data: fmt.Appendf(nil, `{"id":%q}`, id)}
	err := f.opts.Prepare(c)
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
