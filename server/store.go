package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/sealed"
)

// openStore opens the sealed store under c.Dir, or makes it on the first start.
func (c Config) openStore(ctx context.Context, note func(sealed.Event)) (store *sealed.Store, first bool, err error) {
	if err := c.makeFolders(); err != nil {
		return nil, false, err
	}
	if first, err = isEmpty(c.dataDir()); err != nil {
		return nil, false, fmt.Errorf("look at the data directory: %w", err)
	}
	protectors, err := c.protectors(first)
	if err != nil {
		return nil, false, err
	}
	store, err = sealed.Open(ctx, sealed.Config{
		Engine: c.engine(), KeyDir: c.keysDir(), Protectors: protectors, Report: note, Logger: c.Logger,
		AnchorDir: c.anchorDir(), AcceptRollback: c.AcceptRollback, Reserve: uint64(c.DiskReserve),
	})
	return store, first, err
}

// anchorDir is where the anchors are.
func (c Config) anchorDir() string {
	if c.Anchors != "" {
		return c.Anchors
	}
	return filepath.Join(c.keysDir(), "anchors")
}

func (c Config) makeFolders() error {
	for _, dir := range []string{c.Dir, c.dataDir(), c.keysDir()} {
		if err := durable.MkdirAll(dir); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	// Dir itself is the operator's word and may be a link; below it nothing is followed.
	if err := owned.CheckFolder(c.Dir); err != nil {
		return err
	}
	for _, dir := range []string{c.dataDir(), c.keysDir()} {
		if err := owned.CheckDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// OpenStore opens the store of a server that is not running, for offline work. It makes nothing: an error wraps
// fs.ErrNotExist when there is no data. The caller closes the store.
func OpenStore(ctx context.Context, cfg Config) (*sealed.Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	empty, err := isEmpty(cfg.dataDir())
	if err == nil && empty {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("there is no data in %s: %w", cfg.dataDir(), err)
	}
	store, _, err := cfg.openStore(ctx, nil)
	return store, err
}

func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return len(entries) == 0, err
}

// newEvents counts what the sealed store reports.
func newEvents() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "visage_sealed_events_total", Help: "What happened to keys and to what they seal, by kind.",
	}, []string{"kind"})
}

// newFormat shows the format of the store.
func newFormat(store *sealed.Store) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "visage_sealed_format",
		Help: "The format of the store; programs that know only older formats cannot open it.",
	})
	g.Set(float64(store.Format()))
	return g
}

// note logs and counts what the sealed store reports.
func (s *Server) note(e sealed.Event) {
	s.events.WithLabelValues(string(e.Kind)).Inc()
	s.auditStore(e)
	if c := s.custody.Load(); c != nil && e.Kind == sealed.SpaceDropped {
		c.Forget(e.Space)
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
		s.log.Error("something stored does not open; \"visage verify\" on the stopped server lists all of it",
			append(attrs, "err", e.Err)...)
	case sealed.RoomLow:
		s.log.Error("the disk is nearly full: what is new is refused until there is room",
			append(attrs, "err", e.Err)...)
	case sealed.AnchorDelayed, sealed.EraseDelayed:
		s.log.Warn("sealed store", append(attrs, "err", e.Err)...)
	case sealed.RootExposed:
		s.log.Warn("the root key lies beside the data on this machine: anyone who can copy both can open the data",
			attrs...)
	case sealed.SpaceOpened, sealed.SpaceWiped:
		s.log.Debug("sealed store", attrs...)
	default:
		s.log.Info("sealed store", attrs...)
	}
}
