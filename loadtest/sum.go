package loadtest

// sum turns counts into the result.
func (r *run) sum() {
	f := r.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	s, res := f.sum, r.result
	wanted := int64(r.o.Connections)
	if r.o.storms() {
		wanted = max(r.o.Messages, s.Opened+s.Failed)
	}
	res.Connections = Connections{Wanted: wanted, Opened: s.Opened, Failed: s.Failed, Lost: s.Lost, Connect: connectOf(s.Connect)}
	expected := s.Sent
	if r.o.Scenario == Fanout {
		expected = s.Sent * s.Opened
	} else if r.o.publishes() {
		expected = r.o.deliveries(s.Sent)
	}
	if r.o.Scenario == Upgrade {
		r.sumUpgrade(s)
		expected = s.Received + s.Missing // how many are owed depends on who was there
	}
	res.Messages = Messages{
		Sent: s.Sent, Received: s.Received, Expected: expected, Wrong: s.Wrong, Lost: s.Missing, Late: s.Late,
		BytesIn: s.BytesIn, BytesOut: s.BytesOut,
	}
	done, latency := s.Received, s.Latency
	if r.o.storms() {
		done, latency = s.Completed, s.Connect
	}
	if r.o.Scenario == Reconnect {
		res.Recovery = recoveryOf(s)
	}
	if r.o.Scenario == RPC {
		res.Calls = callsOf(s, res.Elapsed)
		done = res.Calls.Results + s.Beside.TotalCount()
	}
	if res.Elapsed > 0 {
		res.Messages.PerSecond = float64(done) / res.Elapsed
	}
	res.Latency, res.Percentiles = latencyOf(latency), distribution(latency)
	res.Errors = errorCounts(s.Errors)
	r.sumServer(done)
	r.sumClient(s, done)
}

// sumServer fills in what the server took for done messages, deliveries or upgrades.
func (r *run) sumServer(done int64) {
	server := r.result.Server
	if server == nil {
		return
	}
	server.RSSAfter, server.Threads = r.after.RSS, r.after.Threads
	if b, ok := slope(r.result.Memory); ok {
		server.PerConnection = &b
	}
	if opened := r.fleet.sum.Opened; r.o.Scenario == Clients && opened > 0 {
		server.PerClient = new(float64(r.joining) / 1000 / float64(opened))
	}
	if r.phaseStart.IsZero() || r.after.CPU < r.before.CPU {
		return
	}
	cpu := r.after.CPU - r.before.CPU
	server.CPU = cpu.Seconds()
	if done == 0 {
		return
	}
	each := float64(cpu) / 1000 / float64(done)
	switch r.o.Scenario {
	case Echo, Soak, RPC:
		server.PerMessage = &each
	case Fanout, Publish, Reconnect, Upgrade:
		server.PerDelivery = &each
	case Storm:
		server.PerUpgrade = &each
	case Join:
		server.PerClient = &each
	}
}

// countedConnections is how many it takes until their memory stands out from the generator's own.
const countedConnections = 1000

func (r *run) sumClient(s *stats, done int64) {
	c := Client{RSS: s.RSS, Processes: r.processes()}
	if !r.phaseStart.IsZero() {
		c.CPU = float64(s.CPU-r.cpuStart) / 1e9
		if done > 0 {
			each := c.CPU * 1e6 / float64(done)
			c.PerMessage = &each
		}
	}
	if s.Opened < countedConnections || r.o.storms() {
		r.result.Client = c
		return
	}
	if r.o.holds() {
		points := make([]MemorySample, 0, len(r.result.Memory))
		for _, m := range r.result.Memory {
			points = append(points, MemorySample{Connections: m.Connections, RSS: m.ClientRSS})
		}
		if b, ok := slope(points); ok {
			c.PerConnection = &b
		}
	} else if r.clientOpen > 0 {
		b := float64(r.clientOpen-r.clientIdle) / float64(min(s.Opened, int64(r.o.Connections)))
		c.PerConnection = &b
	}
	r.result.Client = c
}

// processes counts the generator's own, the parent among them.
func (r *run) processes() int {
	n := 1
	for _, node := range r.fleet.nodes {
		if _, ok := node.(*child); ok {
			n++
		}
	}
	return n
}
