//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/centrifugal/centrifuge-go"

	"roost/internal/proctest"
)

// movable is an old gateway with clients, and traffic for them.
type movable struct {
	*gateway
	clients  []*sdk
	channels []string
	numbers  *numbers
}

func startMovable(t *testing.T, fault string, flags ...string) *movable {
	t.Helper()
	config := filepath.Join(t.TempDir(), "roost.yaml")
	if err := os.WriteFile(config, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	g, p := launchFaulty(t, fault, loopback+":0", loopback+":0", append(flags, "--config", config)...)
	if g == nil {
		t.Fatal(p.Log.String())
	}
	m := &movable{gateway: g}
	for i := range 12 {
		c, _ := g.connected(t, i%2 == 0, fmt.Sprint("user", i))
		channel := fmt.Sprint("c", i)
		c.subscribe(t, channel, centrifuge.SubscriptionConfig{})
		m.clients, m.channels = append(m.clients, c), append(m.channels, channel)
	}
	m.numbers = publishNumbers(g.internal, m.channels)
	m.numbers.more(t, 40)
	return m
}

// succeeded starts a process that takes over, or tries to; see launchFaulty.
func (m *movable) succeeded(t *testing.T, fault string) (*gateway, *proctest.Process) {
	t.Helper()
	return launchFaulty(t, fault, loopback+":0", loopback+":0", append(slices.Clone(m.flags), "--takeover")...)
}

// complete checks that the clients have got everything, after some more of it, and that they noticed
// nothing unless it is to be expected.
func (m *movable) complete(t *testing.T, undisturbed bool) {
	t.Helper()
	m.numbers.more(t, 120)
	m.numbers.end()
	for i, c := range m.clients {
		seesAll(t, c, m.channels[i], m.numbers.acked, i, len(m.channels))
		if undisturbed {
			c.undisturbed(t)
		}
	}
}
