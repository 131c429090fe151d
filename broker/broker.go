// Package broker carries publications between nodes and keeps their history, on NATS.
package broker

import "log/slog"

// Options of a Broker.
type Options struct {
	URLs       []string
	Dir        string
	Memory     bool
	Prefix     string
	SyncAlways bool
	Replicas   int
	Node       string
	Handler    Handler
	Logger     *slog.Logger
}

// Handler is what a Broker calls.
type Handler interface {
	Publication(ch string, pub *Publication)
	JoinLeave(ch string, join bool, info []byte)
	Gap(ch string)
	Notice(kind string, data []byte)
	Query(kind string, data []byte) (reply []byte, err error)
}

// Publication is one message of a channel.
type Publication struct {
	Offset uint64
	Epoch  string
	Data   []byte
	Info   []byte
	Tags   map[string]string
	Delta  bool
	Time   int64
}
