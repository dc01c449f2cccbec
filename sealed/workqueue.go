package sealed

import (
	"sync"

	"github.com/visage-face/visage/sealed/internal/format"
)

const (
	// foldRows is the least number of nursery rows that folding is worth.
	foldRows = 1_024
	// foldShare is the part of a container, one in so many records, that its nursery may grow to.
	foldShare = 4
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

// countedContainers bounds the memory of counting; a container that is forgotten is counted again.
const countedContainers = 100_000

func newFolds() *folds {
	return &folds{counts: map[containerRef]*foldCount{}, due: map[containerRef]bool{}, wake: make(chan struct{}, 1)}
}

// note counts rows that were committed. nursery says how many containers have now, those of other processes included,
// where that is known.
func (f *folds) note(space SpaceID, rows, nursery map[format.ID]int) {
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
		c.rows += n
		if all, ok := nursery[container]; ok {
			c.rows = all
		}
		if c.rows >= c.limit {
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

// erasures are the spaces with erasures that no caller waits for.
type erasures struct {
	mu  sync.Mutex // guards due
	due map[SpaceID]bool

	wake chan struct{} // holds a token when due is not empty
}

func newErasures() *erasures {
	return &erasures{due: map[SpaceID]bool{}, wake: make(chan struct{}, 1)}
}

func (e *erasures) add(id SpaceID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.due[id] = true
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *erasures) take() (all []SpaceID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.due {
		all = append(all, id)
	}
	clear(e.due)
	return all
}
