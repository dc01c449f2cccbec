package vision

// Eyewear is what a face wears before its eyes.
type Eyewear uint8

// The kinds of eyewear.
const (
	AnyEyewear     Eyewear = iota // not asked for
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
