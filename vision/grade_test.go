package vision_test

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

// packNamed opens a pack that `make setup` made.
func packNamed(t testing.TB, name string) *pack.Pack {
	t.Helper()
	dir := filepath.Join(root, "models", "packs", name)
	if _, err := os.Stat(filepath.Join(dir, pack.ManifestName)); err != nil {
		missing(t, "no model pack at "+dir+": run `make setup`")
	}
	p, err := pack.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// smeared blurs a picture with nearly a Gaussian: a box three times, in each direction.
func smeared(p *photo.RGB, sigma float64) *photo.RGB {
	reach := int(math.Round((math.Sqrt(4*sigma*sigma+1) - 1) / 2))
	for pass := range 6 {
		q := &photo.RGB{W: p.W, H: p.H, Pix: make([]byte, len(p.Pix))}
		lines, length, line, step := p.H, p.W, 3*p.W, 3
		if pass%2 != 0 {
			lines, length, line, step = p.W, p.H, 3, 3*p.W
		}
		for l := range lines {
			for c := range 3 {
				at := func(i int) int { return int(p.Pix[l*line+min(max(i, 0), length-1)*step+c]) }
				sum := reach
				for i := -reach; i <= reach; i++ {
					sum += at(i)
				}
				for i := range length {
					q.Pix[l*line+i*step+c] = byte(sum / (2*reach + 1))
					sum += at(i+reach+1) - at(i-reach)
				}
			}
		}
		p = q
	}
	return p
}

// changed returns the picture with every value changed.
func changed(p *photo.RGB, f func(v float64) float64) *photo.RGB {
	q := &photo.RGB{W: p.W, H: p.H, Pix: make([]byte, len(p.Pix))}
	for i, v := range p.Pix {
		q.Pix[i] = byte(min(max(f(float64(v)), 0), 255))
	}
	return q
}

// Damaged photos identify nobody: the photo itself gives a template, and its damaged copies give none, or at least none
// that the people of the other photos have too.
func TestNoTemplateOfWhatShowsNobody(t *testing.T) {
	p := open(t, vision.Config{Pack: packNamed(t, "mobileface")})
	want := vision.Want{Templates: true, Attributes: vision.Quality}
	r := rand.New(rand.NewPCG(1, 2))
	damages := map[string]func(img *photo.RGB, width int) *photo.RGB{
		"blurred": func(img *photo.RGB, width int) *photo.RGB { return smeared(img, float64(width)/17) },
		"negative": func(img *photo.RGB, _ int) *photo.RGB {
			return changed(img, func(v float64) float64 { return 255 - v })
		},
		"noisy": func(img *photo.RGB, _ int) *photo.RGB {
			return changed(img, func(v float64) float64 { return v + 140*r.NormFloat64() })
		},
		"black": func(img *photo.RGB, _ int) *photo.RGB {
			return changed(img, func(v float64) float64 { return v / 40 })
		},
	}
	people := []string{"Family1-Dad1", "Family1-Mom1", "Family2-Lady1", "Family2-Man1", "Family3-Lady1", "Family3-Man1"}
	made := map[string][]vision.Face{}
	for _, name := range people {
		img, err := vision.Decode(read(t, shared(t, "faces", name+".jpg")))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := p.Examine(t.Context(), img, want)
		if err != nil {
			t.Fatal(err)
		}
		if len(plain.Faces) != 1 || plain.Faces[0].Template == nil ||
			plain.Faces[0].Attributes[vision.Quality] == vision.Low {
			t.Errorf("%s: %d faces, want one of at least medium quality with a template", name, len(plain.Faces))
			continue
		}
		for damage, f := range damages {
			found, err := p.Examine(t.Context(), f(img, plain.Faces[0].Box.Width), want)
			if err != nil {
				t.Fatal(err)
			}
			for _, face := range found.Faces {
				quality := face.Attributes[vision.Quality]
				if quality != vision.Low && quality != vision.Medium ||
					face.Template == nil && quality != vision.Low {
					t.Errorf("%s, %s: quality is %v", name, damage, quality)
				}
				if face.Template != nil {
					made[damage] = append(made[damage], face)
				}
			}
		}
	}
	for damage, faces := range made {
		t.Logf("%s: %d templates of %d faces", damage, len(faces), len(people))
		if len(faces) > 1 {
			t.Errorf("%s: templates were made of %d of %d faces", damage, len(faces), len(people))
		}
	}
}

func TestNoHighQualityWithoutAFace(t *testing.T) {
	p := open(t, vision.Config{Pack: packNamed(t, "mobileface")})
	for name, file := range field(t, "nonface") {
		if filepath.Ext(name) != ".png" {
			continue
		}
		found, err := p.Detect(t.Context(), file, vision.Want{Templates: true, Attributes: vision.Quality})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found.Faces {
			if quality := f.Attributes[vision.Quality]; f.Template != nil || quality != vision.Low {
				t.Errorf("%s: a face of quality %v at %+v", name, quality, f.Box)
			}
		}
	}
}

// The faces of a photo do not depend on what is asked about it.
func TestFacesDoNotDependOnWhatIsWanted(t *testing.T) {
	p := open(t, vision.Config{Pack: packNamed(t, "mobileface")})
	photos := field(t, "nonface")
	photos["group"] = read(t, shared(t, "faces", "identification1.jpg"))
	photos["turned"] = field(t, "rotated")["Family1-Dad1-270.jpg"]
	for name, file := range photos {
		if filepath.Ext(name) == ".txt" {
			continue
		}
		var first []vision.Face
		for i, want := range []vision.Want{{}, {Templates: true}, {Landmarks: true, Attributes: p.Supports()}} {
			got, err := p.Detect(t.Context(), file, want)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = got.Faces
			}
			if !slices.EqualFunc(first, got.Faces,
				func(a, b vision.Face) bool { return a.Box == b.Box && a.Score == b.Score }) {
				t.Errorf("%s: %d faces with %+v, %d without", name, len(got.Faces), want, len(first))
			}
		}
	}
}
