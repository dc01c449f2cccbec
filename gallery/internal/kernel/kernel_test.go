package kernel_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// planes is rows in the layout of kernels, and their codes.
type planes struct {
	dim                         int
	sketch, second, third, last []byte
	upper, marks                []uint32 // of the second plane, and of the third
	codes                       [][]int16
	sketchMarks                 []uint32
}

// memory allocates n bytes.
type memory func(n int) []byte

// ordinary memory is allocated with make.
func ordinary(n int) []byte { return make([]byte, n) }

// odd memory is aligned to four bytes and no more if its length is a multiple of four, and not at all otherwise.
func odd(n int) []byte {
	b := make([]byte, n+8)
	if n%4 == 0 {
		return b[4 : 4+n : 4+n]
	}
	return b[3 : 3+n : 3+n]
}

// room returns room for n values.
func room[T int8 | int16 | int32 | uint32](m memory, n int) []T {
	var zero T
	b := m(n * int(unsafe.Sizeof(zero)))
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// plane returns a plane of n bytes, followed by the Slack that kernels may read, which is not zero.
func plane(m memory, n int) []byte {
	b := m(n + kernel.Slack)
	copy(b[n:], noise(kernel.Slack))
	return b
}

func newHits(m memory, rows, probes int) *kernel.Hits {
	model := kernel.NewHits(rows, probes)
	return &kernel.Hits{
		Where: room[uint32](m, cap(model.Where))[:0], Sums: room[int32](m, cap(model.Sums))[:0],
		Backs: room[int32](m, len(model.Backs)), Marks: room[uint32](m, len(model.Marks)),
	}
}

func makePlanes(k *kernel.Kernel, m memory, dim, groups int, code func() int16, mark func() int) planes {
	rows := groups * kernel.Rows
	p := planes{
		dim: dim, sketch: plane(m, groups*kernel.SketchBytes(dim)), second: plane(m, rows*kernel.SecondBytes(dim)),
		third: plane(m, rows*kernel.ThirdBytes(dim)), last: plane(m, rows*kernel.LastBytes(dim)),
		upper: room[uint32](m, rows), marks: room[uint32](m, rows),
	}
	for r := range rows {
		codes, encoded := make([]int16, dim), make([]byte, 2*dim)
		for i := range codes {
			codes[i] = code()
			binary.LittleEndian.PutUint16(encoded[2*i:], uint16(codes[i]))
		}
		sketch := make([]byte, kernel.SecondBytes(dim))
		var out kernel.Coded
		k.Code(encoded, sketch, p.secondRow(r), p.thirdRow(r), p.lastRow(r), &out)
		of := kernel.Mark(mark(), mark())
		kernel.SetRow(p.group(r), r%kernel.Rows, of, sketch)
		p.codes, p.sketchMarks = append(p.codes, codes), append(p.sketchMarks, of)
		p.upper[r], p.marks[r] = kernel.Mark(mark(), mark()), rand.Uint32()
	}
	return p
}

func (p planes) group(r int) []byte {
	size := kernel.SketchBytes(p.dim)
	return p.sketch[r/kernel.Rows*size:][:size]
}

func (p planes) secondRow(r int) []byte { return row(p.second, r, kernel.SecondBytes(p.dim)) }
func (p planes) thirdRow(r int) []byte  { return row(p.third, r, kernel.ThirdBytes(p.dim)) }
func (p planes) lastRow(r int) []byte   { return row(p.last, r, kernel.LastBytes(p.dim)) }

func row(plane []byte, r, size int) []byte { return plane[r*size:][:size] }

// sum is the sum of products of a probe with a row's codes plus 32,768, of which only the given bits count.
func (p planes) sum(probe []int8, r, from, to int) (sum int) {
	for d, u := range probe {
		sum += int(u) * ((int(p.codes[r][d]) + 1<<15) >> from % (1 << (to - from)))
	}
	return sum
}

// limit is the content of a Limit.
type limit struct{ first, second, start, shift int }

func (l limit) kernel() kernel.Limit {
	return kernel.Limit{Weights: kernel.Weights(l.first, l.second), Start: int32(l.start), Shift: uint32(l.shift)}
}

func (l limit) passes(sum int, mark uint32) bool {
	return l.start+sum >= (int(mark&0xffff)*l.first+int(mark>>16)*l.second)>>l.shift
}

type hit struct {
	probe, row int
	sum, back  int
	mark       uint32
}

// sketched computes the hits of ScanSketch from the definition.
func (p planes) sketched(probe []int8, l limit) (hits []hit) {
	for r := range p.codes {
		if sum := p.sum(probe, r, 14, 16); l.passes(sum, p.sketchMarks[r]) {
			hits = append(hits, hit{row: r, sum: l.start + sum})
		}
	}
	return hits
}

// uppers computes from the definition which rows pass with both upper planes, and the results of Third for them.
func (p planes) uppers(i int, probe []int8, l limit, rows []int) (hits []hit) {
	for _, r := range rows {
		if sum := p.sum(probe, r, 12, 16); l.passes(sum, p.upper[r]) {
			hits = append(hits, hit{i, r, l.start + sum, p.sum(probe, r, 8, 12), p.marks[r]})
		}
	}
	return hits
}

func collect(hits *kernel.Hits, third bool) (got []hit) {
	for i, at := range hits.Where {
		h := hit{probe: int(at >> 16), row: int(at & 0xffff), sum: int(hits.Sums[i])}
		if third {
			h.back, h.mark = int(hits.Backs[i]), hits.Marks[i]
		}
		got = append(got, h)
	}
	slices.SortStableFunc(got, func(a, b hit) int { return a.probe - b.probe })
	return got
}

var codeKinds = map[string]func(rnd *rand.Rand) int16{
	"random":   func(rnd *rand.Rand) int16 { return int16(rnd.IntN(65535) - 32767) },
	"least":    func(*rand.Rand) int16 { return -32767 },
	"greatest": func(*rand.Rand) int16 { return 32767 },
	"extreme":  func(rnd *rand.Rand) int16 { return []int16{-32767, 32767}[rnd.IntN(2)] },
	"small":    func(rnd *rand.Rand) int16 { return int16(rnd.IntN(3) - 1) },
}

var probeKinds = map[string]func(rnd *rand.Rand) int8{
	"random":   func(rnd *rand.Rand) int8 { return int8(rnd.IntN(255) - 127) },
	"least":    func(*rand.Rand) int8 { return -127 },
	"greatest": func(*rand.Rand) int8 { return 127 },
	"extreme":  func(rnd *rand.Rand) int8 { return []int8{-127, 127}[rnd.IntN(2)] },
}

var markKinds = map[string]func(rnd *rand.Rand) int{
	"random":   func(rnd *rand.Rand) int { return rnd.IntN(32768) },
	"zero":     func(*rand.Rand) int { return 0 },
	"greatest": func(*rand.Rand) int { return 32767 },
}

var dims = []int{
	1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 95, 96, 127, 128, 129, 160, 192, 255, 256, 257, 320,
	512,
	1000, kernel.DimMost,
}

func TestKernelsAgreeWithTheDefinition(t *testing.T) {
	for _, k := range kernel.Available() {
		t.Run(k.Name, func(t *testing.T) { checkKinds(t, k, ordinary) })
		t.Run(k.Name+"/odd", func(t *testing.T) { checkKinds(t, k, odd) })
	}
}

// checkKinds compares a kernel with the definition for all kinds of codes, probes and marks.
func checkKinds(t *testing.T, k *kernel.Kernel, m memory) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for codeName, code := range codeKinds {
		for probeName, probe := range probeKinds {
			for markName, mark := range markKinds {
				dim := dims[rnd.IntN(len(dims))]
				if codeName != "random" && probeName != "random" && markName == "greatest" {
					dim = kernel.DimMost // where sums are the largest
				}
				p := makePlanes(k, m, dim, 1+rnd.IntN(20), func() int16 { return code(rnd) },
					func() int { return mark(rnd) })
				probes := make([][]int8, []int{1, 1, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 31, 64}[rnd.IntN(16)])
				for i := range probes {
					probes[i] = make([]int8, dim)
					for d := range probes[i] {
						probes[i][d] = probe(rnd)
					}
				}
				what := fmt.Sprintf("codes %s, probes %s, marks %s, %d numbers", codeName, probeName, markName, dim)
				checkPlanes(t, k, m, rnd, p, probes, what, func() limit {
					return limit{rnd.IntN(32767) - 16383, rnd.IntN(32767) - 16383, rnd.IntN(1<<20) - 1<<19,
						rnd.IntN(32)}
				})
			}
		}
	}
}

// TestAnyRowsPass makes chosen rows pass, from none to all, whatever their codes are.
func TestAnyRowsPass(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	const dim = 48
	for _, k := range kernel.Available() {
		for groups := 1; groups <= 20; groups++ {
			for _, failing := range []float64{0, 1. / 256, 1. / 16, 1. / 2, 15. / 16, 255. / 256, 1} {
				p := makePlanes(k, ordinary, dim, groups, func() int16 { return int16(rnd.IntN(65535) - 32767) },
					func() int {
						if rnd.Float64() < failing {
							return 32767
						}
						return 0
					})
				probes := make([][]int8, 1+rnd.IntN(9))
				for i := range probes {
					probes[i] = make([]int8, dim)
					for d := range probes[i] {
						probes[i][d] = int8(rnd.IntN(255) - 127)
					}
				}
				what := fmt.Sprintf("%v of the rows fail", failing)
				// No sum reaches the threshold of the greatest mark, and every sum reaches that of mark 0.
				checkPlanes(t, k, ordinary, rnd, p, probes, what, func() limit { return limit{16383, 0, 1 << 20, 0} })
			}
		}
	}
}

func checkPlanes(
	t *testing.T, k *kernel.Kernel, m memory, rnd *rand.Rand, p planes, probes [][]int8, what string, draw func() limit,
) {
	t.Helper()
	groups, n := len(p.codes)/kernel.Rows, len(probes)
	sketch, upper := make([]limit, n), make([]limit, n)
	for i := range probes {
		sketch[i], upper[i] = draw(), draw()
	}
	prepared := k.NewProbes(p.dim, probes)
	defer prepared.Clear()
	prepared.Move(func(n int) []int8 { return room[int8](m, n) })
	for i := range probes {
		prepared.Sketch[i], prepared.Upper[i], prepared.Eight[i] = sketch[i].kernel(), upper[i].kernel(),
			upper[i].kernel()
	}

	hits := newHits(m, len(p.codes), 1)
	for i, probe := range probes {
		k.ScanSketch(prepared, i, p.sketch, groups, hits)
		want := p.sketched(probe, sketch[i])
		if got := collect(hits, false); !slices.Equal(got, want) {
			t.Fatalf("sketch: %s, %d groups:\n got %d %v\nwant %d %v", what, groups, len(got), got, len(want), want)
		}
		var rows []int
		for _, h := range want {
			rows = append(rows, h.row)
		}
		k.Second(prepared, i, p.second, p.upper, hits)
		want = p.uppers(0, probe, upper[i], rows)
		for j := range want {
			want[j] = hit{row: want[j].row, sum: want[j].sum}
		}
		if got := collect(hits, false); !slices.Equal(got, want) {
			t.Fatalf("second plane: %s, %d of %d rows:\n got %d %v\nwant %d %v", what, len(rows), len(p.codes),
				len(got), got,
				len(want), want)
		}
	}

	padded := (groups + kernel.TileGroups - 1) / kernel.TileGroups * kernel.TileGroups
	tile, first := m(padded*kernel.TileBytes(p.dim)), rnd.IntN(1<<16-padded*kernel.Rows+1)
	k.Tile(p.dim, groups, p.sketch, p.second, p.upper, tile)
	hits = newHits(m, padded*kernel.Rows, n)
	k.ScanTile(prepared, tile, padded, first, hits)
	var want []hit
	all := make([]int, len(p.codes))
	for r := range all {
		all[r] = r
	}
	for i, probe := range probes {
		want = append(want, p.uppers(i, probe, upper[i], all)...)
	}
	kept := hits.Where[:0] // without the rows that only fill up the tile
	for i, at := range hits.Where {
		if r := at&0xffff - uint32(first); int(r) < len(p.codes) {
			hits.Sums[len(kept)] = hits.Sums[i]
			kept = append(kept, at&^0xffff|r)
		}
	}
	hits.Where, hits.Sums = kept, hits.Sums[:len(kept)]
	k.Third(prepared, p.third, p.marks, hits)
	if got := collect(hits, true); !slices.Equal(got, want) {
		t.Fatalf("tile: %s, %d groups, %d probes:\n got %d %v\nwant %d %v", what, groups, n, len(got), got, len(want),
			want)
	}

	hits.Reset()
	k.ScanUpper(prepared, p.sketch, p.second, p.upper, groups, first, tile, hits)
	for i := range want {
		want[i] = hit{probe: want[i].probe, row: want[i].row + first, sum: want[i].sum}
	}
	if got := collect(hits, false); !slices.Equal(got, want) {
		t.Fatalf("upper planes: %s, %d groups, %d probes:\n got %d %v\nwant %d %v", what, groups, n, len(got), got,
			len(want), want)
	}

	if !k.Eights(64) {
		return
	}
	hits.Reset()
	at := rnd.IntN(groups) // the last of the groups alone, or all of them, or some
	first += at * kernel.Rows
	k.ScanEight(prepared, p.sketch[at*kernel.SketchBytes(p.dim):], p.second[at*kernel.Rows*kernel.SecondBytes(p.dim):],
		p.third[at*kernel.Rows*kernel.ThirdBytes(p.dim):], p.upper[at*kernel.Rows:], groups-at, first, tile, hits)
	want = nil
	for i, probe := range probes {
		for r := at * kernel.Rows; r < len(p.codes); r++ {
			if sum := p.sum(probe, r, 8, 16); upper[i].passes(sum, p.upper[r]) {
				want = append(want, hit{probe: i, row: r - at*kernel.Rows + first, sum: upper[i].start + sum})
			}
		}
	}
	if got := collect(hits, false); !slices.Equal(got, want) {
		t.Fatalf("eight bits: %s, %d groups, %d probes:\n got %d %v\nwant %d %v", what, groups-at, n, len(got), got,
			len(want), want)
	}
}

func TestCodesComeApartAndTogether(t *testing.T) {
	for _, k := range kernel.Available() {
		t.Run(k.Name, func(t *testing.T) { checkCodes(t, k, ordinary) })
		t.Run(k.Name+"/odd", func(t *testing.T) { checkCodes(t, k, odd) })
	}
}

func checkCodes(t *testing.T, k *kernel.Kernel, m memory) {
	rnd := rand.New(rand.NewPCG(5, 6))
	noisy := func(n int) []byte {
		b := m(n)
		copy(b, noise(n))
		return b
	}
	for _, dim := range dims {
		for name, code := range codeKinds {
			codes, encoded := make([]int16, dim), m(2*dim)
			for i := range codes {
				codes[i] = code(rnd)
				binary.LittleEndian.PutUint16(encoded[2*i:], uint16(codes[i]))
			}
			group, sketch := make([]byte, kernel.SketchBytes(dim)), noisy(kernel.SecondBytes(dim))
			second, third, last := noisy(kernel.SecondBytes(dim)), noisy(kernel.ThirdBytes(dim)),
				noisy(kernel.LastBytes(dim))
			var out, want kernel.Coded
			k.Code(encoded, sketch, second, third, last, &out)
			r := rnd.IntN(kernel.Rows)
			kernel.SetRow(group, r, 0, sketch)
			again := make([]int16, dim)
			kernel.Row(again, group, r, second, third, last)
			if !slices.Equal(again, codes) {
				t.Fatalf("%s, %d numbers: got %v, want %v", name, dim, again, codes)
			}
			for _, c := range codes {
				for i, n := range [3]int{2, 4, 8} {
					middle := int64(2*((int(c)+1<<15)>>(16-n)) + 1 - 1<<n)
					want.Along[i] += int64(c) * middle
					want.Long[i] += middle * middle
				}
				want.Square += int64(c) * int64(c)
			}
			if out != want {
				t.Fatalf("%s, %d numbers: got %+v, want %+v", name, dim, out, want)
			}
			behind := slices.Concat(last[dim:], third[4*((dim+7)/8):])
			for i := dim; i < 16*kernel.Words(dim); i++ {
				place, shift := i/16*4+i%4, i/4%4*2
				behind = append(behind, sketch[place]>>shift&3, second[place]>>shift&3)
			}
			for i := dim; i < (dim+7)/8*8; i++ {
				behind = append(behind, third[i/8*4+i%4]>>(i/4%2*4)&15)
			}
			if slices.ContainsFunc(behind, func(b byte) bool { return b != 0 }) {
				t.Fatalf("%s, %d numbers: there is data behind the last code", name, dim)
			}
		}
	}
}

// noise is memory filled with data.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func TestDot(t *testing.T) {
	for _, k := range kernel.Available() {
		t.Run(k.Name, func(t *testing.T) { checkDots(t, k, ordinary) })
		t.Run(k.Name+"/odd", func(t *testing.T) { checkDots(t, k, odd) })
	}
}

func checkDots(t *testing.T, k *kernel.Kernel, m memory) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, dim := range dims {
		for aName, aCode := range codeKinds {
			for bName, bCode := range codeKinds {
				a, b := room[int16](m, dim), room[int16](m, dim)
				var want int64
				for i := range a {
					a[i], b[i] = aCode(rnd), bCode(rnd)
					want += int64(a[i]) * int64(b[i])
				}
				if got := k.Dot(a, b); got != want {
					t.Errorf("%s by %s, %d numbers: got %d, want %d", aName, bName, dim, got, want)
				}
			}
		}
	}
	if got := k.Dot(nil, nil); got != 0 {
		t.Errorf("no numbers: got %d", got)
	}
}

func BenchmarkSketch(b *testing.B) {
	const groups = 16
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, k := range kernel.Available() {
		for _, dim := range []int{128, 192, 512} {
			p := makePlanes(k, ordinary, dim, groups, func() int16 { return int16(rnd.IntN(65279) - 32639) },
				func() int { return 32767 })
			q := k.NewProbes(dim, [][]int8{make([]int8, dim)})
			hits := kernel.NewHits(groups*kernel.Rows, 1)
			b.Run(fmt.Sprintf("%s/%d", k.Name, dim), func(b *testing.B) {
				for b.Loop() {
					k.ScanSketch(q, 0, p.sketch, groups, hits)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/groups/kernel.Rows, "ns/row")
			})
		}
	}
}

func BenchmarkTile(b *testing.B) {
	const groups, dim = 16, 128
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, k := range kernel.Available() {
		p := makePlanes(k, ordinary, dim, groups, func() int16 { return int16(rnd.IntN(65279) - 32639) },
			func() int { return 32767 })
		tile := make([]byte, groups*kernel.TileBytes(dim))
		b.Run(k.Name+"/make", func(b *testing.B) {
			for b.Loop() {
				k.Tile(dim, groups, p.sketch, p.second, p.upper, tile)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/groups, "ns/group")
		})
		b.Run(k.Name+"/alone", func(b *testing.B) {
			q := k.NewProbes(dim, [][]int8{make([]int8, dim)})
			hits := kernel.NewHits(groups*kernel.Rows, 1)
			for b.Loop() {
				hits.Reset()
				k.ScanUpper(q, p.sketch, p.second, p.upper, groups, 0, tile, hits)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/groups/kernel.Rows, "ns/row")
		})
		for _, n := range []int{1, 4, 8, 64} {
			b.Run(fmt.Sprintf("%s/%d", k.Name, n), func(b *testing.B) {
				probes := make([][]int8, n)
				for i := range probes {
					probes[i] = make([]int8, dim)
				}
				q := k.NewProbes(dim, probes)
				hits := kernel.NewHits(groups*kernel.Rows, n)
				for b.Loop() {
					hits.Reset()
					k.ScanTile(q, tile, groups, 0, hits)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/groups/kernel.Rows/float64(n),
					"ns/row/probe")
			})
		}
	}
}

func BenchmarkSecond(b *testing.B) {
	const groups = 16
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, k := range kernel.Available() {
		for _, dim := range []int{128, 192, 512} {
			p := makePlanes(k, ordinary, dim, groups, func() int16 { return int16(rnd.IntN(65279) - 32639) },
				func() int { return 32767 })
			b.Run(fmt.Sprintf("%s/%d", k.Name, dim), func(b *testing.B) {
				q := k.NewProbes(dim, [][]int8{make([]int8, dim)})
				q.Upper[0] = kernel.Limit{Start: 0, Weights: kernel.Weights(1, 1)}
				hits := kernel.NewHits(groups*kernel.Rows, 1)
				for b.Loop() {
					hits.Where, hits.Sums = hits.Where[:groups*kernel.Rows], hits.Sums[:groups*kernel.Rows]
					for i := range hits.Where {
						hits.Where[i] = uint32(i)
					}
					k.Second(q, 0, p.second, p.upper, hits)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/groups/kernel.Rows, "ns/row")
			})
		}
	}
}

func BenchmarkThird(b *testing.B) {
	const groups = 16
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, k := range kernel.Available() {
		for _, dim := range []int{128, 192, 512} {
			p := makePlanes(k, ordinary, dim, groups, func() int16 { return int16(rnd.IntN(65279) - 32639) },
				func() int { return 32767 })
			q := k.NewProbes(dim, [][]int8{make([]int8, dim)})
			hits := kernel.NewHits(groups*kernel.Rows, 1)
			hits.Where = hits.Where[:groups*kernel.Rows]
			for i := range hits.Where {
				hits.Where[i] = uint32(i)
			}
			b.Run(fmt.Sprintf("%s/%d", k.Name, dim), func(b *testing.B) {
				for b.Loop() {
					k.Third(q, p.third, p.marks, hits)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/groups/kernel.Rows, "ns/row")
			})
		}
	}
}

func BenchmarkCode(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, k := range kernel.Available() {
		for _, dim := range []int{128, 192, 512} {
			encoded := make([]byte, 2*dim)
			for i := range dim {
				binary.LittleEndian.PutUint16(encoded[2*i:], uint16(rnd.IntN(65279)-32639))
			}
			sketch, second := make([]byte, kernel.SecondBytes(dim)), make([]byte, kernel.SecondBytes(dim))
			third, last := make([]byte, kernel.ThirdBytes(dim)), make([]byte, kernel.LastBytes(dim))
			b.Run(fmt.Sprintf("%s/%d", k.Name, dim), func(b *testing.B) {
				var out kernel.Coded
				for b.Loop() {
					k.Code(encoded, sketch, second, third, last, &out)
				}
			})
		}
	}
}

func BenchmarkDot(b *testing.B) {
	for _, k := range kernel.Available() {
		for _, dim := range []int{128, 192, 512} {
			x, y := make([]int16, dim), make([]int16, dim)
			b.Run(fmt.Sprintf("%s/%d", k.Name, dim), func(b *testing.B) {
				for b.Loop() {
					k.Dot(x, y)
				}
			})
		}
	}
}
