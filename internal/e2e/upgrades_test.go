//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// All clients of a killed gateway come to the other one at once: they take turns, those who are sent away
// come back when they were told to, and in the end all are in.
func TestUpgradeStorm(t *testing.T) {
	t.Parallel()
	nats := startNATS(t)
	flags := []string{"--nats", nats.urls(), "--nats-replicas", "3", "--upgrade-rate", "100", "--upgrade-backlog", "500ms"}
	dying, other := start(t, configuration, "--nats", nats.urls(), "--nats-replicas", "3"), start(t, configuration, flags...)
	const clients = 300
	var all []*raw
	for range clients {
		all = append(all, dying.rawClient(t, false))
	}
	dying.Kill()
	var away atomic.Int64
	var wg sync.WaitGroup
	for _, r := range all {
		wg.Go(func() {
			if _, err := r.readFrame(); err == nil {
				t.Error("a killed gateway still sends")
			}
			for {
				next, err := dial(other.address, false)
				var no *refused
				switch {
				case errors.As(err, &no) && no.status == http.StatusServiceUnavailable:
					away.Add(1)
					if no.retryAfter <= 0 {
						t.Error("nobody says when to come back")
						return
					}
					time.Sleep(time.Duration(no.retryAfter) * time.Second)
				case err != nil:
					t.Error(err)
					return
				default:
					t.Cleanup(func() { next.conn.Close() })
					if _, err := next.connect(""); err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
	eventually(t, func() error {
		m := other.metrics(t)
		if in, sent := m["roost_clients"], m[`roost_handshake_errors_total{kind="storm"}`]; in != clients || sent != float64(away.Load()) || sent == 0 || m["roost_handshakes"]+m["roost_upgrades_waiting"] != 0 {
			return fmt.Errorf("%v clients, %v sent away (%d heard it), %v and %v under way", in, sent, away.Load(), m["roost_handshakes"], m["roost_upgrades_waiting"])
		}
		return nil
	})
	t.Logf("%d clients, sent away %d times", clients, away.Load())
}
