package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"roost/conn"
	"roost/poller"
)

// metrics turns the server's figures into Prometheus metrics when it is asked.
type metrics struct{ srv *conn.Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("roost_"+name, help, labels, nil)
}

var (
	descConnections = desc("connections", "Upgraded connections now.")
	descSockets     = desc("sockets", "Client sockets now, those without upgrade included.")
	descLimit       = desc("descriptor_limit", "Open files this process may have.")
	descAccepted    = desc("sockets_accepted_total", "Client sockets accepted.")
	descRefused     = desc("sockets_refused_total", "Client sockets closed at once for want of room.")
	descAcceptErr   = desc("accept_pauses_total", "Times accepting paused after an error such as EMFILE.")
	descUpgrades    = desc("upgrades_total", "Upgrades confirmed.")
	descMessages    = desc("messages_total", "Messages by direction.", "direction")
	descBytes       = desc("bytes_total", "Bytes on client sockets by direction.", "direction")
	descSyscalls    = desc("io_operations_total", "Reads, sends and io_uring enters.", "kind")
	descBlocked     = desc("sockets_blocked_total", "Times a client's socket took no more.")
	descPings       = desc("pings_total", "Pings sent.")
	descClosed      = desc("closed_total", "Client sockets closed by reason.", "reason")
	descProtocol    = desc("protocol_errors_total", "Connections failed by what the client sent.", "kind")
	descHandshake   = desc("handshake_errors_total", "Upgrades refused by cause.", "kind")
	descWorkers     = desc("workers_busy", "Goroutines of the worker pool that run.")
	descWaiting     = desc("workers_waiting", "Connections that wait for a worker.")
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	st := m.srv.Stats()
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	byLabel := func(d *prometheus.Desc, counts map[string]uint64) {
		for label, n := range counts {
			count(d, n, label)
		}
	}
	gauge(descConnections, st.Open)
	gauge(descSockets, st.Poller.Open)
	if limit, err := poller.DescriptorLimit(); err == nil {
		gauge(descLimit, int64(limit))
	}
	gauge(descWorkers, int64(st.WorkersBusy))
	gauge(descWaiting, int64(st.Waiting))
	count(descAccepted, st.Poller.Opened)
	count(descRefused, st.Poller.Refused)
	count(descAcceptErr, st.Poller.AcceptErrors)
	count(descUpgrades, st.Upgrades)
	count(descMessages, st.MessagesIn, "in")
	count(descMessages, st.MessagesOut, "out")
	count(descBytes, st.Poller.BytesIn, "in")
	count(descBytes, st.Poller.BytesOut, "out")
	count(descSyscalls, st.Poller.Reads, "read")
	count(descSyscalls, st.Poller.Sends, "send")
	count(descSyscalls, st.Poller.Enters, "enter")
	count(descBlocked, st.Poller.Blocked)
	count(descPings, st.Pings)
	byLabel(descClosed, st.Closed)
	byLabel(descProtocol, st.ProtocolErrors)
	byLabel(descHandshake, st.HandshakeErrors)
}
