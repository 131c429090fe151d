// Package client is a client of the gateway's shared state, see docs/sync.md: documents, maps, lists and
// streams, with their changes as events, over one connection of centrifuge-go.
//
// A write that gets no answer, since the connection is away or was lost meanwhile, is sent again until its
// context ends, with a key by which the service does it once. Events of an object come one after the other,
// each once, in the order of its log, also over disconnects.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// Options of New. The zero value connects as nobody, in JSON.
type Options struct {
	// Token of the connection, or GetToken, which is also asked for a new one when it expires. Without either that
	// of Config holds.
	Token    string
	GetToken func() (string, error)
	// Protobuf is the encoding on the wire instead of JSON; what one writes and reads is JSON with both.
	Protobuf bool
	// Config is that of centrifuge-go, for all else.
	Config centrifuge.Config
}

// Client is one connection. Its methods may be called by any goroutine.
type Client struct {
	link *centrifuge.Client

	mu   sync.Mutex
	logs map[string]*log // by the object's id
}

// New makes a client of the gateway at a URL such as wss://example.com/connection/websocket. Connect it then.
func New(url string, o Options) *Client {
	connect := centrifuge.NewJsonClient
	if o.Protobuf {
		connect = centrifuge.NewProtobufClient
	}
	return &Client{link: connect(url, o.config()), logs: make(map[string]*log)}
}

func (o *Options) config() centrifuge.Config {
	config := o.Config
	if o.Token != "" {
		config.Token = o.Token
	}
	if o.GetToken != nil {
		config.GetToken = func(centrifuge.ConnectionTokenEvent) (string, error) { return o.GetToken() }
	}
	return config
}

// Centrifuge returns the connection itself: channels, presence, history, rpc.
func (c *Client) Centrifuge() *centrifuge.Client { return c.link }

// Connect begins to connect, and to connect again whenever the connection is lost.
func (c *Client) Connect() error { return c.link.Connect() }

// Close ends the connection for good.
func (c *Client) Close() { c.link.Close() }

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// call does an operation until it is answered or ctx ends, or once.
func (c *Client) call(ctx context.Context, op string, params, result any, once bool) error {
	text, err := json.Marshal(params)
	if err != nil {
		return err
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		answer, err := c.link.RPC(ctx, "sync."+op, text)
		if err == nil {
			if result == nil {
				return nil
			}
			return json.Unmarshal(answer.Data, result)
		}
		err, final := failure(err)
		if final || once || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
