package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
)

// keyExpiryMetrics exports when the next customer's key expires, by the kind of its store.
type keyExpiryMetrics struct {
	dates  func() []custody.KeyExpiry
	kindOf func(visage.KeyRef) string
}

var keyExpiryDesc = prometheus.NewDesc("visage_keystore_key_expiry_seconds",
	"Unix time at which the first of the customers' keys that resources use expires, by the kind of its store; 0: "+
		"none has an expiry date.", []string{"kind"}, nil)

// Describe implements prometheus.Collector.
func (m keyExpiryMetrics) Describe(to chan<- *prometheus.Desc) { to <- keyExpiryDesc }

// Collect implements prometheus.Collector.
func (m keyExpiryMetrics) Collect(to chan<- prometheus.Metric) {
	first := map[string]time.Time{}
	for _, kind := range keyStoreKinds() {
		first[kind] = time.Time{}
	}
	for _, e := range m.dates() {
		if known := first[m.kindOf(e.Key)]; known.IsZero() || e.Ends.Before(known) {
			first[m.kindOf(e.Key)] = e.Ends
		}
	}
	for kind, ends := range first {
		seconds := 0.0
		if !ends.IsZero() {
			seconds = float64(ends.Unix())
		}
		to <- prometheus.MustNewConstMetric(keyExpiryDesc, prometheus.GaugeValue, seconds, kind)
	}
}
