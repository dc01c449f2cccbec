package vision_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision"
)

// people names the people on the photos on which calibration and alignment were measured, from left to right. The
// people on the sample photos are not known, only that each photo shows different ones; their names start with "?" and
// are never compared across photos.
var people = map[string][]string{
	"Family1-Dad1.jpg": {"dad1"}, "Family1-Dad2.jpg": {"dad1"}, "Family1-Dad3.jpg": {"dad1"},
	"Family1-Daughter1.jpg": {"daughter1"}, "Family1-Daughter2.jpg": {"daughter1"},
	"Family1-Daughter3.jpg": {"daughter1"},
	"Family1-Mom1.jpg":      {"mom1"}, "Family1-Mom2.jpg": {"mom1"},
	"Family1-Son1.jpg": {"son1"}, "Family1-Son2.jpg": {"son1"},
	"Family2-Lady1.jpg": {"lady2"}, "Family2-Lady2.jpg": {"lady2"}, "woman1-person-group.jpg": {"lady2"},
	"Family2-Man1.jpg": {"man2"}, "Family2-Man2.jpg": {"man2"}, "man2-person-group.jpg": {"man2"},
	"Family3-Lady1.jpg": {"lady3"}, "Family3-Man1.jpg": {"man3"},
	"identification1.jpg":         {"son1", "dad1", "mom1", "daughter1"},
	"test-image-person-group.jpg": {"man2", "lady2"},
	"detection6.jpg":              {"man3", "lady3"},
	"detection1.jpg":              {"d1"}, "detection2.jpg": {"d2"}, "detection3.jpg": {"d3"},
	"detection4.jpg": {"d4a", "d4b", "d4c"}, "detection5.jpg": {"d5a", "d5b", "d5c"},
	"sample1.jpg": {"?1a", "?1b", "?1c"}, "sample2.jpg": {"?2a", "?2b", "?2c"}, "sample3.jpg": {"?3a", "?3b", "?3c"},
	"sample4.jpg": {"?4a", "?4b", "?4c", "?4d"}, "sample5.jpg": {"?5a", "?5b", "?5c", "?5d", "?5e"},
	"sample6.jpg": {"?6a", "?6b", "?6c", "?6d"},
}

// portrait is a template with the name of whom it shows.
type portrait struct {
	who, photo string
	template   []float32
}

// portraits runs the pipeline over all photos of people.
func portraits(t *testing.T, p *vision.Pipeline) []portrait {
	t.Helper()
	var all []portrait
	for _, photo := range slices.Sorted(maps.Keys(people)) {
		path := filepath.Join(samples, photo)
		if !strings.HasPrefix(photo, "sample") {
			path = shared(t, "faces", photo)
		}
		got, err := p.Detect(t.Context(), read(t, path), vision.Want{Templates: true})
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got.Faces, func(a, b vision.Face) int { return cmp.Compare(a.Box.Left, b.Box.Left) })
		if len(got.Faces) != len(people[photo]) {
			t.Fatalf("%s: %d faces, %d people are known to be on it", photo, len(got.Faces), len(people[photo]))
		}
		for i, f := range got.Faces {
			all = append(all, portrait{people[photo][i], photo, f.Template})
		}
	}
	return all
}

// strangers reports whether two portraits certainly show different people.
func strangers(a, b portrait) bool {
	unknown := strings.HasPrefix(a.who, "?") && strings.HasPrefix(b.who, "?") && a.photo != b.photo
	return a.who != b.who && !unknown
}

// distance is the cosine distance of unit vectors.
func distance(a, b []float32) float64 {
	dot := 0.0
	for i := range a {
		dot += float64(a[i]) * float64(b[i])
	}
	return 1 - dot
}

// TestCalibration repeats the measurement behind the table of the default pack; docs/models.md says how reliable it is.
func TestCalibration(t *testing.T) {
	p := open(t, vision.Config{})
	all := portraits(t, p)
	once := map[string]int{}
	for _, a := range all {
		once[a.who] = 1
	}
	pairs := pairsOfStrangers(all)
	roots := weighted(pairs, once)
	mean, deviation := moments(roots)
	nearest := math.Pow(slices.Min(roots), 2)
	names := slices.Sorted(maps.Keys(once))
	t.Logf("%d faces of %d people, %d pairs of strangers: the root of the distance is %.4f ± %.4f, the nearest at %.4f",
		len(all), len(names), len(roots), mean, deviation, nearest)

	calibration := defaultPack(t).Manifest().Calibration
	if calibration.Pairs != len(roots) || calibration.People != len(names) {
		t.Errorf("the pack says %d pairs of %d people", calibration.Pairs, calibration.People)
	}
	page := string(read(t, filepath.Join(root, "docs", "models.md")))
	low, high := bootstrap(pairs, names)
	for _, r := range calibration.Rates {
		measured := math.Pow(mean+quantile(r.FalseAccepts)*deviation, 2)
		if math.Abs(measured-r.Distance) > 0.03*r.Distance {
			t.Errorf("a rate of %g is at a distance of %.4f, the pack says %.4f", r.FalseAccepts, measured, r.Distance)
		}
		below := 0
		for _, x := range roots {
			if x*x <= r.Distance {
				below++
			}
		}
		line := fmt.Sprintf("| %.4f | %g | %.3f |", r.Distance, r.FalseAccepts, p.Confidence(r.Distance))
		if !strings.Contains(page, line) {
			t.Errorf("docs/models.md lacks the line %q", line)
		}
		t.Logf("distance %.4f  rate %-7g counted %-8s confidence %.3f", r.Distance, r.FalseAccepts,
			fmt.Sprintf("%d", below), p.Confidence(r.Distance))
	}
	same, rejected := 0, 0
	for i, a := range all {
		for _, b := range all[:i] {
			if a.who == b.who {
				same++
				if p.Confidence(distance(a.template, b.template)) < 0.5 {
					rejected++
				}
			}
		}
	}
	t.Logf("of %d pairs of one person %d are below a confidence of one half", same, rejected)
	t.Logf("1e-3 lies between %.4f and %.4f in 95 %% of resamplings of the people", low, high)
	if at := p.Confidence(math.Pow(mean+quantile(1e-3)*deviation, 2)); math.Abs(at-0.5) > 0.03 {
		t.Errorf("confidence is %.3f where one in 1,000 strangers is accepted, want 0.5", at)
	}
}

// pair is two portraits of strangers, with the square root of their distance.
type pair struct {
	a, b string
	root float64
}

func pairsOfStrangers(all []portrait) (pairs []pair) {
	for i, a := range all {
		for _, b := range all[:i] {
			if strangers(a, b) {
				pairs = append(pairs, pair{a.who, b.who, math.Sqrt(max(distance(a.template, b.template), 0))})
			}
		}
	}
	return pairs
}

// weighted returns each pair's root as often as its people weigh.
func weighted(pairs []pair, weight map[string]int) (roots []float64) {
	for _, p := range pairs {
		for range weight[p.a] * weight[p.b] {
			roots = append(roots, p.root)
		}
	}
	return roots
}

func moments(xs []float64) (mean, deviation float64) {
	for _, x := range xs {
		mean += x / float64(len(xs))
	}
	for _, x := range xs {
		deviation += (x - mean) * (x - mean) / float64(len(xs)-1)
	}
	return mean, math.Sqrt(deviation)
}

// bootstrap returns the middle 95 % of the distances at 1e-3 when the people are drawn again with replacement: pairs
// that share a person are not independent, people are.
func bootstrap(pairs []pair, names []string) (low, high float64) {
	random := rand.New(rand.NewPCG(1, 2))
	var at []float64
	for range 500 {
		weight := map[string]int{}
		for range names {
			weight[names[random.IntN(len(names))]]++
		}
		mean, deviation := moments(weighted(pairs, weight))
		at = append(at, math.Pow(mean+quantile(1e-3)*deviation, 2))
	}
	slices.Sort(at)
	return at[len(at)*25/1000], at[len(at)*975/1000]
}

// quantile is the standard normal distribution's.
func quantile(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }
