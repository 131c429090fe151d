package loadtest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/protocol"
)

func upgradeOptions(g *gateway, t *testing.T) Options {
	o := protocolOptions(Upgrade, g, t)
	o.Messages, o.Rate, o.Channels, o.Large = 0, 2000, 0, 400
	o.Run, o.Times, o.Limit = "true", 1, time.Minute
	o.Before, o.Pause, o.After = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	return o
}

func TestUpgradeUnderTraffic(t *testing.T) {
	for _, c := range []struct {
		name string
		each int // subscribers to each publication
		set  func(o *Options)
	}{
		{"channels of their own", 1, func(*Options) {}},
		{"several of their own", 1, func(o *Options) { o.Subscriptions = 3 }},
		{"one channel", 8, func(o *Options) { o.Channels = 1 }},
		{"shared channels", 4, func(o *Options) { o.Channels = 2 }},
		{"several shared channels", 6, func(o *Options) { o.Channels, o.Subscriptions = 4, 3 }},
		{"nothing large", 1, func(o *Options) { o.Large = 0 }},
		{"three times", 1, func(o *Options) { o.Times = 3 }},
		{"by hand", 1, func(o *Options) { o.Run, o.Duration = "", 200*time.Millisecond }},
	} {
		for _, protocol := range []string{"json", "protobuf"} {
			t.Run(c.name+"/"+protocol, func(t *testing.T) {
				o := upgradeOptions(&gateway{}, t)
				o.Protocol = protocol
				c.set(&o)
				r := mustRun(t, t.Context(), o)
				m, u := r.Messages, r.Upgrade
				if !r.OK() || m.Sent == 0 || m.Received != m.Sent*int64(c.each) || m.Expected != m.Received {
					t.Fatalf("not OK, or not received by %d each: %+v %+v %+v", c.each, m, u, r.Errors)
				}
				times := o.Times
				if o.Run == "" {
					times = 0
				}
				if len(u.Takeovers) != times || u.Pause == nil {
					t.Errorf("%d takeovers, want %d; pauses %+v", len(u.Takeovers), times, u.Pause)
				}
				for _, x := range u.Takeovers { // the server is this process, which nobody replaced
					if x.Pause == nil || x.Before != os.Getpid() || x.After != x.Before || x.CPU == nil {
						t.Errorf("takeover %+v", x)
					}
				}
				if times > 0 && (len(u.States) != times+1 || u.States[times].Descriptors == 0 || u.States[times].RSS == 0) {
					t.Errorf("states %+v", u.States)
				}
			})
		}
	}
}

func TestUpgradeNoticesWhatGoesWrong(t *testing.T) {
	at := func(n int, wrong func(frame []byte) [][]byte) func(int, []byte) [][]byte {
		return func(seq int, frame []byte) [][]byte {
			if seq == n {
				return wrong(frame)
			}
			return [][]byte{frame}
		}
	}
	var kept []byte
	answer := func(n int, wrong *protocol.Reply) func(int, *protocol.Reply) *protocol.Reply {
		return func(seq int, r *protocol.Reply) *protocol.Reply {
			if seq != n {
				return r
			}
			if wrong != nil {
				wrong.Id = r.Id
			}
			return wrong
		}
	}
	for _, c := range []struct {
		name  string
		g     *gateway
		count func(u *Upgrades) int64 // of these there must be
	}{
		{"lost", &gateway{deliver: at(3, func([]byte) [][]byte { return nil })}, func(u *Upgrades) int64 { return u.Lost }},
		{"doubled", &gateway{deliver: at(3, func(f []byte) [][]byte { return [][]byte{f, f} })}, func(u *Upgrades) int64 { return u.Doubled }},
		{"out of order", &gateway{deliver: func(seq int, f []byte) [][]byte {
			switch seq {
			case 3:
				kept = bytes.Clone(f)
				return nil
			case 4:
				return [][]byte{f, kept}
			}
			return [][]byte{f}
		}}, func(u *Upgrades) int64 { return u.Disordered * u.Gaps }},
		{"changed", &gateway{deliver: at(3, func(f []byte) [][]byte {
			return [][]byte{bytes.Replace(f, []byte(`","offset"`), []byte(`x","offset"`), 1)}
		})}, func(u *Upgrades) int64 { return u.Wrong * u.Lost }},
		{"another channel", &gateway{deliver: at(3, func(f []byte) [][]byte {
			return [][]byte{bytes.Replace(f, []byte("load-0"), []byte("load-7"), 1)}
		})}, func(u *Upgrades) int64 { return u.Wrong }},
		{"not answered", &gateway{reply: answer(3, nil)}, func(u *Upgrades) int64 { return u.Unanswered }},
		{"refused", &gateway{reply: answer(3, &protocol.Reply{Error: &protocol.Error{Code: 100, Message: "internal"}})},
			func(u *Upgrades) int64 { return int64(len(u.Refused)) }},
		{"closed", &gateway{end: func(seq int) uint16 { return map[int]uint16{3: 1012}[seq] }}, func(u *Upgrades) int64 { return u.Disconnects }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := upgradeOptions(c.g, t)
			o.Connections, o.Rate, o.Large, o.Timeout = 1, 200, 0, 500*time.Millisecond
			r := mustRun(t, t.Context(), o)
			if r.OK() || c.count(r.Upgrade) == 0 {
				t.Errorf("not found: %+v %+v", r.Upgrade, r.Errors)
			}
		})
	}
}

// What is held back for a time is a pause of that time, counted from when it was due.
func TestUpgradeTellsPauses(t *testing.T) {
	const pause = 300 * time.Millisecond
	held := false
	g := &gateway{deliver: func(seq int, f []byte) [][]byte {
		if seq == 20 && !held {
			held = true
			time.Sleep(pause) // with all others: the gateway is locked
		}
		return [][]byte{f}
	}}
	o := upgradeOptions(g, t)
	o.Run, o.Rate, o.Before = "sleep 0.2", 1000, 0
	r := mustRun(t, t.Context(), o)
	if u := r.Upgrade; !r.OK() || u.Pause == nil || u.Pause.Connections != 8 || u.Pause.Max < float64(pause.Milliseconds()) {
		t.Errorf("%+v %+v", u.Pause, r.Errors)
	}
}

func TestUpgradeTellsWhatTheCommandDid(t *testing.T) {
	for _, c := range []struct {
		command string
		code    int
		text    string
	}{
		{"exit 3", 3, ""},
		{"sleep 60", -1, "killed after 200ms (--command-timeout)"},
	} {
		o := upgradeOptions(&gateway{}, t)
		o.Run, o.Limit, o.Times = c.command, 200*time.Millisecond, 1
		r := mustRun(t, t.Context(), o)
		if x := r.Upgrade.Takeovers[0]; r.OK() || x.ExitCode != c.code || x.Error != c.text {
			t.Errorf("%q: OK %v, %+v", c.command, r.OK(), x)
		}
	}
}

func TestUpgradeReports(t *testing.T) {
	o := upgradeOptions(&gateway{}, t)
	o.Times, o.After = 2, 1100*time.Millisecond
	r := mustRun(t, t.Context(), o)
	var table, page strings.Builder
	if WriteTable(&table, []*Result{r}) != nil || WriteHTML(&page, []*Result{r}) != nil {
		t.Fatal("not written")
	}
	for _, text := range []string{"disconnects", "0 lost, 0 doubled, 0 out of order", "longest pause", "takeover 2, server CPU per connection", "descriptors"} {
		if !strings.Contains(table.String(), text) {
			t.Errorf("no %q in\n%s", text, table.String())
		}
	}
	if !strings.Contains(page.String(), fmt.Sprintf(`"name":"takeover 2","xAxis":%v`, r.Upgrade.Takeovers[1].Began)) {
		t.Error("the takeovers are not marked in the plot")
	}
}

func TestUpgradeRefuses(t *testing.T) {
	for text, set := range map[string]func(o *Options){
		"--rate":            func(o *Options) { o.Rate = 0 },
		"--messages":        func(o *Options) { o.Messages = 5 },
		"--subscriptions":   func(o *Options) { o.Subscriptions = 0 },
		"--size":            func(o *Options) { o.Size = 20 },
		"--large":           func(o *Options) { o.Large = 20 },
		"--processes":       func(o *Options) { o.Processes = 2 },
		"--times":           func(o *Options) { o.Times = 0 },
		"--pause":           func(o *Options) { o.Pause = -1 },
		"--command-timeout": func(o *Options) { o.Limit = 0 },
		"--token":           func(o *Options) { o.Token, o.HMACSecret = "a", "b" },
		"--pid":             func(o *Options) { o.PID = 1 },
		"more --channels":   func(o *Options) { o.Connections, o.Channels = 15_000, 1 },
	} {
		o := upgradeOptions(&gateway{}, t)
		set(&o)
		if _, err := Run(t.Context(), o, "", noProgress{}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestFindsListeners(t *testing.T) {
	const v4 = "   3: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0"
	const v6 = "   3: 00000000000000000000000000000000:1F40 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1"
	const mapped = "   3: 0000000000000000FFFF00000100007F:1F40 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1"
	for _, c := range []struct{ line, at, inode string }{
		{v4, "127.0.0.1:8000", "4711"},
		{v4, "127.0.0.1:8001", ""},
		{v4, "127.0.0.2:8000", ""},
		{v6, "127.0.0.2:8000", "4712"},
		{mapped, "127.0.0.1:8000", "4713"},
		{strings.Replace(v4, " 0A ", " 01 ", 1), "127.0.0.1:8000", ""},
		{"  sl  local_address rem_address   st", "127.0.0.1:8000", ""},
	} {
		inode, ok := listens(c.line, netip.MustParseAddrPort(c.at))
		if ok != (c.inode != "") || ok && inode != c.inode {
			t.Errorf("%s: inode %q, want %q", c.line, inode, c.inode)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := newListenerProbe(&Options{URL: "ws://" + l.Addr().String()})
	if p == nil || p.newest != os.Getpid() {
		t.Fatalf("found %+v", p)
	}
	if u, err := p.read(); err != nil || u.RSS == 0 || p.state().Descriptors == 0 {
		t.Errorf("%+v, %v, %+v", u, err, p.state())
	}
}
