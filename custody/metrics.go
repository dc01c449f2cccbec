package custody

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var conditions = []Condition{ServiceManaged, Active, Degraded, Revoked, Unavailable, Locked}

func newPolls() *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "visage_custody_polls_total",
		Help: "Questions to customers' keys whether they may still be used, by how they answered.",
	}, []string{"class"})
	for _, c := range classes {
		v.WithLabelValues(string(c)) // so that a class that never came is seen as zero
	}
	return v
}

// Conditions returns how many resources, without those that are suspended, are in each condition; those in which there
// are none are absent.
func (c *Custody) Conditions() map[Condition]int {
	counts, _ := c.count()
	return counts
}

// count also returns how long the open resource whose key has been silent longest has been without an answer.
func (c *Custody) count() (counts map[Condition]int, silence time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts = map[Condition]int{}
	for _, sp := range c.spaces {
		s := sp.stateNow()
		if s.Deleted {
			continue
		}
		cond := s.shown()
		counts[cond]++
		if (cond == Active || cond == Degraded) && !s.LastOK.IsZero() {
			silence = max(silence, time.Since(s.LastOK))
		}
	}
	return counts, silence
}

// Collectors returns the metrics of the room, to be registered once.
func (c *Custody) Collectors() []prometheus.Collector {
	return []prometheus.Collector{c.polls, stateCollector{c}}
}

// standing tells how the resources stand when it is asked.
type stateCollector struct{ c *Custody }

var (
	resourcesDesc = prometheus.NewDesc("visage_custody_resources", "Resources by the state of their encryption.",
		[]string{"state"}, nil)
	silenceDesc = prometheus.NewDesc("visage_custody_seconds_since_success",
		"Of the open resource whose customer's key has been silent longest, how long.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s stateCollector) Describe(ch chan<- *prometheus.Desc) { ch <- resourcesDesc; ch <- silenceDesc }

// Collect implements prometheus.Collector.
func (s stateCollector) Collect(ch chan<- prometheus.Metric) {
	counts, silence := s.c.count()
	for _, cond := range conditions {
		ch <- prometheus.MustNewConstMetric(resourcesDesc, prometheus.GaugeValue, float64(counts[cond]), string(cond))
	}
	ch <- prometheus.MustNewConstMetric(silenceDesc, prometheus.GaugeValue, silence.Seconds())
}
