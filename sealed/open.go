package sealed

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/memory"
	"github.com/visage-face/visage/sealed/internal/pebble"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/tree"
	"github.com/visage-face/visage/sealed/internal/volume"
)

// Open opens a store, or creates one in an engine that is empty. Nothing is created when anything is there: a root that
// does not open is a *RootError, whose sentences say what to do about each protector. A store of an older format is
// brought to the newest first; one of a newer format is a *NewerError, before anything is written.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if len(cfg.Protectors) == 0 {
		return nil, errors.New("open sealed store: the instance root needs at least one protector")
	}
	eng, dir, err := openEngine(cfg)
	if errors.Is(err, engine.ErrDamaged) {
		err = &CorruptError{What: "storage engine", Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("open sealed store: %w", err)
	}
	return openOver(ctx, cfg, eng, dir)
}

// openOver opens a store over an engine, which it closes when that fails. dir is the engine's directory, if it has one.
func openOver(ctx context.Context, cfg Config, eng engine.Engine, dir string) (*Store, error) {
	s := newStore(cfg, eng)
	if err := s.open(ctx, cfg, dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open sealed store: %w", err), s.Close())
	}
	return s, nil
}

// newStore returns a store over an engine, with nothing opened.
func newStore(cfg Config, eng engine.Engine) *Store {
	s := &Store{
		report: cfg.Report, spaces: map[SpaceID]*Space{},
		steps: cfg.steps(),
		folds: newFolds(), erasures: newErasures(), rotation: newRotation(),
	}
	if s.report == nil {
		s.report = func(Event) {}
	}
	s.volumes = volume.VolumesOf(eng)
	s.engine = rowkey.Placed(s.volumes.Bound(eng), s.report)
	s.root = keys.NewRoot(s.engine, s.report)
	s.anchors = keys.NewAnchors(s.root, cfg.AcceptRollback, s.report)
	s.life, s.end = context.WithCancelCause(context.Background())
	return s
}

// keepEpochs says where epoch keys lie. The root is open.
func (s *Store) keepEpochs(in keystore.Store) {
	s.epochs, s.bundles = in, keys.NewBundles(s.root, s.engine, in, s.report)
	s.env = tree.NewEnv(s.root.Instance, s.report)
}

func (s *Store) open(ctx context.Context, cfg Config, dir string) error {
	f, err := s.root.Open(ctx, cfg.Protectors, s.newest())
	if err != nil {
		return err
	}
	s.format = f.Number
	epochs, err := openEpochs(cfg, dir, s.root.Instance)
	if err != nil {
		return err
	}
	s.keepEpochs(epochs)
	if dir == "" {
		cfg.KeyDir = "" // not used
	}
	s.volumes.SetDirs(cfg.KeyDir, cfg.AnchorDir)
	if err := s.anchors.Open(cfg.AnchorDir); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	if err := s.Spaces().Create(ctx, Operator); err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("create the operator's space: %w", err)
	}
	return nil
}

// onDisk is the scheme of the engine that lasts.
const onDisk = "pebble"

// Pebble returns the Config.Engine that keeps a store in dir, an absolute directory, with Pebble.
func Pebble(dir string) string { return onDisk + ":" + dir }

// openEngine opens what cfg.Engine names, and returns its directory, which is empty for one that has none.
func openEngine(cfg Config) (engine.Engine, string, error) {
	scheme, rest, _ := strings.Cut(cfg.Engine, ":")
	switch scheme {
	case "memory":
		if rest != "" {
			return nil, "", fmt.Errorf("storage engine %q: nothing may follow \"memory:\"", cfg.Engine)
		}
		return memory.New(), "", nil
	case onDisk:
		if !filepath.IsAbs(rest) {
			return nil, "", fmt.Errorf("storage engine %q: an absolute directory must follow \"%s:\"", cfg.Engine,
				onDisk)
		}
		if err := keysApart(rest, cfg.KeyDir); err != nil {
			return nil, "", err
		}
		if err := durable.MkdirAll(rest); err != nil {
			return nil, "", fmt.Errorf("make the data directory: %w", err)
		}
		e, err := pebble.Open(pebble.Config{Dir: rest, Logger: cfg.Logger, Reserve: cfg.Reserve, Admit: cfg.admit})
		return e, rest, err
	}
	return nil, "", fmt.Errorf("storage engine %q is neither of %s, memory: (nothing after it)", cfg.Engine,
		Pebble("/directory"))
}

// keysApart refuses a key directory inside the data directory or the other way round.
func keysApart(data, keys string) error {
	if !filepath.IsAbs(keys) {
		return fmt.Errorf("key directory %q: an absolute directory is needed", keys)
	}
	for _, pair := range [][2]string{{data, keys}, {keys, data}} {
		rel, err := filepath.Rel(real(pair[0]), real(pair[1]))
		if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return fmt.Errorf(
				"key directory %s and data directory %s: one lies inside the other, so a copy of the data would hold "+
					"keys; keep them apart", keys, data,
			)
		}
	}
	return nil
}

// real follows the symbolic links of as much of path as exists.
func real(path string) string {
	for at, rest := filepath.Clean(path), ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		if found, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(found, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
	}
}

// Run does the work that no caller waits for until ctx ends or the disk fails, which is an ErrBroken: it folds
// containers that have grown, turns the epochs of spaces in which something was deleted, keeps the anchors up to date,
// and finishes what a crash left of drops and turns. It returns after all of it has ended.
func (s *Store) Run(ctx context.Context) error {
	if err := s.sweepDropped(ctx); err != nil && ctx.Err() == nil && !volume.IsFull(err) {
		return fmt.Errorf("remove what dropped spaces left: %w", err)
	}
	if err := s.countNurseries(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("count what is to be folded: %w", err)
	}
	if err := s.sweepEpochs(ctx); err != nil && ctx.Err() == nil && !volume.IsFull(err) {
		return fmt.Errorf("destroy epoch keys that a crash left: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var broken error
	var all sync.WaitGroup
	all.Go(func() { s.eraseForever(ctx) })
	all.Go(func() { s.anchorForever(ctx) })
	all.Go(func() { s.rotateForever(ctx) })
	all.Go(func() {
		if broken = s.volumes.Watch(ctx, s.engine, s.report); broken != nil {
			stop()
		}
	})
	err := s.foldForever(ctx)
	stop()
	all.Wait()
	return errors.Join(broken, err)
}

// Close locks every space, wipes the keys and closes the engine. Transactions that are running end first, or fail.
func (s *Store) Close() error {
	var anchored error
	if s.epochs != nil && !s.isClosed() {
		anchored = s.anchorSpaces(context.Background())
		if volume.IsFull(anchored) { // the anchors from before hold on: data may be newer than they say
			s.report(Event{Kind: AnchorDelayed, Err: anchored})
			anchored = nil
		}
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var spaces []*Space
	for _, sp := range s.spaces {
		spaces = append(spaces, sp)
	}
	s.mu.Unlock()

	s.end(ErrClosed)
	for _, sp := range spaces {
		sp.lock(ErrClosed)
	}
	err := s.engine.Close() // waits for transactions, so the root is not used afterwards
	for _, sp := range spaces {
		sp.drain()
	}
	s.root.Free()
	return errors.Join(anchored, err)
}

// openEpochs opens the place of epoch keys that goes with an engine's directory, which is empty for one that has none.
func openEpochs(cfg Config, dir string, instance format.ID) (keystore.Store, error) {
	if dir == "" {
		return &keystore.Memory{}, nil
	}
	return keystore.Open(cfg.KeyDir, instance)
}
