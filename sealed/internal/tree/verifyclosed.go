package tree

import (
	"context"
	"errors"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

var (
	errNoHead   = errors.New("there are rows of the container and no head")
	errNoRecord = errors.New("there is a secret of the record and no record")
)

// VerifyRows looks at the rows of a space without any of its keys. In a space that was restored and not yet put in
// order, secrets without records are what was made after the backup, and records without a container are what was
// erased after it.
func (t *Tx) VerifyRows(ctx context.Context, restored bool, tally *Counts, found func(error)) error {
	if err := t.strangeRows(found); err != nil {
		return err
	}
	space := format.ID(t.space)
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
				found(t.Corrupt(rowName(kind), container, id, err))
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
					found(t.Corrupt("record", container, id, errNoRecord))
				}
			}
			if kind > rowkey.Head && !heads[container] && !told[container] && !restored {
				told[container] = true
				found(t.Corrupt("head", container, format.ID{}, errNoHead))
			}
		}
	}
	if !heads[rowkey.Root] {
		found(t.Corrupt("head", rowkey.Root, format.ID{}, errNoHead))
	}
	return nil
}

// lostRecord reports whether a record is missing whose secret has a nursery row. A container on its way out loses its
// records first, from the lowest id up.
func (t *Tx) lostRecord(container, id format.ID) (bool, error) {
	space := format.ID(t.space)
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
