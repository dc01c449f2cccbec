package scatter

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage/gallery/remote"
)

// metrics are the Prometheus metrics of searches in partitions.
type metrics struct {
	searches *prometheus.CounterVec // by outcome
	all      []prometheus.Collector
}

func newMetrics(s *Scatter) metrics {
	m := metrics{searches: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "visage_partition_searches_total",
		Help: "Searches of collections that are cut into partitions, by outcome.",
	}, []string{"outcome"})}
	for _, outcome := range []string{"answered", "unavailable", "repeated", "failed"} {
		m.searches.WithLabelValues(outcome) // exported as zero before the first
	}
	count := func(name, help string, value func(remote.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(value(s.client.Stats())) })
	}
	m.all = []prometheus.Collector{
		m.searches,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "visage_partition_replicas", Help: "Replicas that partitions are placed on.",
		}, func() float64 {
			n := 0
			for _, r := range s.cfg.Replicas() {
				if !r.Leaving {
					n++
				}
			}
			return float64(n)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "visage_partition_collections",
			Help: "Collections that are cut into partitions, as far as this replica has searched them.",
		}, func() float64 { return float64(s.collections()) }),
		count("visage_partition_requests_total", "Searches of one partition that replicas were asked for.",
			func(s remote.Stats) uint64 { return s.Requests }),
		count("visage_partition_hedges_total", "Requests for a partition that another replica was slow to answer.",
			func(s remote.Stats) uint64 { return s.Hedges }),
		count("visage_partition_failures_total", "Requests for a partition that had no answer.",
			func(s remote.Stats) uint64 { return s.Failures }),
		count("visage_partition_invalid_answers_total", "Answers for a partition that did not match their request.",
			func(s remote.Stats) uint64 { return s.Invalid }),
	}
	return m
}

func (s *Scatter) collections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.cuts)
}

// searched counts a search. One whose caller has gone is not counted.
func (m metrics) searched(ctx context.Context, err error) {
	_, unavailable := errors.AsType[*remote.UnavailableError](err)
	outcome := "failed"
	switch {
	case err == nil:
		outcome = "answered"
	case ctx.Err() != nil:
		return
	case unavailable:
		outcome = "unavailable"
	case errors.Is(err, remote.ErrBehind):
		outcome = "repeated"
	}
	m.searches.WithLabelValues(outcome).Inc()
}
