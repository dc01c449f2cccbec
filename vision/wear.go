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

// Eyewear is what a face wears in front of its eyes.
type Eyewear uint8

// The kinds of eyewear.
const (
	AnyEyewear     Eyewear = iota // not known
	NoGlasses                     // none
	ReadingGlasses                // clear lenses
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
	// NoseAndMouth says that both nose and mouth are covered, and not only one of them.
	NoseAndMouth bool
}

// CoveringType is the kind of a covering.
type CoveringType uint8

// The kinds of covering.
const (
	NoCovering        CoveringType = iota // nothing
	FaceMask                              // a medical or protective mask, even when it does not cover the nose
	OtherCovering                         // a hand, a scarf, an object
	UncertainCovering                     // the face is too small or the signs too weak to tell
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

// Hidden says which parts of a face are covered: by hair, a hat, a hand, a mask, dark lenses.
type Hidden struct {
	Forehead, Eyes, Mouth bool
}

// Accessory is something that a face wears.
type Accessory struct {
	Type AccessoryType
	// Confidence is 0.5 to 1; less certain accessories are not listed.
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

// wearer is a network that sees signs of what a face wears.
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

// signs are the probabilities of the signs that were looked for on a face.
type signs map[pack.Sign]float64

// shows reports whether a sign is more likely present than absent.
func (s signs) shows(sign pack.Sign) bool { return s[sign] >= 0.5 }

// see returns the signs on each subject from which the wanted attributes are measured. Only the networks that see one
// of these signs run.
func (p *Pipeline) see(ctx context.Context, img *photo.RGB, some []*subject, want Attributes) ([]signs, error) {
	seen := make([]signs, len(some))
	for i := range seen {
		seen[i] = signs{}
	}
	var fives [][5]geometry.Point // only if a network looks: attributes without signs do not mark the faces
	for _, w := range p.wearNetworks {
		wanted := where(func(a Attribute) bool {
			return slices.ContainsFunc(a.signs, func(s pack.Sign) bool { return slices.Contains(w.about.Signs, s) })
		})
		if want&wanted == 0 {
			continue
		}
		if fives == nil {
			for _, s := range some {
				fives = append(fives, s.five())
			}
		}
		if err := w.look(ctx, img, fives, seen); err != nil {
			return nil, fmt.Errorf("see what faces wear: %w", err)
		}
	}
	return seen, nil
}

// look adds the signs that the network sees on the face of each five points.
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
			return fmt.Errorf("%s returned %d numbers for %d faces of %d signs", w.about.File, len(out[0].Data),
				len(some), n)
		}
		for i := range some {
			for k, sign := range w.about.Signs {
				p := float64(out[0].Data[i*n+k])
				if !(p >= 0 && p <= 1) {
					return fmt.Errorf("%s returned %v as the probability of %s", w.about.File, p, sign)
				}
				seen[i][sign] = p
			}
		}
		seen = seen[len(some):]
	}
	return nil
}

// A mask or another cover of mouth or nose that is less probable than surelyNot is absent; from one half on it is
// present. Between the two, and where the pupils are fewer than leastPupils pixels apart, the answer is uncertain.
const (
	surelyNot   = 0.25
	leastPupils = 10
)

// eyewear returns what the face wears in front of its eyes.
func eyewear(s signs) Eyewear {
	switch {
	case !s.shows(pack.SignGlasses):
		return NoGlasses
	case s.shows(pack.SignSunglasses):
		return Sunglasses
	}
	return ReadingGlasses
}

// hidden returns which parts of the face are covered.
func hidden(s signs) Hidden {
	return Hidden{
		Forehead: s.shows(pack.SignForeheadOccluded), Eyes: s.shows(pack.SignEyesOccluded),
		Mouth: s.shows(pack.SignMouthOccluded),
	}
}

// worn returns the accessories of the face. It is not nil.
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

// covering returns what covers the lower half of a face, given the distance between its pupils in pixels.
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
