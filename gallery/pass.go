package gallery

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// strideGroups is the number of groups that a worker takes at a time: 8,192 rows. Between two strides it checks whether
// to stop.
const strideGroups = 512

// mostGroups is the number of groups scanned between two looks at the hits. With several probes it is smaller: each
// look lets all of them skip rows that no longer count.
const (
	mostGroups   = 64
	mostTogether = 16
)

// pass compares every row with the probes of all searches, and returns the matches in their order. When no search waits
// any more it stops, and the result is meaningless. mu is held for reading.
func (g *Gallery) pass(together []*search) []top {
	var targets []*target
	for _, s := range together {
		for i := range s.targets {
			targets = append(targets, &s.targets[i])
		}
	}
	p := &pass{g: g, together: together, targets: targets, best: make([]atomic.Uint32, len(targets))}
	for i, t := range targets {
		p.best[i].Store(math.Float32bits(t.least))
	}
	workers := min(runtime.GOMAXPROCS(0), 1+g.n*g.coding.dim*len(targets)/g.share)
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

	next atomic.Int64 // the number of the next stride to be taken
	// best is, for each target, the bits of the least score that still counts: once a worker has k matches, a row with
	// less than the worst of them cannot be among the k best.
	best []atomic.Uint32
}

// unwanted reports whether no search waits for the answer any more.
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
	p *pass
	*scratch
	probes  *kernel.Probes
	tops    []top
	least   []float32 // for each target, the score on which reach and the probes' limits are based
	reaches []reach
	most    int // groups it scans at once
	seen    int // groups this worker has scanned
	skip    int // groups to scan without the sketch, or with the third plane, before it is tried again
	rest    int // what skip was the last time
	read    int // bytes
}

// scratch is the working memory of a scan.
type scratch struct {
	hits   *kernel.Hits
	tile   []byte // of some groups; nil until it is needed
	groups int    // of a tile
	code   []int16
}

// tileBytes is about the size of tile that stays in a processor's first-level cache while all probes are compared with
// it.
const tileBytes = 16 << 10

// newScratch makes memory for scans by that many probes.
func newScratch(dim, probes int) *scratch {
	s := &scratch{code: make([]int16, dim)}
	s.groups = max(tileBytes/kernel.TileBytes(dim)/kernel.TileGroups, 1) * kernel.TileGroups
	groups := s.groups
	if probes == 1 {
		groups = max(groups, sketchStep)
	}
	s.hits = kernel.NewHits(groups*kernel.Rows, probes)
	return s
}

// wipe clears data derived from templates.
func (s *scratch) wipe() {
	s.hits.Clear()
	clear(s.tile)
	clear(s.code)
}

// scan compares strides until none is left.
func (p *pass) scan() *scan {
	codes := make([][]int8, len(p.targets))
	dim := p.g.coding.dim
	s := &scan{p: p, tops: make([]top, len(codes)), least: make([]float32, len(codes)),
		reaches: make([]reach, len(codes))}
	for i, t := range p.targets {
		codes[i] = t.codes
		s.tops[i] = top{k: t.k, byOwner: t.byOwner, least: t.least}
		s.least[i] = float32(math.Inf(-1)) // lower than any limit
	}
	s.probes = p.g.kernel.NewProbes(dim, codes)
	s.most = mostTogether
	if len(codes) == 1 {
		s.most = mostGroups
		// Most searches have one probe: their memory is reused instead of being garbage after each.
		s.scratch = p.g.scratch.Get().(*scratch)
		defer p.g.scratch.Put(s.scratch)
	} else {
		s.scratch = newScratch(dim, len(codes))
	}
	defer s.wipe()
	defer s.probes.Clear()

	taken := p.next.Add(1) - 1
	stride := int64(0)
	for _, b := range p.g.blocks {
		groups := (len(b.rows) + kernel.Rows - 1) / kernel.Rows
		for from := 0; from < groups; from += strideGroups {
			if stride == taken {
				if p.unwanted() {
					return s
				}
				s.stride(b, from, min(from+strideGroups, groups))
				taken = p.next.Add(1) - 1
			}
			stride++
		}
	}
	return s
}

// stride compares the groups [from, to) of a block with every probe. It begins with few and then takes as many as it
// has scanned so far, so that the part that is scanned without a good limit stays small.
func (s *scan) stride(b *block, from, to int) {
	for from < to {
		s.update()
		n := min(to-from, s.most, max(s.seen, 1))
		switch {
		case s.skip > 0 && s.p.g.kernel.Eights(len(s.tops)):
			s.eight(b, from, n)
			s.skip -= n
		case len(s.tops) == 1 && !s.reaches[0].all && s.skip <= 0:
			n = min(n, sketchStep)
			s.sketched(b, from, n)
		default:
			s.whole(b, from, n)
			s.skip -= n
		}
		from += n
		s.seen += n
	}
}

// update raises the limits to the matches found since.
func (s *scan) update() {
	for i := range s.tops {
		if least := math.Float32frombits(s.p.best[i].Load()); least != s.least[i] {
			t, c := s.p.targets[i], &s.p.g.coding
			s.least[i] = least
			s.reaches[i] = t.reach(least)
			s.probes.Sketch[i] = t.limit(s.reaches[i], sketchMost, c.sketchScale)
			s.probes.Upper[i] = t.limit(s.reaches[i], upperMost, c.upperScale)
			s.probes.Eight[i] = t.limit(s.reaches[i], mostMost, c.scale)
		}
	}
}

const (
	sketchStep = 64 // groups of the sketch that are read at once
	// The sketch pays while it rules out all but one row in sketchPays: each row that it leaves is examined singly.
	// Where it does not pay, the next sketchRest groups are scanned without it, and then it is tried again, since more
	// may be known by then; each time in vain the pause doubles.
	sketchPays     = 4
	sketchRest     = 256
	sketchRestMost = 8192
	// With several probes, sketch and second plane pay while they leave at most upperPays hits a group. Each hit takes
	// about as long as reading the third plane of a whole group: where there are more, the next groups are scanned with
	// the third plane.
	upperPays = 1
)

// sketched compares n groups of a block with the only probe, by the sketch first.
func (s *scan) sketched(b *block, from, n int) {
	g, size, first := s.p.g, kernel.SketchBytes(s.p.g.coding.dim), from*kernel.Rows
	g.kernel.ScanSketch(s.probes, 0, b.sketch[from*size:], n, s.hits)
	s.read += n * size
	if n == sketchStep && len(s.hits.Where) > n*kernel.Rows/sketchPays { // a few groups may exceed it by chance
		s.rest = min(max(2*s.rest, sketchRest), sketchRestMost)
		s.skip = s.rest
	}
	second := kernel.SecondBytes(g.coding.dim)
	s.read += len(s.hits.Where) * (second + 4)
	g.kernel.Second(s.probes, 0, b.second[first*second:], b.upper[first:], s.hits)
	s.finish(b, first)
}

// makeTile allocates the tile, once.
func (s *scan) makeTile() {
	if s.tile == nil {
		s.tile = make([]byte, s.groups*kernel.TileBytes(s.p.g.coding.dim))
	}
}

// whole compares n groups of a block with all probes, by sketch and second plane at once.
func (s *scan) whole(b *block, from, n int) {
	g := s.p.g
	dim, first := g.coding.dim, from*kernel.Rows
	sketch, second := kernel.SketchBytes(dim), kernel.SecondBytes(dim)
	if g.kernel.Tiles(len(s.tops)) {
		s.makeTile()
	}
	found := 0
	s.hits.Reset()
	for at := from; at < from+n; at += s.groups {
		if s.hits.Room() < s.groups*kernel.Rows*len(s.tops) {
			found += len(s.hits.Where)
			s.finish(b, first)
			s.hits.Reset()
		}
		row := at * kernel.Rows
		g.kernel.ScanUpper(s.probes, b.sketch[at*sketch:], b.second[row*second:], b.upper[row:],
			min(s.groups, from+n-at),
			row-first, s.tile, s.hits)
	}
	s.read += n * (sketch + kernel.Rows*(second+4))
	found += len(s.hits.Where)
	if len(s.tops) > 1 && n == s.most && found > n*upperPays {
		s.rest = min(max(2*s.rest, sketchRest), sketchRestMost)
		s.skip = s.rest
	}
	s.finish(b, first)
}

// eight compares n groups of a block with all probes, by sketch, second and third plane at once, and by their whole
// codes the rows that these do not rule out.
func (s *scan) eight(b *block, from, n int) {
	g := s.p.g
	dim := g.coding.dim
	sketch, second, third := kernel.SketchBytes(dim), kernel.SecondBytes(dim), kernel.ThirdBytes(dim)
	s.makeTile()
	for at := from; at < from+n; at += s.groups {
		row, n := at*kernel.Rows, min(s.groups, from+n-at)
		s.hits.Reset()
		g.kernel.ScanEight(s.probes, b.sketch[at*sketch:], b.second[row*second:], b.third[row*third:], b.marks[row:], n,
			0,
			s.tile, s.hits)
		for _, where := range s.hits.Where {
			if r := row + int(where&0xffff); r < len(b.rows) {
				s.compare(b, r, int(where>>16))
			}
		}
		s.read += n * (sketch + kernel.Rows*(second+third+4))
	}
}

// finish examines the rows of a block that sketch and second plane do not rule out, counted from first: by the third
// plane, and by the whole code if the third plane does not rule them out.
func (s *scan) finish(b *block, first int) {
	g := s.p.g
	third := kernel.ThirdBytes(g.coding.dim)
	g.kernel.Third(s.probes, b.third[first*third:], b.marks[first:], s.hits)
	s.read += len(s.hits.Where) * (third + 4)
	for h, where := range s.hits.Where {
		i, r := int(where>>16), first+int(where&0xffff)
		if r >= len(b.rows) {
			continue // no row, only room for one
		}
		upper := s.hits.Sums[h] - s.probes.Upper[i].Start
		if s.p.targets[i].passes(s.reaches[i], g.coding, upper, s.hits.Backs[h], s.hits.Marks[h]) {
			s.compare(b, r, i)
		}
	}
}

// compare compares the whole code of row r of a block with probe i.
func (s *scan) compare(b *block, r, i int) {
	g := s.p.g
	s.read += codeBytes*g.coding.dim + 4
	b.code(r, s.code)
	t := s.p.targets[i]
	found := t.score(g.kernel, s.code, b.scales[r])
	if top := &s.tops[i]; found >= max(s.least[i], top.least) && distance(found) <= t.within {
		top.offer(found, &b.rows[r])
		s.p.raise(i, top.least)
	}
}
