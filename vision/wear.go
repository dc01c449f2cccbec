package vision

import (
	"context"
	"fmt"
	"image"
	"slices"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

// Eyewear is what a face wears before its eyes.
type Eyewear uint8

// The kinds of eyewear.
const (
	AnyEyewear     Eyewear = iota // not known
	NoGlasses                     // none
	ReadingGlasses                // lenses that the eyes are seen through
	Sunglasses                    // dark or mirroring lenses
)

// String returns the kind's name as the Face contract spells it.
func (e Eyewear) String() string {
	switch e {
	case NoGlasses:
		return "noGlasses"
	case ReadingGlasses:
		return "readingGlasses"
	case Sunglasses:
		return "sunglasses"
	}
	return "any"
}

// Covering says whether a mask or something else covers the lower half of a face.
type Covering struct {
	Type CoveringType
	// NoseAndMouth says that both are covered, and not only one of them.
	NoseAndMouth bool
}

// CoveringType is the kind of a covering.
type CoveringType uint8

// The kinds of covering.
const (
	NoCovering        CoveringType = iota // nothing
	FaceMask                              // a mask that is worn for health, wherever it sits
	OtherCovering                         // a hand, a scarf, an object
	UncertainCovering                     // the face does not show it well enough
)

// String returns the kind's name as the Face contract spells it.
func (c CoveringType) String() string {
	switch c {
	case NoCovering:
		return "noMask"
	case FaceMask:
		return "faceMask"
	case OtherCovering:
		return "otherMaskOrOcclusion"
	}
	return "uncertain"
}

// Hidden says which parts of a face something lies over: hair, a hat, a hand, a mask, dark lenses.
type Hidden struct {
	Forehead, Eyes, Mouth bool
}

// Accessory is something that a face wears.
type Accessory struct {
	Type AccessoryType
	// Confidence is 0.5 to 1; what is less certain is not listed.
	Confidence float64
}

// AccessoryType is the kind of an accessory.
type AccessoryType uint8

// The kinds of accessory.
const (
	Headwear AccessoryType = iota
	GlassesWorn
	MaskWorn
)

// String returns the kind's name as the Face contract spells it.
func (a AccessoryType) String() string {
	switch a {
	case Headwear:
		return "headwear"
	case GlassesWorn:
		return "glasses"
	}
	return "mask"
}

// wearer sees signs of what a face wears.
type wearer struct {
	about   pack.Wear
	session *ort.Session
}

// visible reports whether the networks together see all signs of a list.
func visible(list []pack.Sign, networks []wearer) bool {
	return !slices.ContainsFunc(list, func(s pack.Sign) bool {
		return !slices.ContainsFunc(networks, func(w wearer) bool { return slices.Contains(w.about.Signs, s) })
	})
}

// signs are the probabilities of what was looked for on a face.
type signs map[pack.Sign]float64

// shows says whether a sign is more likely there than not.
func (s signs) shows(sign pack.Sign) bool { return s[sign] >= 0.5 }

// see returns the signs on each subject that the wanted attributes are measured from. Only the networks that see one
// of these signs run.
func (p *Pipeline) see(ctx context.Context, img *photo.RGB, some []*subject, want Attributes) ([]signs, error) {
	seen, fives := make([]signs, len(some)), make([][5]geometry.Point, len(some))
	for i, s := range some {
		seen[i], fives[i] = signs{}, s.five()
	}
	for _, w := range p.wearers {
		wanted := where(func(a Attribute) bool {
			return slices.ContainsFunc(a.signs, func(s pack.Sign) bool { return slices.Contains(w.about.Signs, s) })
		})
		if want&wanted == 0 {
			continue
		}
		if err := w.look(ctx, img, fives, seen); err != nil {
			return nil, fmt.Errorf("see what faces wear: %w", err)
		}
	}
	return seen, nil
}

// look adds the signs that the network sees on the face with each five points.
func (w *wearer) look(ctx context.Context, img *photo.RGB, fives [][5]geometry.Point, seen []signs) error {
	in := w.about.Input
	for some := range slices.Chunk(fives, atOnce(in)) {
		t := newTensor(len(some), in.Width, in.Height)
		for i, five := range some {
			view, err := align(w.about.Alignment, five)
			if err != nil {
				return err
			}
			plane(t, i, in).fillSmooth(img, image.Rect(0, 0, img.W, img.H), view)
		}
		out, err := w.session.Run(ctx, t)
		if err != nil {
			return err
		}
		n := len(w.about.Signs)
		if len(out[0].Data) != n*len(some) {
			return fmt.Errorf("%s gave %d numbers for %d faces of %d signs", w.about.File, len(out[0].Data), len(some),
				n)
		}
		for i := range some {
			for k, sign := range w.about.Signs {
				p := float64(out[0].Data[i*n+k])
				if !(p >= 0 && p <= 1) {
					return fmt.Errorf("%s gave %v as the probability of %s", w.about.File, p, sign)
				}
				seen[i][sign] = p
			}
		}
		seen = seen[len(some):]
	}
	return nil
}

// Where a mask, or anything over mouth or nose, is less probable than this, there is none; from one half on there is
// one. Between the two, and where the pupils are fewer pixels apart, nobody can tell.
const (
	surelyNot   = 0.25
	leastPupils = 10
)

// eyewear returns what the face wears before its eyes.
func eyewear(s signs) Eyewear {
	switch {
	case !s.shows(pack.SignGlasses):
		return NoGlasses
	case s.shows(pack.SignSunglasses):
		return Sunglasses
	}
	return ReadingGlasses
}

// hidden returns which parts of the face something lies over.
func hidden(s signs) Hidden {
	return Hidden{
		Forehead: s.shows(pack.SignForeheadOccluded), Eyes: s.shows(pack.SignEyesOccluded),
		Mouth: s.shows(pack.SignMouthOccluded),
	}
}

// worn returns what the face wears. It is not nil.
func worn(s signs) []Accessory {
	all := []Accessory{}
	for _, a := range []struct {
		sign pack.Sign
		kind AccessoryType
	}{{pack.SignHeadwear, Headwear}, {pack.SignGlasses, GlassesWorn}, {pack.SignMask, MaskWorn}} {
		if s.shows(a.sign) {
			all = append(all, Accessory{Type: a.kind, Confidence: s[a.sign]})
		}
	}
	return all
}

// covering returns what covers the lower half of a face whose pupils are so many pixels apart.
func covering(s signs, pupils float64) Covering {
	over := max(s[pack.SignMouthOccluded], s[pack.SignNoseOccluded])
	c := Covering{
		Type: UncertainCovering, NoseAndMouth: s.shows(pack.SignMouthOccluded) && s.shows(pack.SignNoseOccluded),
	}
	switch mask := s[pack.SignMask]; {
	case pupils < leastPupils:
	case s.shows(pack.SignMask):
		c.Type = FaceMask
	case mask >= surelyNot:
	case over >= 0.5:
		c.Type = OtherCovering
	case over < surelyNot:
		c.Type = NoCovering
	}
	return c
}
