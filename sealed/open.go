package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/lease"
	"github.com/visage-face/visage/sealed/internal/memory"
	"github.com/visage-face/visage/sealed/internal/pebble"
	"github.com/visage-face/visage/sealed/internal/place"
	"github.com/visage-face/visage/sealed/internal/postgres"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/tree"
	"github.com/visage-face/visage/sealed/internal/volume"
)

// Open opens a store, or creates one in an engine that is empty. Nothing is created when anything is there: a root that
// does not open is a *RootError, whose sentences say what to do about each protector. A store of an older format is
// brought to the newest first, or by Run where processes that share it go on meanwhile; one of a newer format is a
// *NewerError, before anything is written.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if len(cfg.Protectors) == 0 {
		return nil, errors.New("open sealed store: the instance root needs at least one protector")
	}
	eng, dir, err := openEngine(ctx, cfg)
	if errors.Is(err, engine.ErrDamaged) {
		err = &CorruptError{What: "storage engine", Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("open sealed store: %w", err)
	}
	return openOver(ctx, cfg, eng, dir)
}

// openOver opens a store over an engine, which it closes when that fails. dir is where the engine's rows lie; it is
// empty for one that forgets.
func openOver(ctx context.Context, cfg Config, eng engine.Engine, dir string) (*Store, error) {
	s := newStore(cfg, eng)
	if err := s.open(ctx, cfg, eng, dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open sealed store: %w", err), s.Close())
	}
	return s, nil
}

// newStore returns a store over an engine, with nothing opened.
func newStore(cfg Config, eng engine.Engine) *Store {
	s := &Store{
		report: cfg.Report, spaces: map[SpaceID]*Space{}, shared: cfg.Shared && eng.Shared(),
		steps: cfg.steps(),
		folds: newFolds(), erasures: newErasures(), rotation: newRotation(), putBack: make(chan struct{}, 1),
	}
	if s.report == nil {
		s.report = func(Event) {}
	}
	s.database, _ = eng.(*postgres.Engine)
	s.long, _ = eng.(longViews)
	s.volumes = volume.VolumesOf(eng)
	s.life, s.end = context.WithCancelCause(context.Background())
	s.leases = lease.New(s.life, rowkey.Placed(s.volumes.Bound(eng), s.report))
	s.engine = s.leases.Guard()
	if server, ok := eng.(engine.Clock); ok {
		s.clock.server = server
		s.engine = punctual{s.engine, &s.clock}
	}
	if cfg.ReadOnly {
		s.engine = readOnly{s.engine}
	}
	s.root = keys.NewRoot(s.engine, s.report)
	s.anchors = keys.NewAnchors(s.root, cfg.AcceptRollback, s.report)
	return s
}

// keepEpochs says where epoch keys lie. The root is open.
func (s *Store) keepEpochs(in *place.Place) {
	s.epochs, s.bundles = in, keys.NewBundles(s.root, s.engine, in, s.report)
	s.env = tree.NewEnv(s.root.Instance, s.report)
}

func (s *Store) open(ctx context.Context, cfg Config, eng engine.Engine, dir string) error {
	if eng.Shared() {
		s.clock.compare(ctx)
		if err := s.engine.View(ctx, cfg.admit); err != nil { // before anything is written
			return err
		}
	}
	if cfg.ReadOnly {
		return s.openReadOnly(ctx, cfg, eng)
	}
	f, err := s.root.Open(ctx, cfg.Protectors, s.newest())
	if err != nil {
		return err
	}
	s.format.Store(f.Number)
	s.leases.Open(s.root, s.formats())
	doc, err := s.readInstance(ctx)
	if err != nil {
		return err
	}
	older, rolling := int(migrated(doc)) < len(s.steps), s.shared && s.rollsFrom(doc)
	err = s.leases.Join(ctx, older && !rolling || !cfg.Shared)
	if older && errors.Is(err, ErrInUse) {
		err = fmt.Errorf("the store has format %d, and this program brings it to format %d, which others must not see "+
			"happen: stop them first: %w", f.Number, len(s.steps), err)
	}
	if err != nil {
		return err
	}
	epochs, err := s.openPlace(ctx, cfg, eng)
	if err != nil {
		return err
	}
	s.keepEpochs(epochs)
	if dir == "" || cfg.keysElsewhere() {
		cfg.KeyDir = "" // not used
	}
	s.volumes.SetDirs(cfg.KeyDir, cfg.AnchorDir)
	if err := s.openAnchors(ctx, cfg); err != nil {
		return err
	}
	if !rolling { // else Run does it
		doc, err := s.readInstance(ctx)
		if err != nil {
			return err
		}
		if err := s.migrate(ctx, migrated(doc)); err != nil {
			return err
		}
	}
	epochs.Begin(s.life)
	if cfg.Shared && older && !rolling {
		if err := s.leases.Share(ctx); err != nil {
			return err
		}
	}
	if err := s.Spaces().Create(ctx, Operator); err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("create the operator's space: %w", err)
	} else if err != nil && s.shared {
		return s.checkEpochs(ctx)
	}
	return nil
}

// rollsFrom reports whether a shared store is brought to the newest format while it is at work: either it has that
// already, and what is left of the migration goes on, or one rolling migration leads there, and the one before has
// ended.
func (s *Store) rollsFrom(doc keys.Instance) bool {
	n := int(doc.Number)
	return n == len(s.steps) || n == len(s.steps)-1 && s.steps[n].rolling && doc.From == 0
}

// checkEpochs makes sure that the key store is the one of the other processes: the first of them has put a key of the
// operator's space into it.
func (s *Store) checkEpochs(ctx context.Context) error {
	has, err := s.holdsEpochs(ctx, s.epochs, s.report)
	if err == nil && !has {
		err = fmt.Errorf("the epoch keys in %s are not those of the processes that share this store, or some are "+
			"lost; all of them need the same: %w", s.epochs.Name(), keystore.ErrNotFound)
	}
	return err
}

// mayHoldEpochs reports whether a place can be that of the store. A bundle of the operator's space that is not there
// yet, or is damaged, says nothing of it. Data that was put back may name a key that has been replaced since.
func (s *Store) mayHoldEpochs(ctx context.Context, in keystore.Place, putBack bool) (bool, error) {
	has, err := s.holdsEpochs(ctx, in, func(Event) {}) // whoever opens the space reports damage
	if errors.Is(err, ErrNoSpace) || event.IsCorrupt(err) {
		return true, nil
	}
	if err == nil && !has && putBack {
		var others []uint32
		others, err = in.List(ctx, format.ID(Operator))
		has = len(others) > 0
	}
	return has, err
}

// holdsEpochs reports whether a place has the current key of the operator's space.
func (s *Store) holdsEpochs(ctx context.Context, in keystore.Place, report event.Report) (bool, error) {
	defer s.root.Hold()()
	bundles := keys.NewBundles(s.root, s.engine, in, report)
	for {
		row, err := bundles.Row(ctx, Operator)
		if err != nil {
			return false, err
		}
		doc, err := bundles.Decode(Operator, row)
		if err != nil {
			return false, err
		}
		_, err = in.Get(ctx, format.ID(Operator), doc.Current.Epoch)
		if !errors.Is(err, keystore.ErrNotFound) {
			return err == nil, err
		}
		now, err := bundles.Row(ctx, Operator)
		if err != nil || bytes.Equal(now, row) { // else another process has turned the keys in between
			return false, err
		}
	}
}

// openReadOnly opens a store that is there, in which nothing is written: not that it is open here, either.
func (s *Store) openReadOnly(ctx context.Context, cfg Config, eng engine.Engine) error {
	row, empty, err := s.root.Row(ctx)
	if err == nil && empty {
		err = errors.New("there is no store")
	}
	if err != nil {
		return err
	}
	doc, err := s.root.Unwrap(ctx, cfg.Protectors, row)
	if err != nil {
		return err
	}
	if s.format.Store(doc.Number); int(doc.Number) != len(s.steps) && !s.rollsFrom(doc) {
		return fmt.Errorf("the store has format %d and is only read, so it is not brought to format %d: start the "+
			"server once", doc.Number, len(s.steps))
	}
	s.leases.Open(s.root, s.formats())
	epochs, err := s.openPlace(ctx, cfg, eng)
	if err != nil {
		return err
	}
	s.keepEpochs(epochs)
	return s.openAnchors(ctx, cfg)
}

// onDisk is the scheme of the engine that lasts.
const onDisk = "pebble"

// Pebble returns the Config.Engine that keeps a store in dir, an absolute directory, with Pebble.
func Pebble(dir string) string { return onDisk + ":" + dir }

// openEngine opens what cfg.Engine names, and returns where its rows lie, which is empty for one that forgets.
func openEngine(ctx context.Context, cfg Config) (engine.Engine, string, error) {
	scheme, rest, _ := strings.Cut(cfg.Engine, ":")
	if slices.Contains(postgres.Schemes, scheme) {
		e, err := openPostgres(ctx, cfg)
		return e, cfg.Engine, err
	}
	switch scheme {
	case "memory":
		if rest != "" {
			return memory.Open(rest), "", nil
		}
		return memory.New(), "", nil
	case onDisk:
		if !filepath.IsAbs(rest) {
			return nil, "", fmt.Errorf("storage engine %q: an absolute directory must follow \"%s:\"", cfg.Engine,
				onDisk)
		}
		if !cfg.keysElsewhere() {
			if err := keysApart(rest, cfg.KeyDir); err != nil {
				return nil, "", err
			}
		}
		if err := durable.MkdirAll(rest); err != nil {
			return nil, "", fmt.Errorf("make the data directory: %w", err)
		}
		e, err := pebble.Open(pebble.Config{Dir: rest, Logger: cfg.Logger, Reserve: cfg.Reserve, Admit: cfg.admit})
		return e, rest, err
	}
	return nil, "", fmt.Errorf("storage engine %q is neither of %s, memory: or memory:name, "+
		"postgres://role@host/database", cfg.Engine, Pebble("/directory"))
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
// finishes what a crash or another process left of drops and turns, and brings a store that processes share to the
// newest format once all of them know it. Where another one did that and this one does not know the format, it ends
// with a *NewerError. It returns after all of it has ended.
func (s *Store) Run(ctx context.Context) error {
	if err := s.countNurseries(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("count what is to be folded: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var broken, refused error
	var all sync.WaitGroup
	all.Go(func() {
		s.sweepAtStart(ctx)
		s.watchKeys(ctx)
	})
	all.Go(func() { s.compareForever(ctx) })
	all.Go(func() { s.eraseForever(ctx) })
	all.Go(func() { s.anchorForever(ctx) })
	all.Go(func() { s.rotateForever(ctx) })
	all.Go(func() { s.sweepDroppedForever(ctx) })
	all.Go(func() { s.takeOverForever(ctx) })
	all.Go(func() {
		if refused = s.upgradeForever(ctx); refused != nil {
			stop()
		}
	})
	all.Go(func() {
		if broken = s.volumes.Watch(ctx, s.engine, s.report); broken != nil {
			stop()
		}
	})
	err := s.foldForever(ctx)
	stop()
	all.Wait()
	return errors.Join(broken, refused, err)
}

// Close locks every space, wipes the keys and closes the engine. Transactions that are running end first, or fail.
func (s *Store) Close() error {
	var anchored error
	_, readOnlyEngine := s.engine.(readOnly)
	if s.epochs != nil && !readOnlyEngine && !s.isClosed() {
		ctx, cancel := context.WithTimeout(context.Background(), anchorTime)
		anchored = s.anchorSpaces(ctx)
		cancel()
		// The anchors from before hold on: data may be newer than they say.
		_, refused := errors.AsType[*place.Error](anchored)
		if volume.IsFull(anchored) || refused || errors.Is(anchored, place.ErrUnconfirmed) {
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

	alone := !readOnlyEngine && s.Replicas() == 1
	s.end(ErrClosed)
	for _, sp := range spaces {
		sp.lock(ErrClosed)
	}
	if s.epochs != nil && alone {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
		_ = s.epochs.Leave(ctx) // or it is watched when it is opened again
		cancel()
	} else if s.epochs != nil {
		s.epochs.End()
	}
	s.leases.Close()
	err := s.engine.Close() // waits for transactions, so the root is not used afterwards
	for _, sp := range spaces {
		sp.drain()
	}
	s.root.Free()
	if s.epochs != nil {
		s.epochs.Close()
	}
	return errors.Join(anchored, err)
}

// anchorTime bounds how long closing a store writes anchors, all together: as long as one call to a place that does not
// answer.
const anchorTime = keystore.DefaultPatience

// leaveTime bounds how long closing a store waits to say that nobody has it open.
const leaveTime = 5 * time.Second

// ErrReadOnly is of a store that is open for reading only.
var ErrReadOnly = errors.New("the store is open for reading only")

// readOnly is an engine that is not written to.
type readOnly struct{ engine.Engine }

// Update implements engine.Engine.
func (readOnly) Update(context.Context, func(engine.Writer) error) error { return ErrReadOnly }

// Commit implements engine.Engine.
func (readOnly) Commit(context.Context, format.ID, func(engine.Writer) error) (func() error, error) {
	return nil, ErrReadOnly
}

// openPlace opens the place of the epoch keys, and makes sure that it is the store's.
func (s *Store) openPlace(ctx context.Context, cfg Config, eng engine.Engine) (*place.Place, error) {
	in, err := openEpochs(ctx, cfg, eng, s.root.Instance)
	if err != nil {
		return nil, away("the place of the epoch keys", err)
	}
	// A folder beside the data of one machine is copied with it, and is nobody else's.
	p, err := place.Open(ctx, place.Config{In: in, Root: s.root, Report: s.noteOlder, Accept: cfg.AcceptRollback,
		Beats: s.database != nil || cfg.keysElsewhere(), Found: cfg.FindKeys, Moving: cfg.moving,
		ReadOnly: cfg.ReadOnly,
		Alone:    func() bool { return s.Replicas() == 1 },
		Holds: func(ctx context.Context, in keystore.Place) (bool, error) {
			return s.mayHoldEpochs(ctx, in, cfg.AcceptRollback)
		}})
	if err != nil {
		in.Close()
		return nil, away(in.Name(), err)
	}
	return p, nil
}

// away makes sure that a place of epoch keys that does not answer is told from a database that does not.
func away(place string, err error) error {
	_, known := errors.AsType[*KeysAwayError](err)
	_, refused := errors.AsType[*PlaceError](err)
	if known || refused || !event.IsOutage(err) {
		return err
	}
	return &KeysAwayError{Place: place, Err: err}
}

// openEpochs opens the place of the epoch keys of an instance, whose data is in an engine.
func openEpochs(ctx context.Context, cfg Config, eng engine.Engine, instance format.ID) (keystore.Place, error) {
	if cfg.EpochVault != nil {
		return keystore.InVault(cfg.EpochVault, instance, 0), nil
	}
	if cfg.EpochKeys != "" {
		data, _ := eng.(*postgres.Engine)
		k, err := postgres.OpenKeys(ctx, postgres.Config{URL: cfg.EpochKeys, PasswordFile: cfg.EpochKeysPasswordFile,
			Logger: cfg.Logger}, instance, data)
		if err != nil {
			return nil, err // and no place, which a nil pointer would be
		}
		return k, nil
	}
	if m, ok := eng.(interface{ Epochs() *keystore.Memory }); ok {
		return m.Epochs(), nil
	}
	d, err := keystore.Open(cfg.KeyDir, instance)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// openAnchors opens the anchors, in a directory or with the epoch keys.
func (s *Store) openAnchors(ctx context.Context, cfg Config) error {
	if in := s.epochs.Anchors(); in != nil && cfg.AnchorDir == "" {
		return away(s.epochs.Name(), s.anchors.OpenIn(ctx, in, s.epochs.Name()))
	}
	return s.anchors.Open(cfg.AnchorDir, s.shared)
}
