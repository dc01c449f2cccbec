package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// docs/formats/containers.md says when containers are folded, why, and how that meets writers.

const (
	// foldRows is the least number of nursery rows that folding is worth.
	foldRows = 1_024
	// foldShare is the part of a container, one in so many records, that its nursery may grow to.
	foldShare = 4
	// pageFill is how full the pages are that a step splits into, so that the next rows do not split them again at
	// once.
	pageFill = 224
)

// folds counts the nursery rows that were written to each container, and holds those that are due.
type folds struct {
	mu     sync.Mutex // guards all below
	counts map[containerRef]*foldCount
	due    map[containerRef]bool

	wake chan struct{} // holds a token when due is not empty
}

type containerRef struct {
	space     SpaceID
	container format.ID
}

type foldCount struct{ rows, limit int }

// countedContainers bounds the memory of counting; a container that is forgotten is counted anew.
const countedContainers = 100_000

func newFolds() *folds {
	return &folds{counts: map[containerRef]*foldCount{}, due: map[containerRef]bool{}, wake: make(chan struct{}, 1)}
}

// note counts rows that were committed.
func (f *folds) note(space SpaceID, rows map[format.ID]int) {
	if len(rows) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for container, n := range rows {
		ref := containerRef{space, container}
		c := f.counts[ref]
		if c == nil {
			if len(f.counts) >= countedContainers {
				clear(f.counts)
			}
			c = &foldCount{limit: foldRows}
			f.counts[ref] = c
		}
		if c.rows += n; c.rows >= c.limit {
			f.due[ref] = true
			select {
			case f.wake <- struct{}{}:
			default:
			}
		}
	}
}

func (f *folds) take() (containerRef, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ref := range f.due {
		delete(f.due, ref)
		return ref, true
	}
	return containerRef{}, false
}

// folded sets what is left in a container's nursery, and how many rows it may grow to.
func (f *folds) folded(ref containerRef, rows, limit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[ref] = &foldCount{rows: rows, limit: limit}
}

func (f *folds) forget(space SpaceID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ref := range f.counts {
		if ref.space == space {
			delete(f.counts, ref)
		}
	}
}

// foldForever folds containers as they come due.
func (s *Store) foldForever(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.folds.wake:
		}
		for ref, ok := s.folds.take(); ok; ref, ok = s.folds.take() {
			// A space that is locked or gone, or a page that is damaged, is no reason to stop folding others; who reads
			// the page hears of it.
			if err := s.foldIfDue(ctx, ref); err != nil && ctx.Err() != nil {
				return nil
			}
		}
	}
}

// countNurseries counts the nursery rows that an earlier process left, in transactions of bounded length.
func (s *Store) countNurseries(ctx context.Context) error {
	ids, err := s.Spaces(ctx)
	for _, id := range ids {
		from := rowkey.OfSpace(format.ID(id), rowkey.Nursery)
		to := rowkey.After(from)
		for from != nil && err == nil {
			counts := map[format.ID]int{}
			rows := 0
			err = s.engine.View(ctx, func(r engine.Reader) error {
				for row, err := range r.Scan(from, to) {
					if err != nil {
						return err
					}
					if len(row.Key) == rowkey.Size {
						container, _ := rowkey.Parse(row.Key)
						counts[container]++
					}
					if rows++; rows == countedContainers {
						from = append(bytes.Clone(row.Key), 0)
						return nil
					}
				}
				from = nil
				return nil
			})
			s.folds.note(id, counts)
		}
	}
	return err
}

// foldIfDue measures a container, and folds it when its nursery is over its share.
func (s *Store) foldIfDue(ctx context.Context, ref containerRef) error {
	sp := s.Space(ref.space)
	rows, pages := 0, 0
	err := sp.View(ctx, func(r Reader) (err error) {
		t := r.txn()
		if rows, err = countRows(t, rowkey.Nursery, ref.container); err == nil {
			pages, err = countRows(t, rowkey.Page, ref.container)
		}
		return err
	})
	if err != nil {
		return err
	}
	limit := max(foldRows, pages*pageFill/foldShare)
	if rows < limit {
		s.folds.folded(ref, rows, limit)
		return nil
	}
	if err := sp.foldContainer(ctx, ref.container); err != nil {
		return err
	}
	s.folds.folded(ref, 0, max(foldRows, (pages*pageFill+rows)/foldShare))
	return nil
}

func countRows(t *txn, kind byte, container format.ID) (n int, err error) {
	lower, upper := rowkey.Range(format.ID(t.sp.id), kind, container, format.ID{})
	for _, err := range rowkey.Scan(t.r, lower, upper) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// Fold moves the secrets of every container of the space into key pages now, instead of when enough have come together.
func (sp *Space) Fold(ctx context.Context) error {
	var containers []format.ID
	err := sp.View(ctx, func(r Reader) error {
		t := r.txn()
		return t.eachContainer(rowkey.Nursery, func(id format.ID) error {
			containers = append(containers, id)
			return nil
		})
	})
	for _, c := range containers {
		if err != nil {
			break
		}
		err = sp.foldContainer(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	return nil
}

// eachContainer calls fn with every container that has a row of the kind, skipping from one to the next.
func (t *txn) eachContainer(kind byte, fn func(format.ID) error) error {
	space := format.ID(t.sp.id)
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

// foldContainer walks a container's lowest pages, one step and so one transaction a page.
func (sp *Space) foldContainer(ctx context.Context, container format.ID) error {
	position := format.ID{15: 1} // the zero id is nobody's but the blinding key's
	for more := true; more; {
		var goOn format.ID
		err := sp.updateAlone(ctx, func(t *txn) (err error) {
			goOn, more, err = t.foldStep(container, position)
			return err
		})
		if err != nil {
			return err
		}
		position = goOn
	}
	return nil
}

// foldStep folds nursery rows into the page that covers the first of them at or after position, and returns where to go
// on.
func (t *txn) foldStep(container, position format.ID) (goOn format.ID, more bool, err error) {
	lower, upper := rowkey.Range(format.ID(t.sp.id), rowkey.Nursery, container, position)
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
		return position, false, t.corrupt("nursery row", container, *first, errNoContainer)
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
