// Package metrics keeps the figures of the resources and of the instance over time: requests, latencies, errors, key
// checks, memory and disk. They are sealed in the operator's space, for a week by the minute and for a year by the
// hour, so that pictures of them need no other program.
//
// The figures hold no names: a resource is its id, and an error is its code.
//
// A Recorder counts in memory. Run writes a minute when it has ended, one record for each resource and hour, and drops
// what is too old. What it holds in memory does not depend on how much is stored: the current minute and, for resources
// without requests, what is not written yet of the current hour.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// How long figures are kept. Days and months are those of UTC.
const (
	keptDays   = 7  // days before today by the minute
	keptMonths = 12 // months before this one by the hour, of days that are not kept by the minute
)

// maxResources is how many resources are counted by themselves in a minute. The requests of others count for the
// instance alone.
const maxResources = 10_000

// Config is what a Recorder is made of.
type Config struct {
	// Store keeps the figures, in the operator's space. Only one Recorder may use it at a time. Required.
	Store *sealed.Store
	// Sample returns what is sampled at the end of each minute. Run calls it, and waits for it. Default: nothing is
	// sampled.
	Sample func() Sample
	// Logger gets what could not be written. Default: discard.
	Logger *slog.Logger
}

// Sample is the state of an instance at one moment, in bytes.
type Sample struct {
	Galleries map[visage.ResourceID]uint64 // memory of the galleries of each resource that has any
	DiskUsed  uint64                       // of the data's volume, by whatever program
	DiskTotal uint64                       // of that volume
}

// Observation is an answered request.
type Observation struct {
	// Resource is the resource whose data the request was for. Zero: the request counts for the instance alone.
	Resource visage.ResourceID
	Status   int           // of the answer
	Code     string        // of the error; empty: the status stands for it
	Took     time.Duration // from the first byte of the request to the last of its answer
}

// Recorder keeps the figures of an instance. It is safe for concurrent use.
type Recorder struct {
	store   *sealed.Store
	space   *sealed.Space
	sample  func() Sample
	log     *slog.Logger
	dropped prometheus.Counter
	wake    chan struct{} // holds one: Run looks at forgotten

	// storing is held while minutes move from memory to the disk, and shared by Read, which looks at both. It is taken
	// before mu.
	storing sync.RWMutex
	// guarded by storing: encoded figures of the current hour that are not written yet, at most 60 for each resource
	pending map[visage.ResourceID][]minuteFigures

	mu        sync.Mutex // held for nanoseconds: every request takes it
	current   *minute
	forgotten map[visage.ResourceID]bool // purged resources whose figures may still be stored

	// Of Run alone: the resources that exist and have been seen, and whether they are in the table of resources.
	known   map[visage.ResourceID]bool
	periods map[string]periodRecord // of Run alone: what is in the table of periods
}

// minute is what was counted in the current minute.
type minute struct {
	start     time.Time // UTC, a whole minute
	instance  figures
	resources map[visage.ResourceID]*figures
}

// minuteFigures is the encoded figures of a minute.
type minuteFigures struct {
	start time.Time
	body  []byte
}

func newMinute() *minute {
	return &minute{start: time.Now().UTC().Truncate(time.Minute), resources: map[visage.ResourceID]*figures{}}
}

// Open makes a Recorder, and reads which figures there are. It starts nothing; see Run.
func Open(ctx context.Context, cfg Config) (*Recorder, error) {
	if cfg.Store == nil {
		return nil, errors.New("open metrics: Store is required")
	}
	if cfg.Sample == nil {
		cfg.Sample = func() Sample { return Sample{} }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Recorder{
		store: cfg.Store, space: cfg.Store.Space(sealed.Operator), sample: cfg.Sample, log: cfg.Logger,
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "visage_metrics_dropped_minutes_total",
			Help: "Minutes of figures of a resource or the instance that were not stored, for example on a full disk.",
		}),
		wake:      make(chan struct{}, 1),
		pending:   map[visage.ResourceID][]minuteFigures{},
		current:   newMinute(),
		forgotten: map[visage.ResourceID]bool{},
		known:     map[visage.ResourceID]bool{},
		periods:   map[string]periodRecord{},
	}
	err := r.space.View(ctx, func(tx sealed.Reader) error {
		for rec, err := range resources.In().All(tx) {
			if err != nil {
				return err
			}
			r.known[rec.ID] = true
		}
		for rec, err := range periods.In().All(tx) {
			if err != nil {
				return err
			}
			r.periods[rec.Name] = rec
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open metrics: %w", err)
	}
	return r, nil
}

// Collectors returns the metrics of the Recorder itself, to be registered once.
func (r *Recorder) Collectors() []prometheus.Collector { return []prometheus.Collector{r.dropped} }

// Observe counts an answered request. It takes less than a microsecond and waits for no disk.
func (r *Recorder) Observe(o Observation) {
	bucket := bucketOf(o.Took)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current.instance.observe(o, bucket)
	if f := r.current.of(o.Resource); f != nil {
		f.observe(o, bucket)
	}
}

// ObserveCheck counts that a customer's key was asked once, for all resources that depend on it.
func (r *Recorder) ObserveCheck(answer Check, dependents ...visage.ResourceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current.instance.checks[answer]++
	for _, id := range dependents {
		if f := r.current.of(id); f != nil {
			f.checks[answer]++
		}
	}
}

// of returns the figures of a resource; nil: it has none of its own.
func (m *minute) of(id visage.ResourceID) *figures {
	if id == (visage.ResourceID{}) {
		return nil
	}
	f := m.resources[id]
	if f == nil && len(m.resources) < maxResources {
		f = &figures{}
		m.resources[id] = f
	}
	return f
}

// Forget removes the figures of a purged resource. It only queues the resource: Run deletes what is stored, and finds
// after a crash what it has not deleted.
func (r *Recorder) Forget(id visage.ResourceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.current.resources, id)
	r.forgotten[id] = true
	select {
	case r.wake <- struct{}{}:
	default: // Run will look anyway
	}
}
