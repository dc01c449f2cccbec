package vision

import (
	"slices"

	"github.com/visage-face/visage/vision/pack"
)

// Attributes is a set of face attributes.
type Attributes uint16

// The attributes. Each has one row in the table below, at the place of its bit.
const (
	HeadPose Attributes = 1 << iota
	Blur
	Exposure
	Noise
	Quality
	Glasses
	Occlusion
	Accessories
	Mask
)

// Attribute is one row of the table of attributes. The table is all that vision, face and the Face API know of an
// attribute.
type Attribute struct {
	// Bit stands for the attribute in sets.
	Bit Attributes
	// Name is its name in the Face contract (§3.3).
	Name string
	// Value is a zero value of the type in which it is measured: see Measured.
	Value any
	// Words are the names of the ranges of a Level, from low to high, or of the grades; otherwise nil.
	Words []string
	// Detection lists the detection models of the contract that give it (§3.2).
	Detection []string
	// Recognition lists the recognition models of the contract that give it (§3.1); nil: all.
	Recognition []string

	// points says that the measure needs the points of a landmark network.
	points bool
	// graded says that the measure asks the recogniser, when the pack has a rule for quality.
	graded bool
	// signs are those that the networks of the pack must see for the measure; nil: none.
	signs []pack.Sign
	// measure returns the value, of the type of Value. It is called once for each face for which the attribute is
	// wanted.
	measure func(e *evidence) any
}

// Measured holds the values of attributes by their bit. The types are those that the table gives in Attribute.Value:
//
//   - Level: a number from 0 to 1 with the name of its range
//   - Pose, Covering, Hidden
//   - []Accessory, empty when nothing is worn
//   - any other type is a word: its String method gives the contract's spelling
type Measured map[Attributes]any

// Models of the contract, as rows name them.
const (
	detection01 = "detection_01"
	detection03 = "detection_03"
)

var (
	lowToHigh = []string{"low", "medium", "high"}
	exposures = []string{"underExposure", "goodExposure", "overExposure"}
)

// table has a row for each attribute, in the order of the bits. A new attribute is a new row with its measure.
var table = []Attribute{
	{
		Bit: HeadPose, Name: "headPose", Value: Pose{}, Detection: []string{detection01, detection03},
		points: true, measure: func(e *evidence) any { return Pose(e.pose()) },
	},
	{
		Bit: Blur, Name: "blur", Value: Level{}, Words: lowToHigh, Detection: []string{detection01, detection03},
		measure: func(e *evidence) any { return levelOf(e.pixels().Blur, 0.25, 0.75, lowToHigh) },
	},
	{
		Bit: Exposure, Name: "exposure", Value: Level{}, Words: exposures,
		Detection: []string{detection01, detection03},
		measure:   func(e *evidence) any { return levelOf(e.pixels().Exposure, 0.25, 0.75, exposures) },
	},
	{
		Bit: Noise, Name: "noise", Value: Level{}, Words: lowToHigh, Detection: []string{detection01},
		measure: func(e *evidence) any { return levelOf(e.pixels().Noise, 0.3, 0.7, lowToHigh) },
	},
	{
		Bit: Quality, Name: "qualityForRecognition", Value: Ungraded, Words: lowToHigh,
		Detection: []string{detection01, detection03}, Recognition: []string{"recognition_03", "recognition_04"},
		points: true, graded: true, measure: func(e *evidence) any { return e.grade() },
	},
	{
		Bit: Glasses, Name: "glasses", Value: AnyEyewear, Detection: []string{detection01, detection03},
		signs:   []pack.Sign{pack.SignGlasses, pack.SignSunglasses},
		measure: func(e *evidence) any { return eyewear(e.signs) },
	},
	{
		Bit: Occlusion, Name: "occlusion", Value: Hidden{}, Detection: []string{detection01, detection03},
		signs:   []pack.Sign{pack.SignForeheadOccluded, pack.SignEyesOccluded, pack.SignMouthOccluded},
		measure: func(e *evidence) any { return hidden(e.signs) },
	},
	{
		Bit: Accessories, Name: "accessories", Value: []Accessory{}, Detection: []string{detection01},
		signs:   []pack.Sign{pack.SignHeadwear, pack.SignGlasses, pack.SignMask},
		measure: func(e *evidence) any { return worn(e.signs) },
	},
	{
		Bit: Mask, Name: "mask", Value: Covering{}, Detection: []string{detection03},
		signs:   []pack.Sign{pack.SignMask, pack.SignMouthOccluded, pack.SignNoseOccluded},
		measure: func(e *evidence) any { return covering(e.signs, e.pupils()) },
	},
}

// AttributeTable returns the table of attributes: one row each, in the order of their bits.
func AttributeTable() []Attribute { return slices.Clone(table) }

// Names returns the names of the set's members as the Face contract spells them, in the order of the table.
func (a Attributes) Names() []string {
	var names []string
	for _, row := range table {
		if a&row.Bit != 0 {
			names = append(names, row.Name)
		}
	}
	return names
}

// where returns the attributes whose rows have a property.
func where(has func(Attribute) bool) Attributes {
	var set Attributes
	for _, row := range table {
		if has(row) {
			set |= row.Bit
		}
	}
	return set
}

// Level is a measured number from 0 to 1, with the name of the range in which it lies.
type Level struct {
	Name  string
	Value float64
}

// levelOf names the range of a value: the first word below medium, the second from medium on, the third from high on.
func levelOf(value, medium, high float64, words []string) Level {
	name := words[0]
	if value >= high {
		name = words[2]
	} else if value >= medium {
		name = words[1]
	}
	return Level{Name: name, Value: value}
}
