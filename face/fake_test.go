package face_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/vision"
)

func TestMain(m *testing.M) {
	// The first randomness of a process must not be drawn inside a synctest bubble: the FIPS module times its source.
	if _, err := rand.Read(make([]byte, 1)); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// dim is the length of the fake's templates.
const dim = 128

// fake finds the faces that the bytes of a photo name: words like "ann" or "ann.2", each a face, the largest first.
// Faces of the same name are near one another, the nearer the closer their numbers; different names are far apart.
// Other words make it fail. A word that begins with a question mark is a face without a template. The picture is 1000
// by 1000 pixels, face i is at 100·i, 100·i and (100-i) pixels wide and high.
type fake struct {
	name     string
	supports vision.Attributes
	want     func(vision.Want) // if set, called with what was asked for
	numbers  int               // length of its templates; 0: dim
}

func (f *fake) Name() string                 { return f.name }
func (f *fake) Dim() int                     { return cmp.Or(f.numbers, dim) }
func (f *fake) Supports() vision.Attributes  { return f.supports }
func (f *fake) Confidence(d float64) float64 { return 1 - d/0.8 } // 0.5 at 0.4
func (f *fake) Threshold(n int) float64      { return min(0.5+float64(n)/20, 0.99) }
func (f *fake) String() string               { return f.name }

func (f *fake) Detect(ctx context.Context, photo []byte, want vision.Want) (*vision.Photo, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if f.want != nil {
		f.want(want)
	}
	p := &vision.Photo{Width: 1000, Height: 1000}
	for i, word := range strings.Fields(string(photo)) {
		switch word {
		case "!format":
			return nil, &vision.ImageError{Kind: vision.UnknownFormat, Message: "no picture"}
		case "!broken":
			return nil, &vision.ImageError{Kind: vision.Broken, Message: "broken picture"}
		case "!few":
			return nil, &vision.ImageError{Kind: vision.TooFewBytes, Message: "too few bytes"}
		case "!many":
			return nil, &vision.ImageError{Kind: vision.TooManyBytes, Message: "too many bytes"}
		case "!large":
			return nil, &vision.ImageError{Kind: vision.TooLarge, Message: "too many pixels"}
		case "!fail":
			return nil, errors.New("the networks fell over")
		}
		p.Faces = append(p.Faces, vision.Face{
			Box: vision.Box{Left: 100 * i, Top: 100 * i, Width: 100 - i, Height: 100 - i}, Score: 1,
		})
	}
	chosen := make([]int, len(p.Faces))
	for i := range chosen {
		chosen[i] = i
	}
	if want.Select != nil {
		chosen = want.Select(p.Faces)
	}
	for _, i := range chosen {
		if word := strings.Fields(string(photo))[i]; want.Templates && !strings.HasPrefix(word, "?") {
			p.Faces[i].Template = templateOf(word, f.Dim())
		}
		if want.Landmarks {
			p.Faces[i].Landmarks = &vision.Landmarks{PupilLeft: vision.Point{X: 1, Y: 2}}
		}
		p.Faces[i].Attributes = vision.Measured{
			vision.HeadPose:    vision.Pose{Roll: 3},
			vision.Blur:        vision.Level{Name: "medium", Value: 0.5},
			vision.Exposure:    vision.Level{Name: "goodExposure", Value: 0.5},
			vision.Noise:       vision.Level{Name: "medium", Value: 0.5},
			vision.Quality:     vision.High,
			vision.Glasses:     vision.Sunglasses,
			vision.Mask:        vision.Covering{Type: vision.OtherCovering, NoseAndMouth: true},
			vision.Occlusion:   vision.Hidden{Eyes: true},
			vision.Accessories: []vision.Accessory{{Type: vision.Headwear, Confidence: 0.75}},
		}
		if want.Attributes == 0 {
			p.Faces[i].Attributes = nil
		}
		maps.DeleteFunc(p.Faces[i].Attributes, func(a vision.Attributes, _ any) bool { return want.Attributes&a == 0 })
	}
	return p, nil
}

// codeOf makes the code of a word: "ann" near "ann.1", nearer than to "ann.9".
func codeOf(word string) gallery.Code { return encode(templateOf(word, dim)) }

func encode(template []float32) gallery.Code {
	code, err := gallery.Encode(template)
	if err != nil {
		panic(err)
	}
	return code
}

func templateOf(word string, numbers int) []float32 {
	name, number, _ := strings.Cut(word, ".")
	var n float64
	fmt.Sscanf(number, "%g", &n)
	h := fnv.New64a()
	h.Write([]byte(name))
	base, aside := mathrand.New(mathrand.NewPCG(h.Sum64(), 1)), mathrand.New(mathrand.NewPCG(h.Sum64(), 2))
	v := make([]float64, numbers)
	square := 0.0
	for i := range v {
		v[i] = base.NormFloat64() + 0.05*n*aside.NormFloat64()
		square += v[i] * v[i]
	}
	t := make([]float32, numbers)
	for i := range v {
		t[i] = float32(v[i] / math.Sqrt(square))
	}
	return t
}

// measurable is what the fake measures, like the default pack.
const measurable = vision.HeadPose | vision.Blur | vision.Exposure | vision.Noise | vision.Quality
