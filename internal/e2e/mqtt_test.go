//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"roost/internal/proctest"
)

// The MQTT client is one of others, as it is, and so is the broker. What they say to each
// other goes through a raw route and the example that brings its bytes to the broker.

const mqttRoute = "\nbackends: {servers: {iot: {url: 'nats:iot'}}}\n" +
	"raw: {mqtt: {backend: iot, path: /mqtt, subprotocols: [mqtt], messages: binary, auth: none}}\n"

// mqttHouse is a gateway whose raw route leads to an MQTT broker.
type mqttHouse struct {
	*gateway
	nats   string   // of the gateway and the bridge
	tcp    string   // address of the MQTT broker
	broker []string // its arguments
}

func startNATSAlone(t testing.TB, args ...string) *proctest.Process {
	t.Helper()
	path, err := natsBinary()
	if err != nil {
		t.Fatal(err)
	}
	p, err := proctest.Start(exec.Command(path, args...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	eventually(t, func() error {
		if log := p.Log.String(); !strings.Contains(log, "Server is ready") {
			return fmt.Errorf("NATS is not ready: %s", tail(log, 2000))
		}
		return nil
	})
	return p
}

// startMQTT runs all but the bridge. NATS speaks MQTT, too; the broker is a process of its
// own, so that it can be killed.
func startMQTT(t testing.TB) (h *mqttHouse, broker *proctest.Process) {
	t.Helper()
	ports := proctest.FreePorts(t, loopback, 3)
	h = &mqttHouse{nats: "nats://" + loopback + ":" + ports[0], tcp: loopback + ":" + ports[1]}
	config := filepath.Join(t.TempDir(), "mqtt.conf")
	text := fmt.Sprintf("server_name: mqtt\nlisten: \"%s:%s\"\njetstream { store_dir: %q }\nmqtt { listen: %q }\n", loopback, ports[2], t.TempDir(), h.tcp)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.broker = []string{"-c", config}
	startNATSAlone(t, "-js", "-sd", t.TempDir(), "-a", loopback, "-p", ports[0])
	broker = startNATSAlone(t, h.broker...)
	h.gateway = start(t, configuration+mqttRoute, "--nats", h.nats)
	return h, broker
}

func (h *mqttHouse) startBridge(t testing.TB) *proctest.Process {
	t.Helper()
	p, _ := startExample(t, "raw-mqtt", "--url", h.nats, "--broker", h.tcp)
	return p
}

// inbox is what a client got on the topics it subscribed to, in order.
type inbox struct {
	mu  sync.Mutex
	all [][]byte
}

func (b *inbox) add(_ mqtt.Client, m mqtt.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, m.Payload())
}

func (b *inbox) wait(t testing.TB, n int) [][]byte {
	t.Helper()
	eventually(t, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.all) < n {
			return fmt.Errorf("%d messages, want %d", len(b.all), n)
		}
		return nil
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all
}

// settleMQTT waits for what a client was asked for.
func settleMQTT(t testing.TB, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatal("no answer of the MQTT broker")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

// mqttClient connects one that ends with the test and comes back whenever it is cut.
func (h *mqttHouse) mqttClient(t testing.TB, id string, change func(*mqtt.ClientOptions)) mqtt.Client {
	t.Helper()
	o := mqtt.NewClientOptions().AddBroker("ws://" + h.address + "/mqtt").SetClientID(id).
		SetMaxReconnectInterval(200 * time.Millisecond).SetConnectTimeout(patience)
	if change != nil {
		change(o)
	}
	c := mqtt.NewClient(o)
	settleMQTT(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// numbered is a message of a size and with bytes of its own.
func numbered(i int) []byte {
	b := make([]byte, 4+i*37%20_000)
	for k := range b {
		b[k] = byte(i + k)
	}
	binary.BigEndian.PutUint32(b, uint32(i))
	return b
}

func wantNumbered(t testing.TB, all [][]byte, n int) {
	t.Helper()
	if len(all) != n {
		t.Fatalf("%d messages, want %d", len(all), n)
	}
	for i, got := range all {
		if !bytes.Equal(got, numbered(i)) {
			t.Fatalf("message %d is another: %d bytes beginning %x", i, len(got), got[:min(4, len(got))])
		}
	}
}

// An MQTT client over WebSocket publishes, subscribes and is told what was retained, and
// each of its messages comes once, in order and unchanged.
func TestMQTT(t *testing.T) {
	t.Parallel()
	h, _ := startMQTT(t)
	h.startBridge(t)
	const n = 2000
	const portion = 40 // of 20 KB at most, so that bob's queue in the gateway never holds its 1 MB
	ann, bob := h.mqttClient(t, "ann", nil), h.mqttClient(t, "bob", nil)
	for _, qos := range []byte{0, 1} {
		topic := fmt.Sprintf("room/%d", qos)
		var got inbox
		settleMQTT(t, bob.Subscribe(topic, qos, got.add))
		for i := range n {
			ann.Publish(topic, qos, false, numbered(i))
			if i%portion == portion-1 {
				got.wait(t, i+1)
			}
		}
		wantNumbered(t, got.wait(t, n), n)
	}
	settleMQTT(t, ann.Publish("kept", 1, true, "for later"))
	var kept inbox
	settleMQTT(t, h.mqttClient(t, "eve", nil).Subscribe("kept", 1, kept.add))
	if all := kept.wait(t, 1); string(all[0]) != "for later" {
		t.Errorf("retained: %q", all[0])
	}
}

// A client that says goodbye leaves no last will, one that is cut does; and what is no MQTT
// is cut by the broker, which ends the WebSocket.
func TestMQTTEnds(t *testing.T) {
	t.Parallel()
	h, _ := startMQTT(t)
	h.startBridge(t)
	var wills inbox
	settleMQTT(t, h.mqttClient(t, "watcher", nil).Subscribe("wills", 1, wills.add))
	polite := h.mqttClient(t, "polite", func(o *mqtt.ClientOptions) { o.SetWill("wills", "polite", 1, false) })
	polite.Disconnect(250)
	eventually(t, func() error {
		if n := h.metrics(t)[`roost_raw_clients{route="mqtt"}`]; n != 1 {
			return fmt.Errorf("%v clients, want the watcher", n)
		}
		return nil
	})
	var wire net.Conn
	h.mqttClient(t, "cut", func(o *mqtt.ClientOptions) {
		o.SetWill("wills", "cut", 1, false).SetAutoReconnect(false)
		o.SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
			var err error
			wire, err = mqtt.NewWebsocket(u.String(), nil, patience, nil, &mqtt.WebsocketOptions{})
			return wire, err
		})
	})
	if err := wire.Close(); err != nil {
		t.Fatal(err)
	}
	if all := wills.wait(t, 1); string(all[0]) != "cut" {
		t.Errorf("the last will of %q", all[0])
	}

	r, err := dialAt(h.address, "/mqtt", false, "Sec-WebSocket-Protocol: mqtt")
	if err != nil {
		t.Fatal(err)
	}
	defer r.conn.Close()
	r.binary = true
	r.write([]byte("GET / HTTP/1.1\r\n\r\n"))
	if code, err := r.end(); code != 1000 {
		t.Errorf("what is no MQTT: closed with %d, %v", code, err)
	}
}

// Clients come back when the bridge was killed, and when the broker was.
func TestMQTTKilled(t *testing.T) {
	t.Parallel()
	h, broker := startMQTT(t)
	bridge := h.startBridge(t)
	var got inbox
	ann := h.mqttClient(t, "ann", func(o *mqtt.ClientOptions) {
		o.SetOnConnectHandler(func(c mqtt.Client) { c.Subscribe("own", 0, got.add) })
	})
	talks := func(what string) {
		t.Helper()
		eventually(t, func() error {
			got.mu.Lock()
			defer got.mu.Unlock()
			if n := len(got.all); n > 0 && string(got.all[n-1]) == what {
				return nil
			}
			ann.Publish("own", 0, false, what) // it is lost while there is no connection
			return errors.New("what the client publishes does not come back")
		})
	}
	talks("at first")
	bridge.Kill()
	h.startBridge(t)
	talks("by another bridge")
	broker.Kill()
	startNATSAlone(t, h.broker...)
	talks("by the broker again")
}
