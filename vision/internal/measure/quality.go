package measure

import (
	"math"

	"github.com/visage-face/visage/vision/internal/geometry"
)

// Quality is how well a face can be recognised.
type Quality uint8

// The qualities. Low: not to be relied on. Medium: good enough for identification. High: good enough for enrolment.
const (
	Low Quality = iota + 1
	Medium
	High
)

// Subject is what the quality of a face depends on.
type Subject struct {
	// Width and Height are those of the face's box, in pixels.
	Width, Height float64
	// Pupils is the distance between the pupils, in pixels; 0 if it is not known.
	Pupils float64
	// Pose is the direction of the head.
	Pose geometry.Pose
	Values
}

// limits are the conditions of a quality.
type limits struct {
	side, pupils     float64 // pixels; one of the two is enough
	yaw, pitch, roll float64 // degrees, to either side
	blur, noise      float64 // less than this
	dark, bright     float64 // exposure from dark, and less than bright
}

// The limits of High are the contract's: a frontal, clear face of 200 × 200 pixels or 100 between the pupils, at the
// best level of each measure. A head counts as frontal up to 25° of yaw and pitch, where both eyes and all of the mouth
// are in sight; roll is undone by alignment, and stands for unusual positions only.
//
// Those of Medium are where recognition begins to suffer: faces smaller than half of what recognisers are fed (112
// pixels and more), one eye going out of sight, the worst level of blur or noise, and an exposure at which the darker
// or the brighter half of the face is lost.
var (
	forHigh   = limits{200, 100, 25, 25, 45, 0.25, 0.3, 0.25, 0.75}
	forMedium = limits{56, 28, 45, 35, 90, 0.75, 0.7, 0.12, 0.88}
)

// QualityOf returns the best quality whose conditions the face meets.
func QualityOf(s Subject) Quality {
	switch {
	case forHigh.meets(s):
		return High
	case forMedium.meets(s):
		return Medium
	}
	return Low
}

// LargeAndFrontal reports whether the face meets the conditions of High that do not depend on its pixels.
func LargeAndFrontal(s Subject) bool {
	return forHigh.large(s) && forHigh.faces(s)
}

func (l limits) large(s Subject) bool {
	return min(s.Width, s.Height) >= l.side || s.Pupils >= l.pupils
}

func (l limits) faces(s Subject) bool {
	return math.Abs(s.Pose.Yaw) <= l.yaw && math.Abs(s.Pose.Pitch) <= l.pitch && math.Abs(s.Pose.Roll) <= l.roll
}

func (l limits) meets(s Subject) bool {
	return l.large(s) && l.faces(s) &&
		s.Blur < l.blur && s.Noise < l.noise && s.Exposure >= l.dark && s.Exposure < l.bright
}
