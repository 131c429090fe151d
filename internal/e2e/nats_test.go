//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"roost/internal/proctest"
)

// natsServer is a NATS server in a process of its own, so that it can be killed.
type natsServer struct {
	*proctest.Process
	args []string
	url  string
}

// natsCluster is three of them that keep copies for each other.
type natsCluster [3]*natsServer

func startNATS(t testing.TB) (c natsCluster) {
	t.Helper()
	// They must know each other's addresses from the start.
	ports := proctest.FreePorts(t, loopback, 2*len(c))
	var routes []string
	for _, port := range ports[len(c):] {
		routes = append(routes, "nats://"+loopback+":"+port)
	}
	for i := range c {
		c[i] = &natsServer{url: "nats://" + loopback + ":" + ports[i], args: []string{
			"-js", "-sd", t.TempDir(), "-n", "s" + strconv.Itoa(i), "-a", loopback, "-p", ports[i],
			"-cluster_name", "tests", "-cluster", routes[i], "-routes", strings.Join(routes, ","),
		}}
	}
	c.start(t)
	return c
}

// start runs the servers, at first or once more on the same data.
func (c *natsCluster) start(t testing.TB) {
	t.Helper()
	path, err := natsBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c {
		p, err := proctest.Start(exec.Command(path, n.args...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		n.Process = p
	}
	eventually(t, func() error {
		for _, n := range c {
			if log := n.Log.String(); strings.Contains(log, "JetStream cluster new metadata leader") {
				return nil
			}
		}
		return fmt.Errorf("NATS has no leader: %s", tail(c[0].Log.String(), 2000))
	})
}

func (c *natsCluster) kill() {
	for _, n := range c {
		n.Kill()
	}
}

func (c *natsCluster) urls() string {
	var all []string
	for _, n := range c {
		all = append(all, n.url)
	}
	return strings.Join(all, ",")
}
