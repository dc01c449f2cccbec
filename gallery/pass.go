package gallery

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// strideGroups is how many groups a worker takes at a time: 8,192 rows. Between two strides it looks whether it shall
// stop.
const strideGroups = 512

// mostGroups is how many groups are scanned at once, and scanHits bounds how many hits that may give, so that with many
// probes fewer are.
const (
	mostGroups = 64
	scanHits   = 16 << 10
)

// pass compares every row with the probes of all searches, and returns what it found for them, in their order. When
// nobody wants the answer any more it stops and what it returns means nothing. mu is held for reading.
func (g *Gallery) pass(together []*search) []top {
	var targets []*target
	for _, s := range together {
		for i := range s.targets {
			targets = append(targets, &s.targets[i])
		}
	}
	p := &pass{g: g, together: together, targets: targets, best: make([]atomic.Uint32, len(targets)),
		longest: math.Sqrt(g.longest)}
	for i, t := range targets {
		p.best[i].Store(math.Float32bits(t.least))
	}
	workers := min(runtime.GOMAXPROCS(0), 1+g.n*g.coding.dim*len(targets)/togetherWork)
	scans := make([]*scan, workers)
	var wg sync.WaitGroup
	for i := 1; i < workers; i++ {
		wg.Go(func() { scans[i] = p.scan() })
	}
	scans[0] = p.scan()
	wg.Wait()
	for _, s := range scans {
		g.read.Add(uint64(s.read))
	}
	tops := scans[0].tops
	for i := range tops {
		for _, s := range scans[1:] {
			tops[i].merge(&s.tops[i])
		}
	}
	return tops
}

// pass is one reading of the gallery, by several workers.
type pass struct {
	g        *Gallery
	together []*search
	targets  []*target
	longest  float64 // the length of the longest vector

	next atomic.Int64 // the number of the next stride that nobody has taken
	// best is, for each target, the bits of the least score that still counts: as soon as one worker has k matches, no row
	// of any other can be among the k best with less than the worst of them.
	best []atomic.Uint32
}

// unwanted reports whether nobody wants the answer any more.
func (p *pass) unwanted() bool {
	if p.g.ctx.Err() != nil {
		return true
	}
	for _, s := range p.together {
		if s.ctx.Err() == nil {
			return false
		}
	}
	return true
}

// raise makes least the least score for target i, unless it is higher already.
func (p *pass) raise(i int, least float32) {
	for {
		old := p.best[i].Load()
		if math.Float32frombits(old) >= least || p.best[i].CompareAndSwap(old, math.Float32bits(least)) {
			return
		}
	}
}

// scan is one worker of a pass.
type scan struct {
	p       *pass
	probes  *kernel.Probes
	hits    *kernel.Hits
	left    []candidate // rows that the sketch did not rule out and that have not been compared
	tops    []top
	least   []float32 // for each target, the score that reach and the probes' limits stand for
	reaches []reach
	seen    int // groups this worker has scanned
	most    int // groups it scans at once
	skip    int // groups to scan without the sketch before it is tried again
	rest    int // what skip was the last time
	read    int // bytes
}

// scan compares strides until none is left.
func (p *pass) scan() *scan {
	codes := make([][]int8, len(p.targets))
	s := &scan{p: p, tops: make([]top, len(codes)), least: make([]float32, len(codes)), reaches: make([]reach, len(codes))}
	for i, t := range p.targets {
		codes[i] = t.codes
		s.tops[i] = top{k: t.k, byOwner: t.byOwner, least: t.least}
		s.least[i] = float32(math.Inf(-1)) // what no limit stands for
	}
	s.probes = p.g.kernel.NewProbes(p.g.coding.dim, codes)
	defer s.probes.Clear()
	s.most = min(mostGroups, max(scanHits/(kernel.Rows*len(codes)), 1))
	s.hits = kernel.NewHits(s.most*kernel.Rows, len(codes))

	taken := p.next.Add(1) - 1
	stride := int64(0)
	for _, b := range p.g.blocks {
		groups := (len(b.rows) + kernel.Rows - 1) / kernel.Rows
		for from := 0; from < groups; from += strideGroups {
			if stride == taken {
				if p.unwanted() {
					return s
				}
				if len(s.left) >= mostLeft {
					s.compareLeft()
				}
				s.stride(b, from, min(from+strideGroups, groups))
				taken = p.next.Add(1) - 1
			}
			stride++
		}
	}
	s.compareLeft()
	return s
}

// stride compares the groups [from, to) of a block with every probe. It begins with few and takes as many more as it has
// seen, so that what it scans without knowing what counts is always a small part.
func (s *scan) stride(b *block, from, to int) {
	for from < to {
		s.update()
		n := min(to-from, s.most, max(s.seen, 1))
		if len(s.tops) == 1 && !s.reaches[0].all && s.skip <= 0 {
			n = s.sketched(b, from, to)
		} else {
			s.scan(b, from, n)
			s.skip -= n
		}
		from += n
		s.seen += n
	}
}

// update brings the limits up to what was found since.
func (s *scan) update() {
	for i := range s.tops {
		if least := math.Float32frombits(s.p.best[i].Load()); least != s.least[i] {
			s.least[i] = least
			s.reaches[i] = s.p.targets[i].reach(least, s.p.longest)
			c := &s.p.g.coding
			s.probes.Limits[i] = s.p.targets[i].limit(s.reaches[i], frontMost, c.frontScale)
			if len(s.tops) == 1 {
				s.probes.Sketch = s.p.targets[i].limit(s.reaches[i], sketchMost, c.sketchScale)
			}
		}
	}
}

const (
	sketchStep = 32 // groups of the sketch that are read at once
	// The sketch pays while it rules out all but one row in so many: what it leaves is compared in full, each from a place
	// of its own in memory. Where it does not pay, the next sketchRest groups are scanned without, and then it is tried
	// again, for more may be known by then; if in vain, after twice as many, and so on.
	sketchPays     = 32
	sketchRest     = 256
	sketchRestMost = 8192
)

// candidate is a row that the sketch did not rule out, with its sum there.
type candidate struct {
	b        *block
	row, sum int32
	mark     uint32
}

// mostLeft is how many candidates are kept before they are compared.
const mostLeft = 8192

// sketched reads the sketch of groups of a block, from from on and below to, and keeps the rows that it does not rule out
// for the only probe. It returns how many groups it took; it stops where the sketch does not pay.
func (s *scan) sketched(b *block, from, to int) (groups int) {
	g, size := s.p.g, kernel.SketchBytes(s.p.g.coding.dim)
	for at := from; at < to; at += sketchStep {
		n := min(sketchStep, to-at)
		g.kernel.Sketch(s.probes, b.sketch[at*size:], n, s.hits)
		s.read += n * size
		if len(s.hits.Where) > n*kernel.Rows/sketchPays {
			s.rest = min(max(2*s.rest, sketchRest), sketchRestMost)
			s.skip = s.rest
			break
		}
		groups += n
		for h, r := range s.hits.Where {
			if r := at*kernel.Rows + int(r); r < len(b.rows) {
				mark := kernel.RowMark(group(b.sketch, r, size), r%kernel.Rows)
				s.left = append(s.left, candidate{b: b, row: int32(r), sum: s.hits.Sums[h], mark: mark})
			}
		}
	}
	return groups
}

// compareLeft compares candidates in full, the most promising first: once they are known, the sketch rules out most of the
// others after all, and these cost nothing but their place in the list.
func (s *scan) compareLeft() {
	const first = 4 // so many of the greatest sums come before all others
	for range min(first, len(s.left)) {
		best := 0
		for i := range s.left {
			if s.left[i].sum > s.left[best].sum {
				best = i
			}
		}
		c := s.left[best]
		s.left[best] = s.left[len(s.left)-1]
		s.left = s.left[:len(s.left)-1]
		s.compare(c.b, int(c.row), 0)
	}
	s.update()
	dim := s.p.g.coding.dim
	still := s.left[:0]
	for _, c := range s.left {
		if s.probes.Sketch.Passes(c.sum, c.mark) {
			still = append(still, c)
		}
	}
	const ahead = 4 // candidates that are asked for before they are compared
	for i, c := range still {
		if i+ahead < len(still) {
			s.p.g.kernel.Prefetch(still[i+ahead].b.vector(int(still[i+ahead].row), dim))
		}
		s.compare(c.b, int(c.row), 0)
	}
	s.left = s.left[:0]
}

// compare compares row r of a block with probe i in full.
func (s *scan) compare(b *block, r, i int) {
	g := s.p.g
	s.read += 4 * g.coding.dim
	found := float32(g.kernel.Dot(s.p.targets[i].vector, b.vector(r, g.coding.dim)))
	if top := &s.tops[i]; found >= max(s.least[i], top.least) {
		top.offer(found, &b.rows[r])
		s.p.raise(i, top.least)
	}
}

// scan compares n groups of a block, and in full the rows that the planes do not rule out.
func (s *scan) scan(b *block, from, n int) {
	g := s.p.g
	dim, first := g.coding.dim, from*kernel.Rows
	g.kernel.Scan(s.probes, b.groups[from*kernel.GroupBytes(dim):], n, s.hits)
	g.kernel.Back(s.probes, b.back[first*kernel.BackBytes(dim):], b.backMarks[first:], s.hits)
	s.read += n*kernel.GroupBytes(dim) + len(s.hits.Where)*(kernel.BackBytes(dim)+4)
	for h, where := range s.hits.Where {
		i, r := int(where>>16), first+int(where&0xffff)
		if r >= len(b.rows) {
			continue // no row, only room for one
		}
		front := s.hits.Sums[h] - s.probes.Limits[i].Start
		if s.p.targets[i].passes(s.reaches[i], g.coding, front, s.hits.Backs[h], s.hits.Marks[h]) {
			s.compare(b, r, i)
		}
	}
}
