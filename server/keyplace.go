package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage/sealed"
)

// keyPlace is the metrics of the place of the epoch keys.
type keyPlace struct{ store *sealed.Store }

var (
	keysRefused = prometheus.NewDesc("visage_sealed_keys_refused",
		"1 while no epoch keys are changed, since their place is not this server's any more, else 0. What to do: "+
			"docs/operations/epoch-keys.md.", nil, nil)
	keysUnswept = prometheus.NewDesc("visage_sealed_keys_unswept",
		"1 while epoch keys that a crash has left could not be destroyed, else 0.", nil, nil)
	keysGrade = prometheus.NewDesc("visage_sealed_erasure_grade",
		"What an erasure reaches as things stand: 1 for that grade.", []string{"grade"}, nil)
)

// Describe implements prometheus.Collector.
func (keyPlace) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{keysRefused, keysUnswept, keysGrade} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c keyPlace) Collect(ch chan<- prometheus.Metric) {
	p := c.store.EpochKeys()
	for desc, on := range map[*prometheus.Desc]bool{keysRefused: p.Refused != nil, keysUnswept: p.Unswept != nil} {
		value := 0.0
		if on {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	ch <- prometheus.MustNewConstMetric(keysGrade, prometheus.GaugeValue, 1, string(p.Grade))
}
