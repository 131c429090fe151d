package main

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"roost/emulation"
	"roost/gateway"
	"roost/internal/config"
	"roost/poller"
)

// emulatedShare is which part of the descriptors clients by SSE and HTTP streaming may be
// in number: each takes four.
const emulatedShare = 16

// maxEmulated is how many such clients there may be.
func maxEmulated(c *config.Config) int {
	limit, err := poller.DescriptorLimit()
	if err != nil {
		return c.MaxEmulated
	}
	return int(min(uint64(c.MaxEmulated), limit/emulatedShare))
}

// newEmulation makes the server of those clients; without any it is never asked.
func newEmulation(c *config.Config, node *gateway.Node, log *slog.Logger) *emulation.Server {
	return emulation.New(emulation.Options{
		Node: node, Route: node.Route().Path, AllowedOrigins: c.AllowedOrigins,
		MaxClients: maxEmulated(c), MaxMessage: node.MaxMessage(), RequestTimeout: c.HandshakeTimeout, Logger: log,
	})
}

// emulated has the metrics of clients by SSE and HTTP streaming.
type emulated struct{ server *emulation.Server }

// Describe implements prometheus.Collector.
func (e emulated) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(e, ch) }

// Collect implements prometheus.Collector.
func (e emulated) Collect(ch chan<- prometheus.Metric) {
	out, st := samples(ch), e.server.Stats()
	out.gauge(descEmulationStreams, st.Streams)
	out.gauge(descEmulationConnections, st.Connections)
	out.byLabel(descEmulationRefused, st.Refused)
	out.byLabel(descEmulationPosts, st.Posts)
}
