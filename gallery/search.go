package gallery

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/viterin/vek/vek32"
)

// Query says what is searched for.
type Query struct {
	Probes  [][]float32 // unit vectors; one pass over the gallery serves all of them
	K       int         // how many matches each probe gets at most; at least 1
	Within  float32     // the largest distance of a match; 0: any
	ByOwner bool        // each owner at most once, by the nearest of its vectors
}

// Match is a vector that was found.
type Match struct {
	ID       ID
	Owner    ID
	Distance float32 // 0 same … 2 opposite
}

const (
	// tileRows is how many rows are compared with one probe before the next probe: 16 KiB of 128 numbers each, so that
	// they stay in the first cache for all probes.
	tileRows = 32
	// strideRows is how many rows a worker takes at a time; between two it looks whether it shall stop.
	strideRows = 1024
	// parallelWork is the number of multiplications from which a second processor pays: about half a millisecond.
	parallelWork = 4 << 20
)

// Search returns the vectors nearest to each probe, best first. The results are exact, and the same whatever order the
// vectors were added in; equally near ones come in their Order. It stops with the cause of ctx, or of the gallery's end.
func (g *Gallery) Search(ctx context.Context, q Query) ([][]Match, error) {
	if q.K < 1 {
		return nil, fmt.Errorf("search for the %d nearest", q.K)
	}
	if len(q.Probes) == 0 {
		return nil, errors.New("search without a probe")
	}
	for i, p := range q.Probes {
		if err := g.check(p); err != nil {
			return nil, fmt.Errorf("probe %d: %w", i, err)
		}
	}
	g.mu.RLock()
	defer g.mu.RUnlock()

	workers := min(runtime.GOMAXPROCS(0), 1+g.n*g.dim*len(q.Probes)/parallelWork)
	scans := make([]*scan, workers)
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range scans {
		s := &scan{g: g, probes: q.Probes, next: &next, tops: make([]top, len(q.Probes))}
		for p := range s.tops {
			s.tops[p] = top{k: q.K, byOwner: q.ByOwner, least: -3}
			if q.Within > 0 {
				s.tops[p].least = 1 - q.Within
			}
		}
		scans[i] = s
		if i > 0 {
			wg.Go(func() { s.run(ctx) })
		}
	}
	scans[0].run(ctx)
	wg.Wait()
	if err := context.Cause(g.ctx); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	matches := make([][]Match, len(q.Probes))
	for p := range matches {
		t := &scans[0].tops[p]
		for _, s := range scans[1:] {
			t.merge(&s.tops[p])
		}
		matches[p] = t.sorted()
	}
	return matches, nil
}

// scan is one worker of a search. The workers share next, the number of the next stride that nobody has taken.
type scan struct {
	g      *Gallery
	probes [][]float32
	next   *atomic.Int64
	tops   []top // one a probe
}

// run takes strides until none is left or one of the contexts has ended.
func (s *scan) run(ctx context.Context) {
	taken := s.next.Add(1) - 1
	stride := int64(0)
	for _, b := range s.g.blocks {
		for from := 0; from < len(b.rows); from += strideRows {
			if stride == taken {
				if ctx.Err() != nil || s.g.ctx.Err() != nil {
					return
				}
				s.compare(b, from, min(from+strideRows, len(b.rows)))
				taken = s.next.Add(1) - 1
			}
			stride++
		}
	}
}

// compare offers the rows [from, to) of a block to every probe's list.
func (s *scan) compare(b *block, from, to int) {
	dim := s.g.dim
	for ; from < to; from += tileRows {
		end := min(from+tileRows, to)
		for p, probe := range s.probes {
			t := &s.tops[p]
			for i := from; i < end; i++ {
				if score := vek32.Dot(probe, b.vector(i, dim)); score >= t.least {
					t.offer(score, &b.rows[i])
				}
			}
		}
	}
}
