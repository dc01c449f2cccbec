// Package face is the Face service: the operations on photos, lists, groups and persons, with their limits, answers and
// refusals.
//
// It knows neither the wire format nor the disk: a recogniser makes templates, sealed spaces keep them, and galleries
// search them. Photos are never kept.
package face

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// Config is what a Service needs.
type Config struct {
	// Store keeps everything that must survive a restart. Each resource has the space of its own id. Required.
	Store *sealed.Store
	// Models maps the wire name of a recognition model to the recogniser that makes the templates of new lists, groups
	// and detected faces. It must hold DefaultRecognitionModel. Several names may share a recogniser; faces of
	// different names are still never compared.
	Models map[string]Recogniser
	// Packs holds the other open recognisers, by their Name. A list, group or face stays with the recogniser that it
	// was made with, even if another serves its model by now. Without that recogniser it is refused.
	Packs map[string]Recogniser
	// Resources lists the existing resources for background work: resuming trainings and sweeping what has expired.
	// Required.
	Resources func(ctx context.Context) ([]visage.ResourceID, error)
	// GalleryBytes limits the memory of all loaded galleries together, in bytes. Default 1 GiB. A collection that alone
	// needs more cannot be searched.
	GalleryBytes int64
	// Partitions searches collections that are too large for one process. Default: there are none, and each collection
	// is searched here.
	Partitions Partitions
	// Audit records erasures, and changes of retention and holds. Default: nothing is recorded.
	Audit audit.Recorder
	// Logger gets the failures that callers are not shown. Default: discard.
	Logger *slog.Logger
}

// defaultGalleryBytes holds about a million faces of 192 numbers.
const defaultGalleryBytes = 1 << 30

// Service performs the operations of the Face contract. It is safe for concurrent use.
//
// Every method takes the resource it works for, whose tier decides the quotas. Errors are of two sorts: a
// *visage.Refusal is an answer for the caller; everything else is an internal failure that callers must not see. What a
// method reports as done is durable. Any method may refuse with EncryptionKeyRevoked, EncryptionKeyUnavailable or
// ServiceUnavailable, and any change with ConcurrentOperationConflict.
type Service struct {
	store      *sealed.Store
	models     map[string]Recogniser
	packs      map[string]Recogniser // by name: those of Config.Models and Config.Packs
	modelNames string                // for refusals
	resources  func(ctx context.Context) ([]visage.ResourceID, error)
	log        *slog.Logger
	audit      audit.Recorder

	galleries  *gallery.Pool
	partitions Partitions // nil: none
	passes     passes
	orders     *orders
	names      *nameIndexes
	locks      locks
	trainings  *agenda // resources with trainings to run
	sweeps     *agenda // resources to sweep
	matches    *matchLog
	expired    map[visage.ResourceID]time.Time // when each was last expired; used only by the goroutine that sweeps
	metrics    metrics
}

// New checks cfg and makes a Service. It starts nothing; see Run.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("the face service needs a store")
	case cfg.Resources == nil:
		return nil, errors.New("the face service needs a function that lists the resources")
	case cfg.Models[DefaultRecognitionModel] == nil:
		return nil, fmt.Errorf("the face service needs a recogniser for %s", DefaultRecognitionModel)
	}
	packs := make(map[string]Recogniser)
	for name, m := range cfg.Models {
		if m == nil || m.Dim() < 1 {
			return nil, fmt.Errorf("the recogniser for %s makes no templates", name)
		}
		packs[m.Name()] = m
	}
	for name, m := range cfg.Packs {
		if m == nil || m.Name() != name {
			return nil, fmt.Errorf("the recogniser given as %s has another name", name)
		}
		packs[name] = m
	}
	if cfg.GalleryBytes == 0 {
		cfg.GalleryBytes = defaultGalleryBytes
	}
	galleries, err := gallery.NewPool(cfg.GalleryBytes)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Audit == nil {
		cfg.Audit = audit.Discard{}
	}
	s := &Service{
		audit: cfg.Audit,
		store: cfg.Store, models: maps.Clone(cfg.Models), packs: packs, resources: cfg.Resources, log: cfg.Logger,
		modelNames: strings.Join(slices.Sorted(maps.Keys(cfg.Models)), ", "),
		galleries:  galleries, partitions: cfg.Partitions,
		orders: newOrders(mostOrdered), names: newNameIndexes(mostNameBytes),
		trainings: newAgenda(), sweeps: newAgenda(), matches: newMatchLog(),
		expired: make(map[visage.ResourceID]time.Time),
	}
	s.metrics = newMetrics(galleries, func() int64 { return s.names.memory() })
	for _, outcome := range []Status{Succeeded, Failed} {
		s.metrics.trainings.WithLabelValues(string(outcome)) // exported as zero before the first
	}
	return s, nil
}

// Close clears galleries and names from memory. Later searches fail.
func (s *Service) Close() {
	s.galleries.Close()
	s.names.close()
}

// Collectors returns the metrics of the service, to be registered once.
func (s *Service) Collectors() []prometheus.Collector {
	return append([]prometheus.Collector{s.metrics.detected, s.metrics.enrolled, s.metrics.trainings, s.metrics.swept,
		s.metrics.names}, s.metrics.galleries...)
}
