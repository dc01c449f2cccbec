package sealed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// Why a restore is refused. Nothing that was restored before the refusal opens as a store.
var (
	ErrNotEmpty     = errors.New("there is data already: restore into an empty directory")
	ErrForeign      = errors.New("the two are of different instances")
	ErrNotAuthentic = stream.ErrNotAuthentic // changed, or made by another instance
	ErrMalformed    = stream.ErrMalformed    // no backup, or not all of one
)

// restoreRows is how many rows one transaction of a restore writes.
const restoreRows = 4_096

// Restore makes a store out of a keyring and a backup, in an empty engine and key directory. cfg's protectors must be
// able to open the instance root. The keyring should be the newest there is, and not older than the backup.
//
// Each space is put in order when it is opened for the first time: records that were erased after the backup was taken,
// or that are newer than the keyring, do not come back; what the keyring has and the backup has not is forgotten;
// everything else is there as the backup has it. SpaceRestored tells the numbers. Errors: ErrNotEmpty, ErrForeign,
// ErrNotAuthentic, ErrMalformed, *RootError, *NewerError before anything is written. After an error, what is there is
// no store.
func Restore(ctx context.Context, cfg Config, keyring io.ReadSeeker, backup io.Reader) (err error) {
	keys, err := cfg.openStream(keyring, stream.Keyring)
	if err != nil {
		return fmt.Errorf("restore: keyring: %w", err)
	}
	data, err := cfg.openStream(backup, stream.Data)
	if err != nil {
		return fmt.Errorf("restore: backup: %w", err)
	}
	eng, dir, err := openEngine(cfg)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	quiet := cfg
	quiet.Report, quiet.AcceptRollback = nil, true
	s := newStore(quiet, eng)
	defer func() {
		if err = errors.Join(err, s.Close()); err != nil {
			err = fmt.Errorf("restore: %w", err)
		}
	}()
	if _, empty, err := s.root.Row(ctx); err != nil || !empty {
		return errors.Join(err, ErrNotEmpty)
	}
	doc, err := s.checkKeyring(ctx, cfg, keys)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	epochs, err := openEpochs(cfg, dir, s.root.Instance)
	if err != nil {
		return err
	}
	s.keepEpochs(epochs)
	if _, err := keyring.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	if keys, err = cfg.openStream(keyring, stream.Keyring); err == nil {
		err = s.restoreStream(ctx, keys)
	}
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	if err := s.restoreStream(ctx, data); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	// The rows are of two moments, and a migration may have been between them: the store has the older format, so that
	// the migrations run again when it is opened.
	if older := data.Header().Format; older < doc.Number {
		doc.Number, doc.Told, doc.Since = older, min(doc.Told, older), since(s.steps, older)
	}
	// The instance's own row comes last: without it nothing here is a store.
	value, err := s.root.Seal(doc)
	if err != nil {
		return err
	}
	return s.engine.Update(ctx, func(w engine.Writer) error {
		return w.Put(rowkey.OfSpace(format.ID{}, rowkey.Instance), value)
	})
}

// openEpochs opens the place of epoch keys that goes with an engine's directory, which is empty for one that has none.
func openEpochs(cfg Config, dir string, instance format.ID) (keystore.Store, error) {
	if dir == "" {
		return &keystore.Memory{}, nil
	}
	return keystore.Open(cfg.KeyDir, instance)
}

// openStream begins to read a stream. It refuses one of other content, and one of a store of a later format.
func (c Config) openStream(r io.Reader, content stream.Content) (*stream.Reader, error) {
	in, err := stream.NewReader(r)
	if err != nil {
		return nil, err
	}
	if c := in.Header().Content; c != content {
		return nil, fmt.Errorf("%w: it is a backup of %s", ErrMalformed, c)
	}
	return in, c.admitStream(in.Header())
}

// checkKeyring reads a keyring to its end, opens the instance root with what is in it, and makes sure that the instance
// wrote it. It returns the instance's document.
func (s *Store) checkKeyring(ctx context.Context, cfg Config, in *stream.Reader) (doc keys.Instance, err error) {
	var instance []byte
	err = eachFrame(ctx, in, func(f stream.Frame) error {
		if f.Kind == stream.Row && string(f.Key) == string(rowkey.OfSpace(format.ID{}, rowkey.Instance)) {
			instance = append([]byte(nil), f.Value...)
		}
		return nil
	})
	if err != nil {
		return doc, err
	}
	if instance == nil {
		return doc, fmt.Errorf("%w: the row of the instance is missing", ErrMalformed)
	}
	if doc, err = s.root.Unwrap(ctx, cfg.Protectors, instance); err != nil {
		return doc, err
	}
	return doc, s.checkStream(in)
}

// checkStream makes sure that this instance wrote what was read to its end.
func (s *Store) checkStream(in *stream.Reader) error {
	if in.Header().Instance != s.Instance() {
		return ErrForeign
	}
	var key []byte
	arena.Do(func() { key = format.BackupKey(s.root.Key(), s.root.Instance, string(in.Header().Content)) })
	defer clear(key)
	return in.Check(key)
}

// readers is how many segments of a stream are looked at at once, while others are written.
func readers() int { return max(1, runtime.GOMAXPROCS(0)-1) }

// eachFrame reads a stream to its end and visits its frames in order. A frame is valid during the visit.
func eachFrame(ctx context.Context, in *stream.Reader, visit func(stream.Frame) error) error {
	return in.Each(ctx, readers(), func(*stream.Segment) error { return nil }, func(g *stream.Segment) error {
		for f := range g.All() {
			if err := visit(f); err != nil {
				return err
			}
		}
		return nil
	})
}

// restoreStream writes what a stream holds, the instance's row left out.
func (s *Store) restoreStream(ctx context.Context, in *stream.Reader) error {
	content := in.Header().Content
	err := in.Each(ctx, readers(), func(*stream.Segment) error { return nil }, func(g *stream.Segment) error {
		return s.restoreSegment(ctx, content, g)
	})
	if err != nil {
		return err
	}
	return s.checkStream(in)
}

// restoreSegment writes the rows of a segment, which its memory holds until they are written.
func (s *Store) restoreSegment(ctx context.Context, content stream.Content, g *stream.Segment) error {
	type row struct {
		key   []byte
		value format.Sealed
	}
	rows := make([]row, 0, min(g.Rows, restoreRows))
	write := func() error {
		defer func() { rows = rows[:0] }()
		return s.engine.Update(ctx, func(w engine.Writer) error {
			for _, r := range rows {
				if err := w.Put(r.key, r.value); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for f := range g.All() {
		if f.Kind == stream.EpochKey {
			if err := s.restoreEpoch(content, f); err != nil {
				return err
			}
			continue
		}
		value, keep, err := s.restoredRow(content, f)
		if err != nil {
			return err
		}
		if !keep {
			continue
		}
		if rows = append(rows, row{f.Key, value}); len(rows) == restoreRows {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return write()
}

func (s *Store) restoreEpoch(content stream.Content, f stream.Frame) error {
	if content != stream.Keyring || len(f.Key) != 20 {
		return fmt.Errorf("%w: an epoch key where none belongs", ErrMalformed)
	}
	return s.epochs.Put(format.ID(f.Key), binary.BigEndian.Uint32(f.Key[16:]), append([]byte(nil), f.Value...))
}

// restoredRow looks at a row of a stream: it must be of a kind that belongs there. Bundles are marked, so that their
// spaces are put in order before anybody uses them.
func (s *Store) restoredRow(content stream.Content, f stream.Frame) (value format.Sealed, keep bool, err error) {
	if len(f.Key) < 17 {
		return value, false, fmt.Errorf("%w: a row key of %d bytes", ErrMalformed, len(f.Key))
	}
	space, kind := format.ID(f.Key), f.Key[16]
	data := kind == rowkey.Record && space != format.ID{} || kind == rowkey.Log && space == format.ID{}
	if data != (content == stream.Data) {
		return value, false, fmt.Errorf("%w: a row of kind %q does not belong into a backup of %s", ErrMalformed, kind,
			content)
	}
	switch {
	case kind == rowkey.Instance && space == format.ID{}:
		return value, false, nil
	case kind == rowkey.Bundle && len(f.Key) == 17:
		value, err = s.bundles.Restored(SpaceID(space), f.Value)
	default:
		value, err = format.Restored(kind, f.Value)
	}
	return value, err == nil, err
}

// MendKeyring puts epoch keys that are missing back from a keyring, and returns how many. It is for a key directory
// that was lost while the data was not: only keys that the data still speaks of are taken, so an old keyring brings
// nothing back that was erased. Errors: ErrForeign, ErrNotAuthentic, ErrMalformed.
func (s *Store) MendKeyring(ctx context.Context, keyring io.Reader) (mended int, err error) {
	s.root.Hold()
	defer s.root.Release()
	if s.isClosed() {
		return 0, ErrClosed
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("mend the key directory: %w", err)
		}
	}()
	var found []stream.Frame
	in, err := Config{migrations: s.steps}.openStream(keyring, stream.Keyring)
	if err == nil {
		err = eachFrame(ctx, in, func(f stream.Frame) error {
			if f.Kind == stream.EpochKey && len(f.Key) == 20 {
				found = append(
					found, stream.Frame{Key: append([]byte(nil), f.Key...), Value: append([]byte(nil), f.Value...)},
				)
			}
			return nil
		})
	}
	if err == nil {
		err = s.checkStream(in)
	}
	if err != nil {
		return 0, err
	}
	for _, f := range found {
		id, epoch := SpaceID(f.Key[:16]), binary.BigEndian.Uint32(f.Key[16:])
		doc, err := s.bundles.Read(ctx, id)
		if errors.Is(err, ErrNoSpace) {
			continue
		}
		if err != nil {
			return mended, err
		}
		known := slices.ContainsFunc(doc.Epochs, func(e keys.EpochDoc) bool { return e.Number == epoch })
		if _, err := s.epochs.Get(format.ID(id), epoch); !known || !errors.Is(err, keystore.ErrNotFound) {
			continue
		}
		if err := s.epochs.Put(format.ID(id), epoch, f.Value); err != nil {
			return mended, err
		}
		mended++
	}
	return mended, nil
}

// CheckWhole reads the copy of a keyring or backup in a file, and says whether all of it is there and as it was
// written. It needs no key, so it cannot say who wrote it. Error: ErrMalformed.
func CheckWhole(ctx context.Context, r io.Reader) error {
	in, err := stream.NewReader(r)
	if err != nil {
		return err
	}
	return eachFrame(ctx, in, func(stream.Frame) error { return nil })
}
