package tree

import (
	"bytes"
	"errors"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Size counts the nursery rows and the lowest pages of a container.
func (t *Tx) Size(container format.ID) (rows, pages int, err error) {
	if rows, err = t.countRows(rowkey.Nursery, container); err == nil {
		pages, err = t.countRows(rowkey.Page, container)
	}
	return rows, pages, err
}

// Unfolded lists the containers that have nursery rows.
func (t *Tx) Unfolded() (list []format.ID, err error) {
	err = t.eachContainer(rowkey.Nursery, func(id format.ID) error {
		list = append(list, id)
		return nil
	})
	return list, err
}

// countRows counts the rows of a kind that a container has.
func (t *Tx) countRows(kind byte, container format.ID) (n int, err error) {
	lower, upper := rowkey.Range(format.ID(t.space), kind, container, format.ID{})
	for _, err := range rowkey.Scan(t.r, lower, upper) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// eachContainer calls fn with every container that has a row of the kind, skipping from one to the next.
func (t *Tx) eachContainer(kind byte, fn func(format.ID) error) error {
	space := format.ID(t.space)
	from, to := rowkey.OfSpace(space, kind), rowkey.After(rowkey.OfSpace(space, kind))
	for {
		var found []byte
		for row, err := range rowkey.Scan(t.r, from, to) {
			if err != nil {
				return err
			}
			found = bytes.Clone(row.Key)
			break
		}
		if found == nil {
			return nil
		}
		container, _ := rowkey.Parse(found)
		if err := fn(container); err != nil {
			return err
		}
		from = rowkey.After(found[:33])
	}
}

// FoldStep folds nursery rows into the page that covers the first of them at or after position, and returns where to go
// on.
func (t *Tx) FoldStep(container, position format.ID) (goOn format.ID, more bool, err error) {
	lower, upper := rowkey.Range(format.ID(t.space), rowkey.Nursery, container, position)
	var first *format.ID
	for row, err := range rowkey.Scan(t.r, lower, upper) {
		if err != nil {
			return position, false, err
		}
		_, id := rowkey.Parse(row.Key)
		first = &id
		break
	}
	if first == nil {
		return position, false, nil
	}
	tr, err := t.tree(container)
	if err != nil {
		return position, false, err
	}
	if tr == nil {
		return position, false, t.Corrupt("nursery row", container, *first, errNoContainer)
	}
	if tr.head.Dropped {
		return position, false, nil
	}
	leaf, err := tr.leaf(*first)
	if err == nil {
		err = tr.change(leaf)
	}
	if err != nil {
		return position, false, err
	}
	leaf.strict = true
	goOn, more = rowkey.Next(leaf.upper)
	return goOn, more, nil
}

var errNoContainer = errors.New("it is of a container that does not exist")
