package sealed

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

var (
	errNoHead   = errors.New("there are rows of the container and no head")
	errNoRecord = errors.New("there is a secret of the record and no record")
)

// verifyClosed looks at what a space shows without its customer's key: that its bundle is authentic, that the epoch
// keys it names are there, that it is no older than its anchor's bundle, that the engine reads every row, and that rows
// are well formed and belong together. What is under the instance root alone is opened.
func (s *Store) verifyClosed(ctx context.Context, id SpaceID, v *verification) error {
	s.root.Hold()
	defer s.root.Release()
	found := func(err error) error {
		_, corrupt := errors.AsType[*CorruptError](err)
		if corrupt || errors.Is(err, ErrRollback) {
			v.found(id, err)
			return nil
		}
		return err
	}
	doc, err := s.bundles.Read(ctx, id)
	if err != nil {
		return found(err)
	}
	if err := s.openClosed(ctx, id, doc); err != nil && !errors.Is(err, ErrLocked) {
		return found(err)
	}
	_, err = s.epochs.Get(format.ID(id), doc.Current.Epoch) // an older one may be on its way out
	if errors.Is(err, keystore.ErrNotFound) {
		v.found(
			id,
			s.report.Corrupt(&CorruptError{Space: id, What: "epoch key",
				Err: fmt.Errorf("%w; restore the key directory from its newest copy", err)}),
		)
	} else if err != nil {
		return fmt.Errorf("read epoch key %d: %w", doc.Current.Epoch, err)
	}
	if err := s.anchors.CheckBundle(id, doc.Sequence); err != nil {
		v.found(id, err)
	}
	return s.engine.View(ctx, func(r engine.Reader) error {
		t := &txn{sp: &Space{store: s, id: id}, r: r}
		defer t.finish()
		return t.verifyRows(ctx, doc.Restored, &v.tally, func(err error) { v.found(id, err) })
	})
}

// openClosed opens the keys of a space that is locked although it needs no customer's key, as far as its root
// container; then they are wiped again.
func (s *Store) openClosed(ctx context.Context, id SpaceID, doc keys.Doc) error {
	ring, err := keys.NewRing(&s.rings)
	if err != nil {
		return err
	}
	defer ring.Free()
	_, err = s.openRing(ctx, id, doc, ring, nil)
	return err
}

// verifyRows looks at the rows of a space without any of its keys. In a space that was restored and not yet put in
// order, secrets without records are what was made after the backup, and records without a container are what was
// erased after it.
func (t *txn) verifyRows(ctx context.Context, restored bool, tally *Tally, found func(error)) error {
	if err := t.strangeRows(found); err != nil {
		return err
	}
	space := format.ID(t.sp.id)
	told := map[format.ID]bool{}
	heads := map[format.ID]bool{}
	for _, kind := range rowkey.Kinds() {
		if kind == rowkey.Bundle {
			continue
		}
		from, to := rowkey.OfSpace(space, kind), rowkey.After(rowkey.OfSpace(space, kind))
		for row, err := range rowkey.Scan(t.r, from, to) {
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			container, id := rowkey.Parse(row.Key)
			if _, err := format.Restored(kind, row.Value); err != nil {
				found(t.corrupt(rowName(kind), container, id, err))
			}
			switch kind {
			case rowkey.Head:
				heads[container] = true
				continue
			case rowkey.Record:
				tally.Sealed++
			case rowkey.Nursery:
				if lost, err := t.lostRecord(container, id); err != nil {
					return err
				} else if lost && !restored {
					found(t.corrupt("record", container, id, errNoRecord))
				}
			}
			if kind > rowkey.Head && !heads[container] && !told[container] && !restored {
				told[container] = true
				found(t.corrupt("head", container, format.ID{}, errNoHead))
			}
		}
	}
	if !heads[rowkey.Root] {
		found(t.corrupt("head", rowkey.Root, format.ID{}, errNoHead))
	}
	return nil
}

// lostRecord reports whether a record is missing whose secret has a nursery row. A container on its way out loses its
// records first, from the lowest id up.
func (t *txn) lostRecord(container, id format.ID) (bool, error) {
	space := format.ID(t.sp.id)
	if _, ok, err := t.r.Get(rowkey.Of(space, rowkey.Record, container, id)); ok || err != nil {
		return false, err
	}
	lower, _ := rowkey.Range(space, rowkey.Record, container, format.ID{})
	for _, err := range rowkey.Scan(t.r, lower, rowkey.Of(space, rowkey.Record, container, id)) {
		return err == nil, err
	}
	return false, nil
}

// rowName names a kind of row as CorruptError does.
func rowName(kind byte) string {
	switch {
	case kind == rowkey.Head:
		return "head"
	case kind == rowkey.Nursery:
		return "nursery row"
	case rowkey.IsPage(kind):
		return "key page"
	}
	return "record"
}
