package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"roost/api"
	"roost/broker"
	"roost/gateway"
	"roost/internal/config"
	"roost/service"
	"roost/service/front"
	"roost/service/sync"
)

// services are what clients may use besides channels. What is off is nil.
type services struct {
	config *config.Config
	log    *slog.Logger
	took   *prometheus.HistogramVec

	front *front.Front
	sync  *sync.Service // of this process; nil where it runs in others
}

func newServices(c *config.Config, log *slog.Logger) *services {
	s := &services{config: c, log: log, took: metricServiceSeconds.histograms()}
	if c.Offers(sync.Namespace) {
		s.front = front.New(front.Options{
			Name: sync.Namespace, Prepare: sync.Prepare, Subscribe: sync.OpSubscribe, Logger: log,
			Wills: front.WillOperations{Set: sync.OpGone, Try: sync.OpTry, Do: sync.OpBatch},
		})
	}
	return s
}

// gateway returns what the gateway is to know of them.
func (s *services) gateway() (all []gateway.Service) {
	if s.front != nil {
		all = append(all, s.front.Gateway())
	}
	return all
}

// open starts those of this process, once the node is open.
func (s *services) open(n *gateway.Node, heir bool) (err error) {
	if s.front == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	router := service.NewRouter(sync.Namespace, n.Broker(), nil)
	if !s.config.RemoteServices {
		if s.sync, err = s.newSync(n.Broker()); err != nil {
			return err
		}
		router = s.sync.Router()
	}
	return s.front.Open(ctx, n, router, heir)
}

func (s *services) newSync(b *broker.Broker) (*sync.Service, error) {
	return sync.New(sync.Options{Broker: b, Config: s.config.Sync(), Logger: s.log, Observe: func(op string, code uint32, took time.Duration) {
		s.took.WithLabelValues(sync.Namespace, op, strconv.Itoa(int(code))).Observe(took.Seconds())
	}})
}

// start begins what clients must be there for.
func (s *services) start() {
	if s.front != nil {
		s.front.Start()
	}
}

// api returns what the server API is to know of them.
func (s *services) api() (all []api.Service) {
	if s.front != nil {
		all = append(all, api.Service{Name: sync.Namespace, Operations: sync.Described, Do: s.front.Do})
	}
	return all
}

// stop ends them, before the node.
func (s *services) stop(ctx context.Context) error {
	if s == nil || s.front == nil {
		return nil
	}
	s.front.Close(ctx)
	if s.sync == nil {
		return nil
	}
	if err := s.sync.Close(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// Describe and Collect implement prometheus.Collector.
func (s *services) Describe(out chan<- *prometheus.Desc) {
	s.took.Describe(out)
	for _, d := range []*prometheus.Desc{descSyncShards, descSyncObjects, descSyncLoads, descSyncConflicts, descSyncCommits, descSyncBytes,
		descSyncCheckpoints, descSyncPages, descSyncExpired, descSyncScheduled} {
		out <- d
	}
}

func (s *services) Collect(out chan<- prometheus.Metric) {
	s.took.Collect(out)
	if s.sync == nil {
		return
	}
	st := s.sync.Stats()
	gauge := func(d *prometheus.Desc, v int) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	count := func(d *prometheus.Desc, v uint64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(descSyncShards, st.Shards)
	gauge(descSyncObjects, st.InUse)
	gauge(descSyncScheduled, st.Scheduled)
	count(descSyncLoads, st.Loads)
	count(descSyncConflicts, st.Conflicts)
	count(descSyncCommits, st.Commits)
	count(descSyncBytes, st.Bytes)
	count(descSyncCheckpoints, st.Checkpoints)
	count(descSyncPages, st.Pages)
	count(descSyncExpired, st.Expired)
}
