package audit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	written *prometheus.CounterVec
	failed  *prometheus.CounterVec
	signed  prometheus.Counter
	batch   prometheus.Histogram
	queued  prometheus.GaugeFunc
	behind  prometheus.GaugeFunc
}

func newMetrics(l *Log) *metrics {
	m := &metrics{
		written: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "visage_audit_entries_total", Help: "Entries of the audit log written since the start, by kind.",
		}, []string{"kind"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "visage_audit_failures_total",
			Help: "What the audit log could not do: append, note, checkpoint, nodes.",
		}, []string{"what"}),
		signed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "visage_audit_checkpoints_total", Help: "Checkpoints of the audit log signed since the start.",
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "visage_audit_batch_entries", Help: "Entries that shared a transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 6), // 1 … 1024; maxBatch is 1000
		}),
		queued: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "visage_audit_buffered_bytes", Help: "Noted events that are not on disk yet, in bytes.",
		}, func() float64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return float64(l.bytes)
		}),
		behind: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "visage_audit_behind_seconds", Help: "Age of the oldest noted event that is not on disk.",
		}, func() float64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return float64(l.behindLocked()) / float64(time.Second)
		}),
	}
	for _, kind := range kinds { // so that kinds and failures that have not happened yet are exported as zero
		m.written.WithLabelValues(string(kind))
	}
	for _, what := range []string{"append", "note", "checkpoint", "nodes"} {
		m.failed.WithLabelValues(what)
	}
	return m
}

// Collectors returns the log's metrics.
func (l *Log) Collectors() []prometheus.Collector {
	m := l.metrics
	return []prometheus.Collector{m.written, m.failed, m.signed, m.batch, m.queued, m.behind}
}
