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
	keysStray = prometheus.NewDesc("visage_sealed_keys_stray",
		"Resources that do not exist and have epoch keys, which open older backups of them. It is counted at the "+
			"start, and every ten minutes until there are none.", nil, nil)
	keysOlder = prometheus.NewDesc("visage_sealed_keys_older",
		"1 while the place of the epoch keys, which was put back from an older copy, lacks keys or has some that "+
			"were destroyed, else 0. It is looked at every ten minutes.", nil, nil)
	keysGrade = prometheus.NewDesc("visage_sealed_erasure_grade",
		"What an erasure reaches as things stand: 1 for that grade.", []string{"grade"}, nil)
)

// Describe implements prometheus.Collector.
func (keyPlace) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{keysRefused, keysUnswept, keysOlder, keysStray, keysGrade} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c keyPlace) Collect(ch chan<- prometheus.Metric) {
	p := c.store.EpochKeys()
	for desc, on := range map[*prometheus.Desc]bool{
		keysRefused: p.Refused != nil, keysUnswept: p.Unswept != nil, keysOlder: p.Older,
	} {
		value := 0.0
		if on {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	ch <- prometheus.MustNewConstMetric(keysStray, prometheus.GaugeValue, float64(p.Stray))
	ch <- prometheus.MustNewConstMetric(keysGrade, prometheus.GaugeValue, 1, string(p.Grade))
}
