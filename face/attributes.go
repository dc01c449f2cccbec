package face

import (
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/vision"
)

// Attributes are the attributes that were asked for; the others are nil or empty.
type Attributes struct {
	HeadPose *Pose
	Blur     *Level // "low", "medium", "high"
	Exposure *Level // "underExposure", "goodExposure", "overExposure"
	Noise    *Level // "low", "medium", "high"
	Quality  string // qualityForRecognition: "low", "medium", "high"; empty when not asked for

	Glasses     string      // "noGlasses", "readingGlasses", "sunglasses"; empty when not asked for
	Mask        *Mask       // what covers the lower half of the face
	Occlusion   *Occlusion  // what parts of the face are hidden
	Accessories []Accessory // nil when not asked for, empty when nothing is worn
}

// Mask says what covers the lower half of a face: "noMask", "faceMask", "otherMaskOrOcclusion" or "uncertain".
type Mask struct {
	Type                string
	NoseAndMouthCovered bool
}

// Occlusion says which parts of a face something lies over.
type Occlusion = vision.Hidden

// Accessory is "headwear", "glasses" or "mask", with a confidence of 0.5 to 1.
type Accessory struct {
	Type       string
	Confidence float64
}

// Level is a measured attribute: the value, 0 to 1, and the name of the range it lies in, spelled as contract §3.3
// does.
type Level struct {
	Name  string
	Value float64
}

// attributeBits maps the lower-case names of the attributes that can be measured.
var attributeBits = map[string]vision.Attributes{
	"headpose": vision.HeadPose, "blur": vision.Blur, "exposure": vision.Exposure, "noise": vision.Noise,
	"qualityforrecognition": vision.Quality, "glasses": vision.Glasses, "occlusion": vision.Occlusion,
	"accessories": vision.Accessories, "mask": vision.Mask,
}

// refusedAttributes are those that the original service has retired, or gives only to approved customers.
var refusedAttributes = map[string]string{
	"emotion": "emotion", "gender": "gender",
	"age": "age", "smile": "smile", "facialhair": "facialHair", "hair": "hair", "makeup": "makeup",
}

// withoutQuality are the recognition models that give no qualityForRecognition (§3.1).
var withoutQuality = []string{"recognition_01", "recognition_02"}

// parseAttributes reads the names of attributes and refuses those that the models named in the request do not give,
// then those that nobody gets, then those that the installed networks do not give. No refusal names an attribute as
// given that the same request would be refused.
func parseAttributes(names []string, d detector, model string, supported vision.Attributes) (vision.Attributes, error) {
	given := d.attributes & supported
	if slices.Contains(withoutQuality, model) {
		given &^= vision.Quality
	}
	var asked vision.Attributes
	var refused []string
	for _, name := range names {
		lower := strings.ToLower(strings.TrimSpace(name))
		bit, known := attributeBits[lower]
		if !known && refusedAttributes[lower] == "" {
			return 0, badArgument("%q is not a face attribute; with %s and %s this service supports %s.",
				printable(name),
				d.name, model, listed(given))
		}
		if !known {
			refused = append(refused, refusedAttributes[lower])
		}
		asked |= bit
	}
	if len(names) > 0 && d.attributes == 0 {
		return 0, badArgument("The detection model %s does not return attributes.", d.name)
	}
	if missing := asked &^ d.attributes; missing != 0 {
		return 0, badArgument("The detection model %s does not support %s; with it and %s this service "+
			"supports %s.", d.name, listed(missing), model,
			listed(given))
	}
	if asked&vision.Quality != 0 && slices.Contains(withoutQuality, model) {
		return 0, badArgument("The recognition model %s does not support qualityForRecognition; "+
			"with it and %s this service supports %s.", model, d.name, listed(given))
	}
	if missing := asked &^ supported; missing != 0 {
		refused = append(refused, missing.Names()...)
	}
	if len(refused) > 0 {
		return 0, unsupportedAttributes(refused, given)
	}
	return asked, nil
}

// unsupportedAttributes is the answer of contract §1.5 for attributes that nobody here gets. Those given are what the
// same request could have asked for.
func unsupportedAttributes(names []string, given vision.Attributes) error {
	refusal := visage.Refuse(visage.Unsupported, "InvalidRequest",
		"This service does not support the attributes %s. With the models of this request it supports %s.",
		strings.Join(slices.Compact(names), ", "), listed(given))
	refusal.Feature = "UnsupportedFeature"
	return refusal
}

// listed names attributes in a sentence.
func listed(a vision.Attributes) string {
	if a == 0 {
		return "none"
	}
	return strings.Join(a.Names(), ", ")
}

// measured turns what was measured on a face into the contract's words and ranges (§3.3).
func measured(f vision.Face) *Attributes {
	a := &Attributes{
		HeadPose: f.Pose,
		Blur:     level(f.Blur, 0.25, 0.75, "low", "medium", "high"),
		Exposure: level(f.Exposure, 0.25, 0.75, "underExposure", "goodExposure", "overExposure"),
		Noise:    level(f.Noise, 0.3, 0.7, "low", "medium", "high"),
	}
	if f.Quality != vision.Ungraded {
		a.Quality = f.Quality.String()
	}
	if f.Eyewear != vision.AnyEyewear {
		a.Glasses = f.Eyewear.String()
	}
	if c := f.Covering; c != nil {
		a.Mask = &Mask{Type: c.Type.String(), NoseAndMouthCovered: c.NoseAndMouth}
	}
	a.Occlusion = f.Hidden
	if f.Worn != nil {
		a.Accessories = make([]Accessory, len(f.Worn))
		for i, w := range f.Worn {
			a.Accessories[i] = Accessory{Type: w.Type.String(), Confidence: w.Confidence}
		}
	}
	return a
}

// level names the range of a value: the lower bound belongs to the range above it.
func level(value *float64, medium, high float64, names ...string) *Level {
	if value == nil {
		return nil
	}
	name := names[0]
	if *value >= high {
		name = names[2]
	} else if *value >= medium {
		name = names[1]
	}
	return &Level{Name: name, Value: *value}
}
