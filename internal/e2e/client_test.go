//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// event is something that an SDK reported.
type event struct {
	kind    string // connected, subscribed, publication, join, ...
	channel string
	client  string // whom it is about
	data    string
	code    uint32
	offset  uint64

	recoverable, positioned, attempted, recovered bool
}

// journal keeps the events of one client in their order.
type journal struct {
	mu     sync.Mutex
	events []event
	read   int // how many wait has passed
}

func (j *journal) add(e event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

// wait returns the next event of a kind, "" for any, in a channel, and passes over
// those before.
func (j *journal) wait(t testing.TB, kind, channel string) (found event) {
	t.Helper()
	eventually(t, func() error {
		j.mu.Lock()
		defer j.mu.Unlock()
		for i, e := range j.events[j.read:] {
			if e.kind == kind && e.channel == channel {
				found = e
				j.read += i + 1
				return nil
			}
		}
		return fmt.Errorf("no %s in %q; since the last: %+v", kind, channel, j.events[j.read:])
	})
	return found
}

// all returns what there is of a kind in a channel.
func (j *journal) all(kind, channel string) []event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(j.events), func(e event) bool { return e.kind != kind || e.channel != channel })
}

// line is the way of a client to its gateway, which tests cut.
type line struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errors.New("the line is cut")
	}
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

// sever breaks the connection without a word, and new ones until mend.
func (l *line) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for _, c := range l.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	l.conns = nil
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// sdk is a client of the Go SDK with all its events.
type sdk struct {
	*centrifuge.Client
	journal
	line line
}

// newSDK makes a client that ends with the test.
func newSDK(t testing.TB, url string, binary bool, config centrifuge.Config) *sdk {
	t.Helper()
	s := new(sdk)
	config.NetDialContext = s.line.dial
	config.MinReconnectDelay, config.MaxReconnectDelay = 10*time.Millisecond, 100*time.Millisecond
	config.HandshakeTimeout, config.ReadTimeout, config.WriteTimeout = patience, patience, patience
	config.MaxServerPingDelay = patience
	if binary {
		s.Client = centrifuge.NewProtobufClient(url, config)
	} else {
		s.Client = centrifuge.NewJsonClient(url, config)
	}
	t.Cleanup(s.Close)
	s.OnConnecting(func(e centrifuge.ConnectingEvent) { s.add(event{kind: "connecting", code: e.Code}) })
	s.OnConnected(func(e centrifuge.ConnectedEvent) { s.add(event{kind: "connected", client: e.ClientID}) })
	s.OnDisconnected(func(e centrifuge.DisconnectedEvent) { s.add(event{kind: "disconnected", code: e.Code, data: e.Reason}) })
	s.OnError(func(e centrifuge.ErrorEvent) { s.add(event{kind: "error", data: e.Error.Error()}) })
	s.OnSubscribed(func(e centrifuge.ServerSubscribedEvent) {
		s.add(event{kind: "server subscribed", channel: e.Channel, recoverable: e.Recoverable, positioned: e.Positioned,
			attempted: e.WasRecovering, recovered: e.Recovered, data: string(e.Data)})
	})
	s.OnUnsubscribed(func(e centrifuge.ServerUnsubscribedEvent) {
		s.add(event{kind: "server unsubscribed", channel: e.Channel})
	})
	s.OnPublication(func(e centrifuge.ServerPublicationEvent) { s.add(published(e.Channel, e.Publication)) })
	s.OnJoin(func(e centrifuge.ServerJoinEvent) { s.add(event{kind: "join", channel: e.Channel, client: e.Client}) })
	s.OnLeave(func(e centrifuge.ServerLeaveEvent) { s.add(event{kind: "leave", channel: e.Channel, client: e.Client}) })
	return s
}

func published(channel string, p centrifuge.Publication) event {
	e := event{kind: "publication", channel: channel, data: string(p.Data), offset: p.Offset}
	if p.Info != nil {
		e.client = p.Info.Client
	}
	return e
}

// connected is a client of a user that has connected; "" is nobody.
func (g *gateway) connected(t testing.TB, binary bool, user string) (*sdk, string) {
	t.Helper()
	config := centrifuge.Config{}
	if user != "" {
		config.Token = tokenOf(user)
	}
	s := newSDK(t, g.url(), binary, config)
	return s, s.connect(t)
}

// connect returns the client's id.
func (s *sdk) connect(t testing.TB) string {
	t.Helper()
	if err := s.Connect(); err != nil {
		t.Fatal(err)
	}
	return s.wait(t, "connected", "").client
}

// subscription makes one whose events go to the journal.
func (s *sdk) subscription(t testing.TB, channel string, config centrifuge.SubscriptionConfig) *centrifuge.Subscription {
	t.Helper()
	config.MinResubscribeDelay, config.MaxResubscribeDelay = 10*time.Millisecond, 100*time.Millisecond
	sub, err := s.NewSubscription(channel, config)
	if err != nil {
		t.Fatal(err)
	}
	sub.OnSubscribed(func(e centrifuge.SubscribedEvent) {
		s.add(event{kind: "subscribed", channel: channel, recoverable: e.Recoverable, positioned: e.Positioned,
			attempted: e.WasRecovering, recovered: e.Recovered, data: string(e.Data)})
	})
	sub.OnSubscribing(func(e centrifuge.SubscribingEvent) {
		s.add(event{kind: "subscribing", channel: channel, code: e.Code})
	})
	sub.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) {
		s.add(event{kind: "unsubscribed", channel: channel, code: e.Code})
	})
	sub.OnPublication(func(e centrifuge.PublicationEvent) { s.add(published(channel, e.Publication)) })
	sub.OnJoin(func(e centrifuge.JoinEvent) { s.add(event{kind: "join", channel: channel, client: e.Client}) })
	sub.OnLeave(func(e centrifuge.LeaveEvent) { s.add(event{kind: "leave", channel: channel, client: e.Client}) })
	sub.OnError(func(e centrifuge.SubscriptionErrorEvent) {
		s.add(event{kind: "subscription error", channel: channel, data: e.Error.Error()})
	})
	return sub
}

// subscribe subscribes and waits for it.
func (s *sdk) subscribe(t testing.TB, channel string, config centrifuge.SubscriptionConfig) (*centrifuge.Subscription, event) {
	t.Helper()
	sub := s.subscription(t, channel, config)
	if err := sub.Subscribe(); err != nil {
		t.Fatal(err)
	}
	return sub, s.wait(t, "subscribed", channel)
}

// inTime is a context for one call.
func inTime(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// wantPublications waits for publications with the data given, and no others.
func (s *sdk) wantPublications(t testing.TB, channel string, data ...string) {
	t.Helper()
	for _, d := range data {
		if e := s.wait(t, "publication", channel); e.data != d {
			t.Fatalf("publication %d in %s is %s, want %s", e.offset, channel, e.data, d)
		}
	}
}

// wantError tells whether err is an error of the protocol with the code.
func wantError(t testing.TB, err error, code uint32) {
	t.Helper()
	var e *centrifuge.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%v, want error %d", err, code)
	}
}
