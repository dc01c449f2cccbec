package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/sealed"
)

// openStore opens the sealed store under c.Dir, or creates it on the first start.
func (c Config) openStore(ctx context.Context, note func(sealed.Event)) (*sealed.Store, error) {
	if err := c.makeFolders(); err != nil {
		return nil, err
	}
	empty, err := c.isNew()
	if err != nil {
		return nil, fmt.Errorf("read the data directory: %w", err)
	}
	protectors, err := c.protectors(empty || c.Engine != "")
	if err != nil {
		return nil, err
	}
	place, err := c.place()
	if err != nil {
		return nil, err
	}
	place.Protectors, place.Report = protectors, note
	place.AcceptRollback, place.Shared, place.FindKeys = c.AcceptRollback, c.Shared, c.findKeys
	return sealed.Open(ctx, place)
}

// anchorDir is the folder of the anchors; empty: they lie with the epoch keys.
func (c Config) anchorDir() string {
	dir, local := strings.CutPrefix(c.EpochKeys, epochKeysFolder)
	switch {
	case c.Anchors != "":
		return c.Anchors
	case local:
		return filepath.Join(dir, "anchors")
	case c.EpochKeys != "":
		return ""
	}
	return filepath.Join(c.keysDir(), "anchors")
}

func (c Config) makeFolders() error {
	for _, dir := range []string{c.Dir, c.dataDir(), c.keysDir(), c.keyStoresDir(), c.localDir()} {
		if err := durable.MkdirAll(dir); err != nil {
			return fmt.Errorf("create folder: %w", err)
		}
	}
	// Dir itself is the operator's choice and may be a link; links below it are not followed.
	if err := owned.CheckFolder(c.Dir); err != nil {
		return err
	}
	for _, dir := range []string{c.dataDir(), c.keysDir(), c.keyStoresDir(), c.localDir()} {
		if err := owned.CheckDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// OpenStore opens the store of a server that is not running, for offline work. It creates nothing: the error wraps
// fs.ErrNotExist if there is no data. The caller closes the store.
func OpenStore(ctx context.Context, cfg Config) (*sealed.Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := cfg.hasData(ctx); err != nil {
		return nil, err
	}
	return cfg.openStore(ctx, nil)
}

// OpenStoreWithoutKeys is OpenStore for a store whose epoch keys were lost and are about to be brought back.
func OpenStoreWithoutKeys(ctx context.Context, cfg Config) (*sealed.Store, error) {
	cfg.findKeys = true
	return OpenStore(ctx, cfg)
}

// hasData returns an error that wraps fs.ErrNotExist if there is no data.
func (c Config) hasData(ctx context.Context) error {
	where := c.dataDir()
	empty, err := c.isNew()
	if err == nil && c.onDatabase() {
		where = "the database"
		var place sealed.Config
		if place, err = c.place(); err == nil {
			empty, err = sealed.DatabaseIsEmpty(ctx, place)
		}
	}
	if err == nil && empty {
		err = fs.ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("there is no data in %s: %w", where, err)
	}
	return nil
}

func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return len(entries) == 0, err
}

// newEvents makes the counter of the sealed store's events. Kinds that a person must hear of are exported as zero
// before the first, since an increase from nothing is not seen.
func newEvents() *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "visage_sealed_events_total", Help: "Events of the sealed store, by kind.",
	}, []string{"kind"})
	for _, kind := range []sealed.EventKind{
		sealed.RootExposed, sealed.Corrupt, sealed.EraseDelayed, sealed.AnchorMissing, sealed.AnchorDelayed,
		sealed.RoomLow, sealed.RollbackAccepted, sealed.RootDelayed, sealed.KeysStray, sealed.KeysElsewhere,
		sealed.KeysOlder, sealed.MigrationDelayed, sealed.ClockWrong,
	} {
		v.WithLabelValues(string(kind))
	}
	return v
}

// newFormat makes the metric of the store's format.
func newFormat(store *sealed.Store) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "visage_sealed_format",
		Help: "The format of the store; programs that know only older formats cannot open it.",
	}, func() float64 { return float64(store.Maintenance().Format()) })
}

// clockMetric is the machine's clock. Where the store has no other clock, it is right.
type clockMetric struct{ store *sealed.Store }

var clockDesc = prometheus.NewDesc("visage_clock_offset_seconds",
	"How far the clock of this machine is ahead of that of the database, 0 without one; 900 s away, the server does "+
		"nothing.", nil, nil)

// Describe implements prometheus.Collector.
func (clockMetric) Describe(out chan<- *prometheus.Desc) { out <- clockDesc }

// Collect implements prometheus.Collector.
func (m clockMetric) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(clockDesc, prometheus.GaugeValue, m.store.ClockOff().Seconds())
}

// note logs, counts and audits an event of the sealed store.
func (s *Server) note(e sealed.Event) {
	s.events.WithLabelValues(string(e.Kind)).Inc()
	s.auditStore(e)
	if e.Kind == sealed.StoreMigrated {
		select {
		case s.migrated <- struct{}{}:
		default:
		}
	}
	if c := s.custody.Load(); c != nil && e.Kind == sealed.SpaceDropped {
		c.Forget(e.Space)
	}
	if c := s.custody.Load(); c != nil && errors.Is(e.Err, sealed.ErrLockedElsewhere) && e.Space != sealed.Operator {
		c.LockedElsewhere(e.Space)
	}
	if m := s.metrics.Load(); m != nil && e.Kind == sealed.SpaceDropped {
		m.Forget(visage.ResourceID(e.Space))
	}
	if f := s.face.Load(); f != nil && e.Kind == sealed.SpaceOpened && e.Space != sealed.Operator {
		f.Resume(visage.ResourceID(e.Space))
	}
	attrs := []any{"kind", string(e.Kind)}
	if e.Space != (sealed.SpaceID{}) {
		attrs = append(attrs, "space", e.Space.String())
	}
	if e.Format != 0 {
		attrs = append(attrs, "format", e.Format, "migration", e.Note)
	} else if e.Note != "" {
		attrs = append(attrs, "note", e.Note)
	}
	switch e.Kind {
	case sealed.Corrupt:
		s.log.Error("stored data is damaged; \"visage verify\" on the stopped server lists all damage",
			append(attrs, "err", e.Err)...)
	case sealed.RoomLow:
		s.log.Error("the disk is nearly full; new data is refused until there is free space",
			append(attrs, "err", e.Err)...)
	case sealed.AnchorDelayed, sealed.EraseDelayed, sealed.RootDelayed, sealed.MigrationDelayed:
		s.log.Warn("sealed store", append(attrs, "err", e.Err)...)
	case sealed.ClockWrong:
		s.log.Error("the server does nothing until the clocks agree", append(attrs, "err", e.Err)...)
	case sealed.KeysStray:
		if e.Err != nil {
			attrs = append(attrs, "err", e.Err)
		}
		s.log.Warn("the place of epoch keys has keys of resources that do not exist: if it was restored from an older "+
			"copy, they open what was purged since; docs/operations/epoch-keys.md says how to remove them", attrs...)
	case sealed.KeysElsewhere:
		s.log.Error("no epoch keys are changed, so nothing is erased: their place is not this server's any more",
			append(attrs, "err", e.Err)...)
	case sealed.KeysOlder:
		s.log.Warn("the place of the epoch keys was put back from an older copy: keys that were destroyed since may "+
			"be there again; docs/operations/epoch-keys.md says what to do", attrs...)
	case sealed.RootIgnored:
		s.log.Warn("a protector of the root key was removed, and the settings still name it: it is not used; remove "+
			"it from the settings, or add it again with \"visage root add\"", attrs...)
	case sealed.RootExposed:
		s.log.Warn("the root key is stored on the same machine as the data; anyone who can copy both can open the data",
			attrs...)
	case sealed.SpaceOpened, sealed.SpaceWiped:
		s.log.Debug("sealed store", attrs...)
	default:
		s.log.Info("sealed store", attrs...)
	}
}
