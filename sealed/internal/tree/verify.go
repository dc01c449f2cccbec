package tree

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Counts is what a verification looked at.
type Counts struct {
	Containers, Records int
	Sealed              int // records that were not opened
}

// Verify opens all that the space has, and calls found with what does not open or is not where it belongs. The error is
// of the verification itself.
func (t *Tx) Verify(ctx context.Context, tally *Counts, found func(error)) error {
	t.thorough = true
	if err := t.strangeRows(found); err != nil {
		return err
	}
	known := map[format.ID]bool{rowkey.Root: true}
	containers, err := t.Containers()
	if event.IsCorrupt(err) {
		found(err)
	} else if err != nil {
		return err
	}
	if err := t.strayPages(t.root, found); err != nil {
		return err
	}
	for _, c := range containers {
		known[c] = true
		if err := t.verifyContainer(ctx, c, tally, found); err != nil {
			return err
		}
	}
	for _, kind := range rowkey.Kinds() {
		if kind == rowkey.Bundle {
			continue
		}
		err := t.eachContainer(kind, func(container format.ID) error {
			if !known[container] {
				known[container] = true
				found(t.Corrupt("row", container, format.ID{}, errNoContainer))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// strayPages finds rows of key pages that a container's tree does not reach.
func (t *Tx) strayPages(tr *tree, found func(error)) error {
	reached := map[byte]int{}
	var count func(n *node) error
	count = func(n *node) error {
		if n.stored {
			reached[n.level]++
		}
		if n.level == 0 {
			return nil
		}
		if err := tr.open(n); err != nil {
			return err
		}
		for i := range n.page.Len() {
			if err := count(n.kid(i)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := count(tr.topNode()); event.IsCorrupt(err) {
		found(err)
		return nil
	} else if err != nil {
		return err
	}
	for level := byte(0); level < format.MaxHeight; level++ {
		rows, err := t.countRows(rowkey.PageKind(level), tr.container)
		if err != nil {
			return err
		}
		if rows != reached[level] {
			found(t.Corrupt("key page", tr.container, format.ID{},
				fmt.Errorf("%d rows of level %d, where the container has %d pages", rows, level, reached[level])))
		}
	}
	return nil
}

func (t *Tx) verifyContainer(
	ctx context.Context, container format.ID, tally *Counts, found func(error),
) (failed error) {
	tr, err := t.openTree(container)
	if event.IsCorrupt(err) {
		found(err)
		return nil
	}
	if err != nil || tr == nil || tr.head.Dropped {
		return err
	}
	tally.Containers++
	if err := t.strayPages(tr, found); err != nil {
		return err
	}
	tr.wipe()
	opened := func([]byte, byte) (struct{}, error) { return struct{}{}, nil }
	Walk(t, container, t.w == nil, opened, func(_ struct{}, err error) bool {
		var corrupt *event.CorruptError
		switch {
		case err == nil:
			tally.Records++
		case errors.As(err, &corrupt):
			found(err)
		default:
			failed = err
		}
		if failed == nil && ctx.Err() != nil {
			failed = context.Cause(ctx)
		}
		return failed == nil
	})
	return failed
}

// strangeRows finds rows that a space cannot have. What it passes on to other checks are whole ranges, so it costs the
// walk of what is strange alone, save for keys of the wrong length, for which it walks all.
func (t *Tx) strangeRows(found func(error)) error {
	space := format.ID(t.space)
	from := space[:]
	for _, kind := range append(rowkey.Kinds(), 0xff) {
		for row, err := range t.r.Scan(from, rowkey.OfSpace(space, kind)) { // between two kinds
			if err != nil {
				return err
			}
			found(t.env.Report.Corrupt(&event.CorruptError{Space: t.space, What: "row", Err: rowkey.Strange(row.Key)}))
		}
		if kind == 0xff {
			break
		}
		from = rowkey.After(rowkey.OfSpace(space, kind))
		for row, err := range t.r.Scan(rowkey.OfSpace(space, kind), from) {
			if err != nil {
				return err
			}
			if !rowkey.Possible(kind, row.Key) {
				found(t.env.Report.Corrupt(&event.CorruptError{Space: t.space, What: "row",
					Err: rowkey.Strange(row.Key)}))
			}
		}
	}
	return nil
}
