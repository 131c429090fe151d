// Command raw-mqtt is an example of a backend of a raw route that serves a protocol which
// is there already: it brings MQTT over WebSocket to an MQTT broker, one TCP connection for
// each client, whose bytes it does not look at. So it serves anything else over TCP, too.
//
//	go run ./examples/raw-mqtt --url nats://127.0.0.1:4222 --broker 127.0.0.1:1883
//
// and give the gateway, which uses the same NATS (`nats: [nats://127.0.0.1:4222]`):
//
//	backends:
//	  servers: {iot: {url: "nats:iot"}}
//	raw:
//	  mqtt: {backend: iot, path: /mqtt, subprotocols: [mqtt], messages: binary, auth: none}
//
// The broker asks for names and passwords, as these are in MQTT's own first packet. Run one
// of these for a route: a client's messages must all come to the same. What the broker sends
// faster than a client reads waits in the gateway, which closes a client for which too much does.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/nats-io/nats.go"
)

// end is why a client is closed, as the gateway reads it.
type end struct {
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

var (
	endNormal  = &end{1000, "the MQTT broker closed the connection"}
	endRestart = &end{1012, "the bridge to the MQTT broker started anew"}
	endAway    = &end{1013, "the MQTT broker cannot be reached"}
	endSlow    = &end{1013, "the MQTT broker takes too little"}
)

// bridge holds the links of a route's clients.
type bridge struct {
	// Static after construction.
	nc     *nats.Conn
	broker string

	mu    sync.Mutex
	links map[string]*link // by client
}

func main() {
	url := flag.String("url", nats.DefaultURL, "NATS servers, comma-separated")
	prefix := flag.String("prefix", "iot", "what stands behind nats: in the gateway's configuration")
	route := flag.String("route", "mqtt", "name of the raw route")
	broker := flag.String("broker", "127.0.0.1:1883", "host:port of the MQTT broker")
	flag.Parse()
	if err := run(*url, *prefix+".raw."+*route+".in.*.*.*", *broker); err != nil {
		fmt.Fprintln(os.Stderr, "raw-mqtt:", err)
		os.Exit(1)
	}
}

func run(url, subject, broker string) error {
	b := &bridge{broker: broker, links: make(map[string]*link)}
	var err error
	b.nc, err = nats.Connect(url, nats.MaxReconnects(-1),
		// Where messages may have been lost, a stream of bytes is worth nothing any more.
		nats.DisconnectErrHandler(func(*nats.Conn, error) { b.restart() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			fmt.Fprintln(os.Stderr, "raw-mqtt:", err)
			if errors.Is(err, nats.ErrSlowConsumer) {
				b.restart()
			}
		}))
	if err != nil {
		return err
	}
	if _, err = b.nc.Subscribe(subject, b.take); err == nil {
		err = b.nc.Flush()
	}
	if err != nil {
		return err
	}
	fmt.Println("ready", strings.Join(b.nc.Servers(), ","))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	b.restart()
	return b.nc.Flush()
}

// take gets what clients send. The subject ends in client, user and kind.
func (b *bridge) take(m *nats.Msg) {
	parts := strings.Split(m.Subject, ".")
	client, kind := parts[len(parts)-3], parts[len(parts)-1]
	b.mu.Lock()
	l := b.links[client]
	b.mu.Unlock()
	switch kind {
	case "connect":
		var event struct {
			Reply string `json:"reply"`
		}
		if err := json.Unmarshal(m.Data, &event); err != nil {
			fmt.Fprintln(os.Stderr, "raw-mqtt: a connect event:", err)
			return
		}
		l = newLink(event.Reply)
		b.mu.Lock()
		b.links[client] = l
		b.mu.Unlock()
		go func() { b.end(client, l, l.carry(b.nc, b.broker)) }()
	case "disconnect":
		if l != nil {
			b.end(client, l, nil)
		}
	default:
		switch {
		case l == nil: // of the time before this process, or its link has just ended
			b.close(strings.TrimSuffix(m.Reply, "."+kind), endRestart)
		case !l.put(m.Data):
			b.end(client, l, endSlow)
		}
	}
}

// end forgets a client and closes it, unless why is nil: then it has gone itself. Only the
// first call for a link does something.
func (b *bridge) end(client string, l *link, why *end) {
	b.mu.Lock()
	mine := b.links[client] == l
	if mine {
		delete(b.links, client)
	}
	b.mu.Unlock()
	if !mine {
		return
	}
	l.finish()
	if why != nil {
		b.close(l.reply, why)
	}
}

// restart ends all links; their clients come back.
func (b *bridge) restart() {
	b.mu.Lock()
	all := b.links
	b.links = make(map[string]*link)
	b.mu.Unlock()
	for _, l := range all {
		l.finish()
		b.close(l.reply, endRestart)
	}
}

func (b *bridge) close(reply string, why *end) {
	data, err := json.Marshal(why)
	if err == nil {
		err = b.nc.Publish(reply+".close", data)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "raw-mqtt: close a client:", err)
	}
}
