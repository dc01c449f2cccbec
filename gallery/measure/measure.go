// Package measure measures how fast a machine searches a gallery. Run makes a gallery of synthetic faces and returns
// the times of searches, beside what plain reads of memory and other ways to compare the same data take in the same
// minute.
package measure

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage/gallery"
)

// Config is what to measure. Zero values mean the defaults.
type Config struct {
	Faces  int // in the gallery; default 1,000,000, four for each person
	Dim    int // numbers in a template; default 128
	Probes int // searched for together; default 64
	Rounds int // in each of which everything is measured once; default 15

	// Progress is called with the name of each stage as it begins. May be nil.
	Progress func(what string)
}

// Nearest is the number of persons that a search for several candidates asks for.
const Nearest = 10

// Line is the distance up to which synthetic faces count as one person's: faces of one person are about 0.26 apart,
// faces of two about 1.
const Line = 0.45

// Result is the outcome of a measurement. Times are medians over the rounds.
type Result struct {
	Kernel        string // the processor's instructions in use
	Faces, Dim    int
	Probes        int
	BytesPerFace  float64 // of the loaded gallery
	ReadBandwidth float64 // of plain reads by all processors, in bytes a second

	Best          Search        // one probe, the best match within Line
	Near, Any     Search        // the Nearest within Line, and at any distance
	NearAll       time.Duration // the same for all probes together
	AnyAll        time.Duration
	Int8, Float32 time.Duration // reading as much as codes of eight bits take; dot products of all vectors in full
}

// Search is the cost of one kind of search.
type Search struct {
	Median, P99 time.Duration
	Bytes       float64 // read by one, on average
}

// Bandwidth returns how many bytes a second the search reads.
func (s Search) Bandwidth() float64 { return s.Bytes / s.Median.Seconds() }

// Run makes a gallery of synthetic faces, several for each person, and measures. It needs twice the memory of the
// gallery, and stops with the cause of ctx.
func Run(ctx context.Context, cfg Config) (Result, error) {
	set := func(n *int, to int) {
		if *n == 0 {
			*n = to
		}
	}
	set(&cfg.Faces, 1_000_000)
	set(&cfg.Dim, 128)
	set(&cfg.Probes, 64)
	set(&cfg.Rounds, 15)
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if cfg.Faces < 1 || cfg.Dim < 1 || cfg.Probes < 1 || cfg.Rounds < 1 {
		return Result{}, fmt.Errorf("measure %d faces of %d numbers with %d probes in %d rounds", cfg.Faces, cfg.Dim,
			cfg.Probes, cfg.Rounds)
	}
	cfg.Progress(fmt.Sprintf("making %d faces of %d numbers", cfg.Faces, cfg.Dim))
	crowd, err := newCrowd(ctx, cfg)
	if err != nil {
		return Result{}, err
	}
	defer crowd.close()
	b, err := newBaselines(crowd)
	if err != nil {
		return Result{}, err
	}
	defer b.close()
	cfg.Progress(fmt.Sprintf("measuring, %d rounds", cfg.Rounds))
	return measure(ctx, cfg, crowd, b)
}

func measure(ctx context.Context, cfg Config, crowd *crowd, b *baselines) (Result, error) {
	g := crowd.gallery
	var err error
	timed := func(f func()) time.Duration {
		start := time.Now()
		f()
		return time.Since(start)
	}
	search := func(k int, within float32, probes ...gallery.Code) func() {
		return func() {
			_, failed := g.Search(ctx, gallery.Query{Probes: probes, K: k, ByOwner: true, Within: within})
			if failed != nil && err == nil {
				err = failed
			}
		}
	}
	var read, int8s, floats, nearAll, anyAll []time.Duration
	kinds := []struct {
		k      int
		within float32
		times  []time.Duration
		bytes  uint64
	}{{k: 1, within: Line}, {k: Nearest, within: Line}, {k: Nearest}}
	for round := range cfg.Rounds {
		if err != nil {
			return Result{}, err
		}
		// The kinds take turns in short stretches, so that other load on the machine affects all alike.
		read = append(read, timed(b.read))
		for k := range kinds {
			before := g.Read()
			for i := range 8 {
				probe := crowd.probes[(8*round+i)%len(crowd.probes)]
				kinds[k].times = append(kinds[k].times, timed(search(kinds[k].k, kinds[k].within, probe)))
			}
			kinds[k].bytes += g.Read() - before
		}
		int8s = append(int8s, timed(b.int8))
		probe := crowd.probes[0].Vector()
		floats = append(floats, timed(func() { b.float32(probe) }))
		nearAll = append(nearAll, timed(search(Nearest, Line, crowd.probes...)))
		anyAll = append(anyAll, timed(search(Nearest, 0, crowd.probes...)))
	}
	if err != nil {
		return Result{}, err
	}
	result := Result{
		Kernel: b.kernel.Name, Faces: cfg.Faces, Dim: cfg.Dim, Probes: cfg.Probes,
		BytesPerFace:  float64(g.Bytes()) / float64(g.Len()),
		ReadBandwidth: float64(b.size()) / quantile(read, 0.5).Seconds(),
		NearAll:       quantile(nearAll, 0.5), AnyAll: quantile(anyAll, 0.5),
		Int8: quantile(int8s, 0.5), Float32: quantile(floats, 0.5),
	}
	for k, s := range []*Search{&result.Best, &result.Near, &result.Any} {
		times := kinds[k].times
		*s = Search{Median: quantile(times, 0.5), P99: quantile(times, 0.99),
			Bytes: float64(kinds[k].bytes) / float64(len(times))}
	}
	return result, nil
}

// quantile returns the time that the given share of times does not exceed.
func quantile(times []time.Duration, share float64) time.Duration {
	slices.Sort(times)
	return times[int(share*float64(len(times)-1))]
}
