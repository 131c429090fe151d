package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"roost/backend"
	"roost/broker"
)

// backends are the servers that answer clients' commands, with their metrics.
type backends struct {
	set    *backend.Set
	broker *broker.Broker // set before the first client comes
	took   *prometheus.HistogramVec
}

func newBackends(c backend.Config, log *slog.Logger) (b *backends, err error) {
	b = &backends{took: metricBackendSeconds.histograms()}
	b.set, err = backend.New(backend.Options{Config: c, Ask: b, Logger: log, Observe: func(name, event, outcome string, took time.Duration) {
		b.took.WithLabelValues(name, event, outcome).Observe(took.Seconds())
	}})
	return b, err
}

// Ask implements backend.Asker.
func (b *backends) Ask(ctx context.Context, subject string, data []byte) ([]byte, error) {
	return b.broker.Ask(ctx, subject, data)
}

// Describe and Collect implement prometheus.Collector.
func (b *backends) Describe(out chan<- *prometheus.Desc) {
	b.took.Describe(out)
	out <- descBackendCalls
	out <- descBackendWaiting
}

func (b *backends) Collect(out chan<- prometheus.Metric) {
	b.took.Collect(out)
	for _, s := range b.set.Stats() {
		out <- prometheus.MustNewConstMetric(descBackendCalls, prometheus.GaugeValue, float64(s.InFlight), s.Backend)
		out <- prometheus.MustNewConstMetric(descBackendWaiting, prometheus.GaugeValue, float64(s.Waiting), s.Backend)
	}
}
