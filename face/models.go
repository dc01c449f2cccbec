package face

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/vision"
)

// Recogniser finds faces on photos and makes comparable templates of them. *vision.Pipeline is one. It must be safe for
// concurrent use.
type Recogniser interface {
	// Name identifies the networks: templates of recognisers with different names are not comparable.
	Name() string
	// Detect finds the faces on a photo, largest first, and what want asks for; vision.Pipeline.Detect says which
	// errors it gives.
	Detect(ctx context.Context, photo []byte, want vision.Want) (*vision.Photo, error)
	// Confidence turns a cosine distance (0 same … 2 opposite) into a confidence (0 … 1), falling; 0.5 is the line
	// between same and different persons.
	Confidence(distance float64) float64
	// Threshold is the least confidence of a candidate when a caller sets none. It rises with the number of faces that
	// are searched, because a stranger may resemble any of them. At least 0.5.
	Threshold(faces int) float64
	// Dim is the length of a template.
	Dim() int
	// Supports returns the attributes that Detect can give.
	Supports() vision.Attributes
}

// The defaults of requests.
const (
	DefaultRecognitionModel = "recognition_01"
	DefaultDetectionModel   = "detection_01"
	DefaultTimeToLive       = 86_400 // seconds that a detected face is kept; also the maximum
)

// The types of vision that answers are made of, so that callers need not import that room.
type (
	Box       = vision.Box       // in pixels of the upright picture, within it
	Point     = vision.Point     // in pixels of the upright picture
	Landmarks = vision.Landmarks // the 27 points of contract §3.4

	Attribute  = vision.Attribute // a row of the table of attributes
	Attributes = vision.Measured  // the values of attributes, by their bit
	Pose       = vision.Pose      // degrees
	Level      = vision.Level     // a number from 0 to 1, and the name of its range
	Eyewear    = vision.Eyewear   // what a face wears in front of its eyes
	Mask       = vision.Covering  // what covers the lower half of a face
	Occlusion  = vision.Hidden    // which parts of a face are covered
	Accessory  = vision.Accessory // something that a face wears

	Grade       = vision.Grade       // how well a face can be recognised
	Calibration = vision.Calibration // what confidences stand for, and how that was measured
	Preview     = vision.Preview     // a photo made small enough to be shown
)

// calibrated is a Recogniser that says what its confidences stand for; *vision.Pipeline is one.
type calibrated interface {
	Calibration() *vision.Calibration
}

// calibrationOf returns what the confidences of a recogniser stand for; nil: it does not say.
func calibrationOf(m Recogniser) *Calibration {
	if c, ok := m.(calibrated); ok {
		return c.Calibration()
	}
	return nil
}

// showing is a Recogniser that can show photos as it sees them; *vision.Pipeline is one.
type showing interface {
	Preview(ctx context.Context, photo []byte, side int) (*vision.Preview, error)
}

// detector is a detection model of the contract (§3.2). The same networks serve all. The table of attributes says which
// attributes each gives.
type detector struct {
	name      string
	landmarks bool
}

var detectors = []detector{{"detection_01", true}, {"detection_02", false}, {"detection_03", true}}

// detectionModel returns the detection model of that name; empty: the default.
func detectionModel(name string) (detector, error) {
	if name == "" {
		name = DefaultDetectionModel
	}
	for _, d := range detectors {
		if d.name == name {
			return d, nil
		}
	}
	return detector{}, badArgument("The detection model %q is not one of detection_01, detection_02, detection_03.",
		printable(name))
}

// encode returns the code of a template, and clears the template. It refuses a template that would make a whole
// collection unsearchable.
func encode(m Recogniser, template []float32) (gallery.Code, error) {
	defer clear(template)
	if len(template) != m.Dim() {
		return nil, fmt.Errorf("recogniser %s made a template of %d numbers, not %d", m.Name(), len(template), m.Dim())
	}
	code, err := gallery.Encode(template)
	if err != nil {
		return nil, fmt.Errorf("recogniser %s made a template that cannot be used: %w", m.Name(), err)
	}
	return code, nil
}

// wipe clears codes, which are biometric data, once they have been used.
func wipe(codes []gallery.Code) {
	for _, c := range codes {
		clear(c)
	}
}
