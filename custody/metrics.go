package custody

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
)

var conditions = []Condition{ServiceManaged, Active, Degraded, Revoked, Unavailable, Locked}

func newPolls() *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "visage_custody_polls_total",
		Help: "Polls of customer-managed keys, by the class of the answer.",
	}, []string{"class"})
	for _, c := range classes {
		v.WithLabelValues(string(c)) // so that a class without answers is exported as zero
	}
	return v
}

// Conditions returns the number of resources in each condition, without suspended ones. Conditions without resources
// are absent.
func (c *Custody) Conditions() map[Condition]int {
	counts, _ := c.count()
	return counts
}

// count counts as Conditions does, and returns the longest time since a key of an open resource last answered.
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

// KeyExpiresSoon is how long before its key expires a resource counts as having a key that expires.
const KeyExpiresSoon = 30 * 24 * time.Hour

// KeysExpiring returns the resources whose customer-managed key expires soon or has expired, each with the expiry date
// as the vault gave it last.
func (c *Custody) KeysExpiring() map[visage.ResourceID]time.Time {
	before := time.Now().Add(KeyExpiresSoon)
	all := map[visage.ResourceID]time.Time{}
	for _, e := range c.KeyExpiries() {
		if known, ok := all[e.Resource]; e.Ends.Before(before) && (!ok || e.Ends.Before(known)) {
			all[e.Resource] = e.Ends
		}
	}
	return all
}

// KeyExpiry is the expiry date of the version of a customer's key that a resource uses, as the store gave it last.
type KeyExpiry struct {
	Resource visage.ResourceID
	Key      visage.KeyRef // with its present address
	Ends     time.Time
}

// KeyExpiries returns the expiry dates of all customers' keys that have one.
func (c *Custody) KeyExpiries() []KeyExpiry {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []KeyExpiry
	for _, sp := range c.spaces {
		sp.mu.Lock()
		for i, k := range sp.storesLocked() {
			if i < len(sp.watches) && !sp.watches[i].ends.IsZero() {
				all = append(all, KeyExpiry{visage.ResourceID(sp.id), c.cfg.Today(k.Key), sp.watches[i].ends})
			}
		}
		sp.mu.Unlock()
	}
	return all
}

// failovers counts the resources whose data another key than the first keeps open, and the keys beside the first that
// refuse.
func (c *Custody) failovers() (serving, refusing int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sp := range c.spaces {
		s := sp.stateNow()
		if s.Deleted {
			continue
		}
		if s.Serving > 0 {
			serving++
		}
		for _, other := range s.Others {
			if !other.NoSince.IsZero() {
				refusing++
			}
		}
	}
	return serving, refusing
}

// Collectors returns the metrics of custody, to be registered once.
func (c *Custody) Collectors() []prometheus.Collector {
	return []prometheus.Collector{c.polls, stateCollector{c}}
}

// stateCollector collects the conditions of the resources when it is scraped.
type stateCollector struct{ c *Custody }

var (
	resourcesDesc = prometheus.NewDesc("visage_custody_resources", "Resources by the state of their encryption.",
		[]string{"state"}, nil)
	silenceDesc = prometheus.NewDesc("visage_custody_seconds_since_success",
		"The longest time since the customer-managed key of an open resource last answered.", nil, nil)
	expiringDesc = prometheus.NewDesc("visage_custody_keys_expiring",
		"Resources whose customer-managed key expires within 30 days or has expired.", nil, nil)
	failedOverDesc = prometheus.NewDesc("visage_custody_failed_over",
		"Resources whose data a key in another store keeps open, because the first key is silent.", nil, nil)
	refusingDesc = prometheus.NewDesc("visage_custody_stores_refusing",
		"Customer-managed keys beside the first of a resource that refuse.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s stateCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- resourcesDesc
	ch <- silenceDesc
	ch <- expiringDesc
	ch <- failedOverDesc
	ch <- refusingDesc
}

// Collect implements prometheus.Collector.
func (s stateCollector) Collect(ch chan<- prometheus.Metric) {
	counts, silence := s.c.count()
	for _, cond := range conditions {
		ch <- prometheus.MustNewConstMetric(resourcesDesc, prometheus.GaugeValue, float64(counts[cond]), string(cond))
	}
	ch <- prometheus.MustNewConstMetric(silenceDesc, prometheus.GaugeValue, silence.Seconds())
	ch <- prometheus.MustNewConstMetric(expiringDesc, prometheus.GaugeValue, float64(len(s.c.KeysExpiring())))
	serving, refusing := s.c.failovers()
	ch <- prometheus.MustNewConstMetric(failedOverDesc, prometheus.GaugeValue, float64(serving))
	ch <- prometheus.MustNewConstMetric(refusingDesc, prometheus.GaugeValue, float64(refusing))
}
