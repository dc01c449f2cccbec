package gallery

import (
	"slices"
)

// top keeps the k best of the rows offered to it: a heap whose root is the worst row kept.
//
// By owner, a row replaces the kept row of its owner when it is better. That gives the k best owners: an owner leaves
// the heap only when k others are better than its best row so far, and comes back with the next row that is good
// enough.
type top struct {
	k       int
	byOwner bool
	least   float32 // scores below it need not be offered
	heap    []scored
}

// scored is a row with its score, the dot product with the probe: 1 same … -1 opposite.
type scored struct {
	score float32
	row   row
}

// better orders rows: the higher score, and of equal ones the earlier enrolled.
func (a *scored) better(b *scored) bool {
	if a.score != b.score {
		return a.score > b.score
	}
	return a.row.order < b.row.order
}

// offer considers a row.
func (t *top) offer(score float32, r *row) {
	candidate := scored{score: score, row: *r}
	full := len(t.heap) == t.k
	if full && !candidate.better(&t.heap[0]) {
		return
	}
	if t.byOwner {
		for i := range t.heap {
			if t.heap[i].row.owner != r.owner {
				continue
			}
			if candidate.better(&t.heap[i]) {
				t.heap[i] = candidate
				t.sink(i)
				t.raise()
			}
			return
		}
	}
	if full {
		t.heap[0] = candidate
		t.sink(0)
	} else {
		t.heap = append(t.heap, candidate)
		t.swim(len(t.heap) - 1)
	}
	t.raise()
}

// raise lets the search skip rows that a full heap would refuse.
func (t *top) raise() {
	if len(t.heap) == t.k {
		t.least = max(t.least, t.heap[0].score)
	}
}

// swim moves a row that may be worse than its parent towards the root.
func (t *top) swim(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !t.heap[parent].better(&t.heap[i]) {
			return
		}
		t.heap[i], t.heap[parent] = t.heap[parent], t.heap[i]
		i = parent
	}
}

// sink moves a row that may be better than its children away from the root.
func (t *top) sink(i int) {
	for {
		worst := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(t.heap); child++ {
			if t.heap[worst].better(&t.heap[child]) {
				worst = child
			}
		}
		if worst == i {
			return
		}
		t.heap[i], t.heap[worst] = t.heap[worst], t.heap[i]
		i = worst
	}
}

// merge offers all rows that another list kept.
func (t *top) merge(other *top) {
	for i := range other.heap {
		t.offer(other.heap[i].score, &other.heap[i].row)
	}
}

// sorted returns the candidates, best first.
func (t *top) sorted() []Candidate {
	slices.SortFunc(t.heap, func(a, b scored) int {
		switch {
		case a.better(&b):
			return -1
		case b.better(&a):
			return 1
		}
		return 0
	})
	found := make([]Candidate, len(t.heap))
	for i, s := range t.heap {
		found[i] = Candidate{ID: s.row.id, Owner: s.row.owner, Order: s.row.order, Score: s.score}
	}
	return found
}
