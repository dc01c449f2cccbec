package registry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
)

// Answer is how a store has answered last.
type Answer struct {
	Class string // ok, denied, wrong, unknown or expired
	At    time.Time
	Took  time.Duration
}

// classes are the classes of answers.
var classes = []string{"ok", "denied", "wrong", "unknown", "expired"}

func classOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, keysource.ErrDenied):
		return "denied"
	case errors.Is(err, keysource.ErrWrong):
		return "wrong"
	case errors.Is(err, keysource.ErrExpired):
		return "expired"
	}
	return "unknown"
}

// Calls are the calls to all stores of customers' keys. It is safe for concurrent use.
type Calls struct {
	times *prometheus.HistogramVec
	ends  *prometheus.GaugeVec // when the last call has ended, in Unix time

	mu   sync.Mutex
	last map[string]Answer // by the address of the store; of the configured ones
}

// NewCalls makes the record of calls to stores of the given kinds, in which nothing was called yet.
func NewCalls(kinds ...string) *Calls {
	c := &Calls{times: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "visage_keystore_answer_seconds",
		Help: "Time until a store of customers' keys answered, by the kind of the store and the class of the answer.",
		// the last bound is the deadline of a call
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	}, []string{"kind", "class"}), ends: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "visage_keystore_last_answer_seconds",
		Help: "Unix time of the last answer of a store of customers' keys, by the kind of the store and the class of " +
			"the answer; 0: there was none since the start.",
	}, []string{"kind", "class"}), last: map[string]Answer{}}
	for _, kind := range kinds {
		for _, class := range classes {
			c.times.WithLabelValues(kind, class) // so that a class without answers is exported as zero
			c.ends.WithLabelValues(kind, class)
		}
	}
	return c
}

// Collectors returns the metrics of the calls, to be registered once.
func (c *Calls) Collectors() []prometheus.Collector { return []prometheus.Collector{c.times, c.ends} }

// Last returns how the store at an address has answered last, and whether it has since the start.
func (c *Calls) Last(address string) (Answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, found := c.last[address]
	return last, found
}

// Observe returns a source whose calls are recorded as those of a kind of stores. The last answer is kept for stores
// that are configured.
func (c *Calls) Observe(kind string, key visage.KeyRef, configured bool, src keysource.Source) keysource.Source {
	o := observed{src, c, kind, ""}
	if configured {
		o.address = key.Vault
	}
	return o
}

// observed is a source whose calls are recorded.
type observed struct {
	source  keysource.Source
	calls   *Calls
	kind    string
	address string // empty: the last answer is not kept
}

// Wrap implements keysource.Source.
func (o observed) Wrap(ctx context.Context, inner []byte) (blob []byte, ref keysource.Ref, err error) {
	defer o.record(ctx, time.Now(), &err)
	return o.source.Wrap(ctx, inner)
}

// Unwrap implements keysource.Source.
func (o observed) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	defer o.record(ctx, time.Now(), &err)
	return o.source.Unwrap(ctx, ref, blob)
}

// Describe implements keysource.Source.
func (o observed) Describe(ctx context.Context, ref keysource.Ref) (d keysource.Description, err error) {
	defer o.record(ctx, time.Now(), &err)
	return o.source.Describe(ctx, ref)
}

// record records a call that has ended. An ended context is no answer, and neither is a refusal of this instance, which
// has not asked the store then.
func (o observed) record(ctx context.Context, began time.Time, err *error) {
	_, refusal := errors.AsType[*visage.Refusal](*err)
	if refusal || *err != nil && ctx.Err() != nil {
		return
	}
	now := time.Now()
	answer := Answer{classOf(*err), now, now.Sub(began)}
	o.calls.times.WithLabelValues(o.kind, answer.Class).Observe(answer.Took.Seconds())
	o.calls.ends.WithLabelValues(o.kind, answer.Class).Set(float64(now.UnixMilli()) / 1000)
	if o.address == "" {
		return
	}
	o.calls.mu.Lock()
	defer o.calls.mu.Unlock()
	o.calls.last[o.address] = answer
}

// note records the answer to a trial as the last one of a store. The metric is of calls for resources alone.
func (c *Calls) note(address string, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[address] = Answer{classOf(err), time.Now(), took}
}
