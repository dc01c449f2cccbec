package bench_test

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"image"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/visage-face/visage/vision"
)

// portraits is the number of people whose photos BenchmarkQuality damages; enlarged is the factor by which it enlarges
// them, so that the faces of photos of 250 × 250 pixels are large enough for every grade.
const (
	portraits = 60
	enlarged  = 2.4
)

// graded is a face, with the damage done to its photo.
type graded struct {
	person   int
	damage   string
	grade    vision.Grade
	template []float32 // nil below the floor
}

// BenchmarkQuality damages photos in many ways and counts, by grade, how often the faces match another, undamaged photo
// of the person, and how often strangers' faces with the same damage match each other. VISAGE_PORTRAITS names a folder
// with one folder of photos for each person; without it, the shared half of Labeled Faces in the Wild is used.
func BenchmarkQuality(b *testing.B) {
	const what = "quality: true accepts of high"
	folder := cmp.Or(os.Getenv("VISAGE_PORTRAITS"), filepath.Join(root(b), "..", "shared", "data", "lfw-dev"))
	pairs, err := twoPhotosEach(folder, portraits)
	if err != nil || len(pairs) < portraits {
		skipped(b, what, "no folder with two photos each of 60 people: set VISAGE_PORTRAITS")
	}
	p, err := openPipeline(root(b), nil)
	if err != nil {
		skipped(b, what, err.Error())
	}
	defer p.Close()
	var references, faces []graded
	lost := 0
	measured := false
	for b.Loop() {
		if measured {
			continue
		}
		measured = true
		for person, pair := range pairs {
			var photos [2]*image.RGBA
			for i, path := range pair {
				if photos[i], err = openPhoto(path); err != nil {
					b.Fatal(err)
				}
			}
			r := rand.New(rand.NewPCG(uint64(person), 1))
			if f, ok := largest(b, p, photos[1]); ok && f.Template != nil {
				references = append(references, graded{person: person, template: f.Template})
			}
			for _, d := range damages {
				f, ok := largest(b, p, d.do(photos[0], r))
				if !ok {
					lost++
					continue
				}
				quality, _ := f.Attributes[vision.Quality].(vision.Grade)
				faces = append(faces, graded{person, d.name, quality, f.Template})
			}
		}
	}
	b.Logf("%d damaged photos of %d people, no face found on %d", len(damages)*len(pairs), len(pairs), lost)
	rows := byGrade(p, references, faces)
	b.Log("| grade | faces | true accepts | strangers accepted, same damage | strangers accepted, undamaged |")
	b.Log("| --- | --- | --- | --- | --- |")
	for _, r := range rows {
		b.Logf("| %s | %d | %.1f %% | %.2g | %.2g |", r.name, r.faces, 100*r.trueAccepts, r.alike, r.plain)
	}
	for _, d := range damages {
		count := map[string]int{}
		for _, f := range faces {
			if f.damage == d.name {
				count[f.level()]++
			}
		}
		b.Logf("%-28s %v", d.name, count)
	}
	low, medium, high := rows[1], rows[2], rows[3]
	atLeast(b, what, high.trueAccepts, 0.9, "", fmt.Sprintf("medium %.3f, low %.3f",
		medium.trueAccepts, low.trueAccepts))
	ordered := 0.0
	if high.trueAccepts >= medium.trueAccepts && medium.trueAccepts >= low.trueAccepts &&
		high.alike <= medium.alike && medium.alike <= low.alike {
		ordered = 1
	}
	atLeast(b, "quality: grades are in the order of both rates", ordered, 1, "",
		fmt.Sprintf("strangers with the same damage: %.2g, %.2g, %.2g",
			high.alike, medium.alike, low.alike))
}

// level is the face's grade, or none below the floor.
func (f graded) level() string {
	if f.template == nil {
		return "none"
	}
	return f.grade.String()
}

// gradeRow is the counts of one grade.
type gradeRow struct {
	name                      string
	faces                     int
	trueAccepts, alike, plain float64
}

// byGrade counts the grades from below the floor to high.
func byGrade(p *vision.Pipeline, references, faces []graded) []gradeRow {
	same := func(a, b graded) bool {
		dot := 0.0
		for i := range a.template {
			dot += float64(a.template[i]) * float64(b.template[i])
		}
		return p.Confidence(1-dot) >= 0.5
	}
	var rows []gradeRow
	for _, level := range []string{"none", "low", "medium", "high"} {
		row := gradeRow{name: level}
		var genuine, accepted, strangers, alike, others, plain int
		for i, f := range faces {
			if f.level() != level {
				continue
			}
			row.faces++
			if f.template == nil {
				continue
			}
			for _, r := range references {
				hit := same(f, r)
				if r.person == f.person {
					genuine, accepted = genuine+1, accepted+one(hit)
				} else {
					others, plain = others+1, plain+one(hit)
				}
			}
			for _, o := range faces[:i] {
				if o.damage == f.damage && o.person != f.person && o.level() == level {
					strangers, alike = strangers+1, alike+one(same(f, o))
				}
			}
		}
		row.trueAccepts = float64(accepted) / float64(max(genuine, 1))
		row.alike = float64(alike) / float64(max(strangers, 1))
		row.plain = float64(plain) / float64(max(others, 1))
		rows = append(rows, row)
	}
	return rows
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// twoPhotosEach returns two photos of each of the first people who have two, always the same ones.
func twoPhotosEach(folder string, people int) ([][2]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	order := func(name string) uint64 {
		h := fnv.New64a()
		h.Write([]byte("quality " + name))
		return h.Sum64()
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return cmp.Compare(order(a.Name()), order(b.Name())) })
	var pairs [][2]string
	for _, e := range entries {
		photos, err := filepath.Glob(filepath.Join(folder, e.Name(), "*.jpg"))
		if err != nil {
			return nil, err
		}
		if len(photos) >= 2 && len(pairs) < people {
			pairs = append(pairs, [2]string{photos[0], photos[1]})
		}
	}
	return pairs, nil
}

// openPhoto returns a JPEG file's picture, enlarged.
func openPhoto(path string) (*image.RGBA, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	img, err := jpeg.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	return scaled(img, enlarged), nil
}

// largest returns the face that is nearest to the middle of a picture and at least a fifth of its width.
func largest(b *testing.B, p *vision.Pipeline, img *image.RGBA) (vision.Face, bool) {
	b.Helper()
	var file bytes.Buffer
	if err := jpeg.Encode(&file, img, &jpeg.Options{Quality: 95}); err != nil {
		b.Fatal(err)
	}
	found, err := p.Detect(b.Context(), file.Bytes(), vision.Want{Templates: true, Attributes: vision.Quality})
	if err != nil {
		b.Fatal(err)
	}
	away := func(f vision.Face) float64 {
		return math.Hypot(float64(2*f.Box.Left+f.Box.Width-found.Width), float64(2*f.Box.Top+f.Box.Height-found.Height))
	}
	faces := slices.DeleteFunc(found.Faces, func(f vision.Face) bool { return 5*f.Box.Width < found.Width })
	if len(faces) == 0 {
		return vision.Face{}, false
	}
	return slices.MinFunc(faces, func(a, b vision.Face) int { return cmp.Compare(away(a), away(b)) }), true
}

// damages are the ways to damage enlarged photos, whose faces are about 240 pixels wide.
var damages = []struct {
	name string
	do   func(img *image.RGBA, r *rand.Rand) *image.RGBA
}{
	{"none", func(img *image.RGBA, _ *rand.Rand) *image.RGBA { return img }},
	{"blurred by σ 2.4", func(img *image.RGBA, _ *rand.Rand) *image.RGBA { return blurred(img, 2.4, 2.4) }},
	{"blurred by σ 5", func(img *image.RGBA, _ *rand.Rand) *image.RGBA { return blurred(img, 5, 5) }},
	{"blurred by σ 8", func(img *image.RGBA, _ *rand.Rand) *image.RGBA { return blurred(img, 8, 8) }},
	{"blurred by σ 14", func(img *image.RGBA, _ *rand.Rand) *image.RGBA { return blurred(img, 14, 14) }},
	{"moved by σ 12", func(img *image.RGBA, _ *rand.Rand) *image.RGBA { return blurred(img, 12, 0) }},
	{"blurred by σ 12, noise of 15", func(img *image.RGBA, r *rand.Rand) *image.RGBA {
		return noisy(blurred(img, 12, 12), 15, r)
	}},
	{"noise of 60", func(img *image.RGBA, r *rand.Rand) *image.RGBA { return noisy(img, 60, r) }},
	{"noise of 150", func(img *image.RGBA, r *rand.Rand) *image.RGBA { return noisy(img, 150, r) }},
	{"light × 0.15", func(img *image.RGBA, _ *rand.Rand) *image.RGBA {
		return each(img, func(v float64) float64 { return 0.15 * v })
	}},
	{"light × 0.05", func(img *image.RGBA, _ *rand.Rand) *image.RGBA {
		return each(img, func(v float64) float64 { return 0.05 * v })
	}},
	{"negative", func(img *image.RGBA, _ *rand.Rand) *image.RGBA {
		return each(img, func(v float64) float64 { return 255 - v })
	}},
	{"faces of 36 pixels, enlarged", func(img *image.RGBA, _ *rand.Rand) *image.RGBA {
		return scaled(scaled(blurred(img, 3, 3), 0.15), 1/0.15)
	}},
	{"lower half covered", func(img *image.RGBA, _ *rand.Rand) *image.RGBA { return covered(img, 0.51, 0.75) }},
	{"eyes covered", func(img *image.RGBA, _ *rand.Rand) *image.RGBA { return covered(img, 0.40, 0.50) }},
	{"turned by 90°", func(img *image.RGBA, _ *rand.Rand) *image.RGBA { return onItsSide(img) }},
}

func each(img *image.RGBA, f func(v float64) float64) *image.RGBA {
	out := image.NewRGBA(img.Rect)
	for i, v := range img.Pix {
		out.Pix[i] = byte(min(max(f(float64(v))+0.5, 0), 255))
	}
	return out
}

func noisy(img *image.RGBA, deviation float64, r *rand.Rand) *image.RGBA {
	return each(img, func(v float64) float64 { return v + deviation*r.NormFloat64() })
}

// covered hides a part of the picture's height, where portraits of Labeled Faces in the Wild have their faces.
func covered(img *image.RGBA, from, to float64) *image.RGBA {
	out := image.NewRGBA(img.Rect)
	copy(out.Pix, img.Pix)
	w, h := float64(img.Rect.Dx()), float64(img.Rect.Dy())
	for y := int(from * h); y < int(to*h); y++ {
		for x := int(0.28 * w); x < int(0.72*w); x++ {
			copy(out.Pix[out.PixOffset(x, y):], []byte{110, 160, 200})
		}
	}
	return out
}

func onItsSide(img *image.RGBA) *image.RGBA {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	out := image.NewRGBA(image.Rect(0, 0, h, w))
	for y := range h {
		for x := range w {
			out.SetRGBA(h-1-y, x, img.RGBAAt(x, y))
		}
	}
	return out
}

// scaled samples a picture between four pixels each.
func scaled(img image.Image, by float64) *image.RGBA {
	from := img.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, int(float64(from.Dx())*by+0.5), int(float64(from.Dy())*by+0.5)))
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			u := min(max((float64(x)+0.5)/by-0.5, 0), float64(from.Dx()-1))
			v := min(max((float64(y)+0.5)/by-0.5, 0), float64(from.Dy()-1))
			left, top := int(u), int(v)
			var sum [3]float64
			for _, at := range [4][2]int{{0, 0}, {1, 0}, {0, 1}, {1, 1}} {
				weight := (1 - math.Abs(u-float64(left+at[0]))) * (1 - math.Abs(v-float64(top+at[1])))
				if weight <= 0 {
					continue
				}
				r, g, b, _ := img.At(from.Min.X+left+at[0], from.Min.Y+top+at[1]).RGBA()
				sum[0], sum[1], sum[2] = sum[0]+weight*float64(r), sum[1]+weight*float64(g), sum[2]+weight*float64(b)
			}
			copy(out.Pix[out.PixOffset(x, y):], []byte{byte(sum[0] / 257), byte(sum[1] / 257), byte(sum[2] / 257), 255})
		}
	}
	return out
}

// blurred approximates a Gaussian by three box filters in each direction.
func blurred(img *image.RGBA, along, across float64) *image.RGBA {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	for pass := range 6 {
		sigma, lines, length, line, step := along, h, w, img.Stride, 4
		if pass%2 != 0 {
			sigma, lines, length, line, step = across, w, h, 4, img.Stride
		}
		reach := int(math.Round((math.Sqrt(4*sigma*sigma+1) - 1) / 2))
		out := image.NewRGBA(img.Rect)
		for l := range lines {
			for c := range 4 {
				at := func(i int) int { return int(img.Pix[l*line+min(max(i, 0), length-1)*step+c]) }
				sum := reach
				for i := -reach; i <= reach; i++ {
					sum += at(i)
				}
				for i := range length {
					out.Pix[l*line+i*step+c] = byte(sum / (2*reach + 1))
					sum += at(i+reach+1) - at(i-reach)
				}
			}
		}
		img = out
	}
	return img
}
