package evaluation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/visage-face/visage/cmd/visage/internal/evaluation"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// recogniser reads a template from the photo's text: a direction in the plane, in degrees. "blind" is a photo without a
// face, "broken" is not a photo.
type recogniser struct{}

func (recogniser) Detect(_ context.Context, photo []byte, _ vision.Want) (*vision.Photo, error) {
	if string(photo) == "broken" {
		return nil, &vision.ImageError{Kind: vision.Broken, Message: "cannot be decoded"}
	}
	var degrees float64
	if _, err := fmt.Sscan(string(photo), &degrees); err != nil {
		return &vision.Photo{}, nil
	}
	sin, cos := math.Sincos(degrees * math.Pi / 180)
	// The subject is in the middle. Beside the subject is a larger face, and far behind a small one.
	other := []float32{float32(-sin), float32(cos)}
	return &vision.Photo{Width: 250, Height: 250, Faces: []vision.Face{
		{Box: vision.Box{Left: 150, Top: 10, Width: 100, Height: 130}, Template: other},
		{Box: vision.Box{Left: 70, Top: 60, Width: 90, Height: 120}, Template: []float32{float32(cos), float32(sin)}},
		{Box: vision.Box{Left: 105, Top: 105, Width: 40, Height: 40}, Template: other},
	}}, nil
}

func (recogniser) Confidence(distance float64) float64 { return 1 - distance/2 }
func (recogniser) Threshold(int) float64               { return 0.5 }
func (recogniser) Supports() vision.Attributes         { return 0 }
func (recogniser) Name() string                        { return "plane" }

// folder makes a folder of photos by person; each text is a photo.
func folder(t *testing.T, people map[string][]string) string {
	t.Helper()
	dir := t.TempDir()
	for person, photos := range people {
		if err := os.Mkdir(filepath.Join(dir, person), 0o700); err != nil {
			t.Fatal(err)
		}
		for i, text := range photos {
			name := filepath.Join(dir, person, fmt.Sprintf("%s_%04d.jpg", person, i+1))
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func measure(t *testing.T, s evaluation.Set) *evaluation.Result {
	t.Helper()
	faces, err := evaluation.Look(t.Context(), s, recogniser{}, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := faces.Measure(t.Context(), recogniser{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLinksToFoldersAndPhotosAreFollowed(t *testing.T) {
	of, dir := folder(t, map[string][]string{"ada": {"0", "1"}}), t.TempDir()
	photos, err := filepath.Glob(filepath.Join(of, "ada", "*"))
	if err != nil || len(photos) != 2 {
		t.Fatal(photos, err)
	}
	links := map[string]string{
		"ada": filepath.Join(of, "ada"), "bob/1.jpg": photos[0], "bob/2.jpg": filepath.Join(of, "nowhere"),
		"cid": "cid",
	}
	if err := os.Mkdir(filepath.Join(dir, "bob"), 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := evaluation.ReadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := measure(t, s)
	if r.Photos != 4 || r.Genuine != 1 || r.Strangers != 2 || len(r.Undetected) != 1 {
		t.Errorf("got %d photos, %d pairs of one person, %d of strangers, not read: %v", r.Photos, r.Genuine,
			r.Strangers,
			r.Undetected)
	}
}

func TestSmallSetByHand(t *testing.T) {
	s, err := evaluation.ReadFolder(folder(t, map[string][]string{
		"ada": {"0", "1", "2"}, "bob": {"90", "92"}, "eve": {"blind", "broken", "1.5"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	r := measure(t, s)
	if r.Photos != 8 || r.People != 3 || len(r.Undetected) != 2 {
		t.Errorf("got %d photos, %d people, undetected %v", r.Photos, r.People, r.Undetected)
	}
	// Pairs of one person: ada 3, bob 1; eve's 3 are lost. Strangers: 3·2 + 3·1 + 2·1.
	if r.Genuine != 4 || r.Lost != 3 || r.Strangers != 11 {
		t.Errorf("got %d genuine, %d lost, %d strangers, want 4, 3, 11", r.Genuine, r.Lost, r.Strangers)
	}
	// Probes: ada's three and bob's two. Eve is between ada's second and third photo and the nearest to both; the
	// second is the nearest to the first.
	if r.RankOne.Count != 3 || r.RankOne.Of != 5 {
		t.Errorf("rank-1 is %d of %d, want 3 of 5", r.RankOne.Count, r.RankOne.Of)
	}
	for _, rate := range r.Rates {
		if rate.Measurable {
			t.Errorf("a rate of %g was measured with 11 pairs of strangers", rate.FalseAccepts)
		}
	}
}

// spread makes many people around the circle, two photos each, with noise.
func spread(t *testing.T, people int, noise float64) string {
	random := rand.New(rand.NewPCG(7, 7))
	photos := map[string][]string{}
	for i := range people {
		at := float64(i) * 360 / float64(people)
		photos[fmt.Sprintf("p%03d", i)] = []string{
			fmt.Sprint(at + random.NormFloat64()*noise), fmt.Sprint(at + random.NormFloat64()*noise),
		}
	}
	return folder(t, photos)
}

func TestRatesKeepTheirPromise(t *testing.T) {
	s, err := evaluation.ReadFolder(spread(t, 120, 0.8))
	if err != nil {
		t.Fatal(err)
	}
	r := measure(t, s)
	for i, rate := range r.Rates {
		if i > 1 { // 28,560 pairs of strangers: fewer than ten are one in 10,000
			if rate.Measurable {
				t.Errorf("a rate of %g was measured", rate.FalseAccepts)
			}
			continue
		}
		ta := rate.TrueAccepts
		if !rate.Measurable || !(ta.Low <= ta.Value && ta.Value <= ta.High) || ta.Of != 120 ||
			ta.Value != float64(ta.Count)/float64(ta.Of) {
			t.Errorf("rate %+v is inconsistent", rate)
		}
	}
	if r.Rates[0].Threshold < r.Rates[1].Threshold || r.Rates[0].TrueAccepts.Value < r.Rates[1].TrueAccepts.Value {
		t.Errorf("accepting more strangers accepts fewer of one person: %+v", r.Rates)
	}
	last := evaluation.Point{}
	for _, p := range r.Curve {
		if p.FalseAccepts <= last.FalseAccepts || p.TrueAccepts < last.TrueAccepts {
			t.Errorf("the curve falls from %+v to %+v", last, p)
		}
		last = p
	}
	if last != (evaluation.Point{FalseAccepts: 1, TrueAccepts: 1}) {
		t.Errorf("the curve ends at %+v, want everything accepted", last)
	}
}

func TestSameInputSameReport(t *testing.T) {
	dir := spread(t, 60, 2)
	write := func() (text, page string) {
		s, err := evaluation.ReadFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		var a, b bytes.Buffer
		r := measure(t, s)
		if err := r.WriteText(&a); err != nil {
			t.Fatal(err)
		}
		if err := r.WriteHTML(&b); err != nil {
			t.Fatal(err)
		}
		return a.String(), b.String()
	}
	text, page := write()
	if again, pageAgain := write(); text != again || page != pageAgain {
		t.Errorf("two runs differ:\n%s\n%s", text, again)
	}
	if strings.Contains(page, "http") || !strings.Contains(page, "<polyline points=") {
		t.Error("the page loads external content, or has no curve")
	}
	for _, want := range []string{"TAR at FAR 1 %", "rank-1", "failures to detect     0 of 120"} {
		if !strings.Contains(text, want) {
			t.Errorf("report lacks %q:\n%s", want, text)
		}
	}
}

// directions reads a template from the photo's text: a seed for a direction among 16, the weight of a common direction,
// and a seed for a little noise.
type directions struct{ recogniser }

func (directions) Detect(_ context.Context, photo []byte, want vision.Want) (*vision.Photo, error) {
	var person, noise uint64
	var lean float64
	if _, err := fmt.Sscan(string(photo), &person, &lean, &noise); err != nil {
		return nil, err
	}
	p := &vision.Photo{Faces: []vision.Face{{}}}
	who, what := rand.New(rand.NewPCG(person, 1)), rand.New(rand.NewPCG(noise, 2))
	v := make([]float64, 16)
	square := 0.0
	for i := range v {
		v[i] = who.NormFloat64() + lean + 0.1*what.NormFloat64()
		square += v[i] * v[i]
	}
	for _, x := range v {
		p.Faces[0].Template = append(p.Faces[0].Template, float32(x/math.Sqrt(square)))
	}
	return p, nil
}

// TestCodingIsCountedOverAllPairs compares templates with their codes pair by pair, without the sampling.
func TestCodingIsCountedOverAllPairs(t *testing.T) {
	people, texts := map[string][]string{}, []string{}
	for i := range 40 {
		texts = append(texts, fmt.Sprint(i/2, 0.3, i))
		people[fmt.Sprintf("p%02d", i/2)] = append(people[fmt.Sprintf("p%02d", i/2)], texts[i])
	}
	s, err := evaluation.ReadFolder(folder(t, people))
	if err != nil {
		t.Fatal(err)
	}
	// A scale so steep that most pairs' decimals change.
	r, err := lookAt(t, s, directions{}).Measure(t.Context(), steep{})
	if err != nil {
		t.Fatal(err)
	}
	var made [][]float32
	var codes []gallery.Code
	for _, text := range texts {
		photo, err := directions{}.Detect(t.Context(), []byte(text), vision.Want{})
		if err != nil {
			t.Fatal(err)
		}
		code, err := gallery.Encode(photo.Faces[0].Template)
		if err != nil {
			t.Fatal(err)
		}
		made, codes = append(made, photo.Faces[0].Template), append(codes, code)
	}
	pairs, moved, most := 0, 0, 0.0
	for i := range codes {
		for k := range i {
			dot := 0.0
			for j, x := range made[i] {
				dot += float64(x) * float64(made[k][j])
			}
			coded, err := gallery.Distance(codes[i], codes[k])
			if err != nil {
				t.Fatal(err)
			}
			pairs++
			before, after := steep{}.Confidence(1-dot), steep{}.Confidence(float64(coded))
			if most = max(most, math.Abs(before-after)); math.Floor(before*1e5) != math.Floor(after*1e5) {
				moved++
			}
		}
	}
	c := r.Coding
	if c.Pairs != pairs || pairs != r.Genuine+r.Strangers || c.Moved.Of != pairs {
		t.Errorf("%d pairs, want %d", c.Pairs, pairs)
	}
	// Both sides round to float32 at different places, by 1e-7 of distance, which the scale magnifies.
	if math.Abs(c.Confidence-most) > 1e-4 || math.Abs(float64(c.Moved.Count-moved)) > 0.1*float64(pairs) ||
		moved < pairs/2 {
		t.Errorf("confidence within %g, want %g; %d moved, want %d of %d", c.Confidence, most, c.Moved.Count, moved,
			pairs)
	}
	if math.Abs(100*c.Distance-c.Confidence) > 1e-9 || c.Distance > 1e-4 {
		t.Errorf("distance within %g, where confidence is within %g", c.Distance, c.Confidence)
	}
}

type steep struct{ directions }

func (steep) Confidence(distance float64) float64 { return 100 * (2 - distance) }

// leaning makes people of whom every other one has a common direction, so that they look alike, and the grouping that
// separates them.
func leaning(t *testing.T) *evaluation.Faces {
	t.Helper()
	photos, side := map[string][]string{}, map[string]string{}
	for i := range 240 {
		name, lean := fmt.Sprintf("p%03d", i), 0.0
		side[name] = "far"
		if i%2 == 0 {
			lean, side[name] = 0.5, "near"
		}
		photos[name] = []string{fmt.Sprint(i, lean, 2*i), fmt.Sprint(i, lean, 2*i+1)}
	}
	s, err := evaluation.ReadFolder(folder(t, photos))
	if err != nil {
		t.Fatal(err)
	}
	s.Groupings = []evaluation.Grouping{{Name: "side", Of: side}}
	return lookAt(t, s, directions{})
}

func lookAt(t *testing.T, s evaluation.Set, r evaluation.Recogniser) *evaluation.Faces {
	t.Helper()
	faces, err := evaluation.Look(t.Context(), s, r, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return faces
}

func TestCalibrationGoesByTheWorstGroup(t *testing.T) {
	faces := leaning(t)
	c, err := faces.Calibrate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.People != 240 || c.Photos != 480 || c.Pairs > 480*478/2 || c.Pairs < 480*478/2-1 {
		t.Errorf("counted %d people, %d photos, %d pairs", c.People, c.Photos, c.Pairs)
	}
	if c.Worst == nil || c.Worst.Name != "near" {
		t.Fatalf("worst is %+v, want the group that is close together", c.Worst)
	}
	r, err := faces.Measure(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range r.Groups {
		if got := g.Half.FalseAccepts; got.Value > 1.1e-3 {
			t.Errorf("%s: %g strangers are accepted at 0.5, want at most one in 1,000", g.Name, got.Value)
		}
	}
	for _, row := range c.Rates {
		if row.Counted < 10 || row.High > 0 && !(row.Low <= row.FalseAccepts && row.FalseAccepts <= row.High) {
			t.Errorf("row %+v is inconsistent", row)
		}
	}
	checked, err := faces.CrossCheck(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := checked.Sides[0].People + checked.Sides[1].People; got != 240 {
		t.Errorf("the halves have %d people together", got)
	}
	// The written calibration must be readable.
	c.Recogniser = strings.Repeat("0", 64)
	file := filepath.Join(t.TempDir(), "calibration.json")
	if err := c.Write(file); err != nil {
		t.Fatal(err)
	}
	if read, err := pack.ReadCalibration(file); err != nil || !reflect.DeepEqual(read, c) {
		t.Errorf("read %+v, %v", read, err)
	}
}

func TestTooFewToCalibrate(t *testing.T) {
	for name, c := range map[string]struct {
		people map[string][]string
		want   string
	}{
		"one person": {map[string][]string{"ada": {"0", "1"}}, "at least two people"},
		"no face":    {map[string][]string{"ada": {"blind"}, "bob": {"broken"}}, "at least two people"},
		"few":        {map[string][]string{"ada": {"0", "1"}, "bob": {"90"}}, "too few people to count one in 1,000"},
	} {
		s, err := evaluation.ReadFolder(folder(t, c.people))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lookAt(t, s, recogniser{}).Calibrate(t.Context()); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestTooManyGroupsAreRefusedBeforePhotosAreRead(t *testing.T) {
	s := evaluation.Set{}
	of := map[string]string{}
	for i := range 49 * 20 {
		person := fmt.Sprint("person ", i)
		s.Photos = append(s.Photos, evaluation.Photo{Person: person, Path: "nowhere"})
		of[person] = fmt.Sprint("group ", i/20)
	}
	s.Groupings = []evaluation.Grouping{{Name: "by number", Of: of}}
	look := func() error {
		_, err := evaluation.Look(t.Context(), s, recogniser{}, 0, nil)
		return err
	}
	if err := look(); err == nil || !strings.Contains(err.Error(), "49 groups of at least 20 people, at most 48") {
		t.Errorf("got %v", err)
	}
	of["person 0"] = "" // the first group is too small to be one
	if err := look(); err != nil {
		t.Error(err)
	}
}

func TestGroupsOfACSV(t *testing.T) {
	dir := spread(t, 120, 0.8)
	s, err := evaluation.ReadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	// The first quarter of the circle looks alike; the odd people are spread over all of it.
	var b strings.Builder
	b.WriteString("person,quarter,parity\n")
	for i := range 120 {
		fmt.Fprintf(&b, "p%03d,q%d,%s\n", i, i/30, []string{"even", ""}[i%2])
	}
	b.WriteString("nobody,q0,even\n")
	file := filepath.Join(t.TempDir(), "groups.csv")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	odd, err := s.ReadGroups(file)
	if err != nil || len(odd) != 1 || !strings.Contains(odd[0], `"nobody" has no folder`) {
		t.Errorf("got %v, %q, want a warning about Nobody", err, odd)
	}
	r := measure(t, s)
	names := ""
	for _, g := range r.Groups {
		names += g.Grouping + " " + g.Name + "; "
		if g.Grouping == "quarter" {
			if g.People != 30 || g.Photos != 60 || g.Strangers != 60*58/2 || g.Genuine != 30 || g.Crowd.Faces != 29 {
				t.Errorf("%+v has wrong counts", g)
			}
			if overall := r.Rates[0].FalseAccepts; g.FalseAccepts[0] < 3*overall {
				t.Errorf("%s: %g false accepts where all have %g, want at least 3 times as many: neighbours look alike",
					g.Name, g.FalseAccepts[0], overall)
			}
		}
	}
	if want := "quarter q0; quarter q1; quarter q2; quarter q3; parity even; face 80 to 119 px wide; "; names != want {
		t.Errorf("got groups %q, want %q", names, want)
	}
}

func TestBrokenGroupFiles(t *testing.T) {
	dir := folder(t, map[string][]string{"Ada": {"0", "1"}, "Bob": {"90"}})
	for name, c := range map[string]struct{ text, want string }{
		"empty":        {"", "is empty"},
		"one column":   {"person\nAda\n", "one column"},
		"no header":    {"Ada,x\nBob,y\n", "begins with a person"},
		"nobody known": {"person,group\nEve,x\n", "has no person with a folder"},
		"twice":        {"person,group\nAda,x\nAda,y\n", `:3: "Ada" is listed twice`},
		"ragged":       {"person,group\nAda\n", "wrong number of fields"},
		"no name":      {"person,\nAda,x\n", "without a name"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := evaluation.ReadFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "groups.csv")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.ReadGroups(file); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestFoldersOfGroups(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"north/Ada/1.jpg", "north/Bob/1.jpg", "south/Ada/1.jpg", "south/readme.txt"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte("1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := evaluation.ReadGrouped(dir)
	if err != nil {
		t.Fatal(err)
	}
	people := map[string]string{}
	for _, p := range s.Photos {
		people[p.Person] = s.Groupings[0].Of[p.Person]
	}
	want := map[string]string{"north/Ada": "north", "north/Bob": "north", "south/Ada": "south"}
	if !maps.Equal(people, want) {
		t.Errorf("got %v, want %v", people, want)
	}
	if _, err := evaluation.ReadGrouped(t.TempDir()); err == nil || !strings.Contains(err.Error(), "has no photos") {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestSearchesByHand(t *testing.T) {
	s, err := evaluation.ReadFolder(folder(t, map[string][]string{
		"ada": {"0", "1", "44"}, "bob": {"40", "41"}, "eve": {"2"}, "fay": {"blind"}, "gil": {"150"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	r := measure(t, s)
	got := r.Search
	// Ada and Bob are enrolled; one of Ada's other photos is nearer to Bob's.
	if got.Enrolled != 2 || got.Mates != 3 || got.NonMates != 2 {
		t.Fatalf("got %d enrolled, %d mates, %d non-mates", got.Enrolled, got.Mates, got.NonMates)
	}
	if len(got.Sizes) != 1 || got.Sizes[0].Faces != 2 {
		t.Fatalf("got groups %+v, want the one of 2", got.Sizes)
	}
	// At a confidence of 0.5 the distance is 1, an angle of 90°: Eve matches Ada, Gil at 110° matches no one.
	half := got.Sizes[0].AtHalf
	if half.Found.Count != 2 || half.Found.Of != 3 || half.FalseAlarms.Count != 1 || half.FalseAlarms.Of != 2 {
		t.Errorf("at 0.5: %+v, want 2 of 3 found and 1 of 2 false alarms", half)
	}
}

func TestAccuracyOverFolds(t *testing.T) {
	dir := folder(t, map[string][]string{"Ada": {"0", "1", "blind"}, "Bob": {"90", "91"}})
	file := filepath.Join(dir, "pairs.txt")
	text := "2\t2\nAda\t1\t2\nBob\t1\t2\nAda\t1\tBob\t2\nAda\t2\tBob\t1\n" +
		"Ada\t1\t3\nBob\t1\t2\nAda\t1\tBob\t1\nAda\t3\tBob\t1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := evaluation.ReadPairs(file, dir)
	if err != nil {
		t.Fatal(err)
	}
	// The pair of one person that cannot be compared counts as refused, which is an error; so does the pair of
	// strangers, which is correct.
	a := measure(t, s).Accuracy
	if a == nil || a.Folds != 2 || math.Abs(a.Mean-7.0/8) > 1e-12 {
		t.Errorf("got %+v, want 7 of 8 over 2 folds", a)
	}
}

func TestReportForPrograms(t *testing.T) {
	s, err := evaluation.ReadFolder(folder(t, map[string][]string{"ada": {"0", "1"}, "eve": {"blind", "broken"}}))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := measure(t, s).WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got evaluation.Result
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Genuine != 1 || got.Strangers != 0 || len(got.Undetected) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestPairsFile(t *testing.T) {
	dir := folder(t, map[string][]string{"Ada": {"0", "1"}, "Bob": {"90", "91"}})
	file := filepath.Join(dir, "pairs.txt")
	if err := os.WriteFile(file, []byte("1\t2\nAda\t1\t2\nBob\t1\t2\nAda\t1\tBob\t2\nAda\t2\tBob\t1\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	s, err := evaluation.ReadPairs(file, dir)
	if err != nil {
		t.Fatal(err)
	}
	r := measure(t, s)
	if r.Photos != 4 || r.Genuine != 2 || r.Strangers != 2 {
		t.Errorf("got %d photos, %d genuine, %d strangers, want 4, 2, 2", r.Photos, r.Genuine, r.Strangers)
	}
}

func TestBrokenPairsFiles(t *testing.T) {
	dir := folder(t, map[string][]string{"Ada": {"0", "1"}})
	for name, c := range map[string]struct{ text, want string }{
		"empty":         {"", "has no pairs"},
		"count alone":   {"10 300\n", "has no pairs"},
		"no such photo": {"1\nAda 1 3\n", ":2: photo"},
		"no number":     {"1\nAda 1 x\n", `:2: "x" is not the number of a photo`},
		"many words":    {"1\nAda 1 Ada 2 3\n", ":2: 5 words, not 3 or 4"},
		"path":          {"1\n../Ada 1 2\n", `:2: "../Ada" is not a person's name`},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pairs.txt")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := evaluation.ReadPairs(file, dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
