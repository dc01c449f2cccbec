package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage/sealed"
)

// databaseMetrics are the metrics of the connections to PostgreSQL. There are none when the store lies on a disk.
type databaseMetrics struct{ store *sealed.Store }

var (
	databaseConnections = prometheus.NewDesc("visage_database_connections",
		"Connections of this process to PostgreSQL, by state.", []string{"state"}, nil)
	databaseLimit = prometheus.NewDesc("visage_database_connections_max",
		"The most connections that this process opens.", nil, nil)
	databaseWaiting = prometheus.NewDesc("visage_database_waiting",
		"Loads of large collections, backups and verifications that wait until others have ended.", nil, nil)
	databaseCommits = prometheus.NewDesc("visage_database_commits_total",
		"Transactions that were committed.", nil, nil)
	databaseReruns = prometheus.NewDesc("visage_database_reruns_total",
		"Runs of transactions that failed and were repeated, by cause.", []string{"cause"}, nil)
	databaseUnknown = prometheus.NewDesc("visage_database_unknown_total",
		"Commits of which nobody could find out what became.", nil, nil)
	databaseSeconds = prometheus.NewDesc("visage_database_commit_seconds_total",
		"Time between sending commits and their answers.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m databaseMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{databaseConnections, databaseLimit, databaseWaiting, databaseCommits,
		databaseReruns, databaseUnknown, databaseSeconds} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m databaseMetrics) Collect(out chan<- prometheus.Metric) {
	s, ok := m.store.Database()
	if !ok {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(databaseConnections, float64(s.Busy), "busy")
	gauge(databaseConnections, float64(s.Connections-s.Busy), "idle")
	gauge(databaseLimit, float64(s.Max))
	gauge(databaseWaiting, float64(s.Waiting))
	count(databaseCommits, float64(s.Commits))
	count(databaseReruns, float64(s.Conflicts), "conflict")
	count(databaseReruns, float64(s.Reconnects), "connection lost")
	count(databaseUnknown, float64(s.Unknown))
	count(databaseSeconds, s.Committing.Seconds())
}
