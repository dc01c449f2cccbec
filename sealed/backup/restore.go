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
	Report     event.Report
	Protectors []keys.Protector // which have to open the root
	// Epochs opens the place of the epoch keys of an instance.
	Epochs func(instance format.ID) (keystore.Store, error)
	// Since returns the first version of the program that knows a format.
	Since func(format uint32) string
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
func (s *Streams) Restore(ctx context.Context, to Target) error {
	if _, empty, err := to.Root.Row(ctx); err != nil || !empty {
		return errors.Join(err, ErrNotEmpty)
	}
	t := &restoring{root: to.Root, engine: to.Engine, protectors: to.Protectors}
	doc, err := t.checkKeyring(ctx, s.first)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	if t.epochs, err = to.Epochs(t.root.Instance); err != nil {
		return err
	}
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
	// What earlier versions of the root key sealed may be in it again.
	doc.Rotating = doc.Version > 1
	// The instance's own row comes last: without it nothing here is a store.
	value, err := t.root.Seal(doc)
	if err != nil {
		return err
	}
	return t.engine.Update(ctx, func(w engine.Writer) error {
		return w.Put(rowkey.OfSpace(format.ID{}, rowkey.Instance), value)
	})
}

// restoring is a restore under way.
type restoring struct {
	root       *keys.Root
	engine     engine.Engine
	protectors []keys.Protector
	epochs     keystore.Store
	bundles    *keys.Bundles
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
	type row struct {
		key   []byte
		value format.Sealed
	}
	rows := make([]row, 0, min(g.Rows, restoreRows))
	write := func() error {
		defer func() { rows = rows[:0] }()
		return t.engine.Update(ctx, func(w engine.Writer) error {
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
			if err := t.restoreEpoch(content, f); err != nil {
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
		if rows = append(rows, row{f.Key, value}); len(rows) == restoreRows {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return write()
}

func (t *restoring) restoreEpoch(content stream.Content, f stream.Frame) error {
	if content != stream.Keyring || len(f.Key) != 20 {
		return fmt.Errorf("%w: an epoch key where none belongs", ErrMalformed)
	}
	space, epoch := format.ID(f.Key), binary.BigEndian.Uint32(f.Key[16:])
	value, err := t.bundles.Carried(format.SpaceID(space), epoch, append([]byte(nil), f.Value...))
	if err != nil {
		return err
	}
	return t.epochs.Put(space, epoch, value)
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
