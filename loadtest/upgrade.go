package loadtest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"time"
)

const (
	followEvery = 20 * time.Millisecond // how often processes are read while the server is replaced
	leaveLimit  = 30 * time.Second      // for the old process to end after the command has
)

// Upgrades is what clients noticed of the server's being replaced.
type Upgrades struct {
	Disconnects int64         `json:"disconnects"`
	Wrong       int64         `json:"wrong"` // messages with other bytes than were sent, or that nobody sent
	Lost        int64         `json:"lost"`  // publications that did not come to a client which was still there
	Doubled     int64         `json:"doubled"`
	Disordered  int64         `json:"out_of_order"`
	Gaps        int64         `json:"offset_gaps"`
	Unanswered  int64         `json:"unanswered"` // publish commands
	Refused     []ErrorCount  `json:"refused"`    // publish commands answered with an error; their publications count as lost
	Pause       *Pauses       `json:"pause_ms,omitempty"`
	Calm        *Pauses       `json:"otherwise_ms,omitempty"` // while the server was not being replaced
	Takeovers   []Takeover    `json:"takeovers,omitempty"`    // runs of the command
	States      []ServerState `json:"states,omitempty"`       // before the first takeover, and after each
}

// Pauses are over connections, in ms: the longest time that each waited for a message, from when that was due.
type Pauses struct {
	Connections int64   `json:"connections"` // those for which a message was due; all takeovers together
	P50         float64 `json:"p50"`
	P99         float64 `json:"p99"`
	Max         float64 `json:"max"`
}

// Takeover is a run of the command that replaces the server.
type Takeover struct {
	Began         float64  `json:"began_s"`
	Took          float64  `json:"took_s"` // until the command and the old process had ended
	Command       float64  `json:"command_s"`
	ExitCode      int      `json:"exit_code"` // -1: killed, or not started
	Error         string   `json:"error,omitempty"`
	Before        int      `json:"pid_before,omitempty"`
	After         int      `json:"pid_after,omitempty"`
	CPU           *float64 `json:"cpu_s,omitempty"`                 // of all processes that listened, meanwhile
	PerConnection *float64 `json:"cpu_us_per_connection,omitempty"` // of that, what is over the load's as it was before
	Pause         *Pauses  `json:"pause_ms,omitempty"`
}

func (u *Upgrades) ok() bool {
	for _, t := range u.Takeovers {
		if t.ExitCode != 0 || t.Error != "" {
			return false
		}
	}
	return u.Disconnects+u.Wrong+u.Lost+u.Doubled+u.Disordered+u.Gaps+u.Unanswered == 0 && len(u.Refused) == 0
}

// upgrade is the measured phase of the scenario.
func (r *run) upgrade(ctx context.Context) error {
	u := &Upgrades{}
	r.result.Upgrade = u
	if r.o.Run == "" {
		r.fleet.do(command{Do: doMark, N: 1})
		if err := r.sleep(ctx, r.o.Duration); err != nil {
			return err
		}
		r.fleet.do(command{Do: doMark})
		return r.halt(ctx)
	}
	quiet := r.o.Before
	for range r.o.Times {
		before, began := r.cpu(), time.Now()
		if err := r.sleep(ctx, quiet); err != nil {
			return err
		}
		load := 0.0
		if quiet > 0 {
			load = (r.cpu() - before).Seconds() / time.Since(began).Seconds()
		}
		quiet = r.o.Pause
		r.state()
		t, err := r.takeover(ctx, load)
		u.Takeovers = append(u.Takeovers, t)
		if err != nil {
			return err
		}
	}
	if err := r.sleep(ctx, r.o.After); err != nil {
		return err
	}
	r.state()
	return r.halt(ctx)
}

func (r *run) halt(ctx context.Context) error {
	r.fleet.do(command{Do: doHalt})
	return r.await(ctx, evOver, r.fleet.over(r.o.Scenario))
}

// cpu is the server's so far; what cannot be read counts nothing.
func (r *run) cpu() time.Duration {
	u, _ := r.usage() // a listenerProbe has no errors
	return u.CPU
}

// state notes what the server holds.
func (r *run) state() {
	p, ok := r.probe.(*listenerProbe)
	if !ok {
		return
	}
	r.cpu()
	s := p.state()
	s.T = time.Since(r.begin).Seconds()
	if r.o.Metrics != "" {
		if u, err := newMetricsProbe(r.o.Metrics).read(); err == nil {
			s.Heap = u.Heap
		}
	}
	r.result.Upgrade.States = append(r.result.Upgrade.States, s)
}

// takeover runs the command and waits until it and the process that listened before have ended. load is the CPU
// that the server took before, per second.
func (r *run) takeover(ctx context.Context, load float64) (Takeover, error) {
	t := Takeover{}
	p, _ := r.probe.(*listenerProbe)
	if p != nil {
		t.Before = p.newest
	}
	before, began := r.cpu(), time.Now()
	t.Began = began.Sub(r.begin).Seconds()
	r.fleet.do(command{Do: doMark, N: 1})
	limited, cancel := context.WithTimeout(ctx, r.o.Limit)
	defer cancel()
	cmd := shell(limited, r.o.Run)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr // files: what it leaves behind may keep them
	ended := make(chan error, 1)
	err := cmd.Start()
	if err == nil {
		go func() { ended <- cmd.Wait() }()
		err = r.follow(ended)
	}
	t.Command, t.ExitCode = time.Since(began).Seconds(), -1
	if cmd.ProcessState != nil {
		t.ExitCode = cmd.ProcessState.ExitCode()
	}
	switch exit := (*exec.ExitError)(nil); {
	case err != nil && !errors.As(err, &exit):
		t.Error = err.Error()
	case limited.Err() != nil && ctx.Err() == nil:
		t.Error = "killed after " + r.o.Limit.String() + " (--command-timeout)"
	}
	if p != nil {
		r.leave(ctx, p, &t)
	}
	r.fleet.do(command{Do: doMark})
	took := time.Since(began).Seconds()
	t.Took = took
	if cpu := (r.cpu() - before).Seconds(); p != nil && r.o.Connections > 0 {
		t.CPU, t.PerConnection = new(cpu), new((cpu-load*took)*1e6/float64(r.o.Connections))
	}
	return t, ctx.Err()
}

// follow reads the server's usage until the command has ended, as what a process used goes with it.
func (r *run) follow(ended <-chan error) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			r.cpu()
			r.watch()
		}
	}
}

// leave waits for the process from before to end, if another listens now.
func (r *run) leave(ctx context.Context, p *listenerProbe, t *Takeover) {
	p.look()
	t.After = p.newest
	if t.After == t.Before {
		return
	}
	for deadline := time.Now().Add(leaveLimit); p.members[t.Before] != nil && ctx.Err() == nil; time.Sleep(followEvery) {
		if time.Now().After(deadline) {
			t.Error = "the process from before had not ended " + leaveLimit.String() + " after the command"
			return
		}
		r.cpu()
		r.watch()
	}
}

// sumUpgrade turns counts into the result. The fleet is locked.
func (r *run) sumUpgrade(s *stats) {
	u := r.result.Upgrade
	if u == nil { // no connection was opened
		return
	}
	u.Disconnects, u.Wrong, u.Lost, u.Doubled, u.Disordered = s.Lost, s.Wrong, s.Missing-s.Unanswered, s.Doubled, s.Disordered
	u.Gaps, u.Unanswered, u.Refused = s.Gaps, s.Unanswered, errorCounts(s.Codes)
	u.Pause, u.Calm = pausesOf(s.Pause), pausesOf(s.Calm)
	for i := range u.Takeovers {
		if i < len(r.fleet.pauses) {
			u.Takeovers[i].Pause = pausesOf(r.fleet.pauses[i])
		}
	}
}

func pausesOf(h hist) *Pauses {
	m := connectOf(h)
	if m == nil {
		return nil
	}
	return &Pauses{h.TotalCount(), m.P50, m.P99, m.Max}
}
