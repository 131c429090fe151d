package main

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"roost/admin"
	"roost/api"
)

// mountAdmin adds the admin page, unless it has no password.
func mountAdmin(mux *http.ServeMux, reg *prometheus.Registry, p *process, password string, o api.Options) error {
	failures := prometheus.NewCounter(prometheus.CounterOpts{Name: metricAdminFailures.name, Help: metricAdminFailures.help})
	reg.MustRegister(failures)
	if password == "" {
		return nil
	}
	o.Keys, o.Insecure = nil, true // the page's session is what opens it
	page, err := admin.New(admin.Options{Password: password, API: api.New(o), Figures: p.figures, FailedLogin: failures.Inc})
	if err != nil {
		return fmt.Errorf("--admin-password: %w", err)
	}
	mux.Handle("/admin/", page)
	return nil
}

// figures are what the admin page plots.
func (p *process) figures() admin.Figures {
	server, node := p.server.Stats(), p.node.Stats()
	bytes, conns := p.server.Queued()
	return admin.Figures{
		Connections: server.Open, Clients: node.Clients, Channels: node.Channels, Subscriptions: node.Subscriptions,
		MessagesIn: server.MessagesIn, MessagesOut: server.MessagesOut,
		BytesIn: server.Poller.BytesIn, BytesOut: server.Poller.BytesOut,
		QueueBytes: bytes, QueueConnections: conns, Memory: int64(residentMemory()), Closed: server.Closed,
	}
}
