package evaluation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/visage-face/visage/vision"
)

// Recogniser makes templates of faces. *vision.Pipeline is one.
type Recogniser interface {
	Detect(ctx context.Context, photo []byte, want vision.Want) (*vision.Photo, error)
	Confidence(distance float64) float64
	Name() string
}

// Result is what was measured. The same photos and pack give the same result.
type Result struct {
	Pack           string
	Photos, People int
	Undetected     []Missed
	Genuine        int // compared pairs of one person
	Strangers      int // compared pairs of two people
	Lost           int // genuine pairs that could not be compared, because a face was not found
	Detection      Proportion
	Rates          []Rate
	RankOne        Proportion
	Curve          []Point // false accepts rising
}

// Missed is a photo that gave no template.
type Missed struct {
	Path   string
	Reason string
}

// Rate is how many of a person's pairs are accepted when so many of the strangers' are.
type Rate struct {
	FalseAccepts float64 // the rate that is aimed at
	Measurable   bool    // false: too few pairs of strangers to speak of such a rate; nothing below is set
	Threshold    float64 // pairs nearer than this distance are accepted
	Confidence   float64 // the pack's, at the threshold
	TrueAccepts  Proportion
	All          float64 // true accepts when pairs with a face that was not found count as refused
}

// Proportion is a share with its 95 % confidence interval.
type Proportion struct {
	Count, Of int
	Value     float64
	Low, High float64
}

// Point is a point of the curve of true accepts against false accepts.
type Point struct {
	FalseAccepts, TrueAccepts float64
}

// Targets are the false-accept rates that are reported.
var Targets = []float64{1e-2, 1e-3}

// maxStrangers bounds the pairs of strangers that are kept. When there are more, they are chosen at random, the same
// ones each time.
const maxStrangers = 2_000_000

// pair is two photos and how far apart their faces are.
type pair struct {
	a, b     int // people, by number
	distance float64
}

// Measure looks at every photo, takes the largest face on it, and compares. progress, if set, is told of each photo
// done.
func Measure(ctx context.Context, s Set, r Recogniser, progress func(done, of int)) (*Result, error) {
	people := map[string]int{}
	for _, p := range s.Photos {
		if _, found := people[p.Person]; !found {
			people[p.Person] = len(people)
		}
	}
	res := &Result{Pack: r.Name(), Photos: len(s.Photos), People: len(people)}
	templates := make([][]float32, len(s.Photos))
	for i, p := range s.Photos {
		t, reason, err := templateOf(ctx, r, p.Path)
		if err != nil {
			return nil, fmt.Errorf("photo %s: %w", p.Path, err)
		}
		if t == nil {
			res.Undetected = append(res.Undetected, Missed{p.Path, reason})
		}
		templates[i] = t
		if progress != nil {
			progress(i+1, len(s.Photos))
		}
	}
	res.Detection = wilson(len(s.Photos)-len(res.Undetected), len(s.Photos))
	genuine, strangers := compare(s, people, templates, res)
	res.Genuine, res.Strangers = len(genuine), len(strangers)
	slices.SortStableFunc(strangers, func(x, y pair) int { return cmp.Compare(x.distance, y.distance) })
	for _, target := range Targets {
		res.Rates = append(res.Rates, rate(genuine, strangers, len(people), res.Lost, target, s.Pairs != nil, r))
	}
	res.Curve = curve(genuine, strangers)
	res.RankOne = rankOne(s, people, templates)
	return res, nil
}

// templateOf returns that of the largest face on a photo, or nil and why there is none.
func templateOf(ctx context.Context, r Recogniser, path string) (t []float32, reason string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	photo, err := r.Detect(ctx, b, vision.Want{Templates: true, Select: func(faces []vision.Face) []int {
		if len(faces) == 0 {
			return nil
		}
		return []int{0}
	}})
	if unusable, ok := errors.AsType[*vision.ImageError](err); ok {
		return nil, unusable.Message, nil
	}
	if err != nil {
		return nil, "", err
	}
	if len(photo.Faces) == 0 {
		return nil, "no face found", nil
	}
	return photo.Faces[0].Template, "", nil
}

// compare makes the pairs and their distances.
func compare(s Set, people map[string]int, templates [][]float32, res *Result) (genuine, strangers []pair) {
	random := rand.New(rand.NewPCG(1, 2)) // the same choice each time
	seen := 0
	add := func(i, j int) {
		a, b := people[s.Photos[i].Person], people[s.Photos[j].Person]
		if templates[i] == nil || templates[j] == nil {
			if a == b {
				res.Lost++
			}
			return
		}
		if a == b {
			genuine = append(genuine, pair{a, b, distance(templates[i], templates[j])})
			return
		}
		seen++
		if len(strangers) < maxStrangers {
			strangers = append(strangers, pair{a, b, distance(templates[i], templates[j])})
		} else if k := random.IntN(seen); k < maxStrangers { // reservoir sampling: each pair is kept with the same probability
			strangers[k] = pair{a, b, distance(templates[i], templates[j])}
		}
	}
	if s.Pairs != nil {
		for _, p := range s.Pairs {
			add(p[0], p[1])
		}
		return genuine, strangers
	}
	for i := range s.Photos {
		for j := range i {
			add(i, j)
		}
	}
	return genuine, strangers
}

// distance is the cosine distance of two templates of unit length: 0 same … 2 opposite.
func distance(a, b []float32) float64 {
	var dot float64
	for i := range a {
		dot += float64(a[i]) * float64(b[i])
	}
	return 1 - dot
}

// rankOne takes each photo of a person who has another as a probe, and asks whether the nearest of all other photos is
// of that person.
func rankOne(s Set, people map[string]int, templates [][]float32) Proportion {
	count := map[int]int{}
	for i, t := range templates {
		if t != nil {
			count[people[s.Photos[i].Person]]++
		}
	}
	right, of := 0, 0
	for i, t := range templates {
		person := people[s.Photos[i].Person]
		if t == nil || count[person] < 2 {
			continue
		}
		of++
		nearest, least := -1, 3.0
		for j, other := range templates {
			if j == i || other == nil {
				continue
			}
			if d := distance(t, other); d < least {
				nearest, least = people[s.Photos[j].Person], d
			}
		}
		if nearest == person {
			right++
		}
	}
	return wilson(right, of)
}
