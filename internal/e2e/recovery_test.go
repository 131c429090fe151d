//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/centrifugal/centrifuge-go"
)

func TestRecoveryAfterACut(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "")
		c, _ := g.connected(t, binary, "ann")
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		var want []string
		for round := range 3 {
			for i := range 5 {
				g.publish(t, ch, 10*round+i)
				want = append(want, fmt.Sprint(10*round+i))
			}
			c.line.sever()
			c.wait(t, "connecting", "")
			for i := range 5 {
				g.publish(t, ch, 10*round+5+i)
				want = append(want, fmt.Sprint(10*round+5+i))
			}
			c.line.mend()
			if e := c.wait(t, "subscribed", ch); !e.attempted || !e.recovered {
				t.Errorf("%+v", e)
			}
		}
		eventually(t, func() error {
			if n := len(c.all("publication", ch)); n < len(want) {
				return fmt.Errorf("%d of %d publications", n, len(want))
			}
			return nil
		})
		for i, e := range c.all("publication", ch) {
			if e.data != want[i] || e.offset != uint64(i+1) {
				t.Fatalf("publication %d: %+v, want %s", i, e, want[i])
			}
		}
	})
}

// More was published than is kept: the client is told so, and gets no part of it.
func TestUnrecoverable(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "short:")
		c, _ := g.connected(t, binary, "")
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		g.publish(t, ch, 1)
		c.wantPublications(t, ch, "1")
		c.line.sever()
		c.wait(t, "connecting", "")
		for i := range 6 {
			g.publish(t, ch, 2+i)
		}
		c.line.mend()
		if e := c.wait(t, "subscribed", ch); !e.attempted || e.recovered {
			t.Errorf("%+v", e)
		}
		g.publish(t, ch, 8)
		if e := c.wait(t, "publication", ch); e.data != "8" || e.offset != 8 {
			t.Errorf("%+v", e)
		}
		if all := c.all("publication", ch); len(all) != 2 {
			t.Errorf("%+v", all)
		}
	})
}

func TestCacheRecovery(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "cache:")
		g.publish(t, ch, 1)
		c, _ := g.connected(t, binary, "")
		c.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		g.publish(t, ch, 2)
		c.wantPublications(t, ch, "2")
		c.line.sever()
		c.wait(t, "connecting", "")
		for i := range 3 {
			g.publish(t, ch, 3+i)
		}
		c.line.mend()
		if e := c.wait(t, "subscribed", ch); !e.recovered {
			t.Errorf("%+v", e)
		}
		c.wantPublications(t, ch, "5") // the latest, and only that
		g.publish(t, ch, 6)
		c.wantPublications(t, ch, "6")
		if all := c.all("publication", ch); len(all) != 3 {
			t.Errorf("%+v", all)
		}
	})
}

func TestPositioned(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "positioned:")
		c, _ := g.connected(t, binary, "")
		_, e := c.subscribe(t, ch, centrifuge.SubscriptionConfig{})
		if !e.positioned || e.recoverable {
			t.Errorf("%+v", e)
		}
		for i := range 3 {
			g.publish(t, ch, i)
			if e := c.wait(t, "publication", ch); e.offset != uint64(i+1) {
				t.Errorf("%+v", e)
			}
		}
		c.line.sever()
		c.wait(t, "connecting", "")
		g.publish(t, ch, "missed")
		c.line.mend()
		if e := c.wait(t, "subscribed", ch); e.attempted || e.recovered {
			t.Errorf("%+v", e)
		}
		g.publish(t, ch, "seen")
		c.wantPublications(t, ch, `"seen"`)
	})
}

// Subscriptions that the server makes recover, too.
func TestServerSideRecovery(t *testing.T) {
	eachEncoding(t, func(t *testing.T, binary bool) {
		g, ch := sharedGateway(t), named(t, "")
		user := named(t, "user")
		c := newSDK(t, g.url(), binary, centrifuge.Config{Token: token(claims{"sub": user, "channels": []string{ch}})})
		c.connect(t)
		personal := "personal:#" + user
		channels := []string{ch, personal}
		for _, name := range channels {
			g.publish(t, name, "before")
		}
		c.line.sever()
		c.wait(t, "connecting", "")
		for i := range 3 {
			for _, name := range channels {
				g.publish(t, name, i)
			}
		}
		c.line.mend()
		c.wait(t, "connected", "")
		for _, name := range channels {
			g.publish(t, name, "after")
			eventually(t, func() error {
				if n := len(c.all("publication", name)); n < 5 {
					return fmt.Errorf("%d of 5 publications in %s", n, name)
				}
				return nil
			})
			var got []string
			for _, e := range c.all("publication", name) {
				got = append(got, e.data)
			}
			if !slices.Equal(got, []string{`"before"`, "0", "1", "2", `"after"`}) {
				t.Errorf("%s: %v", name, got)
			}
			if all := c.all("server subscribed", name); len(all) != 2 || !all[1].attempted || !all[1].recovered {
				t.Errorf("%s: %+v", name, all)
			}
		}
	})
}
