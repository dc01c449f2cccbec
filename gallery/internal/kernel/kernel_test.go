package kernel_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// plane is rows as kernels want them, and as they were.
type plane struct {
	dim          int
	groups, back []byte
	sketch       []byte
	codes        [][]int8
	coarse       [][]byte // of the sketch
	marks        [][2]int
	backMarks    []uint32
}

func makePlane(dim, groups int, code func() int8, mark func() int) plane {
	p := plane{dim: dim, groups: make([]byte, groups*kernel.GroupBytes(dim)),
		back: make([]byte, groups*kernel.Rows*kernel.BackBytes(dim)), sketch: make([]byte, groups*kernel.SketchBytes(dim))}
	for r := range groups * kernel.Rows {
		codes, coarse := make([]int8, dim), make([]byte, dim)
		for i := range codes {
			codes[i] = code()
			coarse[i] = byte(code()) >> 6
		}
		m := [2]int{mark(), mark()}
		group := p.groups[r/kernel.Rows*kernel.GroupBytes(dim):][:kernel.GroupBytes(dim)]
		back := p.back[r*kernel.BackBytes(dim):][:kernel.BackBytes(dim)]
		front := make([]byte, 4*kernel.Vectors(dim))
		kernel.Pack(pad(codes, 128), front, back)
		kernel.SetRow(group, r%kernel.Rows, kernel.Mark(m[0], m[1]), front)
		packed := make([]byte, kernel.SketchBytes(dim)/kernel.Rows-4)
		kernel.PackSketch(pad(coarse, 0), packed)
		kernel.SetRow(p.sketch[r/kernel.Rows*kernel.SketchBytes(dim):][:kernel.SketchBytes(dim)], r%kernel.Rows,
			kernel.Mark(m[0], m[1]), packed)
		p.codes, p.marks, p.coarse = append(p.codes, codes), append(p.marks, m), append(p.coarse, coarse)
		p.backMarks = append(p.backMarks, rand.Uint32())
	}
	return p
}

type hit struct {
	probe, row int
	sum, back  int
	mark       uint32
}

// pad returns codes plus something, followed by zeros, in a multiple of 16.
func pad[C int8 | byte](codes []C, plus int) []byte {
	padded := make([]byte, (len(codes)+15)&^15)
	for i, c := range codes {
		padded[i] = byte(int(c) + plus)
	}
	return padded
}

// expect says which hits there are, by the definition and nothing else.
func (p plane) expect(probes [][]int8, weights [][2]int, limits []kernel.Limit) []hit {
	var hits []hit
	for i, probe := range probes {
		for r, codes := range p.codes {
			front, back := int(limits[i].Start), 0
			for d, u := range probe {
				b := int(codes[d]) + 128
				front += b / 16 * int(u)
				back += b % 16 * int(u)
			}
			if front >= (p.marks[r][0]*weights[i][0]+p.marks[r][1]*weights[i][1])>>limits[i].Shift {
				hits = append(hits, hit{i, r, front, back, p.backMarks[r]})
			}
		}
	}
	return hits
}

// sketched says which rows pass the sketch, by the definition.
func (p plane) sketched(probe []int8, weights [2]int, limit kernel.Limit) (passing []uint32, sums []int32) {
	for r, codes := range p.coarse {
		sum := int(limit.Start)
		for d, u := range probe {
			sum += int(codes[d]) * int(u)
		}
		if sum >= (p.marks[r][0]*weights[0]+p.marks[r][1]*weights[1])>>limit.Shift {
			passing, sums = append(passing, uint32(r)), append(sums, int32(sum))
		}
	}
	return passing, sums
}

func collect(hits *kernel.Hits) []hit {
	var got []hit
	for i, at := range hits.Where {
		got = append(got, hit{int(at >> 16), int(at & 0xffff), int(hits.Sums[i]), int(hits.Backs[i]), hits.Marks[i]})
	}
	slices.SortStableFunc(got, func(a, b hit) int { return a.probe - b.probe })
	return got
}

func TestKernelsAgreeWithTheDefinition(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	codes := map[string]func() int8{
		"random":   func() int8 { return int8(rnd.IntN(256) - 128) },
		"least":    func() int8 { return -128 },
		"greatest": func() int8 { return 127 },
		"extreme":  func() int8 { return []int8{-128, 127}[rnd.IntN(2)] },
		"small":    func() int8 { return int8(rnd.IntN(3) - 1) },
	}
	probeCodes := map[string]func() int8{
		"random":   func() int8 { return int8(rnd.IntN(255) - 127) },
		"least":    func() int8 { return -127 },
		"greatest": func() int8 { return 127 },
		"extreme":  func() int8 { return []int8{-127, 127}[rnd.IntN(2)] },
	}
	marks := map[string]func() int{
		"random":   func() int { return rnd.IntN(32768) },
		"zero":     func() int { return 0 },
		"greatest": func() int { return 32767 },
	}
	dims := []int{1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 192, 255, 256, 257, 512, 1000}
	for _, k := range kernel.Available() {
		t.Run(k.Name, func(t *testing.T) {
			for codeName, code := range codes {
				for probeName, probeCode := range probeCodes {
					for markName, mark := range marks {
						dim := dims[rnd.IntN(len(dims))]
						groups := 1 + rnd.IntN(5)
						p := makePlane(dim, groups, code, mark)
						n := []int{1, 1, 1, 1, 1, 2, 3, 4, 5, 7, 12, 13, 16, 17, 20, 31, 33, 64}[rnd.IntN(18)]
						probes, weights, limits := make([][]int8, n), make([][2]int, n), make([]kernel.Limit, n)
						for i := range probes {
							probes[i] = make([]int8, dim)
							for d := range probes[i] {
								probes[i][d] = probeCode()
							}
							weights[i] = [2]int{rnd.IntN(65535) - 32767, rnd.IntN(65535) - 32767}
							limits[i] = kernel.Limit{
								Weights: kernel.Weights(weights[i][0], weights[i][1]), Shift: uint32(rnd.IntN(32)), Start: int32(rnd.IntN(1<<18) - 1<<17),
							}
						}
						prepared := k.NewProbes(dim, probes)
						copy(prepared.Limits, limits)
						hits := kernel.NewHits(groups*kernel.Rows, n)
						k.Scan(prepared, p.groups, groups, hits)
						k.Back(prepared, p.back, p.backMarks, hits)
						got := collect(hits)
						if want := p.expect(probes, weights, limits); !slices.Equal(got, want) {
							t.Fatalf("codes %s, probes %s, marks %s, %d dimensions, %d groups, %d probes:\n got %d %v\nwant %d %v",
								codeName, probeName, markName, dim, groups, n, len(got), got, len(want), want)
						}
						if n > 1 {
							continue
						}
						prepared.Sketch = limits[0]
						prepared.Sketch.Start >>= 3 // sums are smaller here
						k.Sketch(prepared, p.sketch, groups, hits)
						want, sums := p.sketched(probes[0], weights[0], prepared.Sketch)
						if !slices.Equal(hits.Where, want) || !slices.Equal(hits.Sums, sums) {
							t.Fatalf("sketch: codes %s, probes %s, marks %s, %d dimensions, %d groups:\n got %v\nwant %v",
								codeName, probeName, markName, dim, groups, hits.Where, want)
						}
					}
				}
			}
		})
	}
}

func TestDotIsTheSameOnAllKernels(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	all := kernel.Available()
	for n := range 300 {
		a, b := make([]float32, n), make([]float32, n)
		for i := range a {
			a[i], b[i] = float32(rnd.NormFloat64()), float32(rnd.NormFloat64()*float64(int(1)<<rnd.IntN(60)))
		}
		want := all[len(all)-1].Dot(a, b)
		for _, k := range all {
			if got := k.Dot(a, b); got != want {
				t.Errorf("%s, %d numbers: got %v, want %v", k.Name, n, got, want)
			}
		}
	}
}

func TestCodesAreTheSameOnAllKernels(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	all := kernel.Available()
	coded := func(k *kernel.Kernel, v []float32) (codes, sketch []byte, out kernel.Coded) {
		codes, sketch = make([]byte, len(v)), make([]byte, len(v))
		k.Code(v, 128/k.Peak(v), 0.1, codes, sketch, &out)
		return codes, sketch, out
	}
	for n := 1; n < 300; n++ {
		v := make([]float32, n)
		for i := range v {
			v[i] = []float32{float32(rnd.NormFloat64()) * 0.1, 0.1, -0.1, 0, float32(math.Copysign(0, -1)), 1e-40, -1e-40, 0.7}[rnd.IntN(8)]
		}
		v[rnd.IntN(n)] = 1
		codes, sketch, want := coded(all[len(all)-1], v)
		for i, x := range v {
			low, high := float64(int(codes[i])-128)/128, float64(int(codes[i])-127)/128
			if float64(x) < low || float64(x) > high || x == 1 && codes[i] != 255 {
				t.Fatalf("%g has code %d of [%g, %g)", x, codes[i], low, high)
			}
			if s := []float32{-2, -0.1, 0, 0.1, 2}; x != 0 && (x < s[sketch[i]] || x > s[sketch[i]+1]) {
				t.Fatalf("%g has code %d in the sketch", x, sketch[i])
			}
		}
		for _, k := range all {
			codes2, sketch2, got := coded(k, v)
			if !slices.Equal(codes2, codes) || !slices.Equal(sketch2, sketch) || got.Long != want.Long {
				t.Fatalf("%s, %d numbers: got %v %v %v, want %v %v %v", k.Name, n, codes2, sketch2, got.Long, codes, sketch, want.Long)
			}
			for i := range got.Along { // sums of float64 in another order
				if math.Abs(got.Along[i]-want.Along[i]) > 1e-12*math.Abs(want.Along[i]) {
					t.Errorf("%s, %d numbers: along %v, want %v", k.Name, n, got.Along, want.Along)
				}
			}
		}
	}
}

func BenchmarkScan(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, k := range kernel.Available() {
		for _, n := range []int{1, 4, 16, 64} {
			b.Run(k.Name+"/"+string(rune('0'+n/10))+string(rune('0'+n%10)), func(b *testing.B) {
				p := makePlane(128, 16, func() int8 { return int8(rnd.IntN(256) - 128) }, func() int { return 32767 })
				probes := make([][]int8, n)
				for i := range probes {
					probes[i] = make([]int8, 128)
				}
				q := k.NewProbes(128, probes)
				hits := kernel.NewHits(256, n)
				for b.Loop() {
					k.Scan(q, p.groups, 16, hits)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256/float64(n), "ns/row/probe")
			})
		}
	}
}
