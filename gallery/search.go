package gallery

import (
	"context"
	"errors"
	"fmt"
)

// Query describes a search.
type Query struct {
	Probes []Code // one pass over the gallery serves all of them
	K      int    // how many matches each probe gets at most; at least 1
	// the largest distance of a match; 0: any. A search with a limit is faster
	Within  float32
	ByOwner bool // each owner at most once, by the nearest of its vectors
}

// Match is a vector that was found.
type Match struct {
	ID       ID
	Owner    ID
	Distance float32 // 0 same … 2 opposite
}

// togetherMost is the largest number of probes that share a pass. More would not be faster, and answers come when the
// pass ends.
const togetherMost = 64

// togetherWork is the number of products from which searches at the same time wait for one another to share a pass, and
// from which a pass uses several processors: below, either costs more than it saves. A pass with fewer products takes a
// quarter of a millisecond, and runs sooner on one processor than it would get a second one that other searches use as
// well: among 100,000 vectors of 128 numbers, the slowest tenth of the searches of four clients took about half as long
// alone.
const togetherWork = 16 << 20

// Search returns the vectors nearest to each probe, best first. The results are exact and do not depend on the order in
// which the vectors were added; equally near ones come in their Order. It stops with the cause of ctx, or of the
// gallery's end.
//
// A search of a large gallery during which another one is under way waits for its end, then shares the next pass over
// the gallery with all others that wait. Without another one it begins at once.
func (g *Gallery) Search(ctx context.Context, q Query) ([][]Match, error) {
	found, err := g.Candidates(ctx, q)
	if err != nil {
		return nil, err
	}
	matches := make([][]Match, len(found))
	for i, list := range found {
		matches[i] = make([]Match, len(list))
		for j, c := range list {
			matches[i][j] = Match{ID: c.ID, Owner: c.Owner, Distance: c.Distance()}
		}
	}
	return matches, nil
}

// Candidates is Search, and returns what Merge needs to join the answers of galleries that each hold a part.
func (g *Gallery) Candidates(ctx context.Context, q Query) ([][]Candidate, error) {
	if q.K < 1 {
		return nil, fmt.Errorf("a search needs a K of at least 1; got %d", q.K)
	}
	if len(q.Probes) == 0 {
		return nil, errors.New("a search needs at least one probe")
	}
	for i, p := range q.Probes {
		if err := p.Check(g.coding.dim); err != nil {
			return nil, fmt.Errorf("probe %d: %w", i, err)
		}
	}
	all := make([][]Candidate, 0, len(q.Probes))
	for rest := q.Probes; len(rest) > 0; {
		n := min(len(rest), togetherMost)
		found, err := g.searchTogether(ctx, q, rest[:n])
		if err != nil {
			return nil, err
		}
		all, rest = append(all, found...), rest[n:]
	}
	return all, nil
}

// searchTogether searches for up to togetherMost probes, which share a pass. It clears all data derived from them,
// however it ends.
func (g *Gallery) searchTogether(ctx context.Context, q Query, probes []Code) ([][]Candidate, error) {
	s := g.newSearch(ctx, q, probes)
	defer s.forget()
	g.turns.run(g, s)
	return s.found, s.err
}

// search is a query that is being answered.
type search struct {
	ctx     context.Context
	targets []target

	// The answer, once done is closed.
	found [][]Candidate
	err   error
	done  chan struct{}
	lead  chan []*search // makes a waiting search run a pass for these searches, one of which is itself
}

// target is one probe of a search and what limits its matches.
type target struct {
	probe
	k       int
	within  float32 // the largest distance
	least   float32 // a score that no row within that distance is below
	byOwner bool
}

// distanceSlack exceeds the rounding errors of a distance and of its score together.
const distanceSlack = 0x1p-23

func (g *Gallery) newSearch(ctx context.Context, q Query, probes []Code) *search {
	s := &search{ctx: ctx, done: make(chan struct{}), lead: make(chan []*search, 1)}
	for _, c := range probes {
		t := target{probe: newProbe(c), k: q.K, within: 2, least: -3, byOwner: q.ByOwner}
		if q.Within > 0 && q.Within < 2 {
			t.within, t.least = q.Within, float32(1-float64(q.Within)-distanceSlack)
		}
		s.targets = append(s.targets, t)
	}
	return s
}

// forget clears data that identifies persons as well as the faces do.
func (s *search) forget() {
	for i := range s.targets {
		s.targets[i].forget()
	}
}

// answer makes a pass for several searches and closes their done channels even after a panic: other goroutines wait for
// them.
func (g *Gallery) answer(together []*search) {
	for _, s := range together {
		s.err = errors.New("the search ended early")
		defer close(s.done)
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	tops := g.pass(together)
	for _, s := range together {
		if s.err = context.Cause(g.ctx); s.err == nil {
			s.err = context.Cause(s.ctx)
		}
		for range s.targets {
			if s.err == nil {
				s.found = append(s.found, tops[0].sorted())
			}
			tops = tops[1:]
		}
	}
}
