package evaluation

import (
	"cmp"
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// pair is two photos and the cosine distance of their faces: 0 same … 2 opposite.
type pair struct {
	a, b     int32
	distance float32
}

func nearer(x, y pair) int {
	return cmp.Or(cmp.Compare(x.distance, y.distance), cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b))
}

// bins is the number of bins of the histogram of distances, from 0 to 2.
const bins = 200_000

func bin(distance float32) int { return max(0, min(bins-1, int(distance*(bins/2)))) }

// distances holds the counted distances of all pairs.
type distances struct {
	*Faces
	// genuine are the pairs of one person, nearest first.
	genuine []pair
	// lost is the number of pairs of one person that could not be compared, because a face has no template.
	lost int
	// strangers is the number of pairs of two people. The nearest of them are in near, nearest first; all of them are
	// in histogram, by distance.
	strangers int
	near      []pair
	histogram []int64
	// nearest is, by photo, the photo with the nearest face, or -1.
	nearest []int32
}

// mostNear is about the number of pairs of strangers that are kept one by one: the nearest ones, which the bootstrap
// resamples.
const mostNear = 3_000_000

// compare counts the distances of every usable face to every other, or of the pairs that the set lists.
func (f *Faces) compare(ctx context.Context) (*distances, error) {
	d := &distances{Faces: f, histogram: make([]int64, bins), nearest: make([]int32, len(f.seen))}
	for i := range d.nearest {
		d.nearest[i] = -1
	}
	if f.set.Pairs != nil {
		d.compareListed()
	} else if err := d.compareAll(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(d.genuine, nearer)
	slices.SortFunc(d.near, nearer)
	return d, nil
}

func (d *distances) compareListed() {
	for _, p := range d.set.Pairs {
		a, b := int32(p[0]), int32(p[1])
		same := d.person[a] == d.person[b]
		if d.seen[a].template == nil || d.seen[b].template == nil {
			if same {
				d.lost++
			}
			continue
		}
		made := pair{a, b, 1 - dot(d.seen[a].template, d.seen[b].template)}
		if same {
			d.genuine = append(d.genuine, made)
			continue
		}
		d.strangers++
		d.histogram[bin(made.distance)]++
		d.near = append(d.near, made)
	}
}

func (d *distances) compareAll(ctx context.Context) error {
	d.lost = d.countLost()
	limit := d.limit()
	// Each worker takes the next rows, and compares them with all rows before.
	const rows = 32
	var next atomic.Int64
	var mu sync.Mutex
	var workers sync.WaitGroup
	best := slices.Repeat([]float32{3}, len(d.seen)) // guarded by mu, like the fields of d
	for range runtime.GOMAXPROCS(0) {
		w := worker{distances: d, limit: limit, histogram: make([]int64, bins)}
		w.best, w.nearest = slices.Repeat([]float32{3}, len(best)), slices.Repeat([]int32{-1}, len(best))
		workers.Go(func() {
			for ctx.Err() == nil {
				from := int(next.Add(rows)) - rows
				if from >= len(d.usable) {
					break
				}
				w.compare(from, min(from+rows, len(d.usable)))
			}
			mu.Lock()
			defer mu.Unlock()
			d.genuine, d.near = append(d.genuine, w.genuine...), append(d.near, w.near...)
			for i, n := range w.histogram {
				d.histogram[i] += n
			}
			for i, other := range w.nearest {
				if other >= 0 && (w.best[i] < best[i] || w.best[i] == best[i] && other < d.nearest[i]) {
					best[i], d.nearest[i] = w.best[i], other
				}
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, n := range d.histogram {
		d.strangers += int(n)
	}
	return nil
}

// countLost counts the pairs of one person with a missing face, among the people with any pair.
func (d *distances) countLost() int {
	all, usable := map[int32]int{}, map[int32]int{}
	for _, n := range d.person {
		all[n]++
	}
	for _, i := range d.usable {
		usable[d.person[i]]++
	}
	lost := 0
	for n, count := range all {
		k := usable[n]
		lost += count*(count-1)/2 - k*(k-1)/2
	}
	return lost
}

// limit returns a distance with about mostNear pairs of strangers below; 3 when all of them may be kept.
func (d *distances) limit() float32 {
	n := len(d.usable)
	total := n * (n - 1) / 2
	if total <= mostNear {
		return 3
	}
	random := rand.New(rand.NewPCG(1, 2)) // the same choice each time
	var sample []float32
	for len(sample) < 400_000 {
		a, b := d.usable[random.IntN(n)], d.usable[random.IntN(n)]
		if d.person[a] != d.person[b] {
			sample = append(sample, 1-dot(d.seen[a].template, d.seen[b].template))
		}
	}
	slices.Sort(sample)
	return sample[min(len(sample)-1, int(float64(mostNear)/float64(total)*float64(len(sample))))]
}

// worker compares some rows.
type worker struct {
	*distances
	limit         float32
	genuine, near []pair
	histogram     []int64
	best          []float32
	nearest       []int32
}

// compare compares the usable photos from … to with all before them.
func (w *worker) compare(from, to int) {
	for j := range to {
		b := w.usable[j]
		column := w.seen[b].template
		for i := max(from, j+1); i < to; i++ {
			w.add(w.usable[i], b, 1-dot(w.seen[w.usable[i]].template, column))
		}
	}
}

func (w *worker) add(a, b int32, distance float32) {
	if distance < w.best[a] || distance == w.best[a] && b < w.nearest[a] {
		w.best[a], w.nearest[a] = distance, b
	}
	if distance < w.best[b] || distance == w.best[b] && a < w.nearest[b] {
		w.best[b], w.nearest[b] = distance, a
	}
	switch {
	case w.person[a] == w.person[b]:
		w.genuine = append(w.genuine, pair{a, b, distance})
	default:
		w.histogram[bin(distance)]++
		if distance <= w.limit {
			w.near = append(w.near, pair{a, b, distance})
		}
	}
}

// dot is the scalar product of two vectors of one length.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+8 <= len(a); i += 8 {
		x, y := a[i:i+8:i+8], b[i:i+8:i+8]
		s0 += x[0]*y[0] + x[4]*y[4]
		s1 += x[1]*y[1] + x[5]*y[5]
		s2 += x[2]*y[2] + x[6]*y[6]
		s3 += x[3]*y[3] + x[7]*y[7]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}
