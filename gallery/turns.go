package gallery

import (
	"slices"
	"sync"
)

// turns lets concurrent searches share passes over a large gallery: one of them makes the pass, those that arrive
// meanwhile wait, and one of these makes the next for all. A search that finds no pass under way makes one at once.
type turns struct {
	mu      sync.Mutex // guards the fields below
	busy    bool       // a pass is under way
	waiting []*search
}

// run answers a search, alone or with others.
func (t *turns) run(g *Gallery, s *search) {
	if g.Len()*g.coding.dim*len(s.targets) < g.share {
		g.answer([]*search{s})
		return
	}
	t.mu.Lock()
	if !t.busy {
		t.busy = true
		t.mu.Unlock()
		t.makePass(g, []*search{s})
		return
	}
	t.waiting = append(t.waiting, s)
	t.mu.Unlock()
	select {
	case <-s.done:
	case together := <-s.lead:
		t.makePass(g, together)
	case <-s.ctx.Done():
		if t.withdraw(s) {
			g.answer([]*search{s}) // returns the error of its context
			return
		}
		// The search is part of a pass: of another search's, which has its probes and ends in a moment, or of its own.
		select {
		case <-s.done:
		case together := <-s.lead:
			t.makePass(g, together)
		}
	}
}

// withdraw removes a search from those that wait, and reports whether it waited.
func (t *turns) withdraw(s *search) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting, s)
	if i < 0 {
		return false
	}
	t.waiting = slices.Delete(t.waiting, i, i+1)
	return true
}

// makePass answers some searches and gives the turn to the next.
func (t *turns) makePass(g *Gallery, together []*search) {
	defer t.next()
	g.answer(together)
}

// next chooses the search that makes the next pass, and those it is for.
func (t *turns) next() {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, probes := 0, 0
	for n < len(t.waiting) && probes+len(t.waiting[n].targets) <= togetherMost {
		probes += len(t.waiting[n].targets)
		n++
	}
	if n == 0 {
		t.busy = false
		return
	}
	together := slices.Clone(t.waiting[:n])
	t.waiting = slices.Delete(t.waiting, 0, n)
	together[0].lead <- together
}
