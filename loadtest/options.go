// Package loadtest loads a WebSocket server and says what that cost: epoll clients that take less than 1 KB
// each, open-loop pacing dated from the intended send, every payload checked, and the server's memory and CPU
// read from outside. It works against any RFC 6455 server and needs Linux (elsewhere it compiles and says so).
//
// The work is cut into nodes: a node is an event loop of this process or a child process that holds some of
// its own (fleet.go). Nodes take commands and answer with events; all they count is additive, so merging
// threads and processes is one addition (stats.go).
package loadtest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Scenario names what the clients do.
type Scenario string

// The scenarios; cmd/roost-load has one command for each.
const (
	Idle   Scenario = "idle"   // connect in steps and stay
	Echo   Scenario = "echo"   // every message must come back
	Fanout Scenario = "fanout" // one sends, all receive
	Storm  Scenario = "storm"  // connect, upgrade, close, again and again
	Soak   Scenario = "soak"   // echo for long, with connections coming and going

	// These speak the client protocol.
	Clients   Scenario = "clients"   // connect and subscribe in steps, and stay
	Join      Scenario = "join"      // connect, subscribe, close, again and again
	Publish   Scenario = "publish"   // publish through the server's API; all subscribers receive
	Reconnect Scenario = "reconnect" // the same, while connections are cut and come back
	RPC       Scenario = "rpc"       // call a method of the server's backend, whose data must come back
	Upgrade   Scenario = "upgrade"   // publish and receive while the server is replaced
)

// Options says what to do. The struct tags name the command-line flags (kong); keys in scenario files are the
// same names.
type Options struct {
	Scenario Scenario `kong:"-" json:"scenario"`

	URL         string        `help:"Where to connect, e.g. ws://127.0.0.1:8000/echo." placeholder:"URL" json:"url"`
	Connections int           `help:"Connections to hold." default:"1000" json:"connections"`
	Duration    time.Duration `help:"Length of the measured phase." default:"10s" json:"duration_ns"`
	Messages    int64         `help:"Messages (storm: upgrades) in total; wins over --duration. 0 = by duration." json:"messages"`
	Size        int           `help:"Payload bytes per message, at least 16." default:"128" json:"size"`
	Rate        float64       `help:"Messages per second in total, open loop; 0 = closed loop." json:"rate"`
	Ramp        time.Duration `help:"Let the rate grow from 0 over this long." json:"ramp_ns"`

	ConnectRate     float64       `help:"Connects per second; 0 = as fast as possible." json:"connect_rate"`
	ConnectParallel int           `help:"Connects in flight at most." default:"128" json:"connect_parallel"`
	Sources         int           `help:"Loopback source addresses in rotation; 0 = as many as needed." json:"sources"`
	Processes       int           `help:"Processes; 0 = as many as the descriptor limit demands." json:"processes"`
	Threads         int           `help:"Event loops per process." default:"1" json:"threads"`
	Timeout         time.Duration `help:"Limit for a connect with upgrade, and for the last answers." default:"10s" json:"timeout_ns"`
	Header          []string      `help:"Extra header of the upgrade request, 'Name: value'; may be repeated." sep:"none" json:"header,omitempty"`
	Deflate         bool          `help:"Offer permessage-deflate and use it where the server agrees." json:"deflate"`

	PID     int    `name:"pid" help:"Server process: its RSS and CPU are read from /proc." json:"pid,omitempty"`
	Metrics string `help:"The server's Prometheus page, instead of --pid." placeholder:"URL" json:"metrics,omitempty"`

	Hold   *time.Duration `help:"How long to stay quiet after the last connect (default: idle 5s, others 0s)." json:"hold_ns,omitempty"`
	Settle time.Duration  `help:"idle: wait before each RSS sample." default:"3s" json:"settle_ns"`
	Steps  int            `help:"idle: RSS samples taken while connecting." default:"5" json:"steps"`
	Abort  bool           `help:"storm: end with RST instead of a closing handshake." json:"abort,omitempty"`
	Churn  float64        `help:"soak: connections replaced per second; 0 = a sixtieth of all. reconnect: sessions cut per second at random, instead of --cut." json:"churn,omitempty"`

	// Of the scenarios that speak the client protocol.
	Protocol        string  `help:"Encoding: json or protobuf." enum:"json,protobuf" default:"json" group:"Client protocol" json:"protocol,omitempty"`
	Channels        int     `help:"Channels in total; 0 = every client has its own." default:"1" group:"Client protocol" json:"channels,omitempty"`
	Subscriptions   int     `help:"Channels that each client subscribes to." default:"1" group:"Client protocol" json:"subscriptions,omitempty"`
	Channel         string  `help:"What names of channels begin with; a number follows." default:"load-" group:"Client protocol" json:"channel,omitempty"`
	HMACSecret      string  `name:"hmac-secret" help:"Make tokens for user-0, user-1, ... with it; else clients are anonymous." env:"ROOST_HMAC_SECRET" group:"Client protocol" json:"hmac_secret,omitempty"`
	API             string  `name:"api" help:"publish, reconnect: the server's API, e.g. http://127.0.0.1:8001/api." group:"Client protocol" placeholder:"URL" json:"api,omitempty"`
	APIKey          string  `name:"api-key" help:"Its key." env:"ROOST_API_KEY" group:"Client protocol" json:"-"`
	Publishers      int     `help:"Requests to the API at the same time; a channel's follow each other." default:"16" group:"Client protocol" json:"publishers,omitempty"`
	Cut             float64 `help:"reconnect: share of the clients to be cut at once, in the middle of the publications." default:"1" group:"Client protocol" json:"cut,omitempty"`
	Method          string  `help:"rpc: what is called; its answer must be the data that was sent." default:"echo" group:"Client protocol" json:"method,omitempty"`
	InFlight        int     `help:"rpc: calls that each client may have under way; has, without --rate." default:"1" group:"Client protocol" json:"in_flight,omitempty"`
	Data            string  `placeholder:"JSON" help:"rpc: what is sent, instead of data that are checked when they come back; {client} in it is the number of the client, {n} that of its call." group:"Client protocol" json:"data,omitempty"`
	Verify          bool    `help:"rpc: check what is answered." default:"true" negatable:"" group:"Client protocol" json:"verify,omitempty"`
	AllowErrors     bool    `help:"rpc: answers with an error are counted, and no failure." group:"Client protocol" json:"allow_errors,omitempty"`
	Bystanders      int     `help:"rpc: how many of the clients call --bystander-method instead and are told apart; all is the measure without the load." group:"Client protocol" json:"bystanders,omitempty"`
	BystanderMethod string  `help:"rpc: what they call, best of another backend." default:"echo" group:"Client protocol" json:"bystander_method,omitempty"`
	BystanderRate   float64 `help:"rpc: their calls per second in total, always open loop, one at a time each." default:"100" group:"Client protocol" json:"bystander_rate,omitempty"`

	// Of upgrade.
	Run    string        `name:"command" help:"upgrade: shell command that replaces the server, e.g. 'roost upgrade --config roost.yaml'; none: --duration is watched. reconnect: one that ends it, see --next." group:"Upgrade" json:"run,omitempty"`
	Times  int           `help:"How often it is run." default:"1" group:"Upgrade" json:"times,omitempty"`
	Before time.Duration `help:"Time before the first." default:"5s" group:"Upgrade" json:"before_ns,omitempty"`
	Pause  time.Duration `help:"Time between two." default:"5s" group:"Upgrade" json:"pause_ns,omitempty"`
	After  time.Duration `help:"Time after the last." default:"5s" group:"Upgrade" json:"after_ns,omitempty"`
	Limit  time.Duration `name:"command-timeout" help:"The command is killed after this long." default:"1m" group:"Upgrade" json:"command_timeout_ns,omitempty"`
	Large  int           `help:"Payload bytes of one client in 50, which sends in fragments with a pause between; 0 = none." default:"8192" group:"Upgrade" json:"large,omitempty"`
	Token  string        `help:"upgrade: connection token of all clients, instead of --hmac-secret." env:"ROOST_TOKEN" group:"Client protocol" json:"-"`

	Away time.Duration `help:"reconnect: how long those cut stay away." group:"Client protocol" json:"away_ns,omitempty"`
	Next string        `help:"reconnect: where those go whose connection ends, whoever ended it: another node's URL. Then --command may kill the first node, instead of --cut." group:"Client protocol" placeholder:"URL" json:"next,omitempty"`
}

// Limits of what one run may ask for.
const (
	maxConnections = 16 << 20
	maxSize        = 16 << 20
	maxProcesses   = 1024
	maxThreads     = 64
	maxInFlight    = 1024
	maxSources     = 60_000 // 127.0.0.1 to 127.0.236.56
)

// validate says what is wrong, where, and what would be right.
func (o *Options) validate() error {
	type rule struct {
		bad  bool
		text string
	}
	paced := o.Scenario == Echo || o.Scenario == Soak || o.Scenario == Fanout || o.Scenario == RPC || o.Scenario == Upgrade || o.publishes()
	for _, r := range []rule{
		{o.Connections < 1 || o.Connections > maxConnections, fmt.Sprintf("--connections %d: must be 1 to %d", o.Connections, maxConnections)},
		{o.Size < headerSize || o.Size > maxSize, fmt.Sprintf("--size %d: must be %d to %d bytes (%d hold connection, sequence and time)", o.Size, headerSize, maxSize, headerSize)},
		{o.Messages < 0, "--messages must not be negative"},
		{o.Duration <= 0 && o.Messages == 0 && !o.holds(), "--duration must be positive, or give --messages"},
		{o.Scenario == Soak && o.Duration <= 0, "soak runs for a --duration; it must be positive"},
		{o.Scenario == Soak && o.Rate <= 0, "soak is paced: give --rate, messages per second in total"},
		{o.Rate < 0 || o.ConnectRate < 0 || o.Churn < 0, "rates must not be negative; 0 means unpaced"},
		{o.Rate > 0 && !paced, fmt.Sprintf("--rate paces messages and %s sends none; pace connects by --connect-rate", o.Scenario)},
		{o.Ramp > 0 && o.Rate == 0, "--ramp needs a --rate to grow to"},
		{o.Ramp < 0, "--ramp must not be negative"},
		{o.ConnectParallel < 1, "--connect-parallel must be at least 1"},
		{o.Sources < 0 || o.Sources > maxSources, fmt.Sprintf("--sources %d: must be 0 to %d", o.Sources, maxSources)},
		{o.Processes < 0 || o.Processes > maxProcesses, fmt.Sprintf("--processes %d: must be 0 to %d", o.Processes, maxProcesses)},
		{o.Threads < 1 || o.Threads > maxThreads, fmt.Sprintf("--threads %d: must be 1 to %d", o.Threads, maxThreads)},
		{o.Timeout <= 0, "--timeout must be positive"},
		{o.holds() && o.Steps < 1, "--steps must be at least 1"},
		{o.hold() < 0 || o.Settle < 0, "--hold and --settle must not be negative"},
		{o.PID < 0, "--pid must be a process id"},
		{o.PID > 0 && o.Scenario == Upgrade, "--pid: upgrade finds the processes by who listens at --url, as they come and go"},
		{o.PID > 0 && o.Metrics != "", "--pid and --metrics are alternatives: give one"},
		{o.Abort && !o.storms() && o.Scenario != Reconnect, "--abort belongs to storm, join and reconnect"},
		{o.Next != "" && o.Scenario != Reconnect, "--next belongs to reconnect"},
		{o.Churn > 0 && o.Scenario != Soak && o.Scenario != Reconnect, "--churn belongs to soak and reconnect"},
	} {
		if r.bad {
			return errors.New(r.text)
		}
	}
	if err := o.validateProtocol(); err != nil {
		return err
	}
	if err := o.validateUpgrade(); err != nil {
		return err
	}
	for _, h := range o.Header {
		if name, _, ok := strings.Cut(h, ":"); !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(h, "\r\n") {
			return fmt.Errorf("--header %q: write it as 'Name: value'", h)
		}
	}
	if o.Next != "" {
		if _, err := parseURL("--next", o.Next); err != nil {
			return err
		}
	}
	_, err := parseURL("--url", o.URL)
	return err
}

// maxSubscriptions bounds what a node keeps of its clients' channels.
const maxSubscriptions = 64 << 20

// validateProtocol checks what only scenarios of the client protocol use.
func (o *Options) validateProtocol() error {
	if !o.speaks() {
		return nil
	}
	for _, r := range []struct {
		bad  bool
		text string
	}{
		{o.Protocol != "json" && o.Protocol != "protobuf", fmt.Sprintf("--protocol %q: must be json or protobuf", o.Protocol)},
		{o.Deflate, "--deflate is for echo and its kin: clients of the protocol send too little"},
		{o.Channels < 0 || o.Subscriptions < 0, "--channels and --subscriptions must not be negative"},
		{o.Channels > 0 && o.Subscriptions > o.Channels, fmt.Sprintf("--subscriptions %d: there are only --channels %d", o.Subscriptions, o.Channels)},
		{o.Connections*o.Subscriptions > maxSubscriptions, fmt.Sprintf("--connections times --subscriptions must be at most %d", maxSubscriptions)},
		{o.publishes() && o.Subscriptions < 1, "--subscriptions must be at least 1: somebody has to receive what is published"},
		{o.publishes() && o.Size < publicationSize, fmt.Sprintf("--size %d: a publication takes at least %d bytes", o.Size, publicationSize)},
		{o.publishes() && o.API == "", "--api is missing: give the server's API, e.g. http://127.0.0.1:8001/api"},
		{o.publishes() && (o.Publishers < 1 || o.Publishers > maxPublishers), fmt.Sprintf("--publishers %d: must be 1 to %d", o.Publishers, maxPublishers)},
		{o.Scenario == RPC && o.Size < publicationSize, fmt.Sprintf("--size %d: the data of a call takes at least %d bytes", o.Size, publicationSize)},
		{o.Scenario == RPC && (o.InFlight < 1 || o.InFlight > maxInFlight), fmt.Sprintf("--in-flight %d: must be 1 to %d", o.InFlight, maxInFlight)},
		{o.Scenario == RPC && (o.Bystanders < 0 || o.Bystanders > o.Connections), fmt.Sprintf("--bystanders %d: must be 0 to --connections %d", o.Bystanders, o.Connections)},
		{o.Scenario == RPC && o.BystanderRate <= 0, "--bystander-rate must be positive"},
		{o.Scenario == RPC && (o.Method == "" || o.BystanderMethod == ""), "--method and --bystander-method must not be empty"},
		{o.Scenario == Reconnect && o.Rate <= 0, "reconnect is paced: give --rate, publications per second in total"},
		{o.Cut < 0 || o.Cut > 1, "--cut is a share: 0 to 1"},
		{o.Away < 0, "--away must not be negative"},
		{o.Scenario == Reconnect && o.Run != "" && o.Next == "", "--command ends the clients' node: give --next, where they go then"},
		{o.Scenario == Reconnect && o.Run != "" && (o.Churn > 0 || o.Limit <= 0), "--command goes without --churn, and with a positive --command-timeout"},
	} {
		if r.bad {
			return errors.New(r.text)
		}
	}
	return nil
}

// maxPeers bounds what upgrade keeps: 16 bytes for each publisher of each subscription.
const maxPeers = 64 << 20

// validateUpgrade checks what only upgrade uses.
func (o *Options) validateUpgrade() error {
	if o.Scenario != Upgrade {
		return nil
	}
	for _, r := range []struct {
		bad  bool
		text string
	}{
		{o.Rate <= 0, "upgrade is paced: give --rate, messages per second in total"},
		{o.Messages > 0, "--messages: upgrade lasts as long as --before, the commands with --pause, and --after"},
		{o.Subscriptions < 1, "--subscriptions must be at least 1: clients receive what they publish"},
		{o.Size < publicationSize, fmt.Sprintf("--size %d: a publication takes at least %d bytes", o.Size, publicationSize)},
		{o.Large != 0 && (o.Large < publicationSize || o.Large > maxSize), fmt.Sprintf("--large %d: must be 0, or %d to %d bytes", o.Large, publicationSize, maxSize)},
		{o.Processes > 1 || o.Threads > 1, "--processes and --threads must be 1 (or 0): one loop knows what every client has sent"},
		{o.Times < 1, "--times must be at least 1"},
		{o.Before < 0 || o.Pause < 0 || o.After < 0, "--before, --pause and --after must not be negative"},
		{o.Run != "" && o.Limit <= 0, "--command-timeout must be positive"},
		{o.Token != "" && o.HMACSecret != "", "--token and --hmac-secret are alternatives: give one"},
		{o.Connections*o.Subscriptions*o.peers() > maxPeers, "too many publishers in each channel: give more --channels"},
	} {
		if r.bad {
			return errors.New(r.text)
		}
	}
	return nil
}

// peers is how many publish in a channel of upgrade at the most.
func (o *Options) peers() int {
	if o.Channels == 0 {
		return 1
	}
	return (o.Connections + o.Channels - 1) / o.Channels
}

// hold is how long to stay quiet after the last connect.
func (o *Options) hold() time.Duration {
	switch {
	case o.Hold != nil:
		return *o.Hold
	case o.holds():
		return 5 * time.Second
	}
	return 0
}

// parseURL accepts absolute ws:// URLs without user or fragment.
func parseURL(option, text string) (*url.URL, error) {
	want := "give " + option + " as ws://HOST:PORT/PATH"
	if text == "" {
		return nil, errors.New(option + " is missing: " + want)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %q: %v; %s", option, text, errors.Unwrap(err), want)
	case u.Scheme == "wss":
		return nil, fmt.Errorf("%s %q: wss:// (TLS) is not supported yet; load the plain port with ws://", option, text)
	case u.Scheme != "ws":
		return nil, fmt.Errorf("%s %q: the scheme is %q; %s", option, text, u.Scheme, want)
	case u.Hostname() == "" || u.User != nil || u.Fragment != "":
		return nil, fmt.Errorf("%s %q: no host, or a user or fragment in it; %s", option, text, want)
	}
	return u, nil
}

// target is the resolved URL and the upgrade request but for its key.
type target struct {
	addr  *net.TCPAddr
	head  []byte // the request; keyLength bytes at keyAt are each connection's own
	keyAt int
}

func newTarget(o *Options) (*target, error) { return targetOf(o, "--url", o.URL) }

// targetOf is the target of the URL that an option gives.
func targetOf(o *Options, option, text string) (*target, error) {
	u, err := parseURL(option, text)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	t := &target{}
	if t.addr, err = net.ResolveTCPAddr("tcp", net.JoinHostPort(u.Hostname(), port)); err != nil {
		return nil, fmt.Errorf("%s %q: %w; give a host that resolves and a port from 1 to 65535", option, text, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", u.RequestURI(), u.Host)
	b.WriteString("Sec-WebSocket-Version: 13\r\n")
	if o.Deflate {
		b.WriteString("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n")
	}
	if o.speaks() && o.Protocol == "protobuf" {
		b.WriteString("Sec-WebSocket-Protocol: centrifuge-protobuf\r\n")
	}
	for _, h := range o.Header {
		name, value, _ := strings.Cut(h, ":")
		fmt.Fprintf(&b, "%s: %s\r\n", http.CanonicalHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value))
	}
	b.WriteString("Sec-WebSocket-Key: ")
	t.keyAt = b.Len()
	b.WriteString(strings.Repeat("A", keyLength) + "\r\n\r\n")
	t.head = []byte(b.String())
	return t, nil
}
