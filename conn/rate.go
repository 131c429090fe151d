package conn

// The inbound rate limit is a leaky bucket in one number, the time at which the
// bucket will be empty (GCRA, ATM Forum TM 4.0). Its clock counts rateUnits per
// second and wraps, so it is set forward at least every ping interval.

// now returns the limiter's time, as coarse as a tick.
func (h *loop) now() uint32 { return h.loop.Now() * h.server.ticks.rate }

// allowed takes one message's worth from the bucket.
func (h *loop) allowed(c *Conn) bool {
	h.refill(c)
	cost := rateUnits / uint32(h.server.opts.MessageRate)
	if c.clock+cost-h.now() > cost*uint32(h.server.opts.MessageBurst) {
		return false
	}
	c.clock += cost
	return true
}

// refill keeps the bucket's time from falling behind.
func (h *loop) refill(c *Conn) {
	if now := h.now(); int32(now-c.clock) > 0 {
		c.clock = now
	}
}
