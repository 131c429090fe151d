package main

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"roost/broker"
	"roost/conn"
	"roost/gateway"
	"roost/poller"
)

// metrics turns the figures of server and node into Prometheus metrics when it is asked.
type metrics struct {
	srv  *conn.Server
	node *gateway.Node
}

// metric is one of them as docs/metrics.md has it.
type metric struct {
	name, help string
	labels     []string
}

func (m metric) histograms() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: m.name, Help: m.help}, m.labels)
}

// described are all metrics of ours.
var described []metric

func describe(name, help string, labels ...string) metric {
	m := metric{"roost_" + name, help, labels}
	described = append(described, m)
	return m
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	m := describe(name, help, labels...)
	return prometheus.NewDesc(m.name, m.help, m.labels, nil)
}

var (
	descConnections = desc("connections", "Upgraded connections now.")
	descSockets     = desc("sockets", "Client sockets now, those without upgrade included.")
	descLimit       = desc("descriptor_limit", "Open files this process may have.")
	descAccepted    = desc("sockets_accepted_total", "Client sockets accepted.")
	descRefused     = desc("sockets_refused_total", "Client sockets closed at once for want of room.")
	descAcceptErr   = desc("accept_pauses_total", "Times accepting paused after an error such as EMFILE.")
	descUpgrades    = desc("upgrades_total", "Upgrades confirmed.")
	descMessages    = desc("messages_total", "WebSocket messages by direction (in, out).", "direction")
	descBytes       = desc("bytes_total", "Bytes on client sockets by direction (in, out).", "direction")
	descSyscalls    = desc("io_operations_total", "Reads, sends and io_uring enters (read, send, enter).", "kind")
	descBlocked     = desc("sockets_blocked_total", "Times a client's socket took no more, so that output had to wait.")
	descNativePings = desc("pings_total", "WebSocket ping frames sent.")
	descClosed      = desc("closed_total", "Client sockets closed by reason; slow_consumer are those that read too slowly.", "reason")
	descProtocol    = desc("protocol_errors_total", "Connections failed by WebSocket frames that break its protocol, by kind.", "kind")
	descHandshakes  = desc("handshakes", "Connections now whose upgrade has not been answered, or not been asked for yet.")
	descHeld        = desc("upgrades_waiting", "Upgrades that wait for their turn now, see upgrade-rate.")
	descHandshake   = desc("handshake_errors_total", "Upgrades refused by cause.", "kind")
	descWorkers     = desc("workers_busy", "Goroutines of the worker pool that run.")
	descWaiting     = desc("workers_waiting", "Connections whose messages wait for a worker.")
	descQueueBytes  = desc("output_queue_bytes", "Bytes that wait for clients to take them now.")
	descQueueConns  = desc("output_queue_connections", "Client sockets with such bytes now.")

	descTLSHandshakes = desc("tls_handshakes_total", "TLS handshakes by outcome (kernel and fallback carry the session; challenge is an ACME authority's; failed, timeout, busy, full and lost are none).", "outcome")
	descTLSInFlight   = desc("tls_handshakes_in_flight", "TLS handshakes now.")
	descTLSSessions   = desc("tls_sessions", "TLS sessions now by what carries them (kernel, fallback).", "carrier")
	descTLSNotAfter   = desc("tls_certificate_not_after_seconds", "When a certificate expires, in seconds since 1970.", "file")
	descTLSReloads    = desc("tls_reload_failures_total", "Changed certificates that could not be used, so that the old one stayed.")

	descClients       = desc("clients", "Clients of the client protocol now, after their connect command.")
	descTransports    = desc("client_connections", "Connections of the client protocol now, with and without a connect command.")
	descByTransport   = desc("clients_by_transport", "Clients of the client protocol now, by transport (websocket, sse, http_stream).", "transport")
	descUsers         = desc("users", "Clients with an identity now.")
	descChannels      = desc("channels", "Channels with subscribers on this node now.")
	descSubscriptions = desc("subscriptions", "Subscriptions of this node's clients now.")
	descConnects      = desc("connects_total", "Connect commands that succeeded.")
	descPublications  = desc("publications_total", "Publications by this node's clients and server API.")
	descReceived      = desc("publications_received_total", "Publications with subscribers on this node.")
	descDeliveries    = desc("deliveries_total", "Publications, joins and leaves sent, once for each subscriber.")
	descPushes        = desc("pushes_total", "Other pushes, each to one client.")
	descPings         = desc("client_pings_total", "Pings of the client protocol sent.")
	descRebalanced    = desc("rebalanced_total", "Clients that were disconnected since other nodes have fewer, see rebalance.")
	descDrained       = desc("drain_disconnects_total", "Clients disconnected by drains and sheds, rebalance included.")
	descDrainLeft     = desc("drain_clients_left", "Clients that the drain which goes on is yet to disconnect.")
	descDrainRefuses  = desc("drain_refusing", "1 while all clients are drained and after that, when nobody is let in, else 0.")
	descGaps          = desc("gaps_total", "Channels whose subscribers had to start over, since publications may have been missed.")
	descCommands      = desc("commands_total", "Commands of clients by kind.", "kind")
	descErrors        = desc("command_errors_total", "Commands answered with an error, by its code.", "code")
	descDisconnects   = desc("disconnects_total", "Clients disconnected by this node, by the code they were told.", "code")
	descCloses        = desc("closes_total", "Connections of the client protocol that ended, by the code of the close.", "code")
	descTokens        = desc("tokens_refused_total", "Tokens refused, by why.", "reason")

	descBrokerPublishes  = desc("broker_publish_seconds", "Time until NATS confirmed a publication (histogram).")
	descBrokerFailures   = desc("broker_publish_failures_total", "Publications that NATS did not confirm.")
	descBrokerDeliveries = desc("broker_deliveries_total", "Publications that came from NATS for channels followed here.")
	descBrokerReconnects = desc("broker_reconnects_total", "Times the connection to NATS was made again.")
	descBrokerErrors     = desc("broker_errors_total", "Errors that the embedded NATS told, see the log: backends refused at nats-listen, trouble with its files.")
	descBrokerDropped    = desc("broker_dropped_total", "Times live messages may have been dropped on the way in.")
	descBrokerGaps       = desc("broker_gaps_total", "Channels whose continuity had to be given up.")
	descBrokerRepairs    = desc("broker_repairs_total", "Gaps closed by reading the history.")
	descBrokerReads      = desc("broker_history_reads_total", "Reads of history by where from (memory, stream).", "from")
	descBrokerTail       = desc("broker_tail_bytes", "Recent publications in memory now, in bytes.")
	descBrokerUp         = desc("broker_up", "1 while NATS can be reached, else 0.")

	descEmulationStreams     = desc("emulation_streams", "Streams to clients by SSE and HTTP streaming now.")
	descEmulationConnections = desc("emulation_connections", "Connections of such clients now, those for what they send included.")
	descEmulationRefused     = desc("emulation_refused_total", "Streams and connections of such clients refused, by why.", "reason")
	descEmulationPosts       = desc("emulation_posts_total", "Requests in which such clients sent commands, by outcome; delivered, forwarded (to another node) and ended (the client was just disconnected) were answered 204.", "outcome")

	descBackendCalls     = desc("backend_calls", "Calls of backends under way now.", "backend")
	descBackendWaiting   = desc("backend_calls_waiting", "Calls that wait for their turn now.", "backend")
	metricBackendSeconds = describe("backend_call_seconds", "How long calls of backends took, by how they ended (histogram).", "backend", "event", "outcome")

	metricServiceSeconds = describe("service_call_seconds", "How long calls of services took that this process answered, by operation and error code, 0 for none (histogram).", "service", "op", "code")
	descSyncShards       = desc("sync_shards", "Of the 64 shards of sync's objects, those that this process owns.")
	descSyncObjects      = desc("sync_objects_in_memory", "Objects of sync in memory, since they are in use or were in the last half minute.")
	descSyncLoads        = desc("sync_loads_total", "Objects read from their logs.")
	descSyncConflicts    = desc("sync_conflicts_total", "Writes that began again since another process had written to the object.")
	descSyncCommits      = desc("sync_commits_total", "Writes of sync that were stored.")
	descSyncBytes        = desc("sync_commit_bytes_total", "Bytes of these.")
	descSyncCheckpoints  = desc("sync_checkpoints_total", "Times an object was written down so that the beginning of its log may go.")
	descSyncPages        = desc("sync_pages_total", "Pages of items written for that.")
	descSyncExpired      = desc("sync_expired_total", "Objects and items removed since their time was over.")
	descSyncScheduled    = desc("sync_expiring", "Objects of this process that will expire, or items of theirs.")

	descUnusable         = desc("answers_unusable_total", "Answers of backends that are as they should be, but that the gateway could not follow, by event; the log says why.", "event")
	descRefreshes        = desc("refreshes_total", "Questions to a handler whether a client (refresh) or a subscription (sub_refresh) that expires may go on, by what came of it: kept, ended; failed (no usable answer) and full (too many wait), which come again; gone (it ended meanwhile).", "event", "outcome")
	descRefreshesWaiting = desc("refreshes_waiting", "Such questions that wait for their turn now.", "event")

	descEventsQueued    = desc("events_queued_total", "Events for backends (disconnect, unsubscribe) that this node stored.", "event")
	descEventsDelivered = desc("events_delivered_total", "Events that backends took from this node.", "event")
	descEventsRetried   = desc("events_retried_total", "Times an event was not taken and comes again.", "event")
	descEventsDropped   = desc("events_dropped_total", "Events given up, by why (age, room, rejected); rejected are answers that are final errors.", "event", "reason")
	descEventsWaiting   = desc("events_waiting", "Events in memory of this node that are not stored yet.", "event")
	descEventsPending   = desc("events_pending", "Events of all nodes in the queue, as of some seconds ago.", "event")
	descEventsOldest    = desc("events_oldest_seconds", "Age of the oldest of them.", "event")

	descRawClients  = desc("raw_clients", "Clients of raw routes now.", "route")
	descRawMessages = desc("raw_messages_total", "Messages of raw routes by direction (in, from clients; out, to them).", "route", "direction")
	descRawDropped  = desc("raw_dropped_total", "Messages of backends that reached no client of a raw route, by why (gone, utf8, subject, bad_code; see docs/raw.md).", "route", "reason")
	descRawFailed   = desc("raw_failed_total", "Clients that a raw route closed, as it could not bring what they sent or its answer, by why (kind, full, lost, nobody, large, backend; see docs/raw.md).", "route", "reason")
	descRawQueue    = desc("raw_queue_bytes", "Bytes of raw messages that wait for NATS now.")
	descRawOverrun  = desc("raw_overruns_total", "Times that messages of backends to raw routes were dropped, since too many waited in this node.")

	metricAPIRequests = describe("api_requests_total", "Operations of the server API by method and error code, 0 for none; without a method those refused before.", "method", "code")
	metricAPISeconds  = describe("api_request_seconds", "How long they took (histogram).", "method")

	metricAdminFailures = describe("admin_login_failures_total", "Logins to the admin page refused, for a wrong password or too many of them.")
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	out := samples(ch)
	out.server(m.srv.Stats())
	bytes, conns := m.srv.Queued()
	out.gauge(descQueueBytes, bytes)
	out.gauge(descQueueConns, conns)
	st := m.node.Stats()
	out.node(st)
	out.broker(st.Broker)
	up := int64(1)
	if m.node.Broker().Ready() != nil {
		up = 0
	}
	out.gauge(descBrokerUp, up)
}

// samples is where one scrape goes.
type samples chan<- prometheus.Metric

func (s samples) gauge(d *prometheus.Desc, v int64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
}

func (s samples) count(d *prometheus.Desc, v uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// byLabel counts by the last label; those before it are the same for all.
func (s samples) byLabel(d *prometheus.Desc, counts map[string]uint64, before ...string) {
	for label, n := range counts {
		s.count(d, n, slices.Concat(before, []string{label})...)
	}
}

func (s samples) byCode(d *prometheus.Desc, counts map[uint32]uint64) {
	for code, n := range counts {
		s.count(d, n, strconv.FormatUint(uint64(code), 10))
	}
}

func (s samples) server(st conn.Stats) {
	s.gauge(descConnections, st.Open)
	s.gauge(descSockets, st.Poller.Open)
	if limit, err := poller.DescriptorLimit(); err == nil {
		s.gauge(descLimit, int64(limit))
	}
	s.gauge(descWorkers, int64(st.WorkersBusy))
	s.gauge(descWaiting, int64(st.Waiting))
	s.count(descAccepted, st.Poller.Opened-st.Poller.Adopted)
	s.byLabel(descTLSHandshakes, st.TLS.Handshakes)
	s.gauge(descTLSInFlight, int64(st.TLS.InFlight))
	s.gauge(descTLSSessions, st.TLS.Kernel, "kernel")
	s.gauge(descTLSSessions, int64(st.TLS.Fallback), "fallback")
	s.count(descRefused, st.Poller.Refused)
	s.count(descAcceptErr, st.Poller.AcceptErrors)
	s.count(descUpgrades, st.Upgrades)
	s.gauge(descHandshakes, int64(st.Handshakes))
	s.gauge(descHeld, int64(st.Held))
	s.count(descMessages, st.MessagesIn, "in")
	s.count(descMessages, st.MessagesOut, "out")
	s.count(descBytes, st.Poller.BytesIn, "in")
	s.count(descBytes, st.Poller.BytesOut, "out")
	s.count(descSyscalls, st.Poller.Reads, "read")
	s.count(descSyscalls, st.Poller.Sends, "send")
	s.count(descSyscalls, st.Poller.Enters, "enter")
	s.count(descBlocked, st.Poller.Blocked)
	s.count(descNativePings, st.Pings)
	s.byLabel(descClosed, st.Closed)
	s.byLabel(descProtocol, st.ProtocolErrors)
	s.byLabel(descHandshake, st.HandshakeErrors)
}

func (s samples) node(st gateway.Stats) {
	s.gauge(descTransports, st.Transports)
	s.gauge(descClients, st.Clients)
	others := st.Clients
	for transport, n := range st.Emulated {
		s.gauge(descByTransport, n, transport)
		others -= n
	}
	s.gauge(descByTransport, max(0, others), gateway.TransportWebSocket)
	s.gauge(descUsers, st.Users)
	s.gauge(descChannels, st.Channels)
	s.gauge(descSubscriptions, st.Subscriptions)
	s.count(descConnects, st.Connects)
	s.count(descPublications, st.Publications)
	s.count(descReceived, st.Received)
	s.count(descDeliveries, st.Deliveries)
	s.count(descPushes, st.Pushes)
	s.count(descPings, st.Pings)
	s.count(descGaps, st.Gaps)
	s.count(descRebalanced, st.Rebalanced)
	s.count(descDrained, st.Drained)
	s.gauge(descDrainLeft, st.DrainLeft)
	refuses := int64(1)
	if st.LetsIn {
		refuses = 0
	}
	s.gauge(descDrainRefuses, refuses)
	s.byLabel(descCommands, st.Commands)
	s.byCode(descErrors, st.Errors)
	s.byCode(descDisconnects, st.Disconnects)
	s.byCode(descCloses, st.Closes)
	s.byLabel(descTokens, st.Tokens)
	s.byLabel(descUnusable, st.Unusable)
	s.raw(st.Raw)
	for event, r := range st.Refreshes {
		s.gauge(descRefreshesWaiting, int64(r.Waiting), event)
		s.byLabel(descRefreshes, r.Outcomes, event)
	}
	for event, q := range st.Events {
		s.events(event, q)
	}
}

func (s samples) raw(st gateway.RawStats) {
	for _, r := range st.Routes {
		s.gauge(descRawClients, r.Clients, r.Route)
		s.count(descRawMessages, r.In, r.Route, "in")
		s.count(descRawMessages, r.Out, r.Route, "out")
		s.byLabel(descRawDropped, r.Dropped, r.Route)
		s.byLabel(descRawFailed, r.Failed, r.Route)
	}
	s.gauge(descRawQueue, st.Queued)
	s.count(descRawOverrun, st.Overrun)
}

func (s samples) events(event string, q gateway.EventStats) {
	s.count(descEventsQueued, q.Stored, event)
	s.count(descEventsDelivered, q.Done-min(q.Done, q.Rejected), event)
	s.count(descEventsRetried, q.Retried, event)
	s.count(descEventsDropped, q.TooOld, event, "age")
	s.count(descEventsDropped, q.Refused, event, "room")
	s.count(descEventsDropped, q.Rejected, event, "rejected")
	for _, g := range []struct {
		desc  *prometheus.Desc
		value float64
	}{{descEventsWaiting, float64(q.Waiting)}, {descEventsPending, float64(q.Pending)}, {descEventsOldest, q.OldestAge.Seconds()}} {
		s <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value, event)
	}
}

func (s samples) broker(st broker.Stats) {
	buckets := make(map[float64]uint64, len(broker.LatencyBounds))
	var below uint64
	for i, bound := range broker.LatencyBounds {
		below += st.Latency[i]
		buckets[bound.Seconds()] = below
	}
	s <- prometheus.MustNewConstHistogram(descBrokerPublishes, st.Publishes, st.LatencySum.Seconds(), buckets)
	s.count(descBrokerFailures, st.Failures)
	s.count(descBrokerDeliveries, st.Deliveries)
	s.count(descBrokerReconnects, st.Reconnects)
	s.count(descBrokerErrors, st.Errors)
	s.count(descBrokerDropped, st.Dropped)
	s.count(descBrokerGaps, st.Gaps)
	s.count(descBrokerRepairs, st.Repairs)
	s.count(descBrokerReads, st.TailHits, "memory")
	s.count(descBrokerReads, st.Reads, "stream")
	s.gauge(descBrokerTail, st.TailBytes)
}
