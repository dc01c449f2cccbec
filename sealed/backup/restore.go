package backup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// Target is the empty store that is restored into.
type Target struct {
	Root       *keys.Root // not open
	Engine     engine.Engine
	Loader     engine.Loader // of the same rows, if the engine has one
	Report     event.Report
	Protectors []keys.Protector // which have to open the root
	// Alone keeps every other process from opening what is restored. It is called when the root is open.
	Alone func(context.Context) error
	// Epochs opens the place of the epoch keys of an instance.
	Epochs func(instance format.ID) (keystore.Place, error)
	// Since returns the first version of the program that knows a format.
	Since func(format uint32) string
	// From returns the format that rows of a store may have beside the one that it has, if its last migration is one
	// that runs while the store is at work; zero otherwise.
	From func(format uint32) uint32
}

// Streams are a keyring and the data that it goes with.
type Streams struct {
	keyring io.ReadSeeker
	data    *stream.Reader
	first   *stream.Reader // of the keyring, which is read twice
	known   uint32
}

// Open begins to read a keyring and a backup, and refuses what is none, or of a format later than known.
// Errors: ErrMalformed, *format.NewerError.
func Open(keyring io.ReadSeeker, data io.Reader, known uint32) (*Streams, error) {
	s := &Streams{keyring: keyring, known: known}
	var err error
	if s.first, err = open(keyring, stream.Keyring, known); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	if s.data, err = open(data, stream.Data, known); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return s, nil
}

// Restore makes a store of the target: see sealed.Restore. Errors: ErrNotEmpty, ErrForeign, ErrNotAuthentic,
// ErrMalformed, *keys.RootError.
func (s *Streams) Restore(ctx context.Context, to Target) (err error) {
	if _, empty, err := to.Root.Row(ctx); err != nil || !empty {
		return errors.Join(err, ErrNotEmpty)
	}
	t := &restoring{root: to.Root, engine: to.Engine, loader: to.Loader, protectors: to.Protectors}
	doc, err := t.checkKeyring(ctx, s.first)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	if err := to.Alone(ctx); err != nil {
		return err
	}
	if t.epochs, err = to.Epochs(t.root.Instance); err != nil {
		return err
	}
	// The keys of a store that is in use must not get a second one, which would destroy them with its own turns.
	if used, err := t.epochs.Spaces(ctx); err != nil || len(used) > 0 {
		return errors.Join(err, fmt.Errorf("%w: %s holds epoch keys of this instance, and whoever uses them would "+
			"lose them to the restored store: give it a place of its own for them. The keys that are there open older "+
			"backups: destroy them when nobody uses them any more", ErrNotEmpty, t.epochs.Name()))
	}
	if err := unmark(ctx, t.epochs); err != nil {
		return err
	}
	writing := false // the row of the instance, which may be there when that fails
	defer func() {
		if err != nil && !writing {
			err = errors.Join(err, t.takeBack(context.WithoutCancel(ctx)))
		}
	}()
	t.bundles = keys.NewBundles(t.root, t.engine, t.epochs, to.Report)
	if _, err := s.keyring.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	again, err := open(s.keyring, stream.Keyring, s.known)
	if err == nil {
		err = t.restoreStream(ctx, again)
	}
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	if err := t.restoreStream(ctx, s.data); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	// The rows are of two moments, and a migration may have been between them: the store has the older format, so that
	// the migrations run again when it is opened.
	if older := s.data.Header().Format; older < doc.Number {
		doc.Number, doc.Told, doc.Since = older, min(doc.Told, older), to.Since(older)
	}
	doc.From = to.From(doc.Number)
	// What earlier versions of the root key sealed may be in it again.
	doc.Rotating = doc.Version > 1
	doc.Placed = nil // the place gets a mark when the store is opened
	// The instance's own row comes last: without it nothing here is a store.
	value, err := t.root.Seal(doc)
	if err != nil {
		return err
	}
	writing = true
	return t.engine.Update(ctx, func(w engine.Writer) error {
		key := rowkey.OfSpace(format.ID{}, rowkey.Instance)
		if _, ok, err := w.Get(key); err != nil || ok { // another process has made a store meanwhile
			return errors.Join(err, ErrNotEmpty)
		}
		return w.Put(key, value)
	})
}

// unmark takes the mark from a place that has no keys: it is of a store that nobody has any more.
func unmark(ctx context.Context, in keystore.Place) error {
	mark, err := in.Mark(ctx)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = in.SetMark(ctx, mark, nil)
	}
	return err
}

// restoring is a restore under way.
type restoring struct {
	root       *keys.Root
	engine     engine.Engine
	loader     engine.Loader
	protectors []keys.Protector
	epochs     keystore.Place
	bundles    *keys.Bundles
	put        []epochKey // the keys that are in place
}

// epochKey names an epoch key.
type epochKey struct {
	space  format.ID
	number uint32
}

// takeBack destroys the epoch keys that this restore has put in place, so that the next attempt finds the place empty.
func (t *restoring) takeBack(ctx context.Context) error {
	for _, key := range t.put {
		err := t.epochs.DestroyEpoch(ctx, key.space, key.number)
		var others []uint32
		if err == nil {
			others, err = t.epochs.List(ctx, key.space)
		}
		if err == nil && len(others) == 0 {
			err = t.epochs.Destroy(ctx, key.space) // a folder may be left
		}
		if err != nil {
			return fmt.Errorf("%s keeps epoch keys of this attempt, which must be removed before the next: %w",
				t.epochs.Name(), err)
		}
	}
	return nil
}

// checkKeyring reads a keyring to its end, opens the instance root with what is in it, and makes sure that the instance
// wrote it. It returns the instance's document.
func (t *restoring) checkKeyring(ctx context.Context, in *stream.Reader) (doc keys.Instance, err error) {
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
	if doc, err = t.root.Unwrap(ctx, t.protectors, instance); err != nil {
		return doc, err
	}
	return doc, checkStream(t.root, in)
}

// restoreRows is how many rows one transaction of a restore writes.
const restoreRows = 4_096

// restoreStream writes what a stream holds, the instance's row left out.
func (t *restoring) restoreStream(ctx context.Context, in *stream.Reader) error {
	content := in.Header().Content
	err := in.Each(ctx, readers(), func(*stream.Segment) error { return nil }, func(g *stream.Segment) error {
		return t.restoreSegment(ctx, content, g)
	})
	if err != nil {
		return err
	}
	return checkStream(t.root, in)
}

// restoreSegment writes the rows of a segment, which its memory holds until they are written.
func (t *restoring) restoreSegment(ctx context.Context, content stream.Content, g *stream.Segment) error {
	var rows engine.Batch
	write := func() error {
		defer func() { rows.Keys, rows.Values = rows.Keys[:0], rows.Values[:0] }()
		return t.write(ctx, rows)
	}
	for f := range g.All() {
		if f.Kind == stream.EpochKey {
			if err := t.restoreEpoch(ctx, content, f); err != nil {
				return err
			}
			continue
		}
		value, keep, err := t.restoredRow(content, f)
		if err != nil {
			return err
		}
		if !keep {
			continue
		}
		rows.Keys, rows.Values = append(rows.Keys, f.Key), append(rows.Values, value)
		if len(rows.Keys) == restoreRows {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return write()
}

// write writes rows, none of which is there.
func (t *restoring) write(ctx context.Context, rows engine.Batch) error {
	if len(rows.Keys) == 0 {
		return nil
	}
	// A loader does not notice that this process has been away for too long and another one works here. What it then
	// writes is harmless: without the row of the instance, which is written last, there is no store.
	if t.loader != nil {
		err := t.loader.Load(ctx, rows)
		if !errors.Is(err, engine.ErrUnavailable) {
			return err
		}
		// An update waits for the database, and writes rows again that are there already.
	}
	return t.engine.Update(ctx, func(w engine.Writer) error {
		for i, key := range rows.Keys {
			if err := w.Put(key, rows.Values[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *restoring) restoreEpoch(ctx context.Context, content stream.Content, f stream.Frame) error {
	if content != stream.Keyring || len(f.Key) != 20 {
		return fmt.Errorf("%w: an epoch key where none belongs", ErrMalformed)
	}
	space, epoch := format.ID(f.Key), binary.BigEndian.Uint32(f.Key[16:])
	value, err := t.bundles.Carried(format.SpaceID(space), epoch, append([]byte(nil), f.Value...))
	if err != nil {
		return err
	}
	if err := t.epochs.Put(ctx, space, epoch, value); err != nil {
		return err
	}
	t.put = append(t.put, epochKey{space, epoch})
	return nil
}

// restoredRow looks at a row of a stream: it must be of a kind that belongs there. Bundles are marked, so that their
// spaces are put in order before anybody uses them.
func (t *restoring) restoredRow(content stream.Content, f stream.Frame) (value format.Sealed, keep bool, err error) {
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
		value, err = t.bundles.Restored(format.SpaceID(space), f.Value)
	default:
		value, err = format.Restored(kind, f.Value)
	}
	return value, err == nil, err
}
