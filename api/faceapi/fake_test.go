package faceapi_test

import (
	"context"
	"errors"
	"hash/fnv"
	"maps"
	"math"
	mathrand "math/rand/v2"
	"strings"

	"github.com/visage-face/visage/vision"
)

// fake finds the words on a "photo": each is a person's face, 100 pixels wide and high, side by side on a picture of
// 1000 by 1000 pixels. Faces of one name are the same except for the part after a dot ("ann", "ann.1"), which moves
// them a little. A word with a question mark is a face without a template. Words with an exclamation mark are faults of
// the photo. All people except "ben" wear glasses, a hat and a mask.
type fake struct {
	bare bool // no wear networks
	wide bool // a recogniser of another pack, with longer templates
}

// dim is the length of the fake's templates.
const dim = 16

func (fake) Threshold(int) float64        { return 0.5 }
func (fake) Confidence(d float64) float64 { return max(0, 1-d) } // 0.5 at a distance of 0.5
func (f fake) Supports() vision.Attributes {
	measured := vision.HeadPose | vision.Blur | vision.Exposure | vision.Noise | vision.Quality
	if f.bare {
		return measured
	}
	return measured | vision.Glasses | vision.Occlusion | vision.Accessories | vision.Mask
}

func (f fake) Name() string {
	if f.wide {
		return "wide fake"
	}
	return "fake"
}

func (f fake) Dim() int {
	if f.wide {
		return 2 * dim
	}
	return dim
}

var flaws = map[string]error{
	"!format": &vision.ImageError{Kind: vision.UnknownFormat, Message: "it is no picture"},
	"!broken": &vision.ImageError{Kind: vision.Broken, Message: "it is broken"},
	"!few":    &vision.ImageError{Kind: vision.TooFewBytes, Message: "it has too few bytes"},
	"!large":  &vision.ImageError{Kind: vision.TooLarge, Message: "it has too many pixels"},
	"!fail":   errors.New("the networks fell over: canary"),
	"!panic":  nil,
}

func (f fake) Detect(_ context.Context, photo []byte, want vision.Want) (*vision.Photo, error) {
	words := strings.Fields(string(photo))
	p := &vision.Photo{Width: 1000, Height: 1000}
	for i, word := range words {
		if word == "!panic" {
			panic("canary")
		}
		if err, bad := flaws[word]; bad {
			return nil, err
		}
		p.Faces = append(
			p.Faces, vision.Face{Box: vision.Box{Left: 100 * i, Top: 10, Width: 100, Height: 100}, Score: 1},
		)
	}
	chosen := make([]int, len(p.Faces))
	for i := range chosen {
		chosen[i] = i
	}
	if want.Select != nil {
		chosen = want.Select(p.Faces)
	}
	for _, i := range chosen {
		describe(&p.Faces[i], words[i], want, f.Dim())
	}
	return p, nil
}

func describe(f *vision.Face, word string, want vision.Want, dim int) {
	if want.Templates && !strings.HasPrefix(word, "?") {
		f.Template = template(word, dim)
	}
	if want.Landmarks {
		f.Landmarks = &vision.Landmarks{PupilLeft: vision.Point{X: 1.26, Y: 2},
			PupilRight: vision.Point{X: 3, Y: -0.04}}
	}
	eyewear, cover := vision.NoGlasses, vision.Covering{}
	worn := []vision.Accessory{}
	dressed := word != "ben"
	if dressed {
		eyewear, cover = vision.ReadingGlasses, vision.Covering{Type: vision.FaceMask, NoseAndMouth: true}
		worn = append(worn, vision.Accessory{Type: vision.Headwear, Confidence: 0.987},
			vision.Accessory{Type: vision.GlassesWorn, Confidence: 1})
	}
	f.Attributes = vision.Measured{
		vision.HeadPose:    vision.Pose{Pitch: -0.01, Roll: 3.14159, Yaw: -20},
		vision.Blur:        vision.Level{Name: "low", Value: 0.123456},
		vision.Exposure:    vision.Level{Name: "underExposure", Value: 0.123456},
		vision.Noise:       vision.Level{Name: "low", Value: 0.123456},
		vision.Quality:     vision.High,
		vision.Glasses:     eyewear,
		vision.Mask:        cover,
		vision.Occlusion:   vision.Hidden{Forehead: true, Mouth: dressed},
		vision.Accessories: worn,
	}
	if want.Attributes == 0 {
		f.Attributes = nil
	}
	maps.DeleteFunc(f.Attributes, func(a vision.Attributes, _ any) bool { return want.Attributes&a == 0 })
}

// template makes a unit vector of a word.
func template(word string, dim int) []float32 {
	name, variant, _ := strings.Cut(word, ".")
	direction := func(s string) *mathrand.Rand {
		h := fnv.New64a()
		h.Write([]byte(s))
		return mathrand.New(mathrand.NewPCG(h.Sum64(), 1))
	}
	person, aside := direction(name), direction("variant "+variant)
	numbers := make([]float64, dim)
	square := 0.0
	for i := range numbers {
		numbers[i] = person.NormFloat64()
		if variant != "" {
			numbers[i] += 0.1 * aside.NormFloat64()
		}
		square += numbers[i] * numbers[i]
	}
	v := make([]float32, dim)
	for i := range v {
		v[i] = float32(numbers[i] / math.Sqrt(square))
	}
	return v
}
