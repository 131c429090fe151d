package loadtest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// interruptedDrain is how long a run that was interrupted waits for its nodes to sum up.
const interruptedDrain = 3 * time.Second

// Progress shows how a run gets on. The methods are called by one goroutine.
type Progress interface {
	Begin(what string, total int64) // a new phase; total 0 is not known
	Update(done int64, note string)
	End()
}

// run is one run of a scenario.
type run struct {
	o        Options
	fleet    *fleet
	probe    probe
	progress Progress
	result   *Result
	meter    selfMeter
	begin    time.Time

	before, after usage         // of the server, around the measured phase
	clientIdle    int64         // generator RSS with no connections, bytes
	clientOpen    int64         // and with all of them, before the load
	joining       time.Duration // server CPU while the connections opened
	cpuStart      int64         // generator CPU before the measured phase, ns
	phaseStart    time.Time
	lastSample    time.Time
	lastCPU       time.Duration
}

// Run does what o says. command is shown in the result. When ctx ends, the result has what there is, Interrupted is
// set, and the error is nil. An error says that nothing was measured at all.
func Run(ctx context.Context, o Options, command string, p Progress) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if _, err := newTarget(&o); err != nil {
		return nil, err
	}
	r := &run{o: o, progress: p, begin: time.Now()}
	var err error
	if r.probe, err = newProbe(&o); err != nil {
		return nil, err
	}
	r.result = &Result{
		Tool: "roost-load", Schema: Schema, Scenario: o.Scenario, Command: command,
		Started: r.begin.Format(time.RFC3339), Machine: thisMachine(), Config: o, Series: []Sample{},
	}
	r.result.Config.HMACSecret, r.result.Config.Token = "", "" // goes nowhere but to the generator's own children
	if r.fleet, err = open(&o); err != nil {
		return nil, err
	}
	defer r.fleet.stop()
	if err := r.measure(ctx); err != nil {
		return nil, err
	}
	r.close()
	return r.result, nil
}

// measure goes through the phases and fills in the result.
func (r *run) measure(ctx context.Context) error {
	server, err := r.usage()
	if err != nil {
		return err
	}
	r.before = server
	if r.probe != nil {
		r.result.Server = &Server{PID: r.o.PID, RSSBefore: server.RSS}
	}
	r.takeMeter()
	r.clientIdle = r.fleet.snapshot().RSS
	err = r.connect(ctx)
	if err == nil {
		err = r.load(ctx)
	}
	if ctx.Err() != nil {
		r.result.Interrupted = true
		ctx = context.WithoutCancel(ctx)
	} else if err != nil {
		return err
	}
	return r.finish(ctx)
}

// connect opens the connections; for idle in steps, with a sample of the memory after each.
func (r *run) connect(ctx context.Context) error {
	if r.o.storms() {
		return nil
	}
	steps := 1
	if r.o.holds() {
		steps = min(r.o.Steps, r.o.Connections)
	}
	r.phase("connect", int64(r.o.Connections))
	defer r.progress.End()
	for i := range steps {
		before, err := r.usage()
		if err != nil {
			return err
		}
		r.fleet.do(command{Do: doConnect, N: int64(r.o.Connections) * int64(i+1) / int64(steps)})
		if err := r.await(ctx, evConnected, int64(i+1)*int64(r.fleet.leaves)); err != nil {
			return err
		}
		if s := r.fleet.snapshot(); s.Opened == 0 {
			return nil // the result tells why
		}
		after, err := r.usage()
		if err != nil {
			return err
		}
		r.joining += after.CPU - before.CPU
		if r.o.holds() {
			if err := r.sleep(ctx, r.o.Settle); err != nil {
				return err
			}
			if err := r.sampleMemory(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) sampleMemory() error {
	u, err := r.usage()
	if err != nil {
		return err
	}
	r.takeMeter()
	s := r.fleet.snapshot()
	r.result.Memory = append(r.result.Memory, MemorySample{Connections: s.Open, RSS: u.RSS, ClientRSS: s.RSS})
	return nil
}

// load is the measured phase.
func (r *run) load(ctx context.Context) error {
	if s := r.fleet.snapshot(); s.Opened == 0 && !r.o.storms() {
		return nil
	}
	if hold := r.o.hold(); hold > 0 && !r.o.holds() {
		r.phase("hold", 0)
		err := r.sleep(ctx, hold)
		r.progress.End()
		if err != nil {
			return err
		}
	}
	r.takeMeter()
	u, err := r.usage()
	if err != nil {
		return err
	}
	r.before.CPU, r.phaseStart = u.CPU, time.Now()
	s := r.fleet.snapshot()
	r.cpuStart, r.clientOpen = s.CPU, s.RSS
	r.phase(string(r.o.Scenario), r.o.Messages)
	defer r.progress.End()
	if r.o.holds() {
		return r.sleep(ctx, r.o.hold())
	}
	r.fleet.do(command{Do: doBegin})
	if r.o.Scenario == Upgrade {
		return r.upgrade(ctx)
	}
	if r.o.publishes() {
		return r.publish(ctx)
	}
	return r.await(ctx, evOver, r.fleet.over(r.o.Scenario))
}

// finish waits for the last answers and sums up.
func (r *run) finish(ctx context.Context) error {
	if r.result.Interrupted || r.o.holds() || r.phaseStart.IsZero() {
		limited, cancel := context.WithTimeout(ctx, interruptedDrain)
		defer cancel()
		r.fleet.do(command{Do: doHalt})
		if err := r.fleet.wait(limited, evOver, r.fleet.over(r.o.Scenario)); err != nil && !r.result.Interrupted {
			return err
		}
		ctx = limited
	}
	r.fleet.do(command{Do: doFinish, N: r.fleet.sentTotal()})
	if err := r.await(ctx, evFinished, int64(r.fleet.leaves)); err != nil && !r.result.Interrupted {
		return err
	}
	if !r.phaseStart.IsZero() {
		r.result.Elapsed = time.Since(r.phaseStart).Seconds()
	}
	r.takeMeter()
	u, err := r.usage()
	if err != nil && !r.result.Interrupted {
		return err
	}
	r.after = u
	r.sample()
	r.sum()
	return nil
}

// close ends all connections in an orderly way, for a limited time.
func (r *run) close() {
	limit := r.o.Timeout + time.Second
	if r.result.Interrupted {
		limit = interruptedDrain
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r.fleet.do(command{Do: doClose})
	_ = r.fleet.wait(ctx, evClosed, int64(r.fleet.leaves)) // what is still open ends with the process
}

// usage reads the server's; zero when there is no probe.
func (r *run) usage() (usage, error) {
	if r.probe == nil {
		return usage{}, nil
	}
	u, err := r.probe.read()
	if err != nil {
		return u, fmt.Errorf("the server has gone away: %w", err)
	}
	return u, nil
}

// takeMeter adds what this process has used to the fleet's sum.
func (r *run) takeMeter() { r.fleet.take(event{Kind: evStats, Stats: r.meter.delta()}) }

// phase begins a phase of the progress display.
func (r *run) phase(name string, total int64) {
	r.progress.Begin(name, total)
	r.show(r.fleet.snapshot())
}

// watchEvery is how often progress is shown.
const watchEvery = 200 * time.Millisecond

// await waits for n events of a kind in total and meanwhile shows progress and takes samples.
func (r *run) await(ctx context.Context, kind string, n int64) error {
	for {
		limited, cancel := context.WithTimeout(ctx, watchEvery)
		err := r.fleet.wait(limited, kind, n)
		cancel()
		r.watch()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}

// sleep is await for a time instead of an event.
func (r *run) sleep(ctx context.Context, d time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := r.await(limited, "", 1)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func (r *run) watch() {
	r.show(r.fleet.snapshot())
	if time.Since(r.lastSample) >= time.Second {
		r.sample()
	}
}

func (r *run) show(s stats) {
	done := s.Open
	if r.o.storms() {
		done = s.Completed
	} else if !r.phaseStart.IsZero() {
		done = s.Sent
	}
	r.progress.Update(done, fmt.Sprintf("open %d, failed %d, lost %d, sent %d, received %d, wrong %d",
		s.Open, s.Failed, s.Lost, s.Sent, s.Received, s.Wrong))
}

// sample adds a point to the series. A server that cannot be read leaves its part out.
func (r *run) sample() {
	r.takeMeter()
	now := time.Now()
	s := r.fleet.snapshot()
	p99, longest := r.fleet.takeInterval()
	p := Sample{
		T: now.Sub(r.begin).Seconds(), Connections: s.Open, Sent: s.Sent, Received: s.Received, P99: p99, Max: longest,
	}
	if pacer := newPacer(r.o.Rate, r.o.Ramp); pacer != nil && !r.phaseStart.IsZero() {
		p.Wanted = pacer.Rate(now.Sub(r.phaseStart))
	}
	if u, err := r.usage(); err == nil && r.probe != nil {
		p.RSS = u.RSS
		if dt := now.Sub(r.lastSample); !r.lastSample.IsZero() && dt > 0 {
			p.CPU = 100 * float64(u.CPU-r.lastCPU) / float64(dt)
		}
		r.lastCPU = u.CPU
	}
	r.lastSample = now
	r.result.Series = append(r.result.Series, p)
}
