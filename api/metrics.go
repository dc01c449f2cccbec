package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests by route. The labels are patterns of the route tables and statuses, both closed sets.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	failed   *prometheus.CounterVec // sign-ins
	slowed   *prometheus.CounterVec // likewise
}

// newMetrics names the metrics of inner requests differently: two handlers of one process are registered side by side.
func newMetrics(inner bool) *metrics {
	name := "visage_api"
	if inner {
		name += "_inner"
	}
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name + "_requests_total", Help: "Requests answered, by plane, route and status.",
		}, []string{"plane", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    name + "_request_duration_seconds",
			Help:    "Time from the request's header to the end of its answer, by plane and route.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"plane", "route"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name + "_requests_in_flight", Help: "Requests being worked on, by plane.",
		}, []string{"plane"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name + "_sign_ins_failed_total",
			Help: "Secrets, assertions, keys and bearer tokens that proved nobody, by plane.",
		}, []string{"plane"}),
		slowed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name + "_sign_ins_slowed_total",
			Help: "Sign-ins that were refused because too many had failed, by plane.",
		}, []string{"plane"}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.duration, m.inFlight, m.failed, m.slowed}
}

// know exports the metrics of a plane before its first request.
func (m *metrics) know(plane string) {
	m.inFlight.WithLabelValues(plane)
	m.failed.WithLabelValues(plane)
	m.slowed.WithLabelValues(plane)
}

// begin counts a request in flight; done counts its end.
func (m *metrics) begin(x *exchange) (done func(status int, took time.Duration)) {
	gauge := m.inFlight.WithLabelValues(x.planeName())
	gauge.Inc()
	return func(status int, took time.Duration) {
		gauge.Dec()
		m.requests.WithLabelValues(x.planeName(), x.label(), strconv.Itoa(status)).Inc()
		m.duration.WithLabelValues(x.planeName(), x.label()).Observe(took.Seconds())
	}
}
